//! The flows of virtual machines.

use expect_test::expect;
use pve_edge_tests::sim::Kind;

#[test]
fn create_with_a_key() {
    super::create_with_a_key(
        Kind::Qemu,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/qemu/TEMPLATE/config
            POST nodes/pve1/qemu/TEMPLATE/clone
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET cluster/resources
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn create_on_another_node() {
    super::create_on_another_node(
        Kind::Qemu,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/qemu/TEMPLATE/config
            POST nodes/pve1/qemu/TEMPLATE/clone
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve2/qemu/VMID/config
            GET cluster/resources
            PUT nodes/pve2/qemu/VMID/config
            POST nodes/pve2/qemu/VMID/status/start
            GET nodes/pve2/qemu/VMID/config
            POST nodes/pve2/qemu/VMID/agent/ping
            GET nodes/pve2/tasks/UPID/status
            POST nodes/pve2/qemu/VMID/agent/ping
            PUT nodes/pve2/qemu/VMID/config"#]],
    );
}

#[test]
fn create_without_a_key() {
    super::create_without_a_key(
        Kind::Qemu,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/qemu/TEMPLATE/config
            POST nodes/pve1/qemu/TEMPLATE/clone
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn get_of_a_half_made_one() {
    super::get_of_a_half_made_one(
        Kind::Qemu,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/tasks
            GET cluster/resources
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn patch() {
    super::patch(
        Kind::Qemu,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}

#[test]
fn extend() {
    super::extend(
        Kind::Qemu,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}

#[test]
fn delete() {
    super::delete(
        Kind::Qemu,
        expect![[r#"
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config
        DELETE nodes/pve1/qemu/VMID
        POST nodes/pve1/qemu/VMID/status/stop
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/qemu/VMID/config
        DELETE nodes/pve1/qemu/VMID
        GET nodes/pve1/tasks/UPID/status"#]],
        expect![[r#"
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config
        DELETE nodes/pve1/qemu/VMID
        POST nodes/pve1/qemu/VMID/status/stop
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/qemu/VMID/config
        DELETE nodes/pve1/qemu/VMID
        GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn exec() {
    super::exec(
        Kind::Qemu,
        expect![[r#"
        GET nodes/pve1/qemu/VMID/config
        POST nodes/pve1/qemu/VMID/agent/exec
        GET nodes/pve1/qemu/VMID/agent/exec-status"#]],
    );
}

#[test]
fn create_with_env() {
    super::create_with_env(
        Kind::Qemu,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/qemu/TEMPLATE/config
            POST nodes/pve1/qemu/TEMPLATE/clone
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET cluster/resources
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            POST nodes/pve1/qemu/VMID/agent/exec
            GET nodes/pve1/qemu/VMID/agent/exec-status
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn snapshot() {
    super::snapshot(
        Kind::Qemu,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/feature
            GET cluster/resources
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/snapshot
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/clone
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/template
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            DELETE nodes/pve1/qemu/VMID/snapshot/edgeabuvlqc3lxxe3vr7bx4sn4qi
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn stop() {
    super::power(
        Kind::Qemu,
        "stop",
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            POST nodes/pve1/qemu/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn start() {
    super::power(
        Kind::Qemu,
        "start",
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn pause() {
    super::power(
        Kind::Qemu,
        "pause",
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/suspend
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}

#[test]
fn resume() {
    super::power(
        Kind::Qemu,
        "resume",
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}

#[test]
fn reboot() {
    super::power(
        Kind::Qemu,
        "reboot",
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/status/reboot
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            POST nodes/pve1/qemu/VMID/agent/ping
            POST nodes/pve1/qemu/VMID/agent/ping"#]],
    );
}

#[test]
fn keep() {
    super::keep(
        Kind::Qemu,
        false,
        expect![[r#"
        GET nodes/pve1/qemu/VMID/config
        GET nodes/pve1/qemu/VMID/feature
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config
        POST nodes/pve1/qemu/VMID/snapshot
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config"#]],
    );
}

#[test]
fn keep_with_memory() {
    super::keep(
        Kind::Qemu,
        true,
        expect![[r#"
        GET nodes/pve1/qemu/VMID/config
        GET nodes/pve1/qemu/VMID/status/current
        GET nodes/pve1/qemu/VMID/feature
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config
        POST nodes/pve1/qemu/VMID/snapshot
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/qemu/VMID/config
        PUT nodes/pve1/qemu/VMID/config
        GET nodes/pve1/qemu/VMID/snapshot"#]],
    );
}

#[test]
fn rollback() {
    super::rollback(
        Kind::Qemu,
        false,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/snapshot
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/snapshot/keptabuvlqc3cswfo7bhi5eedw7y/rollback
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            POST nodes/pve1/qemu/VMID/status/start
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}

#[test]
fn rollback_to_memory() {
    super::rollback(
        Kind::Qemu,
        true,
        expect![[r#"
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/snapshot
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/snapshot/keptabuvlqc3cswfo7bhi5eedw7y/rollback
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/qemu/VMID/config
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current
            GET nodes/pve1/qemu/VMID/config
            POST nodes/pve1/qemu/VMID/agent/ping
            PUT nodes/pve1/qemu/VMID/config
            GET nodes/pve1/qemu/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/qemu/VMID/status/current"#]],
    );
}
