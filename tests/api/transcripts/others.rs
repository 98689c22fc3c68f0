//! Everything but creating.

use expect_test::expect;

use super::check;
use crate::stage::prelude::*;

/// Two nodes and one sandbox, a minute old.
fn with_one() -> (Stage, String) {
    let setup = Setup::two_nodes();
    let stage = Stage::on(plain_sim(setup));
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(Duration::minutes(1));
    (stage, id)
}

#[test]
fn get() {
    let (stage, id) = with_one();
    check(
        &stage,
        Ask::one(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET /api2/json/nodes/pve1/lxc/758960/status/current
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

#[test]
fn get_after_a_migration() {
    let (stage, id) = with_one();
    stage.world.sim_mut().migrate(vmid_of(&id), "pve2");
    check(
        &stage,
        Ask::one(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              500 Configuration file 'nodes/pve1/lxc/758960.conf' does not exist
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve2/lxc/758960/config
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve2","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

/// Without a public domain the live address is asked for.
#[test]
fn get_by_address() {
    let (stage, id) = with_one();
    let changes = [("PVE_PUBLIC_DOMAIN", ""), ("PVE_SEARCH_DOMAIN", "lan")];
    let inside = Stage::of(stage.world.clone(), &changes);
    check(
        &inside,
        Ask::one(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            GET /api2/json/nodes/pve1/lxc/758960/status/current
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"http://vm-758960.lan:39380/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"ws://vm-758960.lan:39380/websockify","xterm":"http://vm-758960.lan:39383/","xtermWebsocket":"ws://vm-758960.lan:39383/ws","socketIo":"ws://vm-758960.lan:9776/socket.io/"}}
        "#]],
    );
}

#[test]
fn list() {
    let (stage, _) = with_one();
    check(
        &stage,
        Ask::get("/api/sandboxes?state=running&limit=10"),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            = 200 {"items":[{"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","stateMayBeStale":true,"team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}],"nextCursor":null}
        "#]],
    );
}

#[test]
fn patch() {
    let (stage, id) = with_one();
    let body = json!({"name": "build", "metadata": {"pr": "7"}});
    check(
        &stage,
        Ask::change(&id, body),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767229200.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaecwe5ljnrsacatqoiato description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767229200,"span":3600,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","name":"build","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8},"metadata":{"pr":"7"}} digest=…
              200
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/status/current
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":"build","state":"running","team":"blue","metadata":{"pr":"7"},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T01:00:00Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

/// An expiry that moves by less than a minute leaves the tags as they are.
#[test]
fn extend() {
    let (stage, id) = with_one();
    check(
        &stage,
        Ask::extend(&id, 7200),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767232862.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767232862,"span":7200,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/status/current
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T02:01:02Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
    check(
        &stage,
        Ask::extend(&id, 7210),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config tags=pe1.prod.758960.abuvloiazucki5lym7mn77fb.blue.1767232862.dnrox.0.pve1.1767225602;edge-prod-sandbox;pe1m0-1.aea2qrqbc5yhmzlmpbrv6mlwmnyhkxzrm5rf6odhmjpxmmiaaaaa description=<notes> {"pve-edge":1,"deployment":"prod","vmid":758960,"nonce":"abuvloiazucki5lym7mn77fb","team":"blue","node":"pve1","expires":1767232872,"span":7210,"onExpiry":"delete","want":"on","phase":"ready","wasReady":true,"commands":"execd","changed":1767225602,"secret":"da1a","template":9000,"snapshot":"pvelxc_1vcpu_1gb_8gb_v1","sizes":{"cpu":1,"memory":1024,"disk":8}} digest=…
              200
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/status/current
              200
            = 200 {"id":"pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","provider":"pve-lxc","vmid":758960,"node":"pve1","name":null,"state":"running","team":"blue","metadata":{},"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-01T02:01:12Z","onExpiry":"delete","commands":"execd","capabilities":[],"cpu":1,"memory":1024,"disk":8,"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","templateVmid":9000,"viewers":{"vnc":"https://port-39380-vm-758960.sandbox.test/vnc.html?autoconnect=1&resize=scale","vncWebsocket":"wss://port-39380-vm-758960.sandbox.test/websockify","xterm":"https://port-39383-vm-758960.sandbox.test/","xtermWebsocket":"wss://port-39383-vm-758960.sandbox.test/ws","socketIo":"wss://port-9776-vm-758960.sandbox.test/socket.io/"}}
        "#]],
    );
}

#[test]
fn delete() {
    let (stage, id) = with_one();
    check(
        &stage,
        Ask::end(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config protection=0 digest=…
              200
            DELETE /api2/extjs/nodes/pve1/lxc/758960?force=1&purge=1
              200
            GET /api2/json/nodes/pve1/tasks/<upid>/status
              200
            GET /api2/json/nodes/pve1/tasks/<upid>/status
              200
            = 204 
        "#]],
    );
    check(
        &stage,
        Ask::one(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/tasks?source=active&vmid=758960
              200
            GET /api2/json/nodes/pve1/lxc/758960/config
              500 Configuration file 'nodes/pve1/lxc/758960.conf' does not exist
            GET /api2/json/cluster/resources
              200
            GET /api2/json/nodes/pve1/tasks?source=all&typefilter=vzdestroy&vmid=758960&since=1767225601
              200
            = 404 {"code":"not-found","detail":"there is no sandbox pvelxc-758960-abuvloiazucki5lym7mn77fb-pve1","requestId":"4mmle6qulscxxtj2","retryable":false,"status":404,"title":"No such sandbox, snapshot or template","type":"urn:pve-edge:problem:not-found"}
        "#]],
    );
}

#[test]
fn delete_a_protected_one() {
    let (stage, id) = with_one();
    stage.world.sim_mut().admin_set(vmid_of(&id), "protection", "1");
    check(
        &stage,
        Ask::end(&id),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config protection=0 digest=…
              200
            DELETE /api2/extjs/nodes/pve1/lxc/758960?force=1&purge=1
              200
            GET /api2/json/nodes/pve1/tasks/<upid>/status
              200
            GET /api2/json/nodes/pve1/tasks/<upid>/status
              200
            = 204 
        "#]],
    );
}

#[test]
fn exec() {
    let (stage, id) = with_one();
    let body = json!({"argv": ["echo", "it's"], "cwd": "/tmp", "env": {"A": "b c"}, "timeoutMs": 1000});
    check(
        &stage,
        Ask::act(&id, "exec", body),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            POST port-39375-vm-758960.sandbox.test/exec {"command":"cd '/tmp' || exit 1; exec env HOME=\"${HOME:-/root}\" A='b c' \"$(command -v bash || command -v sh)\" -c ''\\''echo'\\'' '\\''it'\\''\\'\\'''\\''s'\\'''","timeout_ms":1000}
              200
            = 200 {"exitCode":0,"stdout":"'echo' 'it'\\''s'\n","stderr":"","timedOut":false}
        "#]],
    );
}

#[test]
fn exec_with_events() {
    let (stage, id) = with_one();
    check(
        &stage,
        Ask::exec(&id, "ls").header("accept", "text/event-stream"),
        expect![[r#"
            GET /api2/json/nodes/pve1/lxc/758960/config
              200
            POST port-39375-vm-758960.sandbox.test/exec {"command":"exec env HOME=\"${HOME:-/root}\" \"$(command -v bash || command -v sh)\" -c 'ls'","timeout_ms":300000}
              200
            = 200 event: stdout
            data: {"data":"ls\n"}

            event: exit
            data: {"exitCode":0,"timedOut":false}


        "#]],
    );
}

#[test]
fn health_and_config() {
    let (stage, _) = with_one();
    check(
        &stage,
        Ask::get("/api/health/sandbox"),
        expect![[r#"
            GET /api2/json/version
              200
            GET /api2/json/cluster/resources
              200
            GET /api2/json/access/permissions
              200
            GET /api2/json/nodes/pve1/lxc/9000/config
              200
            PUT /api2/extjs/nodes/pve1/lxc/758960/config onboot=0 digest=…
              200 detected modified configuration - file changed by other user? Try again.
            = 200 {"checked":["reads","writes"],"clockSkewSeconds":0,"detected":{"bridge":{"from":"template","value":"vmbr0"},"gateway":{"from":"DHCP","value":null},"node":{"from":"free memory","value":"pve1"},"searchDomain":{"from":"DNS","value":null},"storage":{"from":"free space","value":"local-lvm"}},"execToken":"env","latencyMs":13,"nodes":[{"freeMemoryBytes":59055800320,"node":"pve1","status":"online"},{"freeMemoryBytes":60129542144,"node":"pve2","status":"online"}],"olderSecrets":[],"provider":"pve-lxc","reachable":true,"reasons":[],"status":"healthy","storages":[{"freeBytes":1082331758592,"linkedClones":true,"node":"pve1","shared":false,"storage":"local-lvm","type":"lvmthin"},{"freeBytes":1082331758592,"linkedClones":true,"node":"pve2","shared":false,"storage":"local-lvm","type":"lvmthin"}],"templates":[{"lock":null,"node":"pve1","snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","vmid":9000}],"unmarkedGuestsInRange":0,"version":"9.1.9","warnings":[]}
        "#]],
    );
    check(
        &stage,
        Ask::get("/api/config/sandbox"),
        expect![[r#"
            GET /api2/json/cluster/resources
              200
            = 200 {"capabilities":{"exec":true,"gateway":true,"gpu":false,"hibernate":false,"metadata":true,"rollback":true,"snapshots":true,"streamingExec":true,"ttl":true},"defaultPresetId":"1vcpu_1gb_8gb","portUrl":"https://port-{port}-vm-{vmid}.sandbox.test","presets":[{"cpu":1,"disk":8,"label":"1 vCPU, 1 GB memory, 8 GB disk","memory":1024,"presetId":"1vcpu_1gb_8gb","versions":[{"snapshotId":"pvelxc_1vcpu_1gb_8gb_v1","version":1}]}],"provider":"pve-lxc","providerDisplayName":"Proxmox LXC","serverOrigin":null}
        "#]],
    );
}
