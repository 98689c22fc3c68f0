//! What operations cost, in requests and in PVE's own time.

use pve_edge_bed::{
    floor::{self, Line},
    sim::Reply,
};
use pve_edge_core::{
    pve::marks::{self, Mark, Phase},
    sandbox::{id::Kind, nonce::Origin},
};

use crate::{ids::nonce, stage::prelude::*};

/// Tasks take 1 s each; the sandbox answers 0.2 s after its start.
#[test]
fn create() {
    let stage = Stage::new();
    let (began, setup) = (stage.world.now(), stage.world.sim().setup().clone());
    let (answer, requests) = stage.counted(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(requests <= 9, "{requests}");
    let work = setup.clone_secs + setup.start_secs + setup.boot;
    let ratio = (answer.at - began) / work;
    assert!(ratio <= 1.25, "{ratio}");
}

#[test]
fn get_patch_extend_exec() {
    let (stage, id) = with_one();
    let path = format!("/api/sandboxes/{id}");
    let body = serde_json::json!({"name": "x"});
    for (ask, most) in [
        (Ask::one(&id), 3),
        (Ask::patch(path, body), 4),
        (Ask::extend(&id, 9000), 4),
        (Ask::exec(&id, "true"), 1),
    ] {
        let (answer, requests) = stage.counted(ask.clone());
        assert_eq!((answer.status, requests), (200, most), "{ask:?}");
    }
}

/// The hint, the listing, then config and status where it is now.
#[test]
fn get_of_one_that_has_moved() {
    let (stage, id) = with_one();
    stage.world.sim_mut().migrate(vmid_of(&id), "pve2");
    let (answer, requests) = stage.counted(Ask::one(&id));
    assert_eq!((answer.status, &*answer.state(), requests), (200, "running", 4), "{}", stage.told());
}

#[test]
fn delete() {
    // As long as it takes on a real PVE; where tasks take 1 s each, one look more.
    for (setup, most) in [(Setup::measured(), 4), (Setup::default(), 5)] {
        let (stage, id) = with_one_on(setup);
        let (answer, requests) = stage.counted(Ask::end(&id));
        assert!(answer.status == 204 && requests <= most, "{requests}: {answer:?}");
    }
}

/// All of it from one request, up to what PVE can list; beyond, nothing new is made.
#[test]
fn list_of_three_thousand() {
    let stage = Stage::new();
    add_sandboxes(&stage, 0..3000);
    let (answer, requests) = stage.counted(Ask::get("/api/sandboxes?limit=5000&metadata.team=core"));
    let items = answer.json()["items"].as_array().map_or(0, Vec::len);
    assert_eq!((answer.status, requests, items), (200, 1, 3000));
    let (answer, _) = stage.counted(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    add_sandboxes(&stage, 3000..3900);
    let (answer, requests) = stage.counted(Ask::create());
    assert_eq!((answer.status, &*answer.code(), requests), (503, "index-full", 1), "{answer:?}");
    assert!(answer.retry_after().is_some());
}

#[test]
fn pages_come_in_order_and_without_gaps() {
    let stage = Stage::new();
    add_sandboxes(&stage, 0..250);
    let (mut vmids, mut path) = (Vec::new(), "/api/sandboxes?limit=100".to_owned());
    loop {
        let page = stage.ask(Ask::get(&path)).json();
        vmids.extend(page["items"].as_array().into_iter().flatten().filter_map(|it| it["vmid"].as_u64()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/api/sandboxes?limit=100&cursor={cursor}");
    }
    assert_eq!(vmids, (200_000..200_250).collect::<Vec<u64>>());
}

/// Tasks, answers and connections take as long as on a real PVE.
#[test]
fn beside_a_floor_that_knows_the_end_of_each_task() {
    let lines = floor::measure().expect("success");
    assert!(lines.len() == 5 && lines.iter().all(Line::fits), "{lines:#?}");
}

fn with_one() -> (Stage, String) {
    with_one_on(Setup::two_nodes())
}

fn with_one_on(setup: Setup) -> (Stage, String) {
    let stage = Stage::on(plain_sim(setup));
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(Duration::minutes(20));
    (stage, id)
}

/// Running sandboxes of team blue, with metadata.
fn add_sandboxes(stage: &Stage, which: std::ops::Range<u32>) {
    let birth = stage.world.now() - Duration::hours(1);
    for nth in which {
        let mark = sandbox(200_000 + nth, birth);
        let tags = marks::tags("", &mark, mark.expires, 256, false);
        stage.world.sim_mut().add(Spec::guest(200_000 + nth).tags(&tags).running());
    }
}

fn sandbox(number: u32, birth: time::OffsetDateTime) -> Mark {
    let [_, a, b, c] = number.to_be_bytes();
    let metadata = [("team", "core"), ("pull-request", "https://git.test/7")];
    let vmid = number.try_into().expect("a VMID");
    let nonce = nonce("prod", Kind::Lxc, vmid, Origin::new(birth, [1, a, b, c]));
    Mark {
        node: "pve1".into(),
        expires: Some(birth.unix_timestamp() + 36_000),
        phase: Phase::Committed,
        name: Some(format!("agent {number}")),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Mark::claimed("prod", "blue", vmid, Kind::Lxc, nonce)
    }
}

#[test]
fn probes_are_counted_all() {
    let key = "k";
    let vmid = vmid_of(&Stage::new().ask(Ask::create_keyed(key)).id());
    let stage = Stage::new();
    // It refuses the wrong token, and is too busy for ours.
    stage.world.route(&format!("port-39375-vm-{vmid}.sandbox.test"), |request| {
        let token = request.headers().get("authorization").and_then(|it| it.to_str().ok());
        let status = token.map_or(200, |it| if it.ends_with("0000") { 401 } else { 503 });
        let delay = Duration::ZERO;
        Ok(Reply { status, delay, reason: String::new(), headers: Default::default(), body: Vec::new() })
    });
    let answer = stage.ask(Ask::create_keyed(key).wait(25));
    assert_eq!((answer.status, vmid_of(&answer.id())), (202, vmid));
    let all = stage.world.requests().len();
    assert!(all <= 40, "{all} requests");
}
