//! Flows of a sandbox that is there.

use expect_test::expect;

use super::{
    Flow,
    after::{self, Scene},
    after_power, before,
};
use crate::stage::prelude::*;

/// A GET still looks into a young one.
const AGES: [fn(&Stage) -> String; 2] = [before::running, before::long_running];

#[test]
fn patch() {
    let flow = Flow::new(AGES, |id| Ask::change(id, after::patch()), after::patched);
    flow.run(
        &BOTH,
        expect![[r#"
        GET nodes/pve1/KIND/VMID/config
        PUT nodes/pve1/KIND/VMID/config
        GET nodes/pve1/tasks
        GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}

#[test]
fn extend() {
    let flow = Flow::new(AGES, |id| Ask::extend(id, 7200), after::extended);
    flow.run(
        &BOTH,
        expect![[r#"
        GET nodes/pve1/KIND/VMID/config
        PUT nodes/pve1/KIND/VMID/config
        GET nodes/pve1/tasks
        GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}

#[test]
fn delete() {
    let flow = Flow::new(AGES, Ask::end, after::deleted);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
        GET nodes/pve1/KIND/VMID/config
        PUT nodes/pve1/KIND/VMID/config
        DELETE nodes/pve1/KIND/VMID
        GET nodes/pve1/tasks/UPID/status ×2"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
        GET nodes/pve1/KIND/VMID/config
        PUT nodes/pve1/KIND/VMID/config
        DELETE nodes/pve1/KIND/VMID
        POST nodes/pve1/KIND/VMID/status/stop
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/KIND/VMID/config
        DELETE nodes/pve1/KIND/VMID
        GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn exec() {
    let flow = Flow::new([before::running], |id| Ask::exec(id, after::COMMAND), after::executed);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            POST exec"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/exec
            GET nodes/pve1/KIND/VMID/agent/exec-status"#]],
    );
}

fn power(prepare: fn(&Stage) -> String, verb: &'static str, case: fn(&Scene<'_>)) -> Flow {
    Flow::new([prepare], move |id| Ask::act(id, verb, json!({})), case)
}

#[test]
fn stop() {
    let flow = power(before::long_running, "stop", after_power::off);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            POST nodes/pve1/KIND/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn start() {
    let flow = power(before::stopped, "start", after_power::started);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST exec ×4
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}

#[test]
fn pause() {
    let flow = power(before::long_running, "pause", after_power::paused);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/suspend
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}

#[test]
fn resume() {
    let flow = power(before::paused, "resume", after_power::resumed);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST exec ×4
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current
            GET nodes/pve1/KIND/VMID/config
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            PUT nodes/pve1/KIND/VMID/config
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/KIND/VMID/status/current"#]],
    );
}

#[test]
fn reboot() {
    let flow = power(before::long_running, "reboot", after_power::rebooted);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/reboot
            GET nodes/pve1/tasks/UPID/status ×2
            POST exec ×3"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/reboot
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping ×3"#]],
    );
}
