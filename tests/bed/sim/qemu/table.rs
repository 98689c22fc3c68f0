//! Endpoints of VMs; those that are like a container's lead to the same code.

use super::{
    agent, clone, config, memory,
    parameters::{ASYNC, CONFIG, DISKS},
    resize,
};
use crate::sim::{
    Version, config_api, destroy, guest_api,
    parameters::{Check::*, Param, p, q},
    power, snapshot,
    table::{CONSOLE, Endpoint, Rights, delete, get, post, put},
    template, terminal,
};

/// All of them.
pub(crate) static QEMU: &[Endpoint] = &[
    get("/nodes/{node}/qemu", Rights::Login, &[q("full", Bool)], guest_api::list),
    get("/nodes/{node}/qemu/{vmid}/status/current", AUDIT, &[], guest_api::current),
    get("/nodes/{node}/qemu/{vmid}/config", AUDIT, READ, config_api::read),
    get("/nodes/{node}/qemu/{vmid}/pending", AUDIT, &[], config::pending),
    get("/nodes/{node}/qemu/{vmid}/feature", AUDIT, FEATURE, snapshot::feature),
    get("/nodes/{node}/qemu/{vmid}/snapshot", AUDIT, &[], snapshot::list),
    get(
        "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config",
        Rights::Vm(&["VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"]),
        &[],
        snapshot::read,
    ),
    put(
        "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config",
        SNAP,
        &[q("description", Text)],
        snapshot::describe,
    ),
    put("/nodes/{node}/qemu/{vmid}/config", Rights::Vm(config::ANY), CONFIG, config_api::write),
    Endpoint {
        also: ASYNC,
        ..post("/nodes/{node}/qemu/{vmid}/config", Rights::Vm(config::ANY), CONFIG, config::write_async)
    },
    put("/nodes/{node}/qemu/{vmid}/resize", Rights::Vm(&["VM.Config.Disk"]), RESIZE, resize::resize),
    post("/nodes/{node}/qemu/{vmid}/clone", Rights::Own(crate::sim::clone::rights), CLONE, clone::clone),
    post(
        "/nodes/{node}/qemu/{vmid}/template",
        Rights::Vm(&["VM.Allocate"]),
        &[q("disk", Enum(DISKS))],
        template::convert,
    ),
    post("/nodes/{node}/qemu/{vmid}/snapshot", SNAP, SNAPSHOT, snapshot::take),
    post(
        "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback",
        Rights::Vm(&["VM.Snapshot", "VM.Snapshot.Rollback"]),
        &[q("start", Bool)],
        snapshot::rollback,
    ),
    delete("/nodes/{node}/qemu/{vmid}/snapshot/{snapname}", SNAP, &[q("force", Bool)], snapshot::remove),
    post("/nodes/{node}/qemu/{vmid}/status/start", POWER, START, power::start),
    post("/nodes/{node}/qemu/{vmid}/status/stop", POWER, STOP, power::stop),
    post("/nodes/{node}/qemu/{vmid}/status/shutdown", POWER, SHUTDOWN, power::shutdown),
    post("/nodes/{node}/qemu/{vmid}/status/reboot", POWER, &[q("timeout", Int(0, MAX))], power::reboot),
    post("/nodes/{node}/qemu/{vmid}/status/suspend", POWER, SUSPEND, memory::suspend),
    post("/nodes/{node}/qemu/{vmid}/status/resume", POWER, RESUME, memory::resume),
    post("/nodes/{node}/qemu/{vmid}/termproxy", Rights::Vm(CONSOLE), TERMINAL, terminal::open),
    delete("/nodes/{node}/qemu/{vmid}", Rights::Vm(&["VM.Allocate"]), DESTROY, destroy::destroy),
    post("/nodes/{node}/qemu/{vmid}/agent/ping", Rights::Own(agent::audit), &[], agent::ping),
    get(
        "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces",
        Rights::Own(agent::audit),
        &[],
        agent::interfaces,
    ),
    post("/nodes/{node}/qemu/{vmid}/agent/exec", Rights::Own(agent::unrestricted), EXEC, agent::exec),
    get(
        "/nodes/{node}/qemu/{vmid}/agent/exec-status",
        Rights::Own(agent::unrestricted),
        &[p("pid", Int(i64::MIN, MAX))],
        agent::exec_status,
    ),
    post("/nodes/{node}/qemu/{vmid}/agent/file-write", Rights::Own(agent::writing), WRITE, agent::file_write),
    get("/nodes/{node}/qemu/{vmid}/agent/file-read", Rights::Own(agent::reading), FILE, agent::file_read),
];

const MAX: i64 = i64::MAX;
const AUDIT: Rights = Rights::Vm(&["VM.Audit"]);
const SNAP: Rights = Rights::Vm(&["VM.Snapshot"]);
const POWER: Rights = Rights::Vm(&["VM.PowerMgmt"]);
const READ: &[Param] = &[q("current", Bool), q("snapshot", Name)];
const FEATURE: &[Param] = &[p("feature", Enum(&["snapshot", "clone", "copy"])), q("snapname", Name)];
const RESIZE: &[Param] =
    &[q("digest", Chars(40)), p("disk", Enum(DISKS)), p("size", Size), q("skiplock", Bool)];
const SNAPSHOT: &[Param] = &[q("description", Text), p("snapname", Name), q("vmstate", Bool)];
const EXEC: &[Param] = &[p("command", Text), q("input-data", Chars(64 << 10))];
const WRITE: &[Param] = &[p("content", Chars(60 << 10)), q("encode", Bool), p("file", Text)];
const FILE: &[Param] = &[
    Param { since: Version::V9, ..q("count", Int(1, 16 << 20)) },
    Param { since: Version::V9, ..q("decode", Bool) },
    p("file", Text),
    Param { since: Version::V9, ..q("offset", Int(0, MAX)) },
];
const TERMINAL: &[Param] = &[q("serial", Enum(&["serial0", "serial1", "serial2", "serial3"]))];
const SUSPEND: &[Param] = &[q("skiplock", Bool), q("statestorage", Text), q("todisk", Bool)];
const RESUME: &[Param] = &[q("nocheck", Bool), q("skiplock", Bool)];
const SHUTDOWN: &[Param] =
    &[q("forceStop", Bool), q("keepActive", Bool), q("skiplock", Bool), q("timeout", Int(0, MAX))];
const STOP: &[Param] = &[
    q("keepActive", Bool),
    q("migratedfrom", Text),
    Param { since: Version::V8, ..q("overrule-shutdown", Bool) },
    q("skiplock", Bool),
    q("timeout", Int(0, MAX)),
];
const START: &[Param] = &[
    q("force-cpu", Text),
    q("machine", Text),
    q("migratedfrom", Text),
    q("migration_network", Text),
    q("migration_type", Enum(&["secure", "insecure"])),
    Param { since: Version::V9, ..q("nets-host-mtu", Text) },
    q("skiplock", Bool),
    q("stateuri", Chars(128)),
    q("targetstorage", Text),
    q("timeout", Int(0, MAX)),
    Param { since: Version::V9, ..q("with-conntrack-state", Bool) },
];
const DESTROY: &[Param] = &[q("destroy-unreferenced-disks", Bool), q("purge", Bool), q("skiplock", Bool)];
const CLONE: &[Param] = &[
    q("bwlimit", Int(0, MAX)),
    q("description", Text),
    q("format", Enum(&["raw", "qcow2", "vmdk"])),
    q("full", Bool),
    q("name", DnsName),
    p("newid", Vmid),
    q("pool", Text),
    q("snapname", Name),
    q("storage", Text),
    q("target", Text),
];
