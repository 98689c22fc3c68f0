//! Snapshots that stay on their sandbox, and going back to them.

mod memory;

use pve_edge_core::pve::marks::{self, What};

use crate::stage::{guests::committed, prelude::*};

fn keep(stage: &Stage, id: &str, name: &str) -> String {
    let body = json!({"keep": true, "name": name, "metadata": {"n": name}});
    let kept = stage.act(id, "snapshots", body);
    assert_eq!(kept.status, 201, "{kept:?}\n{}", stage.told());
    // Names tell the second.
    stage.world.advance(Duration::seconds(2));
    kept.snapshot_id()
}

fn kept(stage: &Stage, id: &str) -> Vec<Value> {
    let list = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots")));
    list.json()["items"].as_array().unwrap_or_else(|| panic!("{list:?}")).clone()
}

fn rollbacks(stage: &Stage) -> usize {
    let sim = stage.world.sim();
    sim.tasks().iter().filter(|it| it.kind == "vzrollback" && it.exit.as_deref() == Some("OK")).count()
}

#[test]
fn it_goes_back_and_what_is_known_of_it_does_not() {
    let stage = Stage::of(
        World::new(plain_sim(Setup::default().without_mount_protection()), 3),
        &[("PVE_IP_POOL_CIDR", "10.0.0.0/16"), ("PVE_GATEWAY", "10.0.0.1")],
    );
    let id = stage.created(json!({"ttlSeconds": 600, "cpu": 2, "env": {"A": "1"}}));
    let vmid = vmid_of(&id);
    let before = stage.world.sim().guest(vmid).expect("it is there").config.clone();
    let snapshot = keep(&stage, &id, "first");
    let (list, there) = (kept(&stage, &id), json!("first"));
    assert_eq!((&list[0]["snapshotId"], &list[0]["name"]), (&json!(snapshot), &there));
    assert_eq!((&list[0]["metadata"]["n"], &list[0]["status"]), (&there, &json!("ready")));
    // An administrator's own hand: it goes back with the rest, and what is ours does not.
    stage.world.sim_mut().admin_set(vmid, "cores", "9");
    let patch = json!({"name": "later", "metadata": {"k": "v"}, "ttlSeconds": 36_000, "onExpiry": "stop"});
    let patched = stage.ask(Ask::change(&id, patch));
    stage.world.advance(Duration::minutes(30));
    let answer = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!((answer.status, &answer.json()["did"]), (200, &json!("rolled-back")), "{answer:?}");
    assert_eq!(answer.state(), "running");
    for field in ["name", "metadata", "expiresAt", "onExpiry"] {
        assert_eq!(answer.json()[field], patched.json()[field], "{field}");
    }
    let sim = stage.world.sim();
    let config = &sim.guest(vmid).expect("it is there").config;
    for option in ["cores", "memory", "net0", "env", "hostname", "protection", "onboot", "rootfs"] {
        assert_eq!(config.get(option), before.get(option), "{option}");
    }
    let listed = marks::listed(vmid.try_into().expect("one"), config.get("tags").expect("tags"));
    assert_eq!(listed.expect("ours").mark.doing, None);
    drop(sim);
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    assert_eq!(rollbacks(&stage), 1);
    // It is removed when it is asked for, and goes with its sandbox otherwise.
    let one = format!("/api/sandboxes/{id}/snapshots/{snapshot}");
    assert_eq!(stage.ask(Ask::delete(&one)).status, 204);
    assert_eq!((kept(&stage, &id), stage.ask(Ask::delete(&one)).status), (vec![], 404));
    assert_eq!(stage.ask(Ask::rollback(&id, &snapshot)).status, 404);
    keep(&stage, &id, "second");
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
}

/// The tags that come back say that its time was up long ago. A sweep, a list
/// and an extension at any moment: it is neither deleted nor hidden nor shortened.
#[test]
fn a_sweep_at_every_step_does_not_believe_old_tags() {
    for on_expiry in ["delete", "stop"] {
        let mut nth = 0;
        loop {
            let stage = Stage::new();
            let id = stage.created(json!({"ttlSeconds": 120, "onExpiry": on_expiry}));
            let snapshot = keep(&stage, &id, "old");
            assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
            stage.world.advance(Duration::minutes(20));
            let first = stage.world.requests().len();
            stage.world.fault_at(first + nth, Fault::Slow(std::time::Duration::from_secs(6)));
            let handle = stage.world.spawn(stage.pending(Ask::rollback(&id, &snapshot).wait(25)));
            let told = || format!("{on_expiry}, request {nth}\n{}", stage.told());
            for at in 0..12 {
                stage.world.advance(Duration::milliseconds(1500));
                let beside = stage.beside("sweep", &[]);
                let report = beside.sweep();
                assert_eq!(report.status, 200, "{report:?}");
                for action in ["condemn", "delete", "stop"] {
                    let done = format!("\"action\":\"{action}\"");
                    assert!(!report.body.contains(&done), "{report:?}\n{}", told());
                }
                assert!(
                    beside.ask(Ask::get("/api/sandboxes")).body.contains(&id),
                    "hidden at {at}: {}",
                    told()
                );
                if at == 4 {
                    beside.ask(Ask::extend(&id, 72_000));
                }
            }
            let answer = handle.take().unwrap_or_else(|| panic!("{}", told()));
            assert!(matches!(answer.status, 200 | 202 | 409), "{answer:?}\n{}", told());
            stage.world.advance(Duration::seconds(100));
            assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", told());
            assert!(answer.status == 409 || rollbacks(&stage) == 1, "{}", told());
            let sim = stage.world.sim();
            let guest = sim.guest(vmid_of(&id)).expect("it is there");
            let tagged =
                marks::listed(guest.vmid.try_into().expect("one"), guest.config.get("tags").expect("tags"));
            let (line, tag) = (committed(guest).expect("ours"), tagged.expect("ours").mark);
            assert_eq!((line.doing, tag.doing), (None, None), "{}", told());
            assert!(line.expires.zip(tag.expires).is_some_and(|(one, other)| one.abs_diff(other) <= 60));
            if stage.world.requests().len() <= first + nth || nth > 40 {
                break;
            }
            nth += 3;
        }
    }
}

/// Whatever was begun and not executed is given up, and never done later.
#[test]
fn a_rollback_that_never_reached_pve_is_given_up() {
    let stage = Stage::at_once();
    let id = stage.created(json!({"ttlSeconds": null}));
    let (snapshot, other) = (keep(&stage, &id, "one"), keep(&stage, &id, "two"));
    let mut began = false;
    stage.world.fault_if(move |seen| {
        began |= seen.path.ends_with("/rollback");
        began.then_some(Fault::Dies)
    });
    assert!(stage.try_ask(Ask::rollback(&id, &snapshot)).is_none());
    stage.world.clear_faults();
    // Nobody runs in it what might be lost, and nothing else is done to it.
    assert_eq!(stage.ask(Ask::exec(&id, "true")).code(), "guest-locked");
    assert_eq!(stage.act(&id, "stop", json!({})).code(), "guest-locked");
    assert_eq!(stage.ask(Ask::rollback(&id, &other)).code(), "guest-locked");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "creating");
    stage.world.advance(Duration::days(7));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    stage.world.settle();
    assert_eq!(rollbacks(&stage), 0);
    assert_eq!(stage.ask(Ask::rollback(&id, &snapshot)).status, 200);
}

#[test]
fn what_was_stopped_stays_so() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let snapshot = keep(&stage, &id, "one");
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    let answer = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!(answer.shows(), "200 stopped", "{answer:?}");
    stage.world.advance(Duration::seconds(100));
    stage.sweep();
    assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped");
    assert_eq!(stage.act(&id, "start", json!({})).status, 200);
}

#[test]
fn zfs_goes_back_to_the_newest_and_leftovers_are_not_in_the_way() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::ZfsPool);
    let id = stage.created(json!({"ttlSeconds": null}));
    let (first, second) = (keep(&stage, &id, "first"), keep(&stage, &id, "second"));
    let refused = stage.ask(Ask::rollback(&id, &first));
    assert_eq!(refused.refusal(), "409 snapshot-not-newest", "{refused:?}");
    assert!(refused.body.contains("newer ones first"), "{refused:?}");
    // Nothing happened to it.
    assert_eq!((stage.ask(Ask::one(&id)).state(), rollbacks(&stage)), ("running".into(), 0));
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    assert_eq!(stage.ask(Ask::delete(format!("/api/sandboxes/{id}/snapshots/{second}"))).status, 204);
    // One that a template was to be made of, by somebody who died.
    stage.world.fault_if(|seen| {
        (seen.method == "POST" && seen.path.ends_with("/snapshot")).then_some(Fault::DiesAfter)
    });
    assert!(stage.try_ask(Ask::act(&id, "snapshots", json!({}))).is_none());
    stage.world.clear_faults();
    stage.world.settle();
    // It may be needed yet by who took it.
    assert_eq!(stage.ask(Ask::rollback(&id, &first)).code(), "snapshot-not-newest");
    stage.world.advance(Duration::seconds(301));
    let answer = stage.ask(Ask::rollback(&id, &first).wait(25));
    assert_eq!(answer.shows(), "200 running", "{answer:?}\n{}", stage.told());
    assert_eq!(stage.world.sim().guest(vmid_of(&id)).expect("there").config.snapshots.len(), 1);
}

#[test]
fn an_administrators_rollback_is_noticed() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 120}));
    let snapshot = keep(&stage, &id, "one");
    assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
    stage.world.advance(Duration::minutes(30));
    let mut sim = stage.world.sim_mut();
    let old = sim.guest(vmid_of(&id)).expect("there").config.snapshots[&snapshot]
        .get("tags")
        .expect("tags")
        .to_owned();
    sim.admin_set(vmid_of(&id), "tags", &old);
    drop(sim);
    stage.world.advance(Duration::seconds(20));
    assert!(stage.ask(Ask::get("/api/sandboxes")).body.contains(&id));
    let report = stage.sweep();
    assert!(report.body.contains("\"finish\"") && !report.body.contains("condemn"), "{report:?}");
    stage.world.advance(Duration::seconds(20));
    assert_eq!(stage.sweep().json()["actions"], json!([]));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    // Nor does anything go where the notes are lost too: nobody knows its time.
    let mut sim = stage.world.sim_mut();
    sim.admin_set(vmid_of(&id), "tags", &old);
    sim.admin_describe(vmid_of(&id), "");
    drop(sim);
    for _ in 0..3 {
        stage.world.advance(Duration::seconds(100));
        stage.sweep();
    }
    assert_eq!(stage.ask(Ask::one(&id)).status, 200);
}

/// A snapshot whose tags would not tell that they are old is not gone back to.
#[test]
fn what_was_not_taken_by_us_is_refused() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let snapshot = keep(&stage, &id, "one");
    let text =
        stage.world.sim().guest(vmid_of(&id)).expect("there").config.get("tags").expect("tags").to_owned();
    stage.world.sim_mut().admin_set_in_snapshot(vmid_of(&id), &snapshot, "tags", &text);
    let refused = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!(refused.refusal(), "422 unsupported", "{refused:?}");
    assert_eq!(rollbacks(&stage), 0);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
}

#[test]
fn it_is_its_owners_alone_and_bad_input_changes_nothing() {
    let stage = Stage::at_once();
    let id = stage.created(json!({}));
    let snapshot = keep(&stage, &id, "one");
    let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
    let body = json!({"keep": true});
    for ask in [
        Ask::rollback(&id, &snapshot),
        Ask::get(at("/snapshots")),
        Ask::act(&id, "snapshots", body.clone()),
        Ask::delete(at(&format!("/snapshots/{snapshot}"))),
    ] {
        assert_eq!(stage.ask(ask.by("red")).status, 404);
    }
    let before = stage.world.requests().len();
    for (ask, field) in [
        (Ask::rollback(&id, "current"), "snapshot"),
        (Ask::rollback(&id, "../x"), "snapshot"),
        (Ask::act(&id, "rollback", json!({})), "snapshot"),
        (Ask::act(&id, "snapshots", json!({"keep": 1})), "keep"),
        (
            Ask::act(&id, "snapshots", json!({"keep": true, "promote": {"preset": "1vcpu_1gb_8gb"}}))
                .by("ops"),
            "keep",
        ),
    ] {
        let answer = stage.ask(ask);
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (400, &json!(field)), "{answer:?}");
    }
    assert_eq!(stage.ask(Ask::delete(at("/snapshots/current"))).status, 404);
    assert_eq!(stage.world.requests().len(), before);
    // An admin may, as with all else.
    assert_eq!(stage.ask(Ask::rollback(&id, &snapshot).by("ops")).status, 200);
    for _ in 0..15 {
        keep(&stage, &id, "more");
    }
    assert_eq!(stage.act(&id, "snapshots", body).code(), "quota-exceeded");
    let sim = stage.world.sim();
    let config = &sim.guest(vmid_of(&id)).expect("there").config;
    let flag = |tags: Option<&str>| {
        marks::doing_by_tag(vmid_of(&id).try_into().expect("one"), tags.unwrap_or_default())
    };
    assert!(config.snapshots.values().all(|it| flag(it.get("tags")) == Some(What::Snapshot)));
    assert_eq!(flag(config.get("tags")), None);
}
