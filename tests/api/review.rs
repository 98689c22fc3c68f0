//! What a sceptic tried: each of these was wrong once.

use std::cell::Cell;

use pve_edge_tests::{
    sim::{Node, Reply, Setup, Sim, Spec},
    world::{Fault, Moment, World},
};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    stage::{Answer, Ask, SNAPSHOT, Stage, TEMPLATE, echo, plain_sim, vmid_of},
    truth::all_committed,
};

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.id()
}

/// Claimed and left alone.
fn half_made(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body).header("prefer", "wait=0"));
    assert_eq!(answer.status, 202, "{answer:?}");
    stage.world.settle();
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn sweep(stage: &Stage) -> Answer {
    let answer = stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Sweeps as a schedule does, for five minutes.
fn sweeps(stage: &Stage) {
    for _ in 0..4 {
        sweep(stage);
        stage.world.advance(Duration::seconds(75));
    }
    stage.world.settle();
}

fn exists(stage: &Stage, id: &str) -> bool {
    stage.world.sim().guest(vmid_of(id)).is_some()
}

fn runs(stage: &Stage, id: &str) -> bool {
    stage.world.sim().guest(vmid_of(id)).is_some_and(|it| it.run.is_some())
}

fn two_nodes() -> Setup {
    Setup { nodes: vec![Node::new("pve1"), Node::new("pve2")], ..Setup::default() }
}

fn from_template(template: Spec) -> Stage {
    let mut sim = Sim::new(Setup::default());
    sim.add(template.tags(SNAPSHOT));
    echo(&mut sim);
    Stage::on(sim)
}

#[test]
fn tags_that_an_admin_clears_cost_nobody_a_sandbox() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().admin_set(vmid_of(&id), "tags", "");
    stage.world.advance(Duration::minutes(11));
    sweeps(&stage);
    assert!(runs(&stage, &id), "{}", stage.told());
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    // The next change writes them again.
    assert_eq!(stage.ask(Ask::extend(&id, 3600)).status, 200);
    assert_eq!(stage.ask(Ask::get("/api/sandboxes")).json()["items"][0]["id"], *id);
}

#[test]
fn a_key_whose_claim_cannot_be_read_yet_makes_no_second_sandbox() {
    let elsewhere = Stage::new();
    let made = elsewhere.ask(Ask::create_keyed("k").header("prefer", "wait=0"));
    let vmid = vmid_of(&made.id());
    let text = elsewhere.world.sim().guest(vmid).unwrap().config.description.clone().unwrap();
    // The first moment of a clone: a lock and nothing else.
    let stage = Stage::new().beside("other dice", &[]);
    stage.world.sim_mut().add(Spec::guest(vmid));
    stage.world.sim_mut().set_lock(vmid, Some("create"));
    let reads = Cell::new(0);
    let path = format!("/lxc/{vmid}/config");
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::Before && seen.method == "GET" && seen.path.ends_with(&path) {
            reads.set(reads.get() + 1);
            if reads.get() == 2 {
                sim.admin_describe(vmid, &text);
                sim.set_lock(vmid, None);
            }
        }
    });
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!(again.id(), made.id(), "{}", stage.told());
    assert_eq!(all_committed(&stage.world.sim()).len(), 1);
}

#[test]
fn one_key_at_once_on_two_nodes_makes_one_sandbox() {
    for seed in 0..12 {
        let mut sim = plain_sim(two_nodes());
        sim.add(Spec::template(TEMPLATE + 1).tags(SNAPSHOT).node("pve2"));
        let stage = Stage::of(World::new(sim, seed), &[]);
        stage.world.latency(1, 40);
        let beside = stage.beside("b", &[]);
        let asked = vec![stage.pending(Ask::create_keyed("k")), beside.pending(Ask::create_keyed("k"))];
        let ids: Vec<String> = stage.world.run_all(asked).into_iter().flatten().map(|it| it.id()).collect();
        stage.world.settle();
        assert_eq!(ids[0], ids[1], "seed {seed}\n{}", stage.told());
        assert_eq!(all_committed(&stage.world.sim()).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_key_whose_sandbox_moves_meanwhile_makes_no_second_one() {
    let stage = Stage::on(plain_sim(two_nodes()));
    let id = stage.ask(Ask::create_keyed("k")).id();
    move_after_listing(&stage, &id, &["pve2"]);
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!(again.id(), id, "{}", stage.told());
    assert_eq!(all_committed(&stage.world.sim()).len(), 1);
}

#[test]
fn a_sandbox_that_moves_to_and_fro_is_not_404() {
    let stage = Stage::on(plain_sim(two_nodes()));
    let id = created(&stage, json!({}));
    stage.world.advance(Duration::minutes(11));
    stage.world.sim_mut().migrate(vmid_of(&id), "pve2");
    move_after_listing(&stage, &id, &["pve1"]);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
}

/// Moves a guest right after each listing, as long as there are `nodes`.
fn move_after_listing(stage: &Stage, id: &str, nodes: &'static [&'static str]) {
    let (vmid, next) = (vmid_of(id), Cell::new(0));
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::After && seen.path.contains("/cluster/resources") {
            if let Some(node) = nodes.get(next.get()) {
                sim.migrate(vmid, node);
            }
            next.set(next.get() + 1);
        }
    });
}

#[test]
fn what_a_protected_template_left_half_made_is_deleted() {
    let stage = from_template(Spec::template(TEMPLATE).set("protection", "1"));
    let id = half_made(&stage, json!({}));
    stage.world.advance(Duration::seconds(601));
    sweeps(&stage);
    assert!(!exists(&stage, &id), "{}", stage.told());
}

#[test]
fn tags_that_pve_refuses_do_not_keep_the_half_made() {
    let stage = Stage::new();
    let id = half_made(&stage, json!({}));
    stage.world.sim_mut().set_tag_access("none", &[], &[]);
    // A GET never deletes, whatever PVE refuses.
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.code(), "pve-tags-restricted", "{shown:?}");
    stage.world.settle();
    assert!(exists(&stage, &id), "{}", stage.told());
    stage.world.advance(Duration::seconds(601));
    sweeps(&stage);
    assert!(!exists(&stage, &id), "{}", stage.told());
}

#[test]
fn what_was_never_committed_is_not_kept_by_its_expiry() {
    let stage = Stage::new();
    let id = half_made(&stage, json!({"ttlSeconds": 30, "onExpiry": "stop"}));
    stage.world.advance(Duration::seconds(31));
    sweep(&stage);
    stage.world.settle();
    act(&stage, &id, "start", json!({}));
    stage.world.settle();
    assert!(!runs(&stage, &id), "with its template's address and token\n{}", stage.told());
    stage.world.advance(Duration::seconds(601));
    sweeps(&stage);
    assert!(!exists(&stage, &id), "{}", stage.told());
}

#[test]
fn a_sweep_that_dies_before_the_shutdown_leaves_it_to_the_next() {
    for fault in [Fault::NeverSent, Fault::Dies] {
        let stage = Stage::new();
        let id = created(&stage, json!({"ttlSeconds": 60, "onExpiry": "stop"}));
        stage.world.advance(Duration::seconds(61));
        stage.world.fault_once(|seen| seen.path.ends_with("/status/shutdown"), fault);
        stage.try_ask(Ask::post("/api/gc", json!({})).by("ops"));
        assert!(runs(&stage, &id));
        stage.world.advance(Duration::minutes(1));
        sweep(&stage);
        stage.world.settle();
        assert!(exists(&stage, &id) && !runs(&stage, &id), "{}", stage.told());
    }
}

#[test]
fn a_start_that_finds_execd_open_to_everyone_stops_the_guest() {
    for action in ["start", "reboot"] {
        let stage = Stage::new();
        let id = created(&stage, json!({}));
        if action == "start" {
            act(&stage, &id, "stop", json!({}));
        }
        stage.world.sim_mut().admin_set(vmid_of(&id), "env", "A=1");
        let answer = act(&stage, &id, action, json!({}));
        assert_eq!((answer.status, answer.code()), (502, "exec-unprotected".into()), "{answer:?}");
        stage.world.settle();
        assert!(!runs(&stage, &id), "{}", stage.told());
    }
}

#[test]
fn a_sandbox_that_expires_before_it_is_up_is_no_201() {
    let stage = Stage::new();
    for on_expiry in ["delete", "stop"] {
        let body = json!({"ttlSeconds": 1, "onExpiry": on_expiry});
        let answer = stage.ask(Ask::post("/api/sandboxes", body));
        assert_ne!(answer.status, 201, "{answer:?}");
    }
}

#[test]
fn what_never_expires_still_never_does_after_a_pause() {
    let stage = Stage::new();
    let id = created(&stage, json!({"ttlSeconds": null}));
    act(&stage, &id, "pause", json!({}));
    let resumed = act(&stage, &id, "resume", json!({}));
    assert_eq!((resumed.state(), &resumed.json()["expiresAt"]), ("running".into(), &Value::Null));
}

#[test]
fn an_if_match_that_cannot_be_read_matches_nothing() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    let patch = Ask::patch(format!("/api/sandboxes/{id}"), json!({"name": "x"}));
    assert_eq!(stage.ask(patch.clone().header("if-match", "\"ä\"")).status, 412);
    let etag = stage.ask(Ask::one(&id)).header("etag").to_owned();
    assert_eq!(stage.ask(patch.header("if-match", etag)).status, 200);
}

#[test]
fn a_query_parameter_said_twice_is_refused() {
    let stage = Stage::new();
    for query in ["state=running&state=stopped", "limit=1&limit=2", "metadata.a=1&metadata.a=2"] {
        let answer = stage.ask(Ask::get(format!("/api/sandboxes?{query}")));
        assert_eq!((answer.status, answer.code()), (400, "invalid-request".into()), "{query}");
    }
}

#[test]
fn only_a_crashed_clone_is_called_one() {
    let stage = Stage::new();
    // A backup of the template: no clone runs, and nothing has crashed.
    stage.world.sim_mut().set_lock(TEMPLATE, Some("backup"));
    let answer = stage.ask(Ask::create());
    assert_eq!((answer.status, answer.code()), (503, "template-locked".into()));
    assert_eq!(answer.json()["lock"], "backup");
    assert!(answer.retry_after().is_some() && answer.json()["retryable"] == true, "{answer:?}");
    // Nobody knows which clones run.
    stage.world.sim_mut().set_lock(TEMPLATE, Some("disk"));
    stage
        .world
        .fault_if(|seen| seen.path.contains("/tasks?").then(|| Fault::Refused(500, "got timeout".into())));
    assert_eq!(stage.ask(Ask::create()).code(), "template-busy");
    stage.world.clear_faults();
    assert_eq!(stage.ask(Ask::create()).code(), "template-lock-stale");
}

#[test]
fn no_two_sandboxes_get_their_templates_ipv6_address() {
    let net0 = "name=eth0,bridge=vmbr0,ip=10.0.0.9/24,gw=10.0.0.1,ip6=fd00::9/64,gw6=fd00::1,tag=7";
    let stage = from_template(Spec::template(TEMPLATE).set("net0", net0));
    let id = created(&stage, json!({}));
    let sim = stage.world.sim();
    let net0 = sim.guest(vmid_of(&id)).unwrap().config.get("net0").unwrap();
    assert!(net0.contains("ip=dhcp") && net0.contains("tag=7") && !net0.contains("fd00::"), "{net0}");
}

#[test]
fn long_notes_keep_nothing_alive() {
    let stage = Stage::new();
    let id = created(&stage, json!({"ttlSeconds": 60}));
    stage.world.sim_mut().admin_describe(vmid_of(&id), &"x".repeat(8150));
    stage.world.advance(Duration::seconds(61));
    sweeps(&stage);
    assert!(!exists(&stage, &id), "{}", stage.told());
}

#[test]
fn probes_are_counted_all() {
    let key = "k";
    let vmid = vmid_of(&Stage::new().ask(Ask::create_keyed(key)).id());
    let stage = Stage::new();
    // It refuses the wrong token, and is too busy for ours.
    stage.world.route(&format!("port-39375-vm-{vmid}.sandbox.test"), |request| {
        let wrong = request.headers()["authorization"].to_str().unwrap().ends_with("0000");
        let (status, delay) = (if wrong { 401 } else { 503 }, Duration::ZERO);
        Ok(Reply { status, delay, reason: String::new(), headers: Default::default(), body: Vec::new() })
    });
    let answer = stage.ask(Ask::create_keyed(key).header("prefer", "wait=25"));
    assert_eq!((answer.status, vmid_of(&answer.id())), (202, vmid));
    let all = stage.world.requests().len();
    assert!(all <= 40, "{all} requests");
}

#[test]
fn an_expiry_beyond_all_numbers_breaks_nothing() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    let mut sim = stage.world.sim_mut();
    let tags = sim.guest(vmid_of(&id)).unwrap().config.get("tags").unwrap().to_owned();
    let head = tags.split(';').find(|it| it.starts_with("pe1.")).unwrap();
    let mut fields: Vec<&str> = head.split('.').collect();
    fields[5] = "-9223372036854775808";
    sim.admin_set(vmid_of(&id), "tags", &fields.join("."));
    drop(sim);
    sweep(&stage);
    assert_eq!(stage.ask(Ask::extend(&id, 60)).status, 200);
}

#[test]
fn a_replay_during_a_backup_tells_that_it_runs() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.world.advance(Duration::minutes(20));
    stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!((again.status, again.state(), again.id()), (200, "running".into(), id));
}

#[test]
fn a_crashed_creation_is_an_error_in_the_end() {
    let stage = Stage::new();
    let answer = stage.ask(Ask::create().header("prefer", "wait=0"));
    let id = answer.id();
    stage.world.sim_mut().crash(vmid_of(&id));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "creating");
    stage.world.advance(Duration::seconds(601));
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.state(), "error", "{shown:?}");
    assert!(shown.json()["problem"].as_str().unwrap().contains("locked (create)"), "{shown:?}");
}

#[test]
fn nothing_is_taken_of_what_is_half_made() {
    let stage = Stage::new();
    let id = half_made(&stage, json!({}));
    let taken = act(&stage, &id, "snapshots", json!({}));
    assert_eq!((taken.status, taken.code()), (409, "still-creating".into()), "{taken:?}");
}
