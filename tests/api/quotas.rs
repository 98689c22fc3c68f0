//! Quotas without a store: counted from the listing, and the stated overshoot.

use std::{cell::RefCell, rc::Rc};

use crate::stage::{guests::all_committed, prelude::*};

fn stage(changes: &[(&str, &str)]) -> Stage {
    Stage::of(World::new(plain_sim(Setup::default()), 5), changes)
}

#[test]
fn each_quota_says_what_is_used_of_what() {
    for (name, value, code) in [
        ("EDGE_MAX_SANDBOXES", "2", "quota-exceeded"),
        ("EDGE_MAX_VCPUS", "2", "quota-exceeded"),
        ("EDGE_MAX_MEMORY_MIB", "2500", "quota-exceeded"),
        ("EDGE_MAX_DISK_GIB", "20", "quota-exceeded"),
        ("EDGE_CREATES_PER_MINUTE", "2", "rate-limited"),
    ] {
        let stage = stage(&[(name, value)]);
        for _ in 0..2 {
            assert_eq!(stage.ask(Ask::create()).status, 201, "{name}");
        }
        let refused = stage.ask(Ask::create());
        assert_eq!((refused.status, refused.code()), (429, code.into()), "{name}: {refused:?}");
        assert!(refused.retry_after().is_some() && refused.json()["limit"].is_u64(), "{name}: {refused:?}");
        // Another team has its own.
        assert_eq!(stage.ask(Ask::create().by("red")).status, 201, "{name}");
    }
}

/// The platform's limiter counts attempts; PVE is not asked.
#[test]
fn what_the_platform_does_not_admit_is_refused_before_pve_is_asked() {
    let stage = stage(&[]);
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = asked.clone();
    stage.world.limit(move |key| {
        seen.borrow_mut().push(key.to_owned());
        seen.borrow().iter().filter(|it| *it == key).count() <= 1
    });
    assert_eq!(stage.ask(Ask::sandbox(json!({"cpu": 0}))).status, 400);
    assert_eq!(stage.ask(Ask::create()).status, 201);
    let (refused, requests) = stage.counted(Ask::create());
    assert_eq!((refused.status, refused.code(), requests), (429, "rate-limited".into(), 0), "{refused:?}");
    let period = refused.json()["periodSeconds"].as_u64();
    assert_eq!((refused.retry_after(), refused.json()["retryable"].as_bool()), (period, Some(true)));
    // Another team, and another deployment, have their own; nothing but a creation counts.
    assert_eq!(stage.ask(Ask::create().by("red")).status, 201);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    assert_eq!(staging.ask(Ask::create()).status, 201);
    assert_eq!(stage.ask(Ask::get("/api/sandboxes")).status, 200);
    let keys = ["create prod blue", "create prod blue", "create prod red", "create staging blue"];
    assert_eq!(*asked.borrow(), keys);
}

#[test]
fn asking_for_more_than_is_left_is_refused_at_once() {
    let stage = stage(&[("EDGE_MAX_VCPUS", "4")]);
    let refused = stage.ask(Ask::sandbox(json!({"cpu": 5})));
    assert_eq!((refused.status, refused.json()["used"].as_u64()), (429, Some(0)), "{refused:?}");
}

/// What one sandbox may have is bounded, with or without quotas.
#[test]
fn one_sandbox_has_bounds() {
    let stage = stage(&[]);
    for (field, asked, bound) in
        [("disk", 100_000, "16384 GiB"), ("cpu", 513, "512 cores"), ("memory", 4_194_305, "4194304 MiB")]
    {
        let refused = stage.ask(Ask::sandbox(json!({field: asked})));
        assert_eq!(refused.refusal(), "400 invalid-request", "{refused:?}");
        let said = &refused.json()["errors"][0];
        assert!(said["field"] == field && said["detail"].as_str().unwrap().contains(bound), "{refused:?}");
    }
    assert_eq!(stage.pve_requests(), 0);
}

/// A sandbox of a template that is no preset counts with that template's disk.
#[test]
fn a_disk_that_nobody_asked_for_counts_too() {
    let mut sim = plain_sim(Setup::default());
    sim.add(Spec::template(9001).tags("edge-template").disk("30G"));
    let stage = Stage::of(World::new(sim, 5), &[("EDGE_MAX_DISK_GIB", "40")]);
    stage.world.advance(Duration::seconds(20));
    let large = || Ask::sandbox(json!({"templateVmid": 9001}));
    assert_eq!(stage.ask(large()).status, 201);
    // The listing tells the size of its disk a moment later.
    stage.world.advance(Duration::seconds(20));
    let refused = stage.ask(large());
    assert_eq!(refused.refusal(), "429 quota-exceeded", "{refused:?}");
    let asked = Ask::sandbox(json!({"disk": 41}));
    assert_eq!(stage.ask(asked.by("red")).status, 429);
}

#[test]
fn a_minute_later_creation_goes_on_and_what_is_deleted_counts_no_more() {
    let stage = stage(&[("EDGE_CREATES_PER_MINUTE", "1"), ("EDGE_MAX_SANDBOXES", "2")]);
    let first = stage.ask(Ask::create()).id();
    let refused = stage.ask(Ask::create());
    assert_eq!(refused.status, 429);
    stage.world.advance(Duration::seconds(i64::try_from(refused.retry_after().unwrap()).unwrap()));
    assert_eq!(stage.ask(Ask::create()).status, 201);
    stage.world.advance(Duration::minutes(1));
    assert_eq!(stage.ask(Ask::create()).code(), "quota-exceeded");
    assert_eq!(stage.ask(Ask::end(&first)).status, 204);
    assert_eq!(stage.ask(Ask::create()).status, 201);
}

/// A team overshoots at most by the creations between their listing and their commit.
#[test]
fn concurrent_creations_overshoot_by_no_more_than_their_number() {
    let stage = stage(&[("EDGE_MAX_SANDBOXES", "3")]);
    for _ in 0..2 {
        stage.ask(Ask::create());
    }
    let at_once = 4;
    let asked: Vec<_> = (0..at_once).map(|_| stage.pending(Ask::create())).collect();
    let answers = stage.world.run_all::<Answer>(asked);
    let made = answers.iter().flatten().filter(|it| it.status == 201).count();
    assert_eq!(all_committed(&stage.world.sim()).len(), 2 + made);
    assert!(made <= at_once, "{made}");
    // And from then on nobody gets one.
    assert_eq!(stage.ask(Ask::create()).code(), "quota-exceeded");
}
