//! Many at once, in virtual time: PVE makes one clone of a container at a time,
//! and of a VM any number; a VM's clone takes its number late.

use std::{collections::BTreeSet, pin::Pin};

use time::OffsetDateTime;

use crate::stage::{
    client,
    guests::{all_committed, assert_honest},
    prelude::*,
};

type Waiting<T> = Pin<Box<dyn Future<Output = T>>>;

#[test]
fn eight_creations_end_within_their_own_requests() {
    BOTH.into_iter().for_each(eight_creations_end_within_their_own_requests_of);
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
    BOTH.into_iter().for_each(thirty_two_creations_are_all_served_of);
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
    BOTH.into_iter().for_each(nobody_sends_more_than_forty_requests_of);
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
fn eight_at_once_from_one_template_wait_for_nobody() {
    let stage = Stage::of_vms();
    let began = stage.world.now();
    let asked = (0..8).map(|_| stage.pending(Ask::create()));
    let answers: Vec<Answer> = stage.world.run_all(asked).into_iter().flatten().collect();
    assert_eq!(answers.len(), 8);
    for answer in &answers {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let mut ids: Vec<String> = answers.iter().map(Answer::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
    let setup = stage.world.sim().setup().clone();
    let last = answers.iter().map(|it| it.at).max().expect("eight");
    let work = setup.clone_secs + setup.start_secs + setup.vm_boot;
    assert!(last - began < work * 2, "{} of {work}", last - began);
}
