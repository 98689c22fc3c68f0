//! What the client does next, and what must be true in the end.

use pve_edge_bed::sim::{Guest, Task, execd::asked};
use pve_edge_core::pve::marks::{self, Mark, Role, Want, What};

use super::{CREATE, before::Neighbours};
use crate::stage::{
    client,
    guests::{all_committed, committed, mark},
    prelude::*,
};

/// After one fault in one operation.
pub(super) struct Scene<'a> {
    pub(super) stage: &'a Stage,
    pub(super) neighbours: &'a Neighbours,
    /// The sandbox that the operation is about.
    pub(super) id: &'a str,
    /// Its guest, as it was.
    pub(super) was: Option<&'a Guest>,
    pub(super) fault: &'a Fault,
    /// `None` when the operation died.
    pub(super) first: Option<&'a Answer>,
    /// Which case it is, for people.
    pub(super) told: &'a str,
}

/// What the exec matrix runs.
pub(super) const COMMAND: &str = "deploy --once";

pub(super) fn created_with_a_key(scene: &Scene<'_>) {
    let Scene { stage, told, .. } = scene;
    let answer = stage.world.run(client::create((*stage).clone(), Ask::create_keyed(CREATE)));
    let id = answer.id();
    stage.world.settle();
    // Once more, when all that was late has happened: the same one, running.
    let again = stage.world.run(client::create((*stage).clone(), Ask::create_keyed(CREATE)));
    assert_eq!(again.id(), id, "{told}\n{}", stage.told());
    stage.world.settle();
    scene.assert_only(&[vmid_of(&id)]);
    scene.assert_runs(&id);
}

/// The value of a variable that a sandbox is created with.
pub(super) const HIDDEN: &str = "s3cr3t-in-the-matrix";

pub(super) fn create_with_env() -> Ask {
    Ask::create_keyed(CREATE).json(json!({"env": {"HIDDEN": HIDDEN}}))
}

/// As any other; commands and a file have its variable, and PVE has it nowhere in clear.
pub(super) fn created_with_env(scene: &Scene<'_>) {
    let Scene { stage, told, .. } = scene;
    let id = stage.world.run(client::create((*stage).clone(), create_with_env())).id();
    stage.world.settle();
    scene.assert_only(&[vmid_of(&id)]);
    scene.assert_runs(&id);
    assert_eq!(stage.ask(Ask::exec(&id, COMMAND)).status, 200, "{told}");
    let sim = stage.world.sim();
    let ran = |what: &str| sim.executions().keys().any(|(_, it)| it.contains(HIDDEN) && it.contains(what));
    assert!(ran(COMMAND) && ran("/etc/pve-edge/env"), "{told}\n{}", stage.told());
    for guest in sim.guests() {
        assert!(!guest.config.text().contains(HIDDEN), "{told}: {}", guest.config.text());
    }
}

/// Without a key nobody asks again: at most one, and what is left carries our intent.
pub(super) fn created_without_a_key(scene: &Scene<'_>) {
    let Scene { stage, told, first, .. } = scene;
    if let Some(answer) = first.filter(|it| it.status == 202) {
        stage.world.run(client::poll((*stage).clone(), answer.id()));
    }
    stage.world.settle();
    let new = scene.neighbours.new_ones(stage);
    assert!(new.len() <= 1, "{told}: {new:?}\n{}", stage.told());
    let sim = stage.world.sim();
    for vmid in new {
        let guest = sim.guest(vmid).unwrap_or_else(|| panic!("{vmid}"));
        assert!(mark(guest).is_some(), "{told}: {vmid} is nobody's\n{}", stage.told());
    }
    let made = first.filter(|it| it.status == 201);
    assert!(made.is_none_or(|it| sim.guest(vmid_of(&it.id())).is_some()), "{told}");
}

/// Polled on, it runs; only a refusal for good (403) may end it otherwise.
pub(super) fn polled(scene: &Scene<'_>) {
    let Scene { stage, told, id, .. } = scene;
    let answer = stage.world.run(client::poll((*stage).clone(), (*id).to_owned()));
    stage.world.settle();
    match (&*answer.state(), answer.status) {
        ("running", _) => scene.assert_runs(id),
        ("error", _) if scene.is_forbidden() => {
            assert!(answer.json()["problem"].is_string(), "{told}: {answer:?}");
        }
        (_, 404) if scene.is_forbidden() => scene.assert_only(&[]),
        _ => panic!("{told}: {answer:?}\n{}", stage.told()),
    }
}

/// What the patch matrix changes.
pub(super) fn patch() -> Value {
    json!({"metadata": {"pr": "7"}})
}

pub(super) fn patched(scene: &Scene<'_>) {
    let expires = scene.kept().expires;
    scene.told_before(|mark| mark.metadata.get("pr").is_some_and(|it| it == "7"));
    scene.until_200(Ask::change(scene.id, patch()));
    let kept = scene.kept();
    assert_eq!(kept.metadata.get("pr").map(String::as_str), Some("7"), "{}", scene.told);
    assert_eq!((kept.expires, kept.want), (expires, Want::On), "{}", scene.told);
    scene.assert_runs(scene.id);
}

pub(super) fn extended(scene: &Scene<'_>) {
    let before = scene.stage.world.now().unix_timestamp();
    scene.told_before(|mark| mark.expires.is_some_and(|it| it > before + 7000));
    scene.until_200(Ask::extend(scene.id, 9000));
    let kept = scene.kept();
    assert!(kept.expires.is_some_and(|it| it >= before + 9000), "{}: {kept:?}", scene.told);
    scene.assert_runs(scene.id);
}

pub(super) fn deleted(scene: &Scene<'_>) {
    let Scene { stage, told, id, .. } = scene;
    if scene.first.is_some_and(|it| it.status == 204) {
        let sim = stage.world.sim();
        assert!(sim.guest(vmid_of(id)).is_none(), "{told}: 204 and still there\n{}", stage.told());
    }
    stage.world.run(client::delete((*stage).clone(), (*id).to_owned()));
    stage.world.settle();
    scene.assert_only(&[]);
    let answer = stage.ask(Ask::one(id));
    assert_eq!(answer.status, 404, "{told}: {answer:?}\n{}", stage.told());
}

/// Taken again until it is told to be there; whatever came of the first, the
/// sandbox is as it was, and each snapshot says that its tags may be old.
pub(super) fn kept_a_snapshot(scene: &Scene<'_>) {
    let Scene { stage, told, id, .. } = scene;
    let before = scene.kept();
    let path = format!("/api/sandboxes/{id}/snapshots");
    let ask = Ask::post(&*path, json!({"keep": true}));
    stage.world.run(client::repeat((*stage).clone(), ask, |it| it.status == 201));
    stage.world.advance(time::Duration::seconds(100));
    stage.ask(Ask::gc());
    let kept = scene.kept();
    assert_eq!((&kept.doing, kept.expires), (&None, before.expires), "{told}\n{}", stage.told());
    let sim = stage.world.sim();
    let config = &sim.guest(vmid_of(id)).unwrap_or_else(|| panic!("{told}")).config;
    assert!((1..=2).contains(&config.snapshots.len()), "{told}: {}", config.text());
    assert!(config.snapshots.values().all(|it| it.get("snapstate").is_none()), "{told}: {}", config.text());
    for section in config.snapshots.values() {
        let tagged = marks::doing_by_tag(kept.vmid, section.get("tags").unwrap_or_default());
        assert_eq!(tagged, Some(What::Snapshot), "{told}: {}", config.text());
    }
    assert_eq!(marks::doing_by_tag(kept.vmid, config.get("tags").unwrap_or_default()), None, "{told}");
    scene.assert_runs(id);
}

/// Whoever died: the sandbox is as it was, and the sweep has left nothing half made.
pub(super) fn made_a_template(scene: &Scene<'_>) {
    let Scene { stage, told, id, first, .. } = scene;
    let made = first.filter(|it| it.status == 201).map(|it| it.json()["snapshotId"].clone());
    for _ in 0..9 {
        stage.world.advance(time::Duration::seconds(100));
        stage.ask(Ask::gc());
    }
    stage.world.settle();
    let kept = scene.kept();
    assert_eq!((&kept.doing, kept.want), (&None, Want::On), "{told}\n{}", stage.told());
    let own = vmid_of(id);
    let templates: Vec<u32> = scene.neighbours.new_ones(stage).into_iter().filter(|it| *it != own).collect();
    let sim = stage.world.sim();
    for vmid in &templates {
        let guest = sim.guest(*vmid).unwrap_or_else(|| panic!("{told}"));
        let ours = committed(guest).is_some_and(|it| it.role == Role::Template && it.want == Want::On);
        assert!(ours && guest.config.is("template"), "{told}: {}\n{}", guest.config.text(), stage.told());
        assert!(guest.config.get("env").is_none() && guest.config.is("protection"), "{told}");
    }
    let told_ready = made.as_ref().and_then(|it| it.as_str()).map(vmid_of);
    assert!(told_ready.is_none_or(|it| templates.contains(&it)), "{told}: {templates:?}\n{}", stage.told());
    drop(sim);
    // What is left of PVE's own snapshot goes with the next that is taken.
    let ask = Ask::act(id, "snapshots", json!({"keep": true}));
    stage.world.run(client::repeat((*stage).clone(), ask, |it| it.status == 201));
    let sim = stage.world.sim();
    let snapshots = sim.guest(own).map(|it| it.config.snapshots.keys().cloned().collect::<Vec<_>>());
    assert!(
        snapshots.is_some_and(|it| it.len() == 1 && it[0].starts_with("kept")),
        "{told}\n{}",
        stage.told()
    );
    drop(sim);
    scene.assert_runs(id);
}

/// Asked for until it is told to be done: then it is, all that is ours is what
/// it was before, and nothing that was sent earlier rolls back once more.
pub(super) fn rolled_back(scene: &Scene<'_>) {
    let Scene { stage, told, id, first, .. } = scene;
    let rollbacks = || {
        let sim = stage.world.sim();
        let done = |it: &&&Task| it.kind.ends_with("rollback") && it.exit.as_deref() == Some("OK");
        sim.tasks().iter().filter(done).count()
    };
    if first.is_some_and(|it| it.status == 200) {
        assert_eq!(rollbacks(), 1, "{told}: 200 and not so\n{}", stage.told());
    }
    let list = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots")));
    let snapshot = list.json()["items"][0]["snapshotId"].as_str().unwrap_or_default().to_owned();
    let ask = Ask::rollback(id, &snapshot).wait(20);
    stage.world.run(client::repeat((*stage).clone(), ask, |it| it.status == 200));
    let done = rollbacks();
    assert!(done >= 1, "{told}: 200 and not so\n{}", stage.told());
    stage.world.settle();
    stage.world.advance(time::Duration::seconds(100));
    // A late PUT may find the config that it was made for: a rollback brings back every byte of it.
    stage.world.run(client::poll((*stage).clone(), (*id).to_owned()));
    stage.world.advance(time::Duration::seconds(100));
    assert_eq!(rollbacks(), done, "{told}: rolled back after it was told to be done\n{}", stage.told());
    let kept = scene.kept();
    assert_eq!((&kept.doing, kept.want), (&None, Want::On), "{told}\n{}", stage.told());
    assert_eq!(kept.name.as_deref(), Some("newer"), "{told}");
    assert_eq!(kept.metadata.get("later").map(String::as_str), Some("1"), "{told}");
    let sim = stage.world.sim();
    let config = &sim.guest(vmid_of(id)).unwrap_or_else(|| panic!("{told}")).config;
    let listed = marks::listed(kept.vmid, config.get("tags").unwrap_or_default());
    let listed = listed.unwrap_or_else(|| panic!("{told}: {}", config.text())).mark;
    assert_eq!((listed.doing, listed.expires, listed.name), (None, kept.expires, kept.name), "{told}");
    assert!(config.is("protection"), "{told}: {}", config.text());
    let guest = sim.guest(vmid_of(id)).unwrap_or_else(|| panic!("{told}"));
    if let Some(memory) = guest.memory_of(&snapshot) {
        assert_eq!(guest.run.as_ref().map(|it| it.memory), Some(memory), "{told}\n{}", stage.told());
    }
    drop(sim);
    scene.assert_runs(id);
}

/// A command is run again only where the first answer proves that it was not.
pub(super) fn executed(scene: &Scene<'_>) {
    let Scene { stage, told, id, first, .. } = scene;
    let count = || {
        let sim = stage.world.sim();
        sim.executions()
            .iter()
            .filter(|((_, it), _)| asked(it).0 == COMMAND)
            .map(|(_, many)| *many)
            .sum::<u32>()
    };
    let known = count();
    stage.world.settle();
    let code = first.map(Answer::code).unwrap_or_default();
    match first.map(|it| it.status) {
        Some(200) => assert_eq!((known, count()), (1, 1), "{told}\n{}", stage.told()),
        // The command may or may not have been run.
        None | Some(502) if code.is_empty() || code == "exec-cut" => {
            assert!(count() <= 1, "{told}\n{}", stage.told());
        }
        _ => {
            assert_eq!(count(), 0, "{told}: {first:?}\n{}", stage.told());
            let again = stage.ask(Ask::exec(id, COMMAND));
            assert_eq!((again.status, count()), (200, 1), "{told}: {again:?}");
        }
    }
    scene.assert_runs(id);
}

impl Scene<'_> {
    fn is_forbidden(&self) -> bool {
        matches!(self.fault, Fault::Refused(403, _))
    }

    /// A 200 before must have been true when it was given.
    fn told_before(&self, done: impl Fn(&Mark) -> bool) {
        if self.first.is_some_and(|it| it.status == 200) {
            assert!(done(&self.kept()), "{}: 200 and not so\n{}", self.told, self.stage.told());
        }
    }

    pub(super) fn until_200(&self, ask: Ask) {
        self.stage.world.run(client::repeat(self.stage.clone(), ask, |it| it.status == 200));
        self.stage.world.settle();
    }

    /// What the sandbox's own guest says.
    pub(super) fn kept(&self) -> Mark {
        let sim = self.stage.world.sim();
        let kept = sim.guest(vmid_of(self.id)).and_then(committed);
        kept.unwrap_or_else(|| panic!("{}: it is gone\n{}", self.told, self.stage.told()))
    }

    /// No guest but these is new.
    fn assert_only(&self, vmids: &[u32]) {
        let new = self.neighbours.new_ones(self.stage);
        assert_eq!(new, vmids, "{}\n{}", self.told, self.stage.told());
    }

    pub(super) fn assert_runs(&self, id: &str) {
        let sim = self.stage.world.sim();
        let all = all_committed(&sim);
        let mine: Vec<_> = all.iter().filter(|it| id.contains(&it.nonce.to_string())).collect();
        assert_eq!(mine.len(), 1, "{}\n{}", self.told, self.stage.told());
        let guest = sim.guest(vmid_of(id)).unwrap_or_else(|| panic!("{}: {id} is gone", self.told));
        let run = guest.run.as_ref().unwrap_or_else(|| panic!("{}: {id} does not run", self.told));
        let shut = guest.kind == Kind::Qemu || run.token.as_ref().is_some_and(|it| it.len() == 64);
        assert!(shut, "{}: unprotected", self.told);
    }
}
