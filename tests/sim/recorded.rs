//! What the real PVE answered, asked of the simulator once more.

use std::collections::{BTreeMap, BTreeSet};

use http::Request;
use pve_edge_bed::sim::{Reply, Setup, Sim, Spec, Storage, StorageKind};
use serde_json::Value;

/// One request and its answer in each line; see the README beside it.
const RECORDED: &str = include_str!("recorded/requests.jsonl");

/// The token that asked.
const WHO: &str = "edge@pve!api";
const SECRET: &str = "00000000-0000-4000-8000-000000000000";

/// What the simulator answers otherwise: a part of the request, a part of the difference, and why it is so.
const DIFFERENT: &[(&str, &str, &str)] = &[(
    "GET json/nodes/pve1/aplinfo",
    "data[]",
    "the recorded node had fetched no list of appliances; the simulator has some, to make templates of",
)];

#[test]
fn the_recorded_requests_are_answered_as_they_were() {
    let mut sim = recorded_cluster();
    let (mut used, mut unknown) = (BTreeSet::new(), Vec::new());
    for line in RECORDED.lines() {
        let recorded: Value = serde_json::from_str(line).expect("a line of JSON");
        let asked = &recorded["request"];
        let name = ["method", "path", "form"].map(|it| asked[it].as_str().unwrap_or("")).join(" ");
        let reply = sim.handle(&request(asked));
        for difference in differences(&recorded, &reply) {
            let known =
                DIFFERENT.iter().position(|(of, what, _)| name.contains(of) && difference.contains(what));
            match known {
                Some(entry) => _ = used.insert(entry),
                None => unknown.push(format!("{name}\n    {difference}")),
            }
        }
    }
    assert!(unknown.is_empty(), "real / simulator:\n{}", unknown.join("\n"));
    let gone: Vec<_> = DIFFERENT.iter().enumerate().filter(|(n, _)| !used.contains(n)).collect();
    assert!(gone.is_empty(), "no longer different: {gone:?}");
}

/// The guests of the recording, in the state in which they were.
fn recorded_cluster() -> Sim {
    let storages = vec![Storage::new("local-btrfs", StorageKind::Btrfs), Storage::local()];
    let mut sim = Sim::new(Setup {
        storages,
        bridge_address: "10.77.0.1/16".into(),
        storages_need_audit: true,
        ..Setup::default()
    });
    sim.token(WHO, SECRET, true);
    let rights: Value = serde_json::from_str(RECORDED.lines().nth(1).expect("the rights")).expect("JSON");
    for (path, privileges) in rights["body"]["data"].as_object().expect("paths") {
        let names: Vec<&str> =
            privileges.as_object().expect("privileges").keys().map(String::as_str).collect();
        sim.grant("edge@pve", path, &names);
        sim.grant(WHO, path, &names);
    }
    sim.add(Spec::template(9000).tags("pvelxc_1vcpu_1gb_1gb_v1").disk("1G").set("hostname", "tmpl"));
    sim.add(Spec::guest(9001).tags("foreign").disk("1G").set("hostname", "foreign"));
    sim.add(Spec::guest(192_122).tags("a;b").disk("1G"));
    sim.add(Spec::guest(200_135).disk("1G").running());
    let sandbox = Spec::guest(200_104).tags("a;b;edge-real-sandbox").disk("1G").set("protection", "1");
    sim.add(sandbox.running());
    snapshot(&mut sim);
    sim.set_lock(200_104, Some("backup"));
    for name in ["debian-12-test_12.0_amd64.tar.zst", "edge-ptownx4l4yndmogl-base-12_1.0_amd64.tar.zst"] {
        sim.add_archive(&format!("local:vztmpl/{name}"));
    }
    sim
}

/// The sandbox's one snapshot.
fn snapshot(sim: &mut Sim) {
    let asked = serde_json::json!({
        "method": "POST", "path": "extjs/nodes/pve1/lxc/200104/snapshot", "form": "snapname=edgeabvqv3b3a3bwthkg",
    });
    assert_eq!(sim.handle(&request(&asked)).status, 200);
    sim.settle();
}

fn request(asked: &Value) -> Request<Vec<u8>> {
    let text = |name: &str| asked[name].as_str().unwrap_or("").to_owned();
    let mut request = Request::builder()
        .method(text("method").as_str())
        .uri(format!("https://pve.test:8006/api2/{}", text("path")))
        .header("authorization", format!("PVEAPIToken={WHO}={SECRET}"));
    if !asked["form"].is_null() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    // The recording shows forms decoded.
    let form = text("form");
    let pairs = form.split_terminator('&').filter_map(|pair| pair.split_once('='));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    request.body(body.into_bytes()).expect("a request")
}

/// Status line, content type and body: of what PVE says in words every letter,
/// of data the names of its members and the types of their values.
fn differences(recorded: &Value, reply: &Reply) -> Vec<String> {
    let kind = reply.headers.get("content-type").and_then(|it| it.to_str().ok()).unwrap_or("");
    let body = match serde_json::from_slice::<Value>(&reply.body) {
        Ok(body) => body,
        Err(_) => String::from_utf8_lossy(&reply.body).into_owned().into(),
    };
    let status = format!("HTTP/1.1 {} {}", reply.status, reply.reason);
    let mut all = Vec::new();
    let mut compare = |what: &str, real: &Value, ours: &Value| {
        if real != ours {
            all.push(format!("{what}: {real} / {ours}"));
        }
    };
    compare("status line", &recorded["status"], &status.into());
    compare("content type", &recorded["contentType"], &kind.into());
    let (real, ours) = (&recorded["body"], &body);
    if real.is_string() || ours.is_string() {
        compare("body", real, ours);
        return all;
    }
    for words in ["success", "status", "message", "errors"] {
        compare(words, &real[words], &ours[words]);
    }
    if real["data"]["hasFeature"].is_number() {
        compare("data", &real["data"], &ours["data"]);
    }
    let names =
        |body: &Value| body.as_object().cloned().unwrap_or_default().into_iter().map(|it| it.0).collect();
    compare("members", &names(real), &names(ours));
    let (real, ours) = (shape(&real["data"]), shape(&ours["data"]));
    for path in real.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let types = |of: &BTreeMap<String, BTreeSet<String>>| {
            of.get(path)
                .map_or("nothing".to_owned(), |it| it.iter().cloned().collect::<Vec<_>>().join(" or "))
        };
        if real.get(path) != ours.get(path) {
            all.push(format!("data{path}: {} / {}", types(&real), types(&ours)));
        }
    }
    all
}

/// The types that the values at each path have, all items of a list taken together.
fn shape(value: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut paths = BTreeMap::new();
    walk(value, String::new(), &mut paths);
    paths
}

fn walk(value: &Value, path: String, paths: &mut BTreeMap<String, BTreeSet<String>>) {
    let mut note = |kind: &str| _ = paths.entry(path.clone()).or_default().insert(kind.to_owned());
    match value {
        Value::Null => note("null"),
        Value::Bool(_) => note("boolean"),
        Value::Number(_) => note("number"),
        Value::String(it) if it.starts_with("UPID:") => note(&upid(it)),
        Value::String(_) => note("text"),
        Value::Array(items) => {
            note("list");
            items.iter().for_each(|it| walk(it, format!("{path}[]"), paths));
        }
        Value::Object(members) => {
            note("object");
            members.iter().for_each(|(name, it)| walk(it, format!("{path}.{name}"), paths));
        }
    }
}

/// What a UPID says beside process and time.
fn upid(text: &str) -> String {
    let fields: Vec<&str> = text.split(':').collect();
    format!("UPID:{}:{}", fields.get(1).unwrap_or(&""), fields.get(5..).unwrap_or_default().join(":"))
}

/// The number of a refusal is text where PVE threw an exception.
#[test]
fn the_recording_has_both_spellings_of_a_status() {
    let bodies = RECORDED.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        line["body"]["status"].clone()
    });
    let (texts, others): (Vec<_>, Vec<_>) = bodies.partition(Value::is_string);
    assert_eq!((texts.len(), others.iter().filter(|it| it.is_number()).count(), others.len()), (20, 37, 72));
}
