//! The API keeps to `core/openapi.json`: every answer of every test on a
//! [`Stage`] is held against it.

mod document;

use self::document::Contract;
use crate::stage::prelude::*;

/// Fails when this is no answer that the document allows to this request.
pub(crate) fn check(method: &str, target: &str, answer: &Answer) {
    if let Err(why) = Contract::of_the_api().check(method, target, answer) {
        panic!("not in openapi.json: {method} {target}: {why}\n{answer:?}");
    }
}

/// `UPDATE_EXPECT=1 cargo test --test api the_file_is` writes it; its difference is what a review is to read.
#[test]
fn the_file_is_what_the_types_say() {
    let text = pve_edge_core::api::contract::text().expect("a contract");
    expect_test::expect_file!["../../core/openapi.json"].assert_eq(&text);
}

#[test]
fn examples_are_valid() {
    let contract = Contract::of_the_api();
    let (mut count, mut wrong) = (0, Vec::new());
    contract.examples(&mut |place, schema, example| {
        count += 1;
        wrong.extend(contract.validate(schema, example).err().map(|why| format!("{place}: {why}")));
    });
    assert!(count >= 30, "{count} examples are too few");
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn references_lead_somewhere_and_everything_is_referred_to() {
    assert_eq!(Contract::of_the_api().loose_ends(), [] as [String; 0]);
}

#[test]
fn every_operation_answers_as_it_is_documented() {
    let stage = Stage::at_once();
    let ask = |ask: Ask, status: u16| {
        let answer = stage.ask(ask);
        assert_eq!(answer.status, status, "{answer:?}");
        answer
    };
    ask(Ask::get("/openapi.json").without("authorization"), 200);
    ask(Ask::get("/api/health").without("authorization"), 200);
    ask(Ask::get("/api/health/sandbox"), 200);
    ask(Ask::get("/api/config/sandbox"), 200);
    let body = json!({
        "snapshotId": SNAPSHOT, "name": "n", "ttlSeconds": 60, "onExpiry": "stop",
        "metadata": {"a": "b"}, "cpu": 2, "memory": 512, "disk": 9,
    });
    let create = || Ask::sandbox(body.clone()).header("idempotency-key", "k");
    let id = ask(create(), 201).id();
    assert_eq!(ask(create(), 200).id(), id);
    ask(Ask::sandbox(json!({"templateVmid": TEMPLATE})).wait(0), 202);
    ask(Ask::get("/api/sandboxes?limit=1&state=running&metadata.a=b"), 200);
    let etag = ask(Ask::one(&id), 200).header("etag").to_owned();
    ask(Ask::change(&id, json!({"name": null, "metadata": null})).header("if-match", &etag), 200);
    ask(Ask::change(&id, json!({"onExpiry": "pause"})).header("if-match", etag), 412);
    ask(Ask::extend(&id, 300), 200);
    ask(Ask::exec(&id, "true"), 200);
    ask(Ask::exec(&id, "true").header("accept", "text/event-stream"), 200);
    // A caller in a hurry gets a snapshot too.
    let taken = ask(Ask::act(&id, "snapshots", json!({"name": "s"})).wait(0), 202);
    let snapshot = taken.header("location").to_owned();
    stage.world.settle();
    ask(Ask::get(&snapshot).wait(20), 200);
    ask(Ask::get("/api/snapshots"), 200);
    ask(Ask::snapshot(SNAPSHOT), 403);
    ask(Ask::delete(&snapshot), 204);
    ask(Ask::get(&snapshot), 404);
    ask(Ask::act(&id, "reboot", json!({"force": true})), 200);
    ask(Ask::act(&id, "pause", json!({"keeps": "memory"})), 422);
    ask(Ask::act(&id, "pause", json!({})).wait(0), 202);
    stage.world.settle();
    ask(Ask::act(&id, "resume", json!({"ttlSeconds": null})), 200);
    ask(Ask::act(&id, "stop", json!({"timeoutSeconds": 5})), 200);
    ask(Ask::exec(&id, "true"), 409);
    ask(Ask::act(&id, "start", json!({})), 200);
    ask(Ask::post("/api/gc", json!({"dryRun": true})), 403);
    ask(Ask::post("/api/gc", json!({"dryRun": true})).by("ops"), 200);
    ask(Ask::end(&id).wait(0), 202);
    stage.world.settle();
    ask(Ask::end(&id), 404);
}

#[test]
fn what_is_wrong_with_a_request_is_answered_as_it_is_documented() {
    let stage = Stage::new();
    for (ask, status) in [
        (Ask::get("/api/sandboxes").without("authorization"), 401),
        (Ask::get("/api/sandboxes?limit=0"), 400),
        (Ask::get("/api/nothing"), 404),
        (Ask::patch("/api/sandboxes", json!({})), 405),
        (Ask::sandbox(json!({"cpu": 0, "name": "\0"})), 400),
        (Ask::create().bytes("{"), 400),
        (Ask::create().header("content-type", "text/plain"), 415),
        (Ask::create().header("idempotency-key", ""), 400),
        (Ask::sandbox(json!({"templateVmid": 101})), 422),
        (Ask::one("no-such"), 404),
    ] {
        let answer = stage.ask(ask);
        assert_eq!(answer.status, status, "{answer:?}");
    }
}
