//! The flows of containers.

use expect_test::expect;
use pve_edge_tests::sim::Kind;

#[test]
fn create_with_a_key() {
    super::create_with_a_key(
        Kind::Lxc,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/lxc/TEMPLATE/config
            POST nodes/pve1/lxc/TEMPLATE/clone
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            GET cluster/resources
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn create_on_another_node() {
    super::create_on_another_node(
        Kind::Lxc,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/lxc/TEMPLATE/config
            POST nodes/pve1/lxc/TEMPLATE/clone
            GET nodes/pve2/lxc/VMID/config
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve2/lxc/VMID/config
            GET cluster/resources
            PUT nodes/pve2/lxc/VMID/config
            POST nodes/pve2/lxc/VMID/status/start
            GET nodes/pve2/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve2/lxc/VMID/config"#]],
    );
}

#[test]
fn create_without_a_key() {
    super::create_without_a_key(
        Kind::Lxc,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/lxc/TEMPLATE/config
            POST nodes/pve1/lxc/TEMPLATE/clone
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn get_of_a_half_made_one() {
    super::get_of_a_half_made_one(
        Kind::Lxc,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/tasks
            GET cluster/resources
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn patch() {
    super::patch(
        Kind::Lxc,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/lxc/VMID/status/current"#]],
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/lxc/VMID/status/current"#]],
    );
}

#[test]
fn extend() {
    super::extend(
        Kind::Lxc,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/lxc/VMID/status/current"#]],
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/lxc/VMID/status/current"#]],
    );
}

#[test]
fn delete() {
    super::delete(
        Kind::Lxc,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            DELETE nodes/pve1/lxc/VMID
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks/UPID/status"#]],
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            DELETE nodes/pve1/lxc/VMID
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn exec() {
    super::exec(
        Kind::Lxc,
        expect![[r#"
        GET nodes/pve1/lxc/VMID/config
        POST exec"#]],
    );
}

#[test]
fn keep() {
    super::keep(
        Kind::Lxc,
        false,
        expect![[r#"
        GET nodes/pve1/lxc/VMID/config
        GET nodes/pve1/lxc/VMID/feature
        GET nodes/pve1/lxc/VMID/config
        PUT nodes/pve1/lxc/VMID/config
        POST nodes/pve1/lxc/VMID/snapshot
        GET nodes/pve1/tasks/UPID/status
        GET nodes/pve1/lxc/VMID/config
        PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn rollback() {
    super::rollback(
        Kind::Lxc,
        false,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/snapshot
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/snapshot/keptabuvlqcocswfo7eaf6ezfdpx/rollback
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks
            GET nodes/pve1/lxc/VMID/status/current
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            GET nodes/pve1/tasks/UPID/status
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            POST exec
            GET nodes/pve1/tasks/UPID/status
            POST exec
            POST exec
            POST exec
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/tasks"#]],
    );
}

#[test]
fn create_with_env() {
    super::create_with_env(
        Kind::Lxc,
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/lxc/TEMPLATE/config
            POST nodes/pve1/lxc/TEMPLATE/clone
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            GET cluster/resources
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn snapshot() {
    super::snapshot(
        Kind::Lxc,
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/feature
            GET cluster/resources
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/snapshot
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/lxc/VMID/clone
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/template
            GET nodes/pve1/lxc/VMID/config
            GET nodes/pve1/lxc/VMID/config
            DELETE nodes/pve1/lxc/VMID/snapshot/edgeabuvlqcolxxe3vtuyqnjc4r4
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn stop() {
    super::power(
        Kind::Lxc,
        "stop",
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn start() {
    super::power(
        Kind::Lxc,
        "start",
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn pause() {
    super::power(
        Kind::Lxc,
        "pause",
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/shutdown
            GET nodes/pve1/tasks/UPID/status"#]],
    );
}

#[test]
fn resume() {
    super::power(
        Kind::Lxc,
        "resume",
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            PUT nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/start
            GET nodes/pve1/lxc/VMID/config
            POST exec
            POST exec
            POST exec
            POST exec
            PUT nodes/pve1/lxc/VMID/config"#]],
    );
}

#[test]
fn reboot() {
    super::power(
        Kind::Lxc,
        "reboot",
        expect![[r#"
            GET nodes/pve1/lxc/VMID/config
            POST nodes/pve1/lxc/VMID/status/reboot
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve1/tasks/UPID/status
            POST exec
            POST exec
            POST exec"#]],
    );
}
