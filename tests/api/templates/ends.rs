//! How a build ends, whatever happens to its VM meanwhile: what is one machine's own is never in a template, nor is what
//! the build has left.

use std::{cell::Cell, rc::Rc};

use http::Request;
use pve_edge_bed::{
    sim::{Sim, TOKEN},
    world::Moment,
};

use super::{
    build, get,
    machines::{Machines, Work},
    until,
    vms::{SOURCE, assert_built, body, stage, stage_of},
};
use crate::stage::prelude::*;

/// A request that PVE executes late.
fn start(sim: &mut Sim, path: &str) {
    let path = path.split("/status/").next().unwrap_or_default();
    let request = Request::post(format!("https://pve.test{path}/status/start"))
        .header("authorization", format!("PVEAPIToken={TOKEN}"))
        .body(Vec::new())
        .unwrap();
    let reply = sim.handle(&request);
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn vmid_in(path: &str) -> u32 {
    path.split('/').skip_while(|it| *it != "qemu").nth(1).and_then(|it| it.parse().ok()).unwrap()
}

/// Builds one, while this happens once to its VM, after a request of which this is true.
fn built(
    is_due: impl Fn(&Sim, &Seen) -> bool + 'static,
    happens: impl Fn(&mut Sim, &Machines, &str) + 'static,
) -> (Stage, Machines, u32) {
    let (stage, machines) = stage(Work::Ends);
    let kept = machines.clone();
    let happened = Rc::new(Cell::new(false));
    let has_happened = happened.clone();
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::After
            && !has_happened.get()
            && seen.path.contains("/qemu/1")
            && is_due(sim, seen)
        {
            has_happened.set(true);
            happens(sim, &kept, &seen.path);
        }
    });
    let made = until(&stage, &build(&body()), "ready");
    stage.world.unhook();
    assert!(happened.get(), "{}", stage.told());
    let vmid = vmid_of(&made.id());
    assert_built(&machines, vmid, &stage.told());
    (stage, machines, vmid)
}

fn notes(what: &'static str) -> impl Fn(&Sim, &Seen) -> bool {
    move |_, seen| {
        seen.is_write() && seen.path.ends_with("/config") && seen.body.contains(&format!("\"{what}\":"))
    }
}

#[test]
fn one_that_is_stopped_before_it_is_clean_is_started_and_cleaned() {
    let (.., machines, vmid) = built(notes("done"), |sim, machines, path| {
        sim.set_running(vmid_in(path), false);
        machines.boot(vmid_in(path));
    });
    assert_eq!(machines.machine(vmid).cleanings, 1);
}

/// A start of ours that was late, after the VM was stopped.
#[test]
fn one_that_is_started_late_is_cleaned_again() {
    let is_stopped = |sim: &Sim, seen: &Seen| {
        let is_over = |it: &&pve_edge_bed::sim::Task| it.kind == "qmshutdown" && it.exit.is_some();
        seen.path.ends_with("/status/current") && sim.tasks().iter().any(is_over)
    };
    let (stage, machines, vmid) = built(is_stopped, |sim, machines, path| {
        start(sim, path);
        machines.boot(vmid_in(path));
    });
    assert_eq!(machines.machine(vmid).cleanings, 2, "{}", stage.told());
}

/// A restart from inside, or by an admin, that no task tells.
#[test]
fn one_that_restarts_after_it_was_cleaned_is_cleaned_again() {
    let (stage, machines, vmid) = built(notes("cleaned"), |sim, machines, path| {
        sim.advance(Duration::seconds(2));
        sim.set_running(vmid_in(path), false);
        sim.set_running(vmid_in(path), true);
        machines.boot(vmid_in(path));
    });
    assert_eq!(machines.machine(vmid).cleanings, 2, "{}", stage.told());
}

#[test]
fn what_a_build_has_left_is_removed_as_often_as_it_takes() {
    let (stage, machines) = stage(Work::Ends);
    machines.set_busy(2);
    let made = until(&stage, &build(&body()), "ready");
    assert_built(&machines, vmid_of(&made.id()), &stage.told());
    assert_eq!(machines.machine(vmid_of(&made.id())).cleanings, 3);
}

/// An earlier build has failed to tidy up in the template that is copied.
#[test]
fn a_build_is_not_taken_for_an_earlier_one() {
    for left in ["/var/lib/pve-edge-build", "/var/lib/pve-edge-build/another0nonce"] {
        let (stage, machines) = stage(Work::Ends);
        machines.leave(left);
        let made = until(&stage, &build(&body()), "ready");
        assert_built(&machines, vmid_of(&made.id()), left);
    }
}

#[test]
fn a_copy_does_not_start_with_its_node() {
    let source = Spec::vm_template(SOURCE).set("onboot", "1");
    let (stage, _) = stage_of(Version::V9, source, Work::Ends);
    stage.world.hook(|sim, moment, seen| {
        if moment == Moment::Before && seen.path.ends_with("/status/start") {
            let config = &sim.guest(vmid_in(&seen.path)).unwrap().config;
            assert_eq!(config.get("onboot"), Some("0"));
        }
    });
    until(&stage, &build(&body()), "ready");
}

/// Root has nothing to do with it, and what nobody knows is not declared done.
#[test]
fn what_is_not_for_root_is_not_confirmed() {
    for (work, status, refusal) in
        [(Work::RunsOn, "building", "409 still-creating"), (Work::Fails(3), "failed", "409 condemned")]
    {
        for said in [json!({"daemon": "guest"}), json!({"execd": "included"})] {
            let (stage, machines) = stage(work);
            let id = until(&stage, &build(&body()), status).id();
            while machines.begun() == 0 {
                stage.ask(get(&id));
            }
            let answer = stage.ask(Ask::patch(format!("/api/templates/{id}"), said).by("ops"));
            assert_eq!(answer.refusal(), refusal, "{answer:?}\n{}", stage.told());
            stage.world.advance(Duration::minutes(5));
            assert_eq!(stage.ask(get(&id)).json()["status"], status);
        }
    }
}
