//! What a visit through the gateway takes: the Worker on workerd, real Caddy and the guest, beside the same request
//! straight to the guest, in turn.

mod guest;

use std::{path::Path, process::ExitCode, time::Instant};

use futures_util::{SinkExt, StreamExt, future::join_all};
use http::Request;
use pve_edge_core::io::{Io, Whole, fetch};
use pve_edge_lambda::net::Net;
use pve_edge_tests::{
    Pve, Rig, Target,
    client::Client,
    cluster::{Cluster, NODE},
};
use serde_json::{Value, json};
use time::Duration;
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use self::guest::{EVENTS, Guest, PORT, WEBSOCKETS};
use crate::{bed::Bed, exec::median};

/// Prefix of the pool: so large that a sandbox that was seen is known for ten seconds.
const POOL: u8 = 22;
/// Requests of each kind, and of the large ones.
const TIMES: usize = 200;
const LARGE: usize = 30;
/// Clients at once, and requests of each.
const CLIENTS: (usize, usize) = (8, 100);
/// Visitors of a sandbox that sleeps.
const VISITORS: usize = 100;

/// Measures visits; `program` plays the daemon in the guests.
pub(crate) async fn main(program: &Path) -> ExitCode {
    println!("\nvisits through workerd and Caddy, medians, in turn with the same straight to the guest");
    match async { Ok::<_, String>((relayed(program).await?, in_core().await?)) }.await {
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            println!("  {why}");
            ExitCode::FAILURE
        }
    }
}

/// A sandbox that is visited, both ways.
struct Visit<'r> {
    net: &'r Net,
    /// URL through the gateway, and straight.
    urls: [String; 2],
    key: &'r str,
}

async fn relayed(program: &Path) -> Result<(), String> {
    let rig =
        Rig::start_in(Pve::Simulator, Target::Workerd, program, (POOL, std::time::Duration::ZERO)).await?;
    let client = rig.client();
    let shown = client.ask("POST", "/api/sandboxes", &json!({})).await.json(201);
    let id = shown["id"].as_str().ok_or("a sandbox has no id")?.to_owned();
    let path = format!("/api/sandboxes/{id}");
    let ip = address_of(rig.cluster(), &id).await?;
    let guest = Guest::serve(&ip).await.map_err(|error| format!("{ip}: {error}"))?;
    let of = async |port: u16| {
        let name = format!("{path}/services/bench{port}");
        client.ask("PUT", &name, &json!({ "port": port })).await.json(200);
        let link = client.ask("POST", &format!("{name}/link"), &json!({})).await.json(200);
        let link = link["url"].as_str().unwrap_or_default();
        let through = link.split('?').next().unwrap_or_default().to_owned();
        let (net, key) = (client.net(), client.key().unwrap_or_default());
        Visit { net, urls: [through, format!("http://{ip}:{port}/")], key }
    };
    let visit = of(PORT).await;
    visit.bytes("1 kB", "1k", TIMES).await?;
    visit.bytes("1 MB", "1m", LARGE).await?;
    visit.many().await?;
    visit.events().await?;
    of(WEBSOCKETS).await.websocket().await?;
    drop(guest);
    asleep(&rig, client, &path, &visit, &ip).await
}

impl Visit<'_> {
    async fn get(&self, url: &str, path: &str) -> Result<Whole, String> {
        let request = Request::get(format!("{url}{path}")).header("x-pve-edge-token", self.key);
        let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = fetch(self.net, request, self.net.now() + Duration::seconds(60), 2 << 20).await;
        answer.map_err(|error| error.to_string())
    }

    /// Answers of one size, one after the other.
    async fn bytes(&self, name: &str, path: &str, times: usize) -> Result<(), String> {
        let mut taken = [Vec::new(), Vec::new()];
        let mut size = 0;
        for _ in 0..times {
            for (url, taken) in self.urls.iter().zip(&mut taken) {
                let start = Instant::now();
                let answer = self.get(url, path).await?;
                taken.push(start.elapsed().as_secs_f64() * 1e3);
                size = answer.body.len();
                if answer.status != 200 {
                    return Err(format!("{url}: {}", answer.status));
                }
            }
        }
        let [through, straight] = taken.map(median);
        let rate = |ms: f64| size as f64 / 1e3 / ms;
        let rates = if size > 1 << 19 {
            format!("; {:.0} and {:.0} MB/s", rate(through), rate(straight))
        } else {
            String::new()
        };
        line(name, (through, straight), "ms", &rates);
        Ok(())
    }

    /// Small answers, to several clients at once.
    async fn many(&self) -> Result<(), String> {
        let (clients, times) = CLIENTS;
        let mut rates = Vec::new();
        for url in &self.urls {
            let start = Instant::now();
            let one = async || {
                for _ in 0..times {
                    self.get(url, "1k").await?;
                }
                Ok::<_, String>(())
            };
            join_all((0..clients).map(|_| one())).await.into_iter().collect::<Result<(), _>>()?;
            rates.push((clients * times) as f64 / start.elapsed().as_secs_f64());
        }
        println!("  1 kB, {clients} clients at once: {:.0} a second, straight {:.0}", rates[0], rates[1]);
        Ok(())
    }

    /// Events, from when the guest sends each.
    async fn events(&self) -> Result<(), String> {
        let mut taken = [Vec::new(), Vec::new()];
        for (url, taken) in self.urls.iter().zip(&mut taken) {
            let request = Request::get(format!("{url}events")).header("x-pve-edge-token", self.key);
            let request = request.body(pve_edge_core::io::RequestBody::Whole(Vec::new()));
            let request = request.map_err(|error| error.to_string())?;
            let answer = self.net.open(request, self.net.now() + Duration::seconds(60)).await;
            let mut body = answer.map_err(|error| error.to_string())?.body;
            let mut rest = String::new();
            while let Some(piece) = body.next().await {
                let now = guest::now();
                rest.push_str(&String::from_utf8_lossy(&piece.map_err(|error| error.to_string())?));
                while let Some((event, after)) = rest.split_once("\n\n") {
                    let sent: f64 =
                        event.trim_start_matches("data: ").parse().map_err(|_| event.to_owned())?;
                    taken.push((now - sent) * 1e3);
                    rest = after.to_owned();
                }
            }
            if taken.len() != EVENTS {
                return Err(format!("{} of {EVENTS} events of {url}", taken.len()));
            }
        }
        let [through, straight] = taken.map(median);
        line("an event, on its way", (through, straight), "ms", "");
        Ok(())
    }

    /// Messages of a websocket, there and back.
    async fn websocket(&self) -> Result<(), String> {
        let [through, straight] = &self.urls;
        let mut sockets = [self.open(through).await?, self.open(straight).await?];
        for (name, size, times) in
            [("64 bytes by websocket", 64, TIMES), ("1 MB by websocket", 1_000_000, LARGE)]
        {
            let mut taken = [Vec::new(), Vec::new()];
            for _ in 0..times {
                for (socket, taken) in sockets.iter_mut().zip(&mut taken) {
                    let start = Instant::now();
                    let sent = socket.send(Message::binary(vec![7; size])).await;
                    sent.map_err(|error| error.to_string())?;
                    match socket.next().await {
                        Some(Ok(Message::Binary(back))) if back.len() == size => {}
                        other => return Err(format!("{other:?}")),
                    }
                    taken.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
            let [through, straight] = taken.map(median);
            line(name, (through, straight), "ms there and back", "");
        }
        Ok(())
    }

    async fn open(&self, url: &str) -> Result<WebSocketStream<TcpStream>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let request = url.replacen("http", "ws", 1).into_client_request();
        let mut request = request.map_err(|error| failed(&error))?;
        let key = self.key.parse().map_err(|_| failed(&"the key"))?;
        request.headers_mut().insert("x-pve-edge-token", key);
        let host = request.uri().host().unwrap_or_default();
        // Names below localhost are this machine.
        let host = if host.ends_with("localhost") { "127.0.0.1" } else { host };
        let stream = TcpStream::connect((host, request.uri().port_u16().unwrap_or(80))).await;
        let stream = stream.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let opened = client_async(request, stream).await;
        opened.map(|(socket, _)| socket).map_err(|error| failed(&error))
    }
}

/// Visitors who come at once to a sandbox that is stopped.
async fn asleep(rig: &Rig, client: &Client, path: &str, visit: &Visit<'_>, ip: &str) -> Result<(), String> {
    let starts = async || {
        let tasks =
            rig.cluster().reader.get(&format!("/nodes/{NODE}/tasks?limit=500&typefilter=vzstart")).await;
        tasks.as_ref().and_then(Value::as_array).map_or(0, Vec::len)
    };
    client.ask("POST", &format!("{path}/stop"), &json!({})).await.json(200);
    sleep(std::time::Duration::from_secs(11)).await;
    let (before, start) = (starts().await, Instant::now());
    let visitors = join_all((0..VISITORS).map(|_| visit.get(&visit.urls[0], "1k")));
    let serving = async {
        while starts().await == before {
            sleep(std::time::Duration::from_millis(20)).await;
        }
        Guest::serve(ip).await
    };
    let (answers, _guest) = tokio::join!(visitors, serving);
    let mut told: Vec<_> = answers.iter().map(|it| it.as_ref().map_or(0, |it| it.status)).collect();
    told.sort_unstable();
    let told: Vec<_> =
        told.chunk_by(|a, b| a == b).map(|it| format!("{} times {}", it.len(), it[0])).collect();
    let told = told.join(", ");
    println!(
        "  {VISITORS} visitors of a stopped sandbox at once: {} starts, answers {told}, within {:.1} s",
        starts().await - before,
        start.elapsed().as_secs_f64()
    );
    client.ask("DELETE", path, &Value::Null).await;
    Ok(())
}

/// What a visit takes of PVE and of core's CPU, without platform and network.
async fn in_core() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bed = Bed::new_in(Pve::Simulator, folder.path(), 0, POOL).await?;
    let created = bed.ask("POST", "/api/sandboxes", json!({})).await;
    let id = created.body["id"].as_str().ok_or_else(|| created.body.to_string())?;
    let ip = address_of(bed.cluster(), id).await?;
    let _guest = Guest::serve(&ip).await.map_err(|error| format!("{ip}: {error}"))?;
    let link = bed.ask("POST", &format!("/api/sandboxes/{id}/services/preview/link"), json!({})).await;
    let link = link.body["url"].as_str().ok_or("no link")?;
    let url = link.split('?').next().unwrap_or_default();
    let first = bed.ask("GET", &format!("{url}1k"), Value::Null).await;
    let second = bed.ask("GET", &format!("{url}1k"), Value::Null).await;
    if (first.status, second.status) != (200, 200) {
        return Err(format!("visits: {} {}, {}", first.status, second.status, first.body));
    }
    println!(
        "  requests to PVE: {} at the first visit, {} at the next; core's CPU {:.3} ms and {:.3} ms",
        first.requests,
        second.requests,
        bed.cpu(&first, 300).await,
        bed.cpu(&second, 300).await
    );
    Ok(())
}

/// The address that a sandbox's config gives it.
async fn address_of(cluster: &Cluster, id: &str) -> Result<String, String> {
    let vmid = id.split('-').nth(1).unwrap_or_default();
    let config = cluster.reader.get(&format!("/nodes/{NODE}/lxc/{vmid}/config")).await.unwrap_or_default();
    let net = config["net0"].as_str().unwrap_or_default();
    let ip = net.split(',').find_map(|it| it.strip_prefix("ip=")?.split('/').next().map(str::to_owned));
    ip.ok_or_else(|| format!("no address in {config}"))
}

fn line(name: &str, (through, straight): (f64, f64), unit: &str, more: &str) {
    println!(
        "  {name:<24} {through:.2} {unit}, straight {straight:.2}: {:.1} times{more}",
        through / straight
    );
}
