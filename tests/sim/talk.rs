//! A client of one line per call.

use http::Request;
use pve_edge_bed::sim::{Reply, Setup, Sim, Spec, TOKEN};
use serde_json::Value;

/// The template of these tests.
pub(crate) const TEMPLATE: u32 = 9000;

/// A default cluster with a template.
pub(crate) fn sim() -> Sim {
    with(Setup::default())
}

pub(crate) fn with(setup: Setup) -> Sim {
    let mut sim = Sim::new(setup);
    sim.add(Spec::template(TEMPLATE).tags("preset").description("a template"));
    sim
}

/// `METHOD /path key=value…`, form encoded, over `/api2/json`.
pub(crate) fn request(line: &str) -> Request<Vec<u8>> {
    built("json", TOKEN, line)
}

pub(crate) fn built(format: &str, token: &str, line: &str) -> Request<Vec<u8>> {
    let mut words = line.splitn(3, ' ');
    let method = words.next().unwrap_or("");
    let path = words.next().unwrap_or("");
    let pairs = words.next().unwrap_or("").split_terminator('&').filter_map(|pair| pair.split_once('='));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Request::builder()
        .method(method)
        .uri(format!("https://pve.test:8006/api2/{format}{path}"))
        .header("authorization", format!("PVEAPIToken={token}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into_bytes())
        .expect("a request")
}

pub(crate) fn call(sim: &mut Sim, line: &str) -> Reply {
    sim.handle(&request(line))
}

/// `data` of a call that succeeds.
pub(crate) fn ok(sim: &mut Sim, line: &str) -> Value {
    let reply = call(sim, line);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 200, "{line}: {text}");
    serde_json::from_str::<Value>(&text).expect("JSON")["data"].take()
}

/// Status and text of a call that fails, with what is wrong with parameters.
pub(crate) fn fails(sim: &mut Sim, line: &str) -> String {
    let reply = call(sim, line);
    assert_ne!(reply.status, 200, "{line}");
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    let errors = body["errors"].as_object().map(|errors| format!(" {}", Value::from(errors.clone())));
    format!("{} {}{}", reply.status, reply.reason, errors.unwrap_or_default())
}

/// Waits for a task and says how it ended.
pub(crate) fn task(sim: &mut Sim, line: &str) -> String {
    let upid = ok(sim, line);
    let upid = upid.as_str().expect("a UPID").to_owned();
    sim.settle();
    let node = upid.split(':').nth(1).expect("a node").to_owned();
    let upid = form_urlencoded::byte_serialize(upid.as_bytes()).collect::<String>();
    let status = ok(sim, &format!("GET /nodes/{node}/tasks/{upid}/status"));
    assert_eq!(status["status"], "stopped");
    status["exitstatus"].as_str().expect("an end").to_owned()
}

/// A stopped clone of the template.
pub(crate) fn cloned(sim: &mut Sim, vmid: u32) {
    let line = format!(
        "POST /nodes/pve1/lxc/{TEMPLATE}/clone newid={vmid}&full=0&hostname=s{vmid}&description=mine"
    );
    assert_eq!(task(sim, &line), "OK");
}

/// The item of a guest in the listing.
pub(crate) fn item(sim: &mut Sim, vmid: u32) -> Value {
    let all = ok(sim, "GET /cluster/resources?type=vm");
    let found = all.as_array().and_then(|all| all.iter().find(|item| item["vmid"] == vmid)).cloned();
    found.unwrap_or(Value::Null)
}
