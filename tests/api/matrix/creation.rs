//! Flows that make a sandbox.

use expect_test::expect;

use super::{CREATE, Flow, after, before};
use crate::stage::prelude::*;

#[test]
fn create_with_a_key() {
    let flow = Flow::new([before::nothing], |_| Ask::create_keyed(CREATE), after::created_with_a_key);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            GET healthz ×3
            POST exec ×2
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            GET healthz
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}

#[test]
fn create_on_another_node() {
    let flow = Flow::new([before::shared], |_| Ask::create_keyed(CREATE), after::created_with_a_key);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve2/KIND/VMID/config
            GET nodes/pve1/tasks/UPID/status
            GET nodes/pve2/KIND/VMID/config
            GET cluster/resources
            PUT nodes/pve2/KIND/VMID/config
            POST nodes/pve2/KIND/VMID/status/start
            GET nodes/pve2/KIND/VMID/config
            GET healthz ×3
            POST exec ×2
            PUT nodes/pve2/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            GET nodes/pve2/KIND/VMID/config
            GET cluster/resources
            PUT nodes/pve2/KIND/VMID/config
            POST nodes/pve2/KIND/VMID/status/start
            GET nodes/pve2/KIND/VMID/config
            POST nodes/pve2/KIND/VMID/agent/ping
            GET nodes/pve2/tasks/UPID/status
            POST nodes/pve2/KIND/VMID/agent/ping
            GET healthz
            PUT nodes/pve2/KIND/VMID/config"#]],
    );
}

#[test]
fn create_without_a_key() {
    let flow = Flow::new([before::nothing], |_| Ask::create(), after::created_without_a_key);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            GET healthz ×3
            POST exec ×2
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            GET healthz
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}

#[test]
fn create_with_env() {
    let flow = Flow::new([before::nothing], |_| after::create_with_env(), after::created_with_env);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            GET healthz ×3
            POST exec ×2
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET cluster/resources
            GET nodes/pve1/KIND/TEMPLATE/config
            POST nodes/pve1/KIND/TEMPLATE/clone
            GET nodes/pve1/KIND/VMID/config ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            POST nodes/pve1/KIND/VMID/agent/exec
            GET nodes/pve1/KIND/VMID/agent/exec-status
            GET healthz
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}

#[test]
fn get_of_a_half_made_one() {
    let flow = Flow::new([before::half_made], |id| Ask::one(id).wait(20), after::polled);
    flow.run(
        &[Kind::Lxc],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            GET healthz ×3
            POST exec ×2
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
    flow.run(
        &[Kind::Qemu],
        expect![[r#"
            GET nodes/pve1/KIND/VMID/config
            GET nodes/pve1/tasks ×2
            GET cluster/resources
            PUT nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/status/start
            GET nodes/pve1/KIND/VMID/config
            POST nodes/pve1/KIND/VMID/agent/ping
            GET nodes/pve1/tasks/UPID/status
            POST nodes/pve1/KIND/VMID/agent/ping
            GET healthz
            PUT nodes/pve1/KIND/VMID/config"#]],
    );
}
