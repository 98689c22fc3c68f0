//! Many at once, in virtual time: PVE makes one clone of a container at a time,
//! and of a VM any number; a VM's clone takes its number late.

use std::{collections::BTreeSet, pin::Pin};

use pve_edge_tests::{
    sim::{Kind, Spec},
    world::Fault,
};
use time::OffsetDateTime;

use crate::{
    client,
    stage::{Answer, Ask, Stage, TEMPLATE, vmid_of},
    truth::{all_committed, assert_honest},
};

type Waiting<T> = Pin<Box<dyn Future<Output = T>>>;

#[test]
fn eight_creations_end_within_their_own_requests() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(eight_creations_end_within_their_own_requests_of);
}

fn eight_creations_end_within_their_own_requests_of(kind: Kind) {
    let stage = Stage::with(kind);
    let answers = stage.world.run_all((0..8).map(|_| stage.pending(Ask::create())));
    let ids: BTreeSet<String> = answers.iter().flatten().map(Answer::id).collect();
    assert_eq!(ids.len(), 8, "{answers:?}");
    for answer in answers.iter().flatten() {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_honest(&stage, answer);
    }
}

/// Each follows `Retry-After` with its own key; each ends with exactly one.
#[test]
fn thirty_two_creations_are_all_served() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(thirty_two_creations_are_all_served_of);
}

fn thirty_two_creations_are_all_served_of(kind: Kind) {
    let stage = Stage::with(kind);
    let began = stage.world.now();
    let one = |nth: usize| -> Waiting<(Answer, OffsetDateTime)> {
        let stage = stage.clone();
        let ask = Ask::create_keyed(&format!("client-{nth}"));
        Box::pin(async move {
            let answer = client::create(stage.clone(), ask).await;
            (answer, stage.world.now())
        })
    };
    let answers = stage.world.run_all((0..32).map(one));
    let ids: BTreeSet<String> = answers.iter().flatten().map(|(answer, _)| answer.id()).collect();
    assert_eq!(ids.len(), 32);
    stage.world.settle();
    let sim = stage.world.sim();
    assert_eq!((all_committed(&sim).len(), sim.guests().count()), (32, 33));
    let serial = sim.setup().clone_secs * 32;
    let longest = answers.iter().flatten().map(|(_, at)| *at - began).max().unwrap_or_default();
    assert!(longest <= serial * 2, "{longest} for {serial} of cloning");
    assert_eq!(sim.guest(TEMPLATE).and_then(|it| it.config.lock()), None);
}

/// No invocation outgrows what the platform allows it.
#[test]
fn nobody_sends_more_than_forty_requests() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(nobody_sends_more_than_forty_requests_of);
}

fn nobody_sends_more_than_forty_requests_of(kind: Kind) {
    let stage = Stage::with(kind);
    stage.world.sim_mut().setup_mut().clone_secs = time::Duration::seconds(5);
    let crowd: Vec<Stage> = NAMES.iter().map(|name| stage.beside(name, &[])).collect();
    let answers = stage.world.run_all(crowd.iter().map(|it| it.pending(Ask::create())));
    for (name, answer) in NAMES.iter().zip(&answers) {
        let sent = stage.world.requests().iter().filter(|it| it.name == *name).count();
        assert!(sent <= 40, "{name}: {sent}");
        let answer = answer.as_ref().expect("nobody dies");
        assert!(
            matches!((answer.status, &*answer.code()), (201 | 202, _) | (503, "template-busy")),
            "{answer:?}"
        );
    }
}

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

#[test]
fn one_key_at_the_same_time_makes_one_sandbox() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(one_key_at_the_same_time_makes_one_sandbox_of);
}

fn one_key_at_the_same_time_makes_one_sandbox_of(kind: Kind) {
    for many in [2, 5] {
        let stage = Stage::with(kind);
        let answers = stage.world.run_all((0..many).map(|_| stage.pending(Ask::create_keyed("same"))));
        let ids: BTreeSet<String> = answers.iter().flatten().map(Answer::id).collect();
        assert_eq!(ids.len(), 1, "{answers:?}");
        let made = answers.iter().flatten().filter(|it| it.status == 201).count();
        assert!(made <= 1, "{answers:?}");
        assert!(answers.iter().flatten().all(|it| matches!(it.status, 200..=202)), "{answers:?}");
        stage.world.settle();
        assert_eq!(all_committed(&stage.world.sim()).len(), 1);
    }
}

/// The first VMID that the key draws is taken in one request's listing and free in the other's.
#[test]
fn one_key_makes_one_sandbox_though_its_vmids_come_and_go() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(one_key_makes_one_sandbox_though_its_vmids_come_and_go_of);
}

fn one_key_makes_one_sandbox_though_its_vmids_come_and_go_of(kind: Kind) {
    for held_back in [100, 400, 900, 1400, 2500] {
        let stage = Stage::with(kind);
        let first = stage.ask(Ask::create_keyed("k")).id();
        assert_eq!(stage.ask(Ask::end(&first)).status, 204);
        stage.world.sim_mut().add(Spec::guest(vmid_of(&first)));
        let slow = Fault::Slow(std::time::Duration::from_millis(held_back));
        stage.world.fault_once(|seen| seen.path.ends_with("/clone"), slow);
        let client = |stage: &Stage| stage.world.spawn(client::create(stage.clone(), Ask::create_keyed("k")));
        let one = client(&stage);
        stage.world.advance(time::Duration::milliseconds(60));
        stage.world.sim_mut().admin_remove(vmid_of(&first));
        let other = client(&stage);
        stage.world.settle();
        let ids = [one.take(), other.take()].map(|it| it.expect("both are served").id());
        assert_eq!(ids[0], ids[1], "held back {held_back} ms\n{}", stage.told());
        let sim = stage.world.sim();
        assert_eq!((all_committed(&sim).len(), sim.guests().count()), (1, 2), "{}", stage.told());
    }
}

/// Teams of the same key do not meet; neither do deployments.
#[test]
fn one_key_of_two_teams_makes_two() {
    [Kind::Lxc, Kind::Qemu].into_iter().for_each(one_key_of_two_teams_makes_two_of);
}

fn one_key_of_two_teams_makes_two_of(kind: Kind) {
    let stage = Stage::with(kind);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    let answers = stage.world.run_all([
        stage.pending(Ask::create_keyed("same")),
        stage.pending(Ask::create_keyed("same").by("red")),
        staging.pending(Ask::create_keyed("same")),
    ]);
    assert!(answers.iter().flatten().all(|it| it.status == 201), "{answers:?}");
    assert_eq!(answers.iter().flatten().map(Answer::id).collect::<BTreeSet<_>>().len(), 3);
}
