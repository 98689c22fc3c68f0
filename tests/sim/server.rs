use std::sync::{Arc, Mutex};

use pve_edge_bed::sim::{Node, Setup, Sim, Spec, TOKEN, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn raw(address: std::net::SocketAddr, request: String) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(host: &str, path: &str) -> String {
    let token = format!("Authorization: PVEAPIToken={TOKEN}");
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{token}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn statuses_and_reason_phrases_of_pve_survive() {
    let nodes = vec![Node::new("pve1"), Node::new("pve2")];
    let mut sim = Sim::new(Setup { nodes, start: time::OffsetDateTime::now_utc(), ..Setup::default() });
    sim.add(Spec::guest(300).running());
    sim.set_online("pve2", false);
    sim.set_lock(300, Some("backup"));
    let sim = Arc::new(Mutex::new(sim));
    let server = server::serve(sim.clone(), 0).await.expect("a port");
    let at = server.address;
    let version = raw(at, get("localhost", "/api2/json/version")).await;
    assert!(
        version.starts_with("HTTP/1.1 200 OK\r\n") && version.contains(r#""release":"9.1""#),
        "{version}"
    );
    let offline = raw(at, get("localhost", "/api2/json/nodes/pve2/status")).await;
    assert!(offline.starts_with("HTTP/1.1 595 No route to host\r\n"), "{offline}");
    let delete = get("localhost", "/api2/json/nodes/pve1/lxc/300").replacen("GET", "DELETE", 1);
    let locked = raw(at, delete).await;
    assert!(locked.starts_with("HTTP/1.1 500 CT is locked (backup)\r\n"), "{locked}");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let healthy = raw(at, get("port-39375-vm-300.localhost", "/healthz")).await;
    assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n") && healthy.contains("ok"), "{healthy}");
    let absent = raw(at, get("port-39375-vm-301.localhost", "/healthz")).await;
    assert!(absent.starts_with("HTTP/1.1 502 "), "{absent}");
    let own = server::serve_execd(sim, 300, 0).await.expect("a port");
    let healthy = raw(own.address, get("127.0.0.1", "/healthz")).await;
    assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n"), "{healthy}");
}
