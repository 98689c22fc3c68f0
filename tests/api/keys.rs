//! One Idempotency-Key makes one sandbox, whoever asks with it, when and how often.

use std::{cell::Cell, collections::BTreeSet};

use crate::stage::{guests::all_committed, prelude::*};

#[test]
fn one_key_at_the_same_time_makes_one_sandbox() {
    BOTH.into_iter().for_each(one_key_at_the_same_time_makes_one_sandbox_of);
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
    BOTH.into_iter().for_each(one_key_makes_one_sandbox_though_its_vmids_come_and_go_of);
}

fn one_key_makes_one_sandbox_though_its_vmids_come_and_go_of(kind: Kind) {
    for held_back in [100, 400, 900, 1400, 2500] {
        let stage = Stage::with(kind);
        let first = stage.ask(Ask::create_keyed("k")).id();
        assert_eq!(stage.ask(Ask::end(&first)).status, 204);
        stage.world.sim_mut().add(Spec::guest(vmid_of(&first)));
        let slow = Fault::Slow(std::time::Duration::from_millis(held_back));
        stage.world.fault_once(|seen| seen.path.ends_with("/clone"), slow);
        let ask = || stage.world.spawn(stage.pending(Ask::create_keyed("k")));
        let one = ask();
        stage.world.advance(time::Duration::milliseconds(60));
        stage.world.sim_mut().admin_remove(vmid_of(&first));
        let other = ask();
        stage.world.settle();
        let answers = [one.take(), other.take()].map(|it| it.expect("both are answered"));
        // Whoever gives way answers with the other's sandbox.
        assert!(answers.iter().all(|it| matches!(it.status, 200..=202)), "{answers:?}\n{}", stage.told());
        let ids = answers.map(|it| it.id());
        assert_eq!(ids[0], ids[1], "held back {held_back} ms\n{}", stage.told());
        let sim = stage.world.sim();
        assert_eq!((all_committed(&sim).len(), sim.guests().count()), (1, 2), "{}", stage.told());
    }
}

/// A stranger's guest at a VMID of the key does not tell whose it is in the first moment of its clone.
#[test]
fn a_strangers_clone_at_a_vmid_of_the_key_undoes_nothing() {
    let stage = Stage::new();
    let first = stage.ask(Ask::create_keyed("k")).id();
    assert_eq!(stage.ask(Ask::end(&first)).status, 204);
    let vmid = vmid_of(&first);
    stage.world.sim_mut().add(Spec::guest(vmid));
    let reads = Cell::new(0);
    let path = format!("/lxc/{vmid}/config");
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::Before && seen.method == "GET" && seen.path.ends_with(&path) {
            reads.set(reads.get() + 1);
            // The first read finds a stranger, and the second another one that is just being made there.
            sim.set_lock(vmid, (2..5).contains(&reads.get()).then_some("create"));
        }
    });
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!((again.status, again.state()), (201, "running".to_owned()), "{again:?}\n{}", stage.told());
    let told = stage.told();
    assert!(!told.contains(&format!("DELETE /nodes/pve1/lxc/{}", vmid_of(&again.id()))), "{told}");
    assert_ne!(vmid_of(&again.id()), vmid);
}

/// Its key's other request gives way, or its owner deletes it.
#[test]
fn a_sandbox_that_goes_while_it_comes_up_is_not_waited_for() {
    for key in [Some("k"), None] {
        let stage = Stage::new();
        let gone = Cell::new(false);
        stage.world.hook(move |sim, moment, seen| {
            if moment == Moment::Before && seen.path.ends_with("/status/start") && !gone.replace(true) {
                let vmid = seen.path.rsplit('/').nth(2).and_then(|it| it.parse().ok()).expect("a VMID");
                sim.admin_remove(vmid);
            }
        });
        let before = stage.world.now();
        let answer = stage.ask(key.map_or_else(Ask::create, Ask::create_keyed).wait(25));
        assert_eq!(answer.refusal(), "404 not-found", "{answer:?}\n{}", stage.told());
        assert!(stage.world.now() - before < time::Duration::seconds(10), "{}", stage.told());
    }
}

/// Teams of the same key do not meet; neither do deployments.
#[test]
fn one_key_of_two_teams_makes_two() {
    BOTH.into_iter().for_each(one_key_of_two_teams_makes_two_of);
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

#[test]
fn one_key_at_once_on_two_nodes_makes_one_sandbox() {
    for seed in 0..12 {
        let mut sim = plain_sim(Setup::two_nodes());
        sim.add(Spec::template(TEMPLATE + 1).tags(SNAPSHOT).node("pve2"));
        let stage = Stage::of(World::new(sim, seed), &[]);
        stage.world.latency(1, 40);
        let beside = stage.beside("b", &[]);
        let asked = vec![stage.pending(Ask::create_keyed("k")), beside.pending(Ask::create_keyed("k"))];
        let ids: Vec<String> = stage.world.run_all(asked).into_iter().flatten().map(|it| it.id()).collect();
        stage.world.settle();
        assert_eq!(ids[0], ids[1], "seed {seed}\n{}", stage.told());
        assert_eq!(all_committed(&stage.world.sim()).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_key_whose_claim_cannot_be_read_yet_makes_no_second_sandbox() {
    let elsewhere = Stage::new();
    let made = elsewhere.ask(Ask::create_keyed("k").wait(0));
    let vmid = vmid_of(&made.id());
    let text = elsewhere.world.sim().guest(vmid).unwrap().config.description.clone().unwrap();
    // The first moment of a clone: a lock and nothing else.
    let stage = Stage::new().beside("other dice", &[]);
    stage.world.sim_mut().add(Spec::guest(vmid));
    stage.world.sim_mut().set_lock(vmid, Some("create"));
    let reads = Cell::new(0);
    let path = format!("/lxc/{vmid}/config");
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::Before && seen.method == "GET" && seen.path.ends_with(&path) {
            reads.set(reads.get() + 1);
            if reads.get() == 2 {
                sim.admin_describe(vmid, &text);
                sim.set_lock(vmid, None);
            }
        }
    });
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!(again.id(), made.id(), "{}", stage.told());
    assert_eq!(all_committed(&stage.world.sim()).len(), 1);
}

#[test]
fn a_key_whose_sandbox_moves_meanwhile_makes_no_second_one() {
    let stage = Stage::on(plain_sim(Setup::two_nodes()));
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.move_after_listing(&id, &["pve2"]);
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!(again.id(), id, "{}", stage.told());
    assert_eq!(all_committed(&stage.world.sim()).len(), 1);
}

#[test]
fn a_replay_during_a_backup_tells_that_it_runs() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.world.advance(Duration::minutes(20));
    stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!((again.status, again.state(), again.id()), (200, "running".into(), id));
}

#[test]
fn a_key_of_an_expired_sandbox_says_so() {
    let stage = Stage::new();
    let ask = Ask::sandbox(json!({"ttlSeconds": 60})).header("idempotency-key", "k");
    assert_eq!(stage.ask(ask.clone()).status, 201);
    stage.world.advance(Duration::seconds(61));
    let answer = stage.ask(ask);
    assert_eq!(answer.refusal(), "409 expired", "{answer:?}");
}

/// A replay tells what is, however old the sandbox.
#[test]
fn a_replay_of_an_old_running_sandbox_says_running() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.world.advance(Duration::minutes(30));
    let writes = || stage.world.requests().iter().filter(|it| it.is_write()).count();
    let before = writes();
    let answer = stage.ask(Ask::create_keyed("k"));
    assert_eq!((answer.status, &*answer.state(), answer.id()), (200, "running", id));
    assert_eq!(writes(), before, "a replay of what runs changes nothing");
}
