//! Every template has a version of its own, and only what is made has one.

use std::pin::Pin;

use super::{PRESET, body, build, cleaned_by_root, gc, get, sim, until};
use crate::stage::{guests::mark, prelude::*};

fn version(answer: &Answer) -> String {
    answer.json()["snapshotId"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Whatever the order of what happens: never one version twice.
#[test]
fn two_at_once_get_different_versions() {
    for seed in 0..24 {
        let world = pve_edge_bed::world::World::new(sim(Version::V9, StorageKind::LvmThin), seed);
        let stage = Stage::of(world, &[]);
        until(&stage, &build(&body()).header("idempotency-key", "first"), "ready");
        let beside = stage.beside("b", &[]);
        let one = build(&body()).header("idempotency-key", "one");
        let two = build(&body()).header("idempotency-key", "two");
        let both: Vec<Pin<Box<dyn Future<Output = Answer>>>> =
            vec![stage.pending(one.clone()), beside.pending(two.clone())];
        stage.world.run_all(both);
        let both = [(&stage, &one), (&beside, &two)].map(|(stage, ask)| until(stage, ask, "needs-root"));
        let confirmed: Vec<Pin<Box<dyn Future<Output = Answer>>>> = vec![
            stage.pending(cleaned_by_root(&stage, &both[0])),
            beside.pending(cleaned_by_root(&beside, &both[1])),
        ];
        stage.world.run_all(confirmed);
        let (one, two) = (version(&until(&stage, &one, "ready")), version(&until(&beside, &two, "ready")));
        assert_ne!(one, two, "seed {seed}\n{}", stage.told());
        for it in [&one, &two] {
            assert!(*it != format!("pvelxc_{PRESET}_v1"), "seed {seed}: {it}");
        }
        let made = stage.ask(Ask::sandbox(json!({"snapshotId": one})));
        assert_eq!(made.status, 201, "{made:?}");
    }
}

/// Who has the number of another one at the moment when both look gives it back.
#[test]
fn a_version_that_another_one_has_is_given_back() {
    let stage = Stage::on(sim(Version::V9, StorageKind::LvmThin));
    let taken = format!("pvelxc_{PRESET}_v1");
    let rival = taken.clone();
    // An admin tags a template just after the version was written.
    let mut done = false;
    stage.world.hook(move |sim, moment, seen| {
        let commits = seen.is_write() && seen.body.contains("edge-prod-template");
        if commits && moment == pve_edge_bed::world::Moment::After && !done {
            done = true;
            sim.add(pve_edge_bed::sim::Spec::template(9000).tags(&rival));
        }
    });
    let made = until(&stage, &build(&body()), "ready");
    assert_ne!(version(&made), taken, "{}", stage.told());
    let tags = stage.world.sim().guest(vmid_of(&made.id())).unwrap().config.get("tags").unwrap().to_owned();
    assert!(!tags.contains(&taken), "{tags}");
}

/// A promoted snapshot is offered when it is made, too.
#[test]
fn a_promoted_snapshot_is_offered_only_when_it_is_made() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let promote = json!({"promote": {"preset": PRESET}});
    let ask = Ask::act(&id, "snapshots", promote).by("ops").wait(0);
    let taken = stage.ask(ask);
    assert_eq!(taken.status, 202, "{taken:?}");
    let own = taken.snapshot_id();
    let wanted = || Ask::sandbox(json!({"preset": PRESET}));
    let offered = || stage.ask(Ask::get("/api/config/sandbox")).body.contains(PRESET);
    for _ in 0..12 {
        stage.ask(gc());
        let made = stage.world.sim().guest(vmid_of(&own)).is_some_and(|it| it.config.is("template"));
        assert!(made || !offered(), "{}", stage.told());
        stage.world.advance(Duration::seconds(5));
    }
    assert_eq!(stage.ask(wanted()).status, 201, "{}", stage.told());
    // Its owner may change what is kept about it, and it stays offered.
    let named = Ask::patch(format!("/api/snapshots/{own}"), json!({"name": "n"})).by("ops");
    assert_eq!(stage.ask(named).status, 200);
    assert!(offered());
}

/// One that was deleted does not come back by a request that was late.
#[test]
fn a_late_creation_brings_nothing_back() {
    let stage = Stage::on(sim(Version::V9, StorageKind::LvmThin));
    let late = pve_edge_bed::world::Fault::Late(std::time::Duration::from_secs(40));
    stage.world.fault_once(|seen| seen.method == "POST" && seen.path.ends_with("/lxc"), late);
    let first = until(&stage, &build(&body()), "ready");
    assert_eq!(stage.ask(Ask::delete(format!("/api/templates/{}", first.id())).by("ops")).status, 204);
    for _ in 0..20 {
        stage.world.advance(Duration::seconds(60));
        stage.ask(gc());
    }
    stage.world.settle();
    let sim = stage.world.sim();
    let left: Vec<_> = sim.guests().filter_map(mark).collect();
    assert!(left.is_empty(), "{left:?}\n{}", stage.told());
    drop(sim);
    assert_eq!(stage.ask(get(&first.id())).status, 404);
}
