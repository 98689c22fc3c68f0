//! Flows of snapshots.

use expect_test::expect;

use super::{Flow, after, before};
use crate::stage::prelude::*;

#[test]
fn snapshot() {
    Flow::new([before::running], |id| Ask::act(id, "snapshots", json!({})).wait(20), after::made_a_template)
        .run(
            &BOTH,
            expect![[r#"
                GET nodes/pve1/KIND/VMID/config
                GET nodes/pve1/KIND/VMID/feature
                GET cluster/resources
                GET nodes/pve1/KIND/VMID/config
                PUT nodes/pve1/KIND/VMID/config
                POST nodes/pve1/KIND/VMID/snapshot
                GET nodes/pve1/tasks/UPID/status
                POST nodes/pve1/KIND/VMID/clone
                GET nodes/pve1/KIND/VMID/config ×2
                GET nodes/pve1/tasks
                PUT nodes/pve1/KIND/VMID/config
                GET nodes/pve1/KIND/VMID/config
                POST nodes/pve1/KIND/VMID/template
                GET nodes/pve1/KIND/VMID/config ×2
                DELETE nodes/pve1/KIND/VMID/snapshot/NAME
                PUT nodes/pve1/KIND/VMID/config"#]],
        );
}

fn keeping(memory: bool) -> Flow {
    let body = json!({"keep": true, "memory": memory});
    Flow::new(
        [before::long_running],
        move |id| Ask::act(id, "snapshots", body.clone()),
        after::kept_a_snapshot,
    )
}

#[test]
fn keep() {
    keeping(false).run(
        &BOTH,
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/feature
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/snapshot
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}

#[test]
fn keep_with_memory() {
    keeping(true).run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/status/current
            GET nodes/pve1/KIND/VMID/feature
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/snapshot
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/snapshot"#]],
    );
}

#[test]
fn rollback() {
    let flow = Flow::of(|stage| before::kept(stage, false), after::rolled_back);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config ×2
            GET nodes/pve1/KIND/VMID/snapshot
            GET nodes/pve1/KIND/VMID/config ×2
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/snapshot/NAME/rollback
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST exec ×7
            GET nodes/pve1/tasks/UPID/status
            POST exec ×8
            GET nodes/pve1/tasks/UPID/status
            POST exec ×3
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config ×2
            GET nodes/pve1/KIND/VMID/snapshot
            GET nodes/pve1/KIND/VMID/config ×2
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/snapshot/NAME/rollback
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}

#[test]
fn rollback_to_memory() {
    Flow::of(|stage| before::kept(stage, true), after::rolled_back).run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config ×2
            GET nodes/pve1/KIND/VMID/snapshot
            GET nodes/pve1/KIND/VMID/config ×2
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/snapshot/NAME/rollback
            GET nodes/pve1/tasks/UPID/status ×2
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}
