//! A VM's memory in snapshots, and what waits for a start.

use pve_edge_bed::sim::Sim;
use time::Duration;

use crate::{
    talk::{fails, ok, task},
    vms::{running, sim},
};

const VM: &str = "/nodes/pve1/qemu/300";

fn with_memory() -> Sim {
    let mut sim = sim();
    running(&mut sim);
    assert_eq!(task(&mut sim, &format!("POST {VM}/snapshot snapname=ram&vmstate=1")), "OK");
    sim
}

#[test]
fn while_the_memory_comes_back_the_config_is_bare_of_locks_and_takes_no_change() {
    let mut sim = with_memory();
    ok(&mut sim, &format!("PUT {VM}/config tags=new"));
    ok(&mut sim, &format!("POST {VM}/snapshot/ram/rollback"));
    sim.advance(sim.setup().task_secs + Duration::milliseconds(10));
    let config = ok(&mut sim, &format!("GET {VM}/config"));
    assert_eq!(
        (config.get("lock"), config.get("tags").and_then(|it| it.as_str())),
        (None, Some("pvevm_2vcpu_4gb_16gb_v1"))
    );
    assert_eq!(ok(&mut sim, &format!("GET {VM}/status/current"))["status"], "stopped");
    let began = sim.now();
    ok(&mut sim, &format!("PUT {VM}/config tags=again"));
    assert!(sim.now() - began >= sim.setup().start_secs / 2, "the change waits for the start");
    assert!(sim.guest(300).is_some_and(|it| it.run.is_some()));
}

#[test]
fn a_start_from_memory_that_fails_leaves_all_else_rolled_back() {
    let mut sim = with_memory();
    ok(&mut sim, &format!("PUT {VM}/config tags=new&description=now"));
    sim.fail_next("qmrollback", "start failed: QEMU exited with code 1");
    assert_eq!(
        task(&mut sim, &format!("POST {VM}/snapshot/ram/rollback")),
        "start failed: QEMU exited with code 1"
    );
    let config = ok(&mut sim, &format!("GET {VM}/config"));
    assert_eq!((&config["tags"], &config["description"]), (&"pvevm_2vcpu_4gb_16gb_v1".into(), &"now".into()));
    assert!(config.get("lock").is_none() && config.get("vmstate").is_none());
    assert!(sim.guest(300).is_some_and(|it| it.run.is_none()));
}

#[test]
fn a_snapshot_that_fails_leaves_nothing() {
    let mut sim = sim();
    running(&mut sim);
    sim.fail_next("qmsnapshot", "unable to save VM state and RAM - No space left on device");
    let end = task(&mut sim, &format!("POST {VM}/snapshot snapname=ram&vmstate=1"));
    assert!(end.starts_with("unable to save"), "{end}");
    let guest = sim.guest(300).expect("it is there");
    assert!(guest.config.snapshots.is_empty() && guest.config.lock().is_none());
    assert!(guest.config.get("parent").is_none() && guest.run.is_some());
    assert!(sim.volumes().keys().all(|volid| !volid.contains("state")));
}

#[test]
fn an_unfinished_snapshot_is_nothing_to_go_back_to() {
    let mut sim = sim();
    running(&mut sim);
    ok(&mut sim, &format!("POST {VM}/snapshot snapname=ram&vmstate=1"));
    sim.advance(Duration::milliseconds(10));
    let task = ok(&mut sim, &format!("POST {VM}/snapshot/ram/rollback"));
    sim.advance(Duration::milliseconds(10));
    let upid = task.as_str().expect("a UPID").to_owned();
    let exit = sim.tasks().iter().find(|it| it.upid == upid).and_then(|it| it.exit.clone());
    assert_eq!(exit.as_deref(), Some("unable to rollback to incomplete snapshot (snapstate = prepare)"));
}

#[test]
fn a_change_of_nothing_waits_for_no_start() {
    let mut sim = sim();
    running(&mut sim);
    let cores = ok(&mut sim, &format!("GET {VM}/config"))["cores"].clone();
    ok(&mut sim, &format!("PUT {VM}/config cores={cores}"));
    assert!(sim.guest(300).is_some_and(|it| it.config.pending.is_empty()));
    ok(&mut sim, &format!("PUT {VM}/config memory=512"));
    assert_eq!(sim.guest(300).map(|it| it.config.pending.len()), Some(1));
}

/// What waits is applied first, and then the memory is another machine's.
#[test]
fn what_waits_for_a_start_costs_a_suspended_vm_its_memory() {
    let mut sim = sim();
    running(&mut sim);
    ok(&mut sim, &format!("PUT {VM}/config memory=512"));
    assert_eq!(task(&mut sim, &format!("POST {VM}/status/suspend todisk=1")), "OK");
    assert!(task(&mut sim, &format!("POST {VM}/status/start")).starts_with("start failed"));
    assert_eq!(fails(&mut sim, &format!("PUT {VM}/config tags=x")), "500 VM is locked (suspended)");
}

/// A rollback is to the config as it was, and to nothing that waited then or waits now.
#[test]
fn what_waits_for_a_start_is_forgotten_by_a_rollback() {
    let mut sim = with_memory();
    ok(&mut sim, &format!("PUT {VM}/config memory=512"));
    assert_eq!(task(&mut sim, &format!("POST {VM}/snapshot/ram/rollback")), "OK");
    assert!(sim.guest(300).is_some_and(|it| it.config.pending.is_empty() && it.run.is_some()));
}
