//! The same API before the stand-in of Morph Cloud: one flow after the other, on each platform.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use super::{
    client::{Client, Heard, with_json},
    cluster::random,
    log::Log,
    rig::Keys,
    run::{Tally, attempt, no_secret},
    target::Target,
};
use pve_edge_bed::{
    guests::{GuestState, Guests, Inventory},
    morph::{
        Morph, Setup, Spec,
        server::{Server, serve},
    },
    sim::execd::ExecLine,
};
use pve_edge_core::api::Pairs;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// Its name in the output.
pub const NAME: &str = "morph";

const PRESET: &str = "morph_1vcpu_1gb_8gb_v1";

/// Callers of one API.
#[derive(Clone)]
struct World {
    target: Target,
    blue: Client,
    red: Client,
    admin: Client,
}

type Flow = fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs all flows whose name has `filter` in it, and prints a line for each.
pub async fn run(target: Target, filter: &str) -> Tally {
    let place = format!("{} on {NAME}", target.name());
    let mut tally = Tally::default();
    if let Err(why) = flows(target, filter, &place, &mut tally).await {
        tally.tell(&place, "starts", Err(why));
    }
    tally
}

async fn flows(target: Target, filter: &str, place: &str, tally: &mut Tally) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let folder = tempfile::Builder::new().prefix("pve-edge-e2e-").tempdir().map_err(failed)?;
    let log = Log::new(folder.path());
    let (keys, account) = (Keys::new()?, format!("morph-{}", random()?));
    let morph = stand_in(&account).await.map_err(failed)?;
    let settings = settings(&morph, &account, &keys);
    let guests = Guests::new(Arc::new(Nobody), None);
    let api = target.start(&settings, None, &guests, (&log, NAME), std::time::Duration::ZERO).await?;
    let heard = Heard::default();
    let anyone = Client::new(&api.url, heard.clone())?;
    let [blue, red, admin] = [&keys.blue, &keys.red, &keys.admin].map(|key| anyone.with_key(key));
    let world = World { target, blue, red, admin };
    // A deployment that streams differs from another in that alone.
    let applies = |name: &str| target != Target::LambdaStreaming || name.starts_with("events");
    for (name, flow) in FLOWS.iter().filter(|(name, _)| name.contains(filter) && applies(name)) {
        let (outcome, seconds) = attempt(flow(world.clone())).await;
        tally.tell(place, &format!("{name}  ({seconds:.1} s)"), outcome);
    }
    if filter.is_empty() {
        let secrets = [account, keys.secret, keys.blue, keys.red, keys.admin, ENVIRONMENT.to_owned()];
        tally.tell(place, "no secret in any answer or log", no_secret(&log, &heard, &secrets));
    }
    Ok(())
}

async fn stand_in(key: &str) -> std::io::Result<Server> {
    let mut morph = Morph::new(OffsetDateTime::now_utc(), key);
    let short = Duration::milliseconds(300);
    morph.setup =
        Setup { start: short, pause: short, snapshot: short, lag: Duration::ZERO, ..Setup::default() };
    // What is run has the sandbox's variables in it.
    let told = |line: &str| ExecLine::Stdout(if line.contains("uname") { "Linux\n" } else { "" }.to_owned());
    morph.set_runner(Arc::new(move |_, line| vec![told(line), ExecLine::Exit(0)]));
    let spec = Spec { vcpus: 1, memory: 1024, disk_size: 8192 };
    morph.add_snapshot(spec, &[("edge.deployment", "e2e"), ("edge.preset", PRESET)]);
    serve(morph, 0).await
}

fn settings(morph: &Server, account: &str, keys: &Keys) -> Pairs {
    [
        ("MORPH_API_KEY", account.to_owned()),
        ("MORPH_BASE_URL", format!("http://{}/api", morph.address)),
        ("EDGE_API_KEYS", keys.setting()),
        ("EDGE_SECRET", keys.secret.clone()),
        ("EDGE_DEPLOYMENT", "e2e".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Morph's instances are reached by Morph alone.
struct Nobody;

impl Inventory for Nobody {
    fn guest(&self, _: u32) -> Option<GuestState> {
        None
    }

    fn at(&self, _: IpAddr) -> Option<u32> {
        None
    }
}

/// A variable of a sandbox, which is in no answer and no log.
const ENVIRONMENT: &str = "a-secret-of-the-sandbox";

const FLOWS: [(&str, Flow); 6] = [
    ("from_creation_to_deletion", |world| Box::pin(from_creation_to_deletion(world))),
    ("a_pause_keeps_its_memory", |world| Box::pin(a_pause_keeps_its_memory(world))),
    ("a_snapshot_makes_sandboxes", |world| Box::pin(a_snapshot_makes_sandboxes(world))),
    ("events_come_of_a_command", |world| Box::pin(events_come_of_a_command(world))),
    ("what_morph_cannot_is_refused", |world| Box::pin(what_morph_cannot_is_refused(world))),
    ("it_is_healthy_and_swept", |world| Box::pin(it_is_healthy_and_swept(world))),
];

async fn sandbox(world: &World, body: Value) -> (Value, String) {
    let shown = world.blue.ask("POST", "/api/sandboxes", &body).await.json(201);
    let path = format!("/api/sandboxes/{}", shown["id"].as_str().expect("an id"));
    (shown, path)
}

async fn from_creation_to_deletion(world: World) {
    let body = json!({"metadata": {"task": "7"}, "env": {"TOKEN": ENVIRONMENT}});
    let create = || world.blue.ask_with("POST", "/api/sandboxes", &body, &[("idempotency-key", "k1")]);
    let made = create().await.json(201);
    let (id, path) = (made["id"].as_str().expect("an id"), format!("/api/sandboxes/{}", &made["id"]));
    let path = path.replace('"', "");
    assert_eq!((&made["provider"], &made["vmid"]), (&json!("morph"), &Value::Null), "{made}");
    assert_eq!(create().await.json(200)["id"], made["id"]);
    let listed = world.blue.get("/api/sandboxes?metadata.task=7&state=running").await.json(200);
    assert_eq!(listed["items"][0]["id"], id, "{listed}");
    let url = made["services"][0]["url"].as_str().unwrap_or_default();
    assert!(url.contains("port-39378-morphvm"), "{made}");
    let outcome = world.blue.ask("POST", &format!("{path}/exec"), &json!({"command": "uname -a"})).await;
    assert_eq!(outcome.json(200)["stdout"], "Linux\n");
    let got = world.blue.get(&path).await;
    let etag = got.header("etag").to_owned();
    let change = json!({"name": "mine", "metadata": {"task": null}});
    let patched = world.blue.ask_with("PATCH", &path, &change, &[("if-match", &etag)]).await.json(200);
    assert_eq!((&patched["name"], &patched["metadata"]), (&json!("mine"), &json!({})));
    world
        .blue
        .ask_with("PATCH", &path, &change, &[("if-match", &etag)])
        .await
        .problem(412, "precondition-failed");
    world.blue.ask("POST", &format!("{path}/extend"), &json!({"ttlSeconds": 7200})).await.json(200);
    world.red.get(&path).await.problem(404, "not-found");
    world.red.ask("DELETE", &path, &Value::Null).await.problem(404, "not-found");
    world.blue.ask("DELETE", &path, &Value::Null).await.empty(204);
    world.blue.get(&path).await.problem(404, "not-found");
}

async fn a_pause_keeps_its_memory(world: World) {
    let (_, path) = sandbox(&world, json!({})).await;
    let order = |what: &str| {
        let (blue, path) = (world.blue.clone(), format!("{path}/{what}"));
        async move { blue.ask("POST", &path, &json!({})).await.json(200) }
    };
    let paused = order("pause").await;
    let told = [&paused["did"], &paused["keeps"], &paused["state"]];
    assert_eq!(told, ["paused", "memory", "paused"], "{paused}");
    assert_eq!(order("pause").await["did"], "nothing");
    let command = json!({"command": "true"});
    world.blue.ask("POST", &format!("{path}/exec"), &command).await.problem(409, "not-running");
    let resumed = order("resume").await;
    assert_eq!([&resumed["did"], &resumed["state"]], ["resumed", "running"], "{resumed}");
    assert_eq!(order("reboot").await["did"], "rebooted");
    world.blue.ask("DELETE", &path, &Value::Null).await.empty(204);
}

async fn a_snapshot_makes_sandboxes(world: World) {
    let (_, path) = sandbox(&world, json!({})).await;
    let body = json!({"name": "deps"});
    let taken = world.blue.ask("POST", &format!("{path}/snapshots"), &body).await.json(201);
    let snapshot = taken["snapshotId"].as_str().expect("an id").to_owned();
    world.red.get(&format!("/api/snapshots/{snapshot}")).await.problem(404, "not-found");
    let (second, of_it) = sandbox(&world, json!({"snapshotId": snapshot})).await;
    assert_eq!(second["snapshotId"], json!(snapshot));
    for path in [path, of_it, format!("/api/snapshots/{snapshot}")] {
        world.blue.ask("DELETE", &path, &Value::Null).await.empty(204);
    }
}

async fn events_come_of_a_command(world: World) {
    let (_, path) = sandbox(&world, json!({})).await;
    let builder = world.blue.request("POST", &format!("{path}/exec")).header("accept", "text/event-stream");
    let answer = world.blue.send(with_json(builder, &json!({"command": "uname -a"}))).await;
    if world.target.streams() {
        let text = answer.text();
        assert_eq!(answer.header("content-type"), "text/event-stream", "{text}");
        assert!(text.contains("event: stdout") && text.contains("\"exitCode\":0"), "{text}");
    } else {
        answer.problem(406, "streaming-unavailable");
    }
    world.blue.ask("DELETE", &path, &Value::Null).await.empty(204);
}

async fn what_morph_cannot_is_refused(world: World) {
    let (_, path) = sandbox(&world, json!({})).await;
    for (caller, path, body) in [
        (&world.blue, format!("{path}/stop"), json!({})),
        (&world.blue, format!("{path}/pause"), json!({"keeps": "disk"})),
        (&world.blue, format!("{path}/rollback"), json!({"snapshot": "x"})),
        (&world.blue, format!("{path}/snapshots"), json!({"keep": true})),
        (
            &world.admin,
            "/api/templates".to_owned(),
            json!({"appliance": "debian", "preset": "1vcpu_1gb_8gb"}),
        ),
    ] {
        caller.ask("POST", &path, &body).await.problem(422, "unsupported");
    }
    assert_eq!(world.blue.get(&path).await.json(200)["state"], "running");
    world.blue.ask("DELETE", &path, &Value::Null).await.empty(204);
}

async fn it_is_healthy_and_swept(world: World) {
    let health = world.blue.get("/api/health/sandbox").await.json(200);
    assert_eq!((&health["status"], &health["provider"]), (&json!("healthy"), &json!("morph")), "{health}");
    let config = world.blue.get("/api/config/sandbox").await.json(200);
    assert_eq!(config["presets"][0]["versions"][0]["snapshotId"], PRESET, "{config}");
    assert_eq!(config["capabilities"]["hibernate"], true, "{config}");
    let report = world.admin.ask("POST", "/api/gc", &json!({"dryRun": true})).await.json(200);
    assert_eq!(report["more"], false, "{report}");
    world.blue.ask("POST", "/api/gc", &json!({})).await.problem(403, "forbidden");
}
