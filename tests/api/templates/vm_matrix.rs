//! Every request of a build of VMs meets every fault: in the end there is one template, in which packages and script ran
//! once, or a failure that its admin deletes.

use std::collections::BTreeMap;

use pve_edge_core::pve::marks;

use super::{
    PRESET, build, gc,
    machines::Work,
    vms::{assert_built, body, stage, strangers},
};
use crate::{
    matrix::faults,
    stage::{SECRET, guests::mark, keys_of, prelude::*},
};

fn ask(wait: u64) -> Ask {
    build(&body()).wait(wait)
}

/// Asks until it is made or has failed.
fn until_over(stage: &Stage, wait: u64, told: &str) -> Answer {
    for _ in 0..120 {
        if let Some(answer) = stage.try_ask(ask(wait))
            && matches!(answer.json()["status"].as_str(), Some("ready" | "failed"))
        {
            return answer;
        }
        stage.world.advance(Duration::seconds(4));
    }
    panic!("{told}: it never ends\n{}", stage.told());
}

#[test]
fn whatever_fails_a_build_of_a_vm_is_done_once() {
    for wait in [25, 0] {
        let (plain, _) = stage(Work::Ends);
        until_over(&plain, wait, "no fault");
        let mut known = BTreeMap::<String, u32>::new();
        for (nth, request) in plain.world.requests().iter().enumerate() {
            // Looks that are repeated are met twice each.
            let times = known.entry(shape(request)).or_default();
            *times += 1;
            if *times > 2 {
                continue;
            }
            for fault in faults() {
                // To core an adapter without files is one that never sends.
                let may_fail = match fault {
                    Fault::Refused(403, _) => request.path.contains("/agent/"),
                    Fault::NeverSent => request.host == "assets",
                    _ => false,
                };
                one(wait, nth, &fault, may_fail);
            }
        }
    }
}

/// What tells a request from others: call, and script.
fn shape(Seen { method, host, path, body, .. }: &Seen) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let script = body.split("input-data").next().unwrap_or_default();
    format!("{method} {host}{path} {script}")
}

fn one(wait: u64, nth: usize, fault: &Fault, may_fail: bool) {
    let told = &*format!("request {nth}, {fault:?}, wait {wait}");
    let (stage, machines) = stage(Work::Ends);
    let before = strangers(&stage);
    stage.world.fault_at(nth, fault.clone());
    let over = until_over(&stage, wait, told);
    stage.world.clear_faults();
    // What was late has happened, and the sweep was there.
    for _ in 0..14 {
        stage.world.advance(Duration::seconds(100));
        stage.ask(gc());
    }
    stage.world.settle();
    assert_eq!(strangers(&stage), before, "{told}: a stranger was touched");
    assert!(machines.begun() <= 1, "{told}: packages and script ran {} times", machines.begun());
    let ours = || {
        let sim = stage.world.sim();
        sim.guests().filter(|it| mark(it).is_some()).map(|it| it.vmid).collect::<Vec<_>>()
    };
    assert_eq!(ours(), [vmid_of(&over.id())], "{told}\n{}", stage.told());
    if over.json()["status"] == "failed" {
        assert!(may_fail, "{told}: {over:?}\n{}", stage.told());
        let gone = stage.ask(Ask::delete(format!("/api/templates/{}", over.id())).by("ops"));
        assert_eq!((gone.status, ours()), (204, vec![]), "{told}\n{}", stage.told());
        return;
    }
    let vmid = vmid_of(&over.id());
    assert_built(&machines, vmid, told);
    let sim = stage.world.sim();
    let offered = sim.guests().filter_map(|it| marks::template(it.config.get("tags")?)?);
    let offered: Vec<String> = offered.map(|it| it.to_string()).collect();
    assert_eq!(offered, [format!("pvevm_{PRESET}_v1")], "{told}\n{}", stage.told());
    drop(sim);
    stage.world.sim_mut().set_keys(vmid, &keys_of(SECRET));
    let made = stage.ask(Ask::sandbox(json!({"preset": PRESET})));
    assert_eq!(made.status, 201, "{told}: {made:?}\n{}", stage.told());
}
