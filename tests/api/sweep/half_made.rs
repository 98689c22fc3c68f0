//! What was claimed and never committed: finished while it is young, and deleted when it is given up.

use crate::stage::prelude::*;

#[test]
fn what_a_protected_template_left_half_made_is_deleted() {
    let stage = Stage::from_template(Spec::template(TEMPLATE).set("protection", "1"));
    let id = stage.half_made(json!({}));
    stage.world.advance(Duration::seconds(601));
    stage.sweeps();
    assert!(!stage.exists(&id), "{}", stage.told());
}

#[test]
fn tags_that_pve_refuses_do_not_keep_the_half_made() {
    let stage = Stage::new();
    let id = stage.half_made(json!({}));
    stage.world.sim_mut().set_tag_access("none", &[], &[]);
    // A GET never deletes, whatever PVE refuses.
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.code(), "pve-tags-restricted", "{shown:?}");
    stage.world.settle();
    assert!(stage.exists(&id), "{}", stage.told());
    stage.world.advance(Duration::seconds(601));
    stage.sweeps();
    assert!(!stage.exists(&id), "{}", stage.told());
}

#[test]
fn what_was_never_committed_is_not_kept_by_its_expiry() {
    let stage = Stage::new();
    let id = stage.half_made(json!({"ttlSeconds": 30, "onExpiry": "stop"}));
    stage.world.advance(Duration::seconds(31));
    stage.sweep();
    stage.world.settle();
    stage.act(&id, "start", json!({}));
    stage.world.settle();
    assert!(!stage.runs(&id), "with its template's address and token\n{}", stage.told());
    stage.world.advance(Duration::seconds(601));
    stage.sweeps();
    assert!(!stage.exists(&id), "{}", stage.told());
}

#[test]
fn half_made_guests_are_finished_while_young_and_condemned_when_given_up() {
    let stage = Stage::new();
    let young = stage.ask(Ask::create_keyed("a").wait(0));
    assert_eq!(young.status, 202);
    stage.world.settle();
    assert_eq!(super::sweep(&stage), [(vmid_of(&young.id()), "finish".into())]);
    stage.world.advance(Duration::seconds(5));
    assert_eq!(stage.ask(Ask::one(&young.id())).state(), "running");
    let old = stage.ask(Ask::create_keyed("b").wait(0));
    stage.world.advance(Duration::seconds(601));
    assert_eq!(super::sweep(&stage), [(vmid_of(&old.id()), "condemn".into())]);
    stage.world.advance(Duration::seconds(61));
    assert_eq!(super::sweep(&stage), [(vmid_of(&old.id()), "delete".into())]);
    stage.world.settle();
    assert!(!stage.exists(&old.id()) && stage.exists(&young.id()));
}

#[test]
fn a_guest_that_is_being_created_is_no_orphan() {
    let stage = Stage::new();
    let slow = stage.ask(Ask::create_keyed("a").wait(0));
    // The clone still runs: locked, unmarked in tags, stopped.
    let told = super::sweep(&stage);
    assert!(told.iter().all(|(_, action)| action != "condemn" && action != "delete"), "{told:?}");
    stage.world.settle();
    assert!(stage.exists(&slow.id()));
}
