//! The way into a guest: the proxy beside PVE, the name of its daemon, or its address.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use hyper::{body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use pve_edge_core::io::proxy::{CLIENT, FAULT, GUEST_HOST, KEY, OURSELVES, PUBLIC_HOST, TO};
use tokio::net::TcpStream;

use super::{GuestState, Guests, execd};
use crate::serve::{Ends, Reply, boxed, text, websocket::join};

const EXECD: u16 = 39375;

/// A service of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    port: u16,
    guest: Named,
}

/// How a request names a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Vmid(u32),
    Address(IpAddr),
}

/// Which service a request is for: by the headers of whoever has a key of the proxy beside PVE, or by the name of a guest's
/// daemon.
pub(super) fn target(guests: &Guests, request: &Request<Incoming>) -> Option<Target> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let keys = guests.shared.proxy_keys.get().map_or(&[][..], |it| it);
    parse(host, request.headers(), keys)
}

fn parse(host: &str, headers: &HeaderMap, keys: &[String]) -> Option<Target> {
    let (label, _) = host.split_once('.')?;
    if let Some(key) = headers.get(KEY) {
        keys.iter().find(|it| it.as_bytes() == key.as_bytes())?;
        let (guest, port) = headers.get(TO)?.to_str().ok()?.split_once(':')?;
        let port = port.parse().ok()?;
        let is_ours = headers.get(CLIENT).is_some_and(|it| it == OURSELVES);
        let guest = guest.parse().map(Named::Vmid).or_else(|_| guest.parse().map(Named::Address)).ok()?;
        return (is_ours || port != EXECD).then_some(Target { port, guest });
    }
    let vmid = label.strip_prefix("port-39375-vm-")?.parse().ok()?;
    Some(Target { port: EXECD, guest: Named::Vmid(vmid) })
}

/// Answers a request to a guest's service.
pub(super) async fn answer(guests: &Guests, target: Target, mut request: Request<Incoming>) -> Reply {
    let Target { port, guest } = target;
    let vmid = match guest {
        Named::Vmid(vmid) => Some(vmid),
        Named::Address(ip) => guests.shared.inventory.at(ip),
    };
    let Some((vmid, guest)) = vmid.and_then(|vmid| Some((vmid, guests.running(vmid)?))) else {
        return faulty("dial", format!("no sandbox {guest:?} is running\n"));
    };
    if port == EXECD {
        return command(guests, vmid, guest, request).await;
    }
    let address = guests.address(vmid, &guest);
    let ourselves = |ends: &Ends| ends.local == (address, port).into();
    if request.extensions().get().is_some_and(ourselves) {
        return bad_gateway(format!("port {port} is this server's own\n"));
    }
    introduce(request.headers_mut());
    match TcpStream::connect((address, port)).await {
        Ok(stream) => forward(stream, request).await.unwrap_or_else(|error| {
            faulty("late", format!("the service at port {port} broke off: {error}\n"))
        }),
        Err(_) => faulty("dial", format!("nothing listens on {address}:{port}\n")),
    }
}

/// Tells the guest its host, and nothing of what is between the deployment and the proxy.
fn introduce(headers: &mut HeaderMap) {
    headers.extend(headers.get(GUEST_HOST).cloned().map(|it| (header::HOST, it)));
    for name in [KEY, TO, CLIENT, GUEST_HOST, PUBLIC_HOST] {
        headers.remove(name);
    }
}

/// What the proxy says in a guest's place.
fn faulty(fault: &'static str, why: String) -> Reply {
    let mut reply = bad_gateway(why);
    reply.headers_mut().insert(FAULT, HeaderValue::from_static(fault));
    reply
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
    if guest.is_bare || guests.is_unplugged(vmid, &guest) {
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

fn bad_gateway(why: String) -> Reply {
    text(StatusCode::BAD_GATEWAY, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_by_the_proxys_headers_or_by_its_daemon() {
        let check = |host, to: Option<&'static str>, expected: Option<(u16, Named)>| {
            let mut headers = HeaderMap::new();
            headers.extend(to.map(|it| (TO, HeaderValue::from_static(it))));
            headers.extend(to.map(|_| (KEY, HeaderValue::from_static("key"))));
            let target = parse(host, &headers, &["old".to_owned(), "key".to_owned()]);
            assert_eq!(target, expected.map(|(port, guest)| Target { port, guest }), "{host} {to:?}");
        };
        check("gate.localhost:8787", Some("200001:5173"), Some((5173, Named::Vmid(200_001))));
        check(
            "gate.localhost:8787",
            Some("127.64.0.1:80"),
            Some((80, Named::Address([127, 64, 0, 1].into()))),
        );
        // To what runs commands only the deployment itself comes.
        check("gate.localhost:8787", Some("200001:39375"), None);
        check("gate.localhost:8787", Some("200001"), None);
        check("gate.localhost:8787", None, None);
        assert_eq!(
            parse("gate.localhost", &HeaderMap::from_iter([(KEY, HeaderValue::from_static("key"))]), &[]),
            None
        );
        check("port-39375-vm-200001.sandboxes.example.com", None, Some((39375, Named::Vmid(200_001))));
        check("port-5173-vm-200001.localhost:8787", None, None);
        check("localhost:8787", None, None);
    }
}
