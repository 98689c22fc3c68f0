//! What nobody asks for again is brought to its end, and nothing else.

use super::{assert_untouched, crowd, made, ours, stage, stage_of};
use crate::stage::prelude::*;

/// What a sweep did: action and instance.
fn swept(stage: &Stage) -> Vec<(String, String)> {
    let answer = stage.ask(Ask::gc());
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let actions = answer.json()["actions"].as_array().cloned().unwrap_or_default();
    actions.iter().map(|it| (text(&it["action"]), text(&it["id"]))).collect()
}

fn action(name: &str, id: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), id.to_owned())]
}

#[test]
fn what_was_given_up_is_condemned_then_deleted() {
    let stage = stage();
    let others = crowd(&stage);
    // Made, and its maker died.
    stage.world.fault_once(|it: &Seen| it.path.contains("snapshot_id="), Fault::DiesAfter);
    assert!(stage.try_ask(Ask::sandbox(json!({"ttlSeconds": null}))).is_none());
    let left = ours(&stage);
    assert_eq!((left.len(), swept(&stage)), (1, vec![]));
    stage.world.advance(Duration::minutes(11));
    assert_eq!(stage.ask(Ask::one(&left[0])).state(), "error");
    let looked = stage.ask(Ask::post("/api/gc", json!({"dryRun": true})).by("ops")).json();
    assert_eq!(looked["actions"][0]["action"], "condemn", "{looked}");
    assert_eq!(swept(&stage), action("condemn", &left[0]));
    assert_eq!(stage.ask(Ask::one(&left[0])).status, 404);
    assert_eq!((swept(&stage), ours(&stage).len()), (vec![], 1));
    stage.world.advance(Duration::seconds(61));
    assert_eq!(swept(&stage), action("delete", &left[0]));
    assert_eq!(ours(&stage), [] as [String; 0]);
    assert_untouched(&stage, &others, "after three sweeps");
}

#[test]
fn what_morph_does_not_end_is_ended() {
    let stage = stage_of(7, &[("EDGE_STOPPED_MAX_SECONDS", "3600")]);
    stage.account().setup.lag = Duration::days(1);
    let gone = made(&stage, json!({"ttlSeconds": 60})).id();
    let paused = made(&stage, json!({"ttlSeconds": 60, "onExpiry": "pause"})).id();
    stage.world.advance(Duration::seconds(130));
    let mut actions = swept(&stage);
    actions.sort();
    assert_eq!(actions, [action("condemn", &gone), action("pause", &paused)].concat());
    assert_eq!(stage.ask(Ask::extend(&gone, 60)).code(), "condemned");
    stage.world.advance(Duration::seconds(61));
    assert_eq!(swept(&stage), action("delete", &gone));
    stage.world.advance(Duration::seconds(3600));
    assert_eq!(swept(&stage), action("condemn", &paused));
    stage.world.advance(Duration::seconds(61));
    assert_eq!(swept(&stage), action("delete", &paused));
    assert_eq!(ours(&stage), [] as [String; 0]);
}

#[test]
fn what_is_paused_without_a_time_gets_one() {
    let stage = stage();
    stage.account().setup.tells_expiry = false;
    let id = made(&stage, json!({"ttlSeconds": 60, "onExpiry": "pause"})).id();
    stage.world.advance(Duration::seconds(130));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    assert_eq!(swept(&stage), action("finish", &id));
    stage.world.advance(Duration::days(6));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    stage.world.advance(Duration::days(2));
    assert_eq!(ours(&stage), [] as [String; 0]);
    // One that never ends is left.
    let id = made(&stage, json!({"ttlSeconds": null})).id();
    assert_eq!(stage.act(&id, "pause", json!({})).status, 200);
    stage.world.advance(Duration::days(100));
    assert_eq!((swept(&stage), ours(&stage)), (vec![], vec![id]));
}

/// Its owner read it before it was condemned, and renews it after.
#[test]
fn what_is_renewed_while_it_is_condemned_stays() {
    let stage = stage();
    stage.account().setup.lag = Duration::days(1);
    let id = made(&stage, json!({"ttlSeconds": 60})).id();
    stage.world.advance(Duration::seconds(100));
    let held = |it: &Seen| it.path.ends_with("/ttl");
    stage.world.fault_once(held, Fault::Slow(std::time::Duration::from_secs(10)));
    let renewed = stage.world.spawn(stage.pending(Ask::extend(&id, 6000)));
    stage.world.advance(Duration::seconds(2));
    assert_eq!(swept(&stage), action("condemn", &id));
    stage.world.advance(Duration::seconds(20));
    assert!(renewed.take().is_some_and(|it| it.status == 200));
    stage.world.advance(Duration::seconds(60));
    assert_eq!(swept(&stage), action("finish", &id));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    assert_eq!(swept(&stage), vec![]);
}

#[test]
fn the_second_of_a_key_goes_and_a_sandbox_never() {
    let stage = stage();
    let id = stage.ask(Ask::create_keyed("k")).id();
    let mut second = stage.account().instances[&id].clone();
    (second.created, second.ttl_expire_at) = (second.created + 5, None);
    second.metadata.remove("edge.phase");
    second.metadata.insert("edge.nonce".into(), "b".repeat(16));
    stage.account().instances.insert("morphvm_zzz".into(), second);
    assert!(!stage.ask(Ask::get("/api/sandboxes")).body.contains("morphvm_zzz"));
    stage.world.advance(Duration::seconds(70));
    assert_eq!(swept(&stage), action("condemn", "morphvm_zzz"));
    stage.world.advance(Duration::seconds(61));
    assert_eq!(swept(&stage), action("delete", "morphvm_zzz"));
    assert_eq!(ours(&stage), [id]);
}

#[test]
fn a_sweep_keeps_within_its_requests() {
    let stage = stage_of(7, &[("EDGE_SWEEP_REQUESTS", "9")]);
    stage.account().setup.lag = Duration::days(1);
    for _ in 0..6 {
        made(&stage, json!({"ttlSeconds": 60}));
    }
    stage.world.advance(Duration::seconds(200));
    let before = stage.world.requests().len();
    let report = stage.ask(Ask::gc()).json();
    assert!(stage.world.requests().len() - before <= 9);
    assert_eq!(report["more"], true, "{report}");
    let deletes = |it: &&Seen| it.method == "DELETE";
    assert_eq!(stage.world.requests().iter().filter(deletes).count(), 0);
}

/// Whoever asked in its tenth minute may finish it half a minute later.
#[test]
fn what_is_finished_at_the_last_moment_is_not_given_up() {
    let stage = stage();
    let id = stage.ask(Ask::create().wait(0)).id();
    stage.world.advance(Duration::seconds(595));
    stage.world.fault_once(
        |it: &Seen| it.path.ends_with("/exec/sse"),
        Fault::Slow(std::time::Duration::from_secs(7)),
    );
    let finishing = stage.world.spawn(stage.pending(Ask::one(&id).wait(20)));
    stage.world.advance(Duration::seconds(6));
    let condemns = |it: &Seen| it.body.contains("edge.gone");
    stage.world.fault_once(condemns, Fault::Slow(std::time::Duration::from_secs(5)));
    let sweeping = stage.world.spawn(stage.pending(Ask::gc()));
    stage.world.advance(Duration::seconds(20));
    assert!(sweeping.take().is_some_and(|it| it.status == 200));
    assert!(finishing.take().is_some_and(|it| it.state() == "running"), "{}", stage.told());
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
}

/// The time that a sweep gives it is about what is paused alone.
#[test]
fn what_was_paused_at_its_end_is_so_again_after_a_sweep() {
    let stage = stage();
    stage.account().setup.tells_expiry = false;
    let id = made(&stage, json!({"ttlSeconds": 60, "onExpiry": "pause"})).id();
    stage.world.advance(Duration::seconds(130));
    assert_eq!(swept(&stage), action("finish", &id));
    let named = stage.ask(Ask::change(&id, json!({"name": "x"})));
    assert_eq!(named.status, 200, "{named:?}");
    let resumed = stage.act(&id, "resume", json!({}));
    assert_eq!((resumed.state(), &resumed.json()["onExpiry"]), ("running".to_owned(), &json!("pause")));
    stage.world.advance(Duration::hours(2));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
}
