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
