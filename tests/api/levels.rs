//! The log tells by its level whose fault an error is.

use pve_edge_bed::world::Fault;
use serde_json::json;

use crate::{
    secrets::logged,
    stage::{Ask, Stage},
};

/// The line that tells of an answer, from its level on.
fn told(stage: &Stage, ask: &Ask, status: u16) -> String {
    let (log, answer) = logged(|| stage.ask(ask.clone()));
    assert_eq!(answer.status, status, "{answer:?}");
    let lines: Vec<_> = log.lines().filter(|it| it.contains(&format!("status={status} "))).collect();
    let line = lines.iter().rfind(|it| it.contains("answer")).unwrap_or_else(|| panic!("{log}"));
    line.split_once(' ').map(|(_time, line)| line.trim_start().to_owned()).unwrap_or_default()
}

#[test]
fn what_a_caller_does_wrong_is_information_without_his_words() {
    let stage = Stage::new();
    let line = told(&stage, &Ask::post("/api/sandboxes", json!({"name": "his own words", "cpu": "x"})), 400);
    assert!(line.starts_with("INFO ") && !line.contains("own words") && !line.contains("error"), "{line}");
    let line = told(&stage, &Ask::get("/api/sandboxes"), 200);
    assert!(line.starts_with("INFO "), "{line}");
}

#[test]
fn what_pve_does_wrong_is_a_warning() {
    let stage = Stage::new();
    stage
        .world
        .fault_if(|seen| (!seen.is_write()).then(|| Fault::Refused(500, "no such storage".to_owned())));
    let line = told(&stage, &Ask::get("/api/sandboxes"), 502);
    assert!(
        line.starts_with("WARN ") && line.contains("error=pve-error: ") && line.contains("no such storage"),
        "{line}"
    );
}

#[test]
fn what_the_deployment_does_wrong_is_an_error() {
    let stage = Stage::new();
    stage.world.fault_if(|_| Some(Fault::Refused(401, "no such user".to_owned())));
    let line = told(&stage, &Ask::get("/api/sandboxes"), 502);
    assert!(line.starts_with("ERROR ") && line.contains("error=pve-unauthorized: "), "{line}");
}
