//! Creating.

use expect_test::expect;

use super::{check, difference};
use crate::stage::prelude::*;

#[test]
fn cold() {
    check(
        &Stage::new(),
        Ask::create(),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/9000/config
              200
            POST /api2/extjs/nodes/pve1/lxc/9000/clone newid=758960 hostname=vm-758960 description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"claimed","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} full=0
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnc.0.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-758960 cores=1 memory=1024 cmode=shell env=CMUX_EXECD_AUTH_TOKEN=<64 hex> net0=name=eth0,bridge=vmbr0,hwaddr=5E:06:F4:BD:86:F5,ip=dhcp,type=veth
              200
            POST /api2/extjs/nodes/pve1/lxc/758960/status/start
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET port-39375-vm-758960.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-758960.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-758960.sandbox.test/healthz
              200
            POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              401
            POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            = 201 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

/// The clone's description, in full: what an administrator sees in the Notes tab.
#[test]
fn the_notes() {
    let stage = Stage::new();
    let body = json!({"name": "<b>*x*", "metadata": {"pr": "#7"}, "onExpiry": "stop", "ttlSeconds": 60});
    stage.ask(Ask::sandbox(body));
    let sim = stage.world.sim();
    let notes = sim.guests().find_map(|it| it.config.description.clone()).unwrap_or_default();
    expect![[r##"
        <!-- pve-edge -->
        **Sandbox \<b\>\*x\***, made by pve-edge

        - team: blue
        - deployment: prod
        - expires: 2026-01-01 00:01 UTC, then it is stopped
        - [vscode](https://port-39378-vm-758960.sandbox.test)
        - [worker](https://port-39377-vm-758960.sandbox.test)
        - [xterm](https://port-39383-vm-758960.sandbox.test)
        - [exec](https://port-39375-vm-758960.sandbox.test)
        - [vnc](https://port-39380-vm-758960.sandbox.test)
        - [preview](https://port-5173-vm-758960.sandbox.test)
        <!-- /pve-edge -->

        {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767225660,"span":60,"onExpiry":"stop","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","name":"<b>*x*","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8},"metadata":{"pr":"#7"}}"##]].assert_eq(&notes);
}

fn on_version(version: Version, hookscript: &str) -> Stage {
    let mut sim = Sim::new(Setup { version, ..Setup::default() });
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("hookscript", hookscript));
    echo(&mut sim);
    Stage::on(sim)
}

#[test]
fn before_pve_9_the_token_travels_in_the_notes() {
    let differs = [Version::V8, Version::V7_4].map(|version| {
        difference(&Stage::new(), &on_version(version, "local:snippets/hook.sh"), Ask::create())
    });
    assert_eq!(differs[0], differs[1]);
    expect![[r#"
        +  200 Parameter verification failed.
        +PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnc.0.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> cmux-execd-auth-token=<64 hex>\n{"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-758960 cores=1 memory=1024 cmode=shell net0=name=eth0,bridge=vmbr0,hwaddr=5E:06:F4:BD:86:F5,ip=dhcp,type=veth
        -PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
        +PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> cmux-execd-auth-token=<64 hex>\n{"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
    "#]].assert_eq(&differs[0]);
}

#[test]
fn on_pve_8_without_a_hookscript_what_answers_decides() {
    let stage = on_version(Version::V8, "");
    let differs = difference(&Stage::new(), &stage, Ask::create());
    expect![[r#"
        +  200 Parameter verification failed.
        +PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnc.0.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-758960 cores=1 memory=1024 cmode=shell net0=name=eth0,bridge=vmbr0,hwaddr=5E:06:F4:BD:86:F5,ip=dhcp,type=veth
        -POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
        -  401
        -POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
        +GET /api2/json/nodes/pve1/lxc/758960/config
        -PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
        +PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dfe.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"off","phase":"error","changed":1767225602,"template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8},"problem":"exec-token-not-applied: this PVE has no `env` option (it came with 9.1) and the template has no hookscript that hands execd its token: put pve-edge-guest into the template, which needs no token, or update PVE, or on the node run pct set TEMPLATE --hookscript local:snippets/cmux-lxc-execd-token-hook.sh as root"} digest=…
        -= 201 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        +POST /api2/extjs/nodes/pve1/lxc/758960/status/stop
        +  200
        += 502 {"code":"exec-token-not-applied","detail":"this PVE has no `env` option (it came with 9.1) and the template has no hookscript that hands execd its token: put pve-edge-guest into the template, which needs no token, or update PVE, or on the node run pct set TEMPLATE --hookscript local:snippets/cmux-lxc-execd-token-hook.sh as root; sandbox pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1: it is kept as `error` until it expires or is deleted","requestId":"75wsi4hsjku33cdf","retryable":false,"sandboxId":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","status":502,"title":"The exec token did not reach the sandbox","type":"urn:pve-edge:problem:exec-token-not-applied","undo":"it is kept as `error` until it expires or is deleted"}
    "#]].assert_eq(&differs);
    stage.world.settle();
    assert!(stage.world.sim().guests().all(|it| it.run.is_none()));
}

#[test]
fn a_larger_disk() {
    let mut sim = Sim::new(Setup::default().without_mount_protection());
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).disk("4G"));
    echo(&mut sim);
    check(
        &Stage::on(sim),
        Ask::create(),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/9000/config
              200
            POST /api2/extjs/nodes/pve1/lxc/9000/clone newid=758960 hostname=vm-758960 description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"claimed","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} full=0
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnc.0.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-758960 cores=1 memory=1024 cmode=shell env=CMUX_EXECD_AUTH_TOKEN=<64 hex> net0=name=eth0,bridge=vmbr0,hwaddr=5E:06:F4:BD:86:F5,ip=dhcp,type=veth
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/resize disk=rootfs size=8G
              200
            GET /api2/json/nodes/pve1/tasks/<upid>/status
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            POST /api2/extjs/nodes/pve1/lxc/758960/status/start
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET port-39375-vm-758960.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-758960.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-758960.sandbox.test/healthz
              200
            POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              401
            POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225603;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225603,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            = 201 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

#[test]
fn an_address_of_the_pool() {
    let changes = [
        ("PVE_IP_POOL_CIDR", "10.50.0.0/29"),
        ("PVE_GATEWAY", "10.50.0.1"),
        ("PVE_IP_RESERVED", "10.50.0.2"),
        ("PVE_BRIDGE", "vmbr7"),
    ];
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &changes);
    check(
        &stage,
        Ask::create(),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/9000/config
              200
            POST /api2/extjs/nodes/pve1/lxc/9000/clone newid=200002 hostname=vm-200002 description=<notes> {"pve-edge":1,"deployment":"prod","vmid":200002,"nonce":"abuvloiazucki5jhtoruv3a7","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"claimed","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} full=0
              200
            GET /api2/json/nodes/pve1/lxc/200002/config
              200
            GET /api2/json/nodes/pve1/lxc/200002/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/200002/config tags=pe1.prod.200002.abuvloiazucki5jhtoruv3a7.blue.1767229200.dnc.0.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":200002,"nonce":"abuvloiazucki5jhtoruv3a7","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-200002 cores=1 memory=1024 cmode=shell env=CMUX_EXECD_AUTH_TOKEN=<64 hex> net0=name=eth0,bridge=vmbr7,hwaddr=62:A9:D6:4A:1B:C4,ip=10.50.0.3/29,type=veth,gw=10.50.0.1
              200
            POST /api2/extjs/nodes/pve1/lxc/200002/status/start
              200
            GET /api2/json/nodes/pve1/lxc/200002/config
              200
            GET gate.sandbox.test/healthz
            GET gate.sandbox.test/healthz
            GET gate.sandbox.test/healthz
              200
            POST gate.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              401
            POST gate.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              200
            PUT /api2/extjs/nodes/pve1/lxc/200002/config tags=pe1.prod.200002.abuvloiazucki5jhtoruv3a7.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":200002,"nonce":"abuvloiazucki5jhtoruv3a7","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            = 201 {"id":"pvelxc-200002-abuvloiazucki5jhtoruv3a7-pve1","provider":"pve-lxc","vmid":200002,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-200002.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-200002.sandbox.test/websockify","xterm":"https://port-39383-vm-200002.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-200002.sandbox.test/ws","socketIo":"wss://port-9776-vm-200002.sandbox.test/socket.io/"}}
        "#]],
    );
}

#[test]
fn a_replay() {
    let stage = Stage::new();
    check(
        &stage,
        Ask::create_keyed("k1"),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/9000/config
              200
            POST /api2/extjs/nodes/pve1/lxc/9000/clone newid=311483 hostname=vm-311483 description=<notes> {"pve-edge":1,"deployment":"prod","vmid":311483,"nonce":"abuvloiazucki5l4d4vgekwu","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"claimed","key":"xfhr435u","body":"c85f67701c0c2d5c9dfec7c01c757065","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} full=0
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            GET /api2/json/cluster/resources
              200
            PUT /api2/extjs/nodes/pve1/lxc/311483/config tags=pe1.prod.311483.abuvloiazucki5l4d4vgekwu.blue.1767229200.dnc.xfhr435u.pve1.1767225601;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":311483,"nonce":"abuvloiazucki5l4d4vgekwu","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"committed","changed":1767225601,"key":"xfhr435u","body":"c85f67701c0c2d5c9dfec7c01c757065","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=… protection=1 onboot=0 hostname=vm-311483 cores=1 memory=1024 cmode=shell env=CMUX_EXECD_AUTH_TOKEN=<64 hex> net0=name=eth0,bridge=vmbr0,hwaddr=06:5B:12:6E:47:F6,ip=dhcp,type=veth
              200
            POST /api2/extjs/nodes/pve1/lxc/311483/status/start
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            GET port-39375-vm-311483.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-311483.sandbox.test/healthz
            ! connection refused
            GET port-39375-vm-311483.sandbox.test/healthz
              200
            POST port-39375-vm-311483.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              401
            POST port-39375-vm-311483.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c ':'","timeout_ms":5000}
              200
            PUT /api2/extjs/nodes/pve1/lxc/311483/config tags=pe1.prod.311483.abuvloiazucki5l4d4vgekwu.blue.1767229200.dnrox.xfhr435u.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":311483,"nonce":"abuvloiazucki5l4d4vgekwu","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"key":"xfhr435u","body":"c85f67701c0c2d5c9dfec7c01c757065","secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            = 201 {"id":"pvelxc-311483-abuvloiazucki5l4d4vgekwu-pve1","provider":"pve-lxc","vmid":311483,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-311483.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-311483.sandbox.test/websockify","xterm":"https://port-39383-vm-311483.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-311483.sandbox.test/ws","socketIo":"wss://port-9776-vm-311483.sandbox.test/socket.io/"}}
        "#]],
    );
    stage.world.advance(Duration::minutes(1));
    check(
        &stage,
        Ask::create_keyed("k1"),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=311483
              200
            GET /api2/json/nodes/pve1/lxc/311483/status/current
              200
            = 200 {"id":"pvelxc-311483-abuvloiazucki5l4d4vgekwu-pve1","provider":"pve-lxc","vmid":311483,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-311483.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-311483.sandbox.test/websockify","xterm":"https://port-39383-vm-311483.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-311483.sandbox.test/ws","socketIo":"wss://port-9776-vm-311483.sandbox.test/socket.io/"}}
        "#]],
    );
    let other = Ask::sandbox(json!({"name": "x"})).header("idempotency-key", "k1");
    check(
        &stage,
        other,
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/lxc/311483/config
              200
            = 409 {"code":"idempotency-conflict","detail":"this Idempotency-Key made something from another request; use a new key for a new request","requestId":"4mmle6qulscxxtj2","retryable":false,"status":409,"title":"The Idempotency-Key was used for another request","type":"urn:pve-edge:problem:idempotency-conflict"}
        "#]],
    );
}

#[test]
fn the_template_is_busy() {
    let stage = Stage::new();
    stage.world.sim_mut().setup_mut().clone_secs = Duration::seconds(100);
    let first = stage.ask(Ask::create().wait(1));
    assert_eq!(first.shows(), "202 creating");
    check(
        &stage,
        Ask::create().wait(2),
        expect![[r#"
        GET /api2/json/cluster/resources
          200
        GET /api2/json/nodes/pve1/lxc/9000/config
          200
        GET /api2/json/nodes/pve1/lxc/9000/config
          200
        GET /api2/json/nodes/pve1/lxc/9000/config
          200
        = 503 {"code":"template-busy","detail":"template 9000 was being cloned by others all the time, and PVE makes one clone of a container at a time; nothing was made, ask again","requestId":"zhqo42sn3prdo74y","retryable":true,"status":503,"title":"The template is being cloned by others","type":"urn:pve-edge:problem:template-busy"}
    "#]],
    );
}
