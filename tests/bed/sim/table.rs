//! Every endpoint: who may call it, with which parameters, and what it does.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{
    Sim, clone, config_api, create, destroy, download, guest_api, node_api,
    parameters::{self, CHANGE, CONFIG, CREATE, Check::*, Param, p, q},
    power, qemu,
    reply::{Answer, Fail},
    resize, resources,
    setup::Version,
    snapshot, task_api, template, terminal,
    wire::Call,
};

/// One method on one path.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) rights: Rights,
    pub(crate) parameters: &'static [Param],
    /// What this method takes beside those that it shares with another.
    pub(crate) also: &'static [Param],
    pub(crate) run: Run,
    pub(crate) since: Version,
}

impl Endpoint {
    /// All parameters.
    pub(crate) fn takes(&self) -> impl Iterator<Item = &'static Param> {
        self.parameters.iter().chain(self.also)
    }
}

/// What a handler is: it may wait for a lock since the request's arrival.
pub(crate) type Run = fn(&mut Sim, &Call, OffsetDateTime) -> Answer;

/// What is checked before the parameters are looked at.
pub(crate) enum Rights {
    /// Any login; the handler filters.
    Login,
    /// One of these on `/vms/{vmid}`.
    Vm(&'static [&'static str]),
    /// This on `/nodes/{node}`.
    Node(&'static str),
    /// More than one path.
    Own(fn(&Sim, &Call) -> Result<(), Fail>),
}

/// All of them, but VMs'.
pub(crate) static TABLE: &[Endpoint] = &[
    get("/version", Rights::Login, &[], node_api::version),
    get("/access/permissions", Rights::Login, &[q("path", Text), q("userid", Text)], node_api::permissions),
    get("/access/ticket", Rights::Login, &[], node_api::no_ticket),
    post("/access/ticket", Rights::Login, TICKET, node_api::ticket),
    get("/cluster/resources", Rights::Login, &[q("type", Enum(RESOURCES))], resources::list),
    get("/cluster/nextid", Rights::Login, &[q("vmid", Vmid)], node_api::nextid),
    get("/cluster/options", Rights::Login, &[], node_api::options),
    get(
        "/cluster/status",
        Rights::Own(|s, c| s.require(&c.token, "/", &["Sys.Audit"])),
        &[],
        node_api::status,
    ),
    get("/storage", Rights::Login, &[q("type", Text)], node_api::storage_config),
    get("/nodes", Rights::Login, &[], node_api::nodes),
    get("/nodes/{node}/status", Rights::Node("Sys.Audit"), &[], node_api::node_status),
    get("/nodes/{node}/dns", Rights::Node("Sys.Audit"), &[], node_api::dns),
    get("/nodes/{node}/network", Rights::Login, &[q("type", Enum(NETWORKS))], node_api::network),
    get("/nodes/{node}/storage", Rights::Login, STORAGE, node_api::storage),
    get("/nodes/{node}/tasks", Rights::Login, TASKS, task_api::list),
    get("/nodes/{node}/tasks/{upid}/status", Rights::Login, &[], task_api::status),
    get("/nodes/{node}/tasks/{upid}/log", Rights::Login, LOG, task_api::log),
    get("/nodes/{node}/lxc", Rights::Login, &[], guest_api::list),
    Endpoint { also: CREATE, ..post("/nodes/{node}/lxc", Rights::Login, CONFIG, create::create) },
    get("/nodes/{node}/aplinfo", Rights::Login, &[], download::appliances),
    post("/nodes/{node}/aplinfo", Rights::Own(download::may_store), APPLIANCE, download::appliance),
    get(
        "/nodes/{node}/storage/{storage}/content",
        Rights::Own(download::may_look),
        CONTENT,
        download::content,
    ),
    post(
        "/nodes/{node}/storage/{storage}/download-url",
        Rights::Own(download::may_fetch),
        DOWNLOAD,
        download::url,
    ),
    Endpoint {
        since: Version::V9,
        ..post(
            "/nodes/{node}/storage/{storage}/oci-registry-pull",
            Rights::Own(download::may_pull),
            PULL,
            download::image,
        )
    },
    get("/nodes/{node}/lxc/{vmid}/status/current", Rights::Vm(&["VM.Audit"]), &[], guest_api::current),
    get("/nodes/{node}/lxc/{vmid}/config", Rights::Vm(&["VM.Audit"]), READ, config_api::read),
    get("/nodes/{node}/lxc/{vmid}/feature", Rights::Vm(&["VM.Audit"]), FEATURE, snapshot::feature),
    get("/nodes/{node}/lxc/{vmid}/snapshot", Rights::Vm(&["VM.Audit"]), &[], snapshot::list),
    Endpoint {
        since: Version::V8,
        ..get("/nodes/{node}/lxc/{vmid}/interfaces", Rights::Vm(&["VM.Audit"]), &[], guest_api::interfaces)
    },
    Endpoint {
        also: CHANGE,
        ..put("/nodes/{node}/lxc/{vmid}/config", Rights::Vm(config_api::ANY), CONFIG, config_api::write)
    },
    put("/nodes/{node}/lxc/{vmid}/resize", Rights::Vm(&["VM.Config.Disk"]), RESIZE, resize::resize),
    post("/nodes/{node}/lxc/{vmid}/clone", Rights::Own(clone::rights), CLONE, clone::clone),
    post("/nodes/{node}/lxc/{vmid}/template", Rights::Vm(&["VM.Allocate"]), &[], template::convert),
    post("/nodes/{node}/lxc/{vmid}/snapshot", Rights::Vm(&["VM.Snapshot"]), SNAPSHOT, snapshot::take),
    post(
        "/nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback",
        Rights::Vm(&["VM.Snapshot", "VM.Snapshot.Rollback"]),
        &[q("start", Bool)],
        snapshot::rollback,
    ),
    post(
        "/nodes/{node}/lxc/{vmid}/status/start",
        Rights::Vm(POWER),
        &[q("skiplock", Bool), q("debug", Bool)],
        power::start,
    ),
    post("/nodes/{node}/lxc/{vmid}/status/stop", Rights::Vm(POWER), STOP, power::stop),
    post("/nodes/{node}/lxc/{vmid}/status/shutdown", Rights::Vm(POWER), SHUTDOWN, power::shutdown),
    post(
        "/nodes/{node}/lxc/{vmid}/status/reboot",
        Rights::Vm(POWER),
        &[q("timeout", Int(0, MAX))],
        power::reboot,
    ),
    post("/nodes/{node}/lxc/{vmid}/status/suspend", Rights::Vm(POWER), &[], power::suspend),
    post("/nodes/{node}/lxc/{vmid}/status/resume", Rights::Vm(POWER), &[], power::resume),
    post("/nodes/{node}/lxc/{vmid}/termproxy", Rights::Vm(CONSOLE), &[], terminal::open),
    get("/nodes/{node}/lxc/{vmid}/vncwebsocket", Rights::Vm(CONSOLE), WEBSOCKET, terminal::look),
    delete("/nodes/{node}/lxc/{vmid}", Rights::Vm(&["VM.Allocate"]), DESTROY, destroy::destroy),
    delete(
        "/nodes/{node}/lxc/{vmid}/snapshot/{snapname}",
        Rights::Vm(&["VM.Snapshot"]),
        &[q("force", Bool)],
        snapshot::remove,
    ),
];

const MAX: i64 = i64::MAX;
const POWER: &[&str] = &["VM.PowerMgmt"];
pub(crate) const CONSOLE: &[&str] = &["VM.Console"];
const WEBSOCKET: &[Param] = &[p("port", Int(5900, 5999)), p("vncticket", Chars(512))];
const TICKET: &[Param] = &[
    q("new-format", Bool),
    q("otp", Text),
    p("password", Text),
    q("path", Text),
    q("privs", Text),
    q("realm", Text),
    q("tfa-challenge", Text),
    p("username", Text),
];
const RESOURCES: &[&str] = &["vm", "storage", "node", "sdn"];
const NETWORKS: &[&str] =
    &["bridge", "bond", "eth", "vlan", "vnet", "any_bridge", "any_local_bridge", "include_sdn"];
const STORAGE: &[Param] =
    &[q("content", Text), q("enabled", Bool), q("format", Bool), q("storage", Text), q("target", Text)];
const TASKS: &[Param] = &[
    q("errors", Bool),
    q("limit", Int(0, MAX)),
    q("since", Int(0, MAX)),
    q("source", Enum(&["archive", "active", "all"])),
    q("start", Int(0, MAX)),
    q("statusfilter", Text),
    q("typefilter", Text),
    q("until", Int(0, MAX)),
    q("userfilter", Text),
    q("vmid", Vmid),
];
const LOG: &[Param] =
    &[Param { since: Version::V8, ..q("download", Bool) }, q("limit", Int(0, MAX)), q("start", Int(0, MAX))];
const APPLIANCE: &[Param] = &[p("storage", Text), p("template", Chars(255))];
const CONTENT: &[Param] = &[q("content", Text), q("vmid", Vmid)];
const SUMS: &[&str] = &["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
const DOWNLOAD: &[Param] = &[
    q("checksum", Text),
    q("checksum-algorithm", Enum(SUMS)),
    Param { since: Version::V8, ..q("compression", Text) },
    p("content", Enum(&["iso", "vztmpl", "import"])),
    p("filename", Chars(255)),
    p("url", Url),
    q("verify-certificates", Bool),
];
const PULL: &[Param] = &[q("filename", Chars(255)), p("reference", Reference)];
const READ: &[Param] = &[q("current", Bool), q("snapshot", Name)];
const FEATURE: &[Param] = &[p("feature", Enum(&["snapshot", "clone", "copy"])), q("snapname", Name)];
const RESIZE: &[Param] = &[q("digest", Chars(40)), p("disk", Disk), p("size", Size)];
const SNAPSHOT: &[Param] = &[q("description", Text), p("snapname", Name)];
const STOP: &[Param] = &[q("skiplock", Bool), Param { since: Version::V8, ..q("overrule-shutdown", Bool) }];
const SHUTDOWN: &[Param] = &[q("timeout", Int(0, MAX)), q("forceStop", Bool)];
const DESTROY: &[Param] = &[q("force", Bool), q("purge", Bool), q("destroy-unreferenced-disks", Bool)];
const CLONE: &[Param] = &[
    q("bwlimit", Int(0, MAX)),
    q("description", Text),
    q("full", Bool),
    q("hostname", DnsName),
    p("newid", Vmid),
    q("pool", Text),
    q("snapname", Name),
    q("storage", Text),
    q("target", Text),
];

pub(crate) const fn get(
    path: &'static str,
    rights: Rights,
    parameters: &'static [Param],
    run: Run,
) -> Endpoint {
    Endpoint { method: "GET", path, rights, parameters, also: &[], run, since: Version::V7_4 }
}

pub(crate) const fn put(
    path: &'static str,
    rights: Rights,
    parameters: &'static [Param],
    run: Run,
) -> Endpoint {
    Endpoint { method: "PUT", ..get(path, rights, parameters, run) }
}

pub(crate) const fn post(
    path: &'static str,
    rights: Rights,
    parameters: &'static [Param],
    run: Run,
) -> Endpoint {
    Endpoint { method: "POST", ..get(path, rights, parameters, run) }
}

pub(crate) const fn delete(
    path: &'static str,
    rights: Rights,
    parameters: &'static [Param],
    run: Run,
) -> Endpoint {
    Endpoint { method: "DELETE", ..get(path, rights, parameters, run) }
}

/// Those of containers and of VMs.
pub(crate) fn all() -> impl Iterator<Item = &'static Endpoint> {
    TABLE.iter().chain(qemu::table::QEMU)
}

/// The endpoint of a path, and the values in the path.
pub(crate) fn find(
    method: &str,
    path: &str,
    version: Version,
) -> Option<(&'static Endpoint, BTreeMap<String, String>)> {
    all()
        .filter(|endpoint| endpoint.method == method && endpoint.since <= version)
        .find_map(|endpoint| Some((endpoint, matched(endpoint.path, path)?)))
}

/// PVE's order: path, permission, owner node, parameters, code [pve-manager `HTTPServer.pm`].
pub(crate) fn dispatch(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let Some(endpoint) = call.endpoint else {
        return Err(Fail::not_implemented(&call.method, &call.path));
    };
    if let Some(name) = call.conflicts.first() {
        let text = "duplicate parameter (already defined in URI) with conflicting values!";
        return Err(Fail::parameter(name, text));
    }
    match &endpoint.rights {
        Rights::Login => {}
        Rights::Vm(any) => {
            sim.require(&call.token, &format!("/vms/{}", call.get("vmid").unwrap_or("")), any)?
        }
        Rights::Node(privilege) => {
            sim.require(&call.token, &format!("/nodes/{}", call.node()), &[privilege])?
        }
        Rights::Own(check) => check(sim, call)?,
    }
    sim.forward(call)?;
    parameters::verify(endpoint, call, sim.setup.version)?;
    (endpoint.run)(sim, call, arrived)
}

fn matched(template: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let (mut want, mut have) = (template.split('/'), path.split('/'));
    loop {
        match (want.next(), have.next()) {
            (None, None) => return Some(values),
            (Some(name), Some(value)) if name.starts_with('{') && !value.is_empty() => {
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                values.insert(name.trim_matches(['{', '}']).to_owned(), value.into_owned());
            }
            (Some(a), Some(b)) if a == b => {}
            _ => return None,
        }
    }
}
