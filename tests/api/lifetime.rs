//! The time to live: one rule, whatever is done to a sandbox.

use pve_edge_core::{
    pve::marks::{Mark, Phase, Want, lifetime},
    sandbox::OnExpiry,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::stage::prelude::*;

const DAY: i64 = 24 * 3600;

fn act(stage: &Stage, id: &str, verb: &str, body: serde_json::Value) -> Answer {
    let answer = stage.act(id, verb, body);
    assert_eq!(answer.status, 200, "{verb}: {answer:?}\n{}", stage.told());
    answer
}

fn at(answer: &Answer, field: &str) -> OffsetDateTime {
    let text = answer.json()[field].as_str().unwrap_or_else(|| panic!("{field}: {answer:?}")).to_owned();
    OffsetDateTime::parse(&text, &Rfc3339).expect("RFC 3339")
}

/// Seconds from now to its expiry.
fn left(stage: &Stage, answer: &Answer) -> i64 {
    (at(answer, "expiresAt") - stage.world.now()).whole_seconds()
}

/// The rule, row by row: until when a sandbox is there for anybody.
#[test]
fn until_when_it_is_there() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 3600}));
    let mark = crate::stage::guests::mark(stage.world.sim().guest(vmid_of(&id)).unwrap()).unwrap();
    let birth = mark.birth().unix_timestamp();
    let ends = |want, phase, on_expiry, expires: Option<i64>, changed: i64| {
        let expires = expires.map(|it| birth + it);
        let mark = Mark { want, phase, on_expiry, expires, changed: Some(birth + changed), ..mark.clone() };
        lifetime::ends(&mark, 1000).map(|it| it - birth)
    };
    use {OnExpiry::*, Phase::*};
    for (want, phase, on_expiry, expires, changed, until) in [
        (Want::On, Ready, Delete, Some(500), 9, Some(500)),
        (Want::On, Ready, Stop, Some(500), 9, Some(1500)),
        (Want::On, Committed, Pause, Some(500), 9, Some(1500)),
        (Want::On, Claimed, Stop, Some(500), 9, Some(500)),
        (Want::Off, Ready, Delete, Some(500), 9, Some(1009)),
        (Want::Off, Ready, Stop, Some(500), 9, Some(1009)),
        (Want::Paused, Ready, Delete, Some(5000), 9, Some(5000)),
        (Want::Paused, Committed, Delete, Some(500), 700, Some(1700)),
        // What has failed was not stopped by anybody.
        (Want::Off, Phase::Error, Delete, Some(500), 9, Some(500)),
        (Want::Off, Ready, Delete, None, 9, None),
        (Want::On, Ready, Delete, None, 9, None),
    ] {
        let row = (want, phase, on_expiry, expires, changed);
        assert_eq!(ends(want, phase, on_expiry, expires, changed), until, "{row:?}");
    }
}

#[test]
fn a_pause_does_not_shorten_thirty_days() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({"ttlSeconds": 30 * DAY}));
        act(&stage, &id, "pause", json!({}));
        stage.world.advance(Duration::hours(5));
        let resumed = act(&stage, &id, "resume", json!({}));
        assert!((30 * DAY - 60..=30 * DAY).contains(&left(&stage, &resumed)), "{kind:?}: {resumed:?}");
        stage.world.advance(Duration::days(29));
        stage.sweeps();
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{kind:?}");
    }
}

#[test]
fn what_was_left_is_given_back_where_it_is_more_than_the_span() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 3600}));
    act(&stage, &id, "extend", json!({"ttlSeconds": 2 * DAY}));
    stage.world.advance(Duration::days(1));
    act(&stage, &id, "stop", json!({}));
    stage.world.advance(Duration::days(3));
    // What was said at the start is less than what was left.
    let started = act(&stage, &id, "start", json!({"ttlSeconds": 600}));
    assert!((DAY - 60..=DAY).contains(&left(&stage, &started)), "{started:?}");
    // And the span is what was said last.
    stage.world.advance(Duration::seconds(DAY - 300));
    act(&stage, &id, "stop", json!({}));
    let started = act(&stage, &id, "start", json!({}));
    assert!((540..=600).contains(&left(&stage, &started)), "{started:?}");
}

#[test]
fn nothing_gets_around_the_maximum() {
    for kind in BOTH {
        let world = World::new(crate::stage::sim_of(kind, Setup::default()), 7);
        let stage = Stage::of_kind(kind, world, &[("EDGE_MAX_TTL_SECONDS", "600")]);
        let id = stage.created(json!({"ttlSeconds": 600}));
        for verb in ["pause", "resume", "stop", "start", "extend"] {
            act(&stage, &id, verb, json!({}));
            stage.world.advance(Duration::seconds(20));
        }
        for verbs in [["pause", "resume"], ["stop", "start"]] {
            for verb in verbs {
                let answer = act(&stage, &id, verb, json!({}));
                assert!(left(&stage, &answer) <= 600, "{kind:?} {verb}: {answer:?}");
            }
        }
        for path in ["start", "resume", "extend"] {
            let answer = stage.act(&id, path, json!({"ttlSeconds": null}));
            assert_eq!(answer.status, 400, "{path}: {answer:?}");
        }
        stage.world.advance(Duration::seconds(601));
        assert_eq!(stage.ask(Ask::one(&id)).status, 404, "{kind:?}");
        stage.sweeps();
        assert!(!stage.exists(&id), "{kind:?}: {}", stage.told());
    }
}

/// Its expiry passes while it is stopped: it is kept, and can be started.
#[test]
fn what_is_stopped_is_kept_until_the_later_of_both() {
    for (ttl, verb, state, kept) in [
        (600, "stop", "stopped", 7 * DAY),
        (600, "pause", "paused", 7 * DAY),
        (9 * DAY, "stop", "stopped", 9 * DAY),
    ] {
        let stage = Stage::new();
        let id = stage.created(json!({"ttlSeconds": ttl}));
        let answer = act(&stage, &id, verb, json!({}));
        let until = (at(&answer, "keptUntil") - stage.world.now()).whole_seconds();
        assert!((kept - 60..=kept).contains(&until), "{answer:?}");
        stage.world.advance(Duration::seconds(kept - 3600));
        stage.sweeps();
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, &*shown.state(), stage.listed()), (200, state, vec![id.clone()]));
        let over = ttl < kept;
        assert_eq!(shown.json()["expiredAt"].is_string(), over, "{shown:?}");
        stage.world.advance(Duration::hours(1));
        for ask in [Ask::one(&id), Ask::act(&id, "start", json!({}))] {
            assert_eq!(stage.ask(ask).status, 404);
        }
        assert_eq!(stage.listed(), [] as [String; 0]);
        stage.sweeps();
        assert!(!stage.exists(&id), "{}", stage.told());
    }
}

#[test]
fn what_is_kept_past_its_expiry_starts_with_its_span() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 600}));
    act(&stage, &id, "stop", json!({}));
    stage.world.advance(Duration::days(2));
    let started = act(&stage, &id, "start", json!({}));
    assert_eq!(started.state(), "running");
    assert!((540..=600).contains(&left(&stage, &started)), "{started:?}");
    stage.world.advance(Duration::seconds(601));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

/// The moment of stopping is not moved by pausing what is stopped.
#[test]
fn nothing_is_kept_longer_by_pausing_it_again() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 600}));
    let first = at(&act(&stage, &id, "stop", json!({})), "keptUntil");
    for verb in ["pause", "stop", "pause"] {
        stage.world.advance(Duration::days(1));
        assert_eq!(at(&act(&stage, &id, verb, json!({})), "keptUntil"), first, "{verb}");
    }
}

#[test]
fn extend_gives_the_span_again_and_never_shortens() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 2 * 3600}));
    stage.world.advance(Duration::hours(1));
    let again = act(&stage, &id, "extend", json!({}));
    assert!((7100..=7200).contains(&left(&stage, &again)), "{again:?}");
    // With a number both are set, shorter too; as PATCH does.
    let less = act(&stage, &id, "extend", json!({"ttlSeconds": 900}));
    assert!((800..=900).contains(&left(&stage, &less)), "{less:?}");
    let again = act(&stage, &id, "extend", json!({}));
    assert!((800..=900).contains(&left(&stage, &again)), "{again:?}");
    let patched = stage.ask(Ask::change(&id, json!({"ttlSeconds": 5000})));
    assert!((4900..=5000).contains(&left(&stage, &patched)), "{patched:?}");
    let never = act(&stage, &id, "extend", json!({"ttlSeconds": null}));
    assert!(never.json()["expiresAt"].is_null(), "{never:?}");
    for verb in ["extend", "stop", "start", "pause", "resume"] {
        let answer = act(&stage, &id, verb, json!({}));
        assert!(answer.json()["expiresAt"].is_null(), "{verb}: {answer:?}");
    }
}

/// What its owner gives or takes while it is stopped is running time.
#[test]
fn a_time_that_is_given_while_stopped_is_what_a_start_gives() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 20 * DAY}));
    act(&stage, &id, "stop", json!({}));
    stage.world.advance(Duration::days(2));
    act(&stage, &id, "extend", json!({"ttlSeconds": 900}));
    stage.world.advance(Duration::days(1));
    let started = act(&stage, &id, "start", json!({}));
    assert!((840..=900).contains(&left(&stage, &started)), "{started:?}");
}

/// The time of a creation counts from its request.
#[test]
fn a_creation_whose_time_is_over_is_404_for_every_verb() {
    let slow = || {
        let stage = Stage::new();
        stage.world.sim_mut().setup_mut().boot = Duration::minutes(2);
        stage
    };
    let stage = slow();
    let began = stage.world.now();
    let ask = Ask::sandbox(json!({"ttlSeconds": 5})).wait(20);
    let answer = stage.ask(ask);
    assert_eq!(answer.refusal(), "410 expired", "{answer:?}\n{}", stage.told());
    assert!(answer.at - began < Duration::seconds(10), "it waits no longer than there is time");
    for ttl in [2, 5] {
        let stage = slow();
        let ask = Ask::sandbox(json!({"ttlSeconds": ttl})).wait(1);
        let answer = stage.ask(ask);
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.id();
        stage.world.advance(Duration::seconds(6));
        let path = |end: &str| format!("/api/sandboxes/{id}{end}");
        for ask in [
            Ask::one(&id),
            Ask::patch(path(""), json!({"name": "x"})),
            Ask::patch(path(""), json!({"ttlSeconds": 60})),
            Ask::extend(&id, 60),
            Ask::exec(&id, "true"),
            Ask::post(path("/start"), json!({})),
            Ask::post(path("/stop"), json!({})),
            Ask::post(path("/reboot"), json!({})),
            Ask::post(path("/pause"), json!({})),
            Ask::post(path("/resume"), json!({})),
            Ask::post(path("/snapshots"), json!({})),
            Ask::end(&id),
        ] {
            let answer = stage.ask(ask.clone());
            assert_eq!(answer.refusal(), "404 not-found", "{ttl}: {ask:?}: {answer:?}");
        }
        assert_eq!(stage.listed(), [] as [String; 0]);
        stage.world.advance(Duration::minutes(11));
        stage.sweeps();
        assert!(!stage.exists(&id), "{}", stage.told());
    }
}

#[test]
fn what_expired_is_not_listed_from_that_moment_on() {
    let stage = Stage::on(plain_sim(Setup::default()));
    let gone = stage.created(json!({"ttlSeconds": 100}));
    let stopped = stage.created(json!({"ttlSeconds": 100, "onExpiry": "stop"}));
    let renewed = stage.created(json!({"ttlSeconds": 100}));
    // Less than a minute more: the tag does not tell it.
    stage.world.advance(Duration::seconds(40));
    act(&stage, &renewed, "extend", json!({"ttlSeconds": 100}));
    stage.world.advance(Duration::seconds(70));
    let page = stage.ask(Ask::get("/api/sandboxes")).json();
    let shown: Vec<_> = page["items"].as_array().into_iter().flatten().collect();
    let ids: Vec<_> = shown.iter().filter_map(|it| it["id"].as_str()).collect();
    assert!(!ids.contains(&&*gone) && ids.contains(&&*stopped) && ids.contains(&&*renewed), "{page}");
    let of = |id: &str| shown.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!((&of(&stopped)["state"], of(&stopped)["expiredAt"].is_string()), (&json!("stopped"), true));
    assert_eq!(of(&renewed)["state"], "running");
}
