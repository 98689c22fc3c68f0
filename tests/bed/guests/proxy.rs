//! The way into a guest: by host name, as the public domain has it, or by address.

use std::net::IpAddr;

use http::{Request, StatusCode, Version, header};
use hyper::{body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use pve_edge_lambda::http::join;
use tokio::net::TcpStream;

use super::{GuestState, Guests, execd};
use crate::serve::{Ends, Reply, boxed, text, whole};

const EXECD: u16 = 39375;

/// What a template has at these ports; nothing simulates it.
const SERVICES: [(u16, &str); 6] = [
    (5173, "Preview"),
    (9776, "Server"),
    (39377, "Worker"),
    (39378, "VSCode"),
    (39380, "VNC"),
    (39383, "Xterm"),
];

/// A service of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    port: u16,
    vmid: u32,
}

/// Which service the request's host names, if it names one.
pub(super) fn target(request: &Request<Incoming>) -> Option<Target> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    parse(host)
}

/// `port-{port}-vm-{vmid}.` and whatever domain.
fn parse(host: &str) -> Option<Target> {
    let (label, _) = host.split_once('.')?;
    let (port, vmid) = label.strip_prefix("port-")?.split_once("-vm-")?;
    Some(Target { port: port.parse().ok()?, vmid: vmid.parse().ok()? })
}

/// Answers a request to a guest's service.
pub(super) async fn answer(guests: &Guests, target: Target, request: Request<Incoming>) -> Reply {
    let Target { port, vmid } = target;
    let Some(guest) = guests.running(vmid) else {
        return bad_gateway(format!("no sandbox with VMID {vmid} is running\n"));
    };
    if port == EXECD {
        return command(guests, vmid, guest, request).await;
    }
    let address = guests.address(vmid, &guest);
    let ourselves = |ends: &Ends| ends.local == (address, port).into();
    if request.extensions().get().is_some_and(ourselves) {
        return bad_gateway(format!("port {port} is this server's own\n"));
    }
    match TcpStream::connect((address, port)).await {
        Ok(stream) => forward(stream, request)
            .await
            .unwrap_or_else(|error| bad_gateway(format!("the service at port {port} broke off: {error}\n"))),
        Err(_) => match SERVICES.iter().find(|(known, _)| *known == port) {
            Some((_, name)) => placeholder(name, target, address),
            None => bad_gateway(format!("nothing listens on {address}:{port}\n")),
        },
    }
}

/// Answers for the execd of the guest whose address the client connected to.
pub(super) async fn by_address(guests: &Guests, request: Request<Incoming>) -> Reply {
    let ends = request.extensions().get::<Ends>().copied();
    let Some(ip) = ends.filter(Ends::on_loopback).map(|ends| ends.local.ip().to_canonical()) else {
        return text(StatusCode::FORBIDDEN, "on loopback only\n");
    };
    let vmid = guests.shared.inventory.at(ip);
    match vmid.and_then(|vmid| Some((vmid, guests.running(vmid)?))) {
        Some((vmid, guest)) => command(guests, vmid, guest, request).await,
        None => bad_gateway(format!("no running sandbox has the address {ip}\n")),
    }
}

/// Answers a request to what runs commands in a guest.
async fn command(guests: &Guests, vmid: u32, guest: GuestState, request: Request<Incoming>) -> Reply {
    if guest.is_bare {
        return bad_gateway(format!("no daemon listens in guest {vmid}\n"));
    }
    let Some(daemon) = guests.shared.daemon.as_ref().filter(|_| guest.card.is_some()) else {
        return execd::answer(guests, vmid, guest, request).await;
    };
    let stream = match guests.connect(daemon, vmid, &guest).await {
        Ok(stream) => stream,
        Err(error) => return bad_gateway(format!("the daemon of the guest does not start: {error}\n")),
    };
    let answer = forward(stream, request).await;
    answer.unwrap_or_else(|error| bad_gateway(format!("the daemon of the guest broke off: {error}\n")))
}

/// Passes the request on, and what follows an `Upgrade` too (websockets).
async fn forward(stream: TcpStream, mut request: Request<Incoming>) -> hyper::Result<Reply> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let client = request.headers().contains_key(header::UPGRADE).then(|| upgrade::on(&mut request));
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Default::default, Into::into);
    let mut response = sender.send_request(request).await?;
    // An old server's answer ends with its connection; ours goes on.
    *response.version_mut() = Version::HTTP_11;
    if let Some(client) = client
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        tokio::spawn(join(client, upgrade::on(&mut response)));
    }
    Ok(boxed(response))
}

fn placeholder(name: &str, Target { port, vmid }: Target, address: IpAddr) -> Reply {
    let page = format!(
        "<!doctype html>\n<meta charset=utf-8>\n<title>{name} of sandbox {vmid}</title>\n\
         <h1>{name}</h1>\n<p>This is where <b>{name}</b> (port {port}) of the sandbox with VMID <b>{vmid}</b> \
         would be. Its guest is simulated, and nothing listens on {address}:{port}.</p>\n\
         <p>A command in the sandbox can: <code>python3 -m http.server {port} --bind $SANDBOX_IP</code></p>\n"
    );
    whole(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn bad_gateway(why: String) -> Reply {
    text(StatusCode::BAD_GATEWAY, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |host, expected: Option<(u16, u32)>| {
            assert_eq!(parse(host), expected.map(|(port, vmid)| Target { port, vmid }), "{host}");
        };
        check("port-5173-vm-200001.localhost:8787", Some((5173, 200_001)));
        check("port-39375-vm-200001.sandboxes.example.com", Some((39375, 200_001)));
        check("localhost:8787", None);
        check("127.0.0.1:8787", None);
        check("port-5173-vm-200001", None);
        check("port-70000-vm-200001.localhost", None);
        check("port-5173-vm-x.localhost", None);
        check("x-port-5173-vm-200001.localhost", None);
    }
}
