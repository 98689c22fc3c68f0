//! Tasks that fail, and nodes that do not serve: told with what PVE says of it.

use crate::stage::prelude::*;

/// What PVE's command said is in the task's log: a full storage is told as that, whoever met it.
#[test]
fn a_failed_task_is_told_with_the_end_of_its_log() {
    let full = ["lvcreate 'pve/vm-1' error:   Insufficient free space: 2048 extents needed"];
    let exit = "command '/sbin/lvcreate' failed: exit code 5";
    let stage = Stage::new();
    stage.world.sim_mut().fail_next_saying("vzclone", &full, exit);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.refusal(), "507 storage-full", "{answer:?}");
    assert!(answer.body.contains("Insufficient free space"), "{answer:?}");
    let stage = Stage::new();
    let log = ["lxc-start: network.c: no such bridge vmbr9", "lxc-start: start failed"];
    stage.world.sim_mut().fail_next_saying("vzstart", &log, "startup for container '1' failed");
    let answer = stage.ask(Ask::create().wait(25));
    assert_eq!(answer.refusal(), "502 start-failed", "{answer:?}");
    assert!(answer.body.contains("no such bridge vmbr9; lxc-start: start failed"), "{answer:?}");
    let stage = Stage::new();
    stage.world.sim_mut().fail_next_saying("vzstart", &full, exit);
    let answer = stage.ask(Ask::create().wait(25));
    assert_eq!(answer.refusal(), "507 storage-full", "{answer:?}");
    // Of a stop, and of a snapshot, too.
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    stage.world.settle();
    stage.world.sim_mut().fail_next_saying("vzshutdown", &["lxc-stop: it hangs"], "container did not stop");
    let stop = Ask::act(&id, "stop", json!({}));
    let answer = stage.ask(stop.wait(25));
    assert_eq!(answer.refusal(), "502 task-failed", "{answer:?}");
    assert!(answer.body.contains("it hangs"), "{answer:?}");
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    stage.world.settle();
    let log = ["zfs error: cannot create snapshot 'rpool/subvol-1@x': out of space"];
    stage.world.sim_mut().fail_next_saying("vzsnapshot", &log, "command 'zfs snapshot' failed: exit code 1");
    let answer = stage.act(&id, "snapshots", json!({}));
    assert_eq!(answer.refusal(), "507 storage-full", "{answer:?}");
}

/// A node comes back: whoever asks again is served.
#[test]
fn a_preset_whose_only_node_is_offline() {
    let nodes = vec![Node::new("pve1"), Node::new("pve2")];
    let mut sim = Sim::new(Setup { nodes, ..Setup::default() });
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).node("pve2"));
    sim.set_online("pve2", false);
    let stage = Stage::on(sim);
    for body in [json!({}), json!({"templateVmid": TEMPLATE}), json!({"snapshotId": SNAPSHOT})] {
        let answer = stage.ask(Ask::sandbox(body));
        assert_eq!(answer.refusal(), "503 node-offline", "{answer:?}");
        assert!(answer.retry_after().is_some() && answer.json()["retryable"] == true, "{answer:?}");
    }
    let answer = stage.ask(Ask::sandbox(json!({"preset": "9vcpu_9gb_9gb"})));
    assert_eq!(answer.refusal(), "422 template-not-found", "{answer:?}");
}
