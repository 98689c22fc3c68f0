//! `GET /api/health/sandbox`: each reason, what it says, and that it goes away with its cause.

mod privileges;
mod road;

use http::HeaderMap;
use pve_edge_bed::sim::Reply;
use pve_edge_core::io::{Failure, NetError, Sent};

use crate::stage::prelude::*;

/// Every change of a cluster that a test makes, and takes back.
type Change = fn(&mut Sim);

fn health() -> Ask {
    Ask::get("/api/health/sandbox")
}

/// What the findings of a list say, a line each.
fn told(answer: &Answer, list: &str) -> String {
    let findings = answer.json()[list].as_array().cloned().unwrap_or_default();
    let lines =
        findings.iter().map(|it| format!("{}: {}\n", it["code"].as_str().unwrap_or(""), it["detail"]));
    lines.collect()
}

/// Requests of a health check where nothing has to be looked for: three, one for each template on a node
/// that is online, and a write where a sandbox shows whether those get through.
fn usual(report: &Value) -> usize {
    let online = |node: &Value| {
        report["nodes"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it["node"] == *node && it["status"] == "online"))
    };
    let templates = report["templates"].as_array().into_iter().flatten();
    let wrote = report["checked"].as_array().is_some_and(|it| it.len() == 2);
    3 + templates.take(8).filter(|it| online(&it["node"])).count() + usize::from(wrote)
}

/// All is well, and no more requests than usual told it; where a bridge is set, one for each node with a template.
fn assert_green(stage: &Stage) -> Value {
    let (answer, requests) = stage.counted(health());
    assert_eq!((answer.status, told(&answer, "reasons")), (200, String::new()), "{answer:?}");
    let report = answer.json();
    let bridge = usize::from(report["detected"]["bridge"]["from"] == "PVE_BRIDGE");
    assert_eq!(requests, usual(&report) + bridge, "{}", stage.told());
    report
}

fn assert_red(stage: &Stage, code: &str, says: &str) -> Answer {
    let answer = stage.ask(health());
    let reasons = told(&answer, "reasons");
    let found = reasons.lines().any(|it| it.starts_with(&format!("{code}: ")) && it.contains(says));
    assert!(answer.status == 503 && found, "no {code} with {says:?}:\n{reasons}{answer:?}");
    answer
}

#[test]
fn a_few_requests_when_all_is_well() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in BOTH {
            let mut setup = Setup { version, ..Setup::two_nodes() };
            setup.storages.push(Storage { shared: true, ..Storage::new("ceph", StorageKind::ZfsPool) });
            setup.nodes.push(Node { online: false, ..Node::new("pve3") });
            let stage = Stage::of_kind(kind, World::new(sim_of(kind, setup), 7), &[]);
            if kind == Kind::Lxc && version < Version::V9 {
                // It may have our own daemon, which needs none.
                let warned = told(&stage.ask(health()), "warnings");
                assert!(warned.contains("template 9000 has no hookscript"), "{warned}");
                stage.world.sim_mut().admin_set(TEMPLATE, "hookscript", "local:snippets/hook.sh");
            }
            let report = assert_green(&stage);
            assert_eq!(report["warnings"], json!([]), "{report}");
            assert_eq!((&report["reachable"], report["latencyMs"].is_u64()), (&json!(true), true));
            stage.ask(Ask::create());
            assert_green(&stage);
        }
    }
}

#[test]
fn the_cluster() {
    let cases: [(&str, &str, Change, Change); 9] = [
        (
            "node-offline",
            "no node of the cluster is online",
            |sim| ["pve1", "pve2"].map(|it| sim.set_online(it, false)).into_iter().collect(),
            |sim| ["pve1", "pve2"].map(|it| sim.set_online(it, true)).into_iter().collect(),
        ),
        (
            "node-offline",
            "every node that has a template is offline",
            |sim| sim.set_online("pve1", false),
            |sim| sim.set_online("pve1", true),
        ),
        (
            "template-not-found",
            "pct set VMID --tags pvelxc_",
            |sim| sim.admin_set(TEMPLATE, "tags", "other"),
            |sim| sim.admin_set(TEMPLATE, "tags", SNAPSHOT),
        ),
        // A template of VMs serves no creation that says nothing.
        (
            "template-not-found",
            "no template of pve-lxc",
            |sim| {
                sim.admin_set(TEMPLATE, "tags", "other");
                sim.add(Spec::vm_template(VM_TEMPLATE).tags("pvevm_1vcpu_1gb_8gb_v1"));
            },
            |sim| sim.admin_set(TEMPLATE, "tags", SNAPSHOT),
        ),
        (
            "linked-clone-unsupported",
            "content rootdir",
            |sim| sim.setup_mut().storages[0].kind = StorageKind::Dir,
            |sim| sim.setup_mut().storages[0].kind = StorageKind::LvmThin,
        ),
        (
            "linked-clone-unsupported",
            "content rootdir",
            |sim| sim.setup_mut().storages[0].content = "images,iso".into(),
            |sim| sim.setup_mut().storages[0].content = "rootdir".into(),
        ),
        (
            "linked-clone-unsupported",
            "/storage/STORAGE",
            |sim| sim.set_storage_enabled("local-lvm", false),
            |sim| sim.set_storage_enabled("local-lvm", true),
        ),
        (
            "linked-clone-unsupported",
            "no node with a template has a storage",
            |sim| sim.setup_mut().storages[0].nodes = ["pve2".to_owned()].into(),
            |sim| sim.setup_mut().storages[0].nodes.clear(),
        ),
        (
            "index-full",
            "EDGE_TAG_BUDGET",
            |sim| sim.admin_set(TEMPLATE, "tags", &format!("{SNAPSHOT};{}", "x".repeat(720 << 10))),
            |sim| sim.admin_set(TEMPLATE, "tags", SNAPSHOT),
        ),
    ];
    for (code, says, breaks, mends) in cases {
        let stage = Stage::on(plain_sim(Setup::two_nodes()));
        assert_green(&stage);
        breaks(&mut stage.world.sim_mut());
        assert_red(&stage, code, says);
        mends(&mut stage.world.sim_mut());
        assert_green(&stage);
    }
}

#[test]
fn settings_that_the_cluster_does_not_know() {
    let world = World::new(plain_sim(Setup::two_nodes()), 7);
    for (name, wrong, right, code) in
        [("PVE_NODE", "pve7", "pve2", "node-offline"), ("PVE_STORAGE", "tank", "local-lvm", "misconfigured")]
    {
        assert_red(&Stage::of(world.clone(), &[(name, wrong)]), code, &format!("{name} names {wrong}"));
        assert_green(&Stage::of(world.clone(), &[(name, right)]));
    }
    world.sim_mut().set_online("pve2", false);
    assert_red(&Stage::of(world.clone(), &[("PVE_NODE", "pve2")]), "node-offline", "which is offline");
    world.sim_mut().set_online("pve2", true);
    assert_green(&Stage::of(world, &[("PVE_NODE", "pve2")]));
}

/// Nothing else is told then, and it says from where it was asked.
#[test]
fn the_way_to_pve() {
    for (fault, code, says) in [
        (Fault::NeverSent, "pve-unreachable", "tunnel"),
        (Fault::Silent, "pve-timeout", "slow"),
        (Fault::Refused(401, String::new()), "pve-unauthorized", "PVE_API_TOKEN"),
        (Fault::Refused(595, "No route to host".into()), "node-offline", ""),
    ] {
        let stage = Stage::new();
        stage.world.fault_if(move |_| Some(fault.clone()));
        let report = assert_red(&stage, code, says).json();
        assert_eq!(
            (&report["reachable"], &report["platform"]),
            (&json!(false), &json!("workers")),
            "{report}"
        );
        stage.world.clear_faults();
        assert_green(&stage);
    }
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &[("PVE_API_URL", "https://tls.test")]);
    stage.world.route("tls.test", |_| {
        let detail = "self-signed certificate".into();
        Err(NetError { sent: Sent::Never, failure: Failure::Tls, detail })
    });
    assert_red(&stage, "pve-tls", "certificate");
    // The listing, or the rights alone.
    for part in ["resources", "permissions"] {
        let stage = Stage::new();
        stage.world.fault_if(move |it| it.path.contains(part).then(|| Fault::Refused(596, String::new())));
        assert_eq!(assert_red(&stage, "node-offline", "").json()["reachable"], true);
    }
}

/// What stands before PVE lets reads through and no writes.
#[test]
fn writes_that_do_not_get_through() {
    let stage = Stage::new();
    assert_eq!(assert_green(&stage)["checked"], json!(["reads"]));
    let id = stage.ask(Ask::create()).id();
    let before = stage.world.sim().snapshot_of(|_| true);
    assert_eq!(assert_green(&stage)["checked"], json!(["reads", "writes"]));
    assert_eq!(stage.world.sim().snapshot_of(|_| true), before, "it changed something");
    for fault in [Fault::Page(403), Fault::Page(302), Fault::Page(429), Fault::Page(502)] {
        stage.world.fault_if(move |it| it.is_write().then(|| fault.clone()));
        assert_red(&stage, "pve-bad-answer", "from nginx/1.26");
        stage.world.clear_faults();
    }
    // One that PVE works on shows nothing: another one, or only reads.
    stage.world.sim_mut().set_lock(crate::stage::vmid_of(&id), Some("backup"));
    assert_eq!(assert_green(&stage)["checked"], json!(["reads"]));
}

#[test]
fn clocks_that_differ() {
    let stage = Stage::new();
    for (ahead, reason, warning) in [(0, 0, 0), (3, 0, 0), (10, 0, 1), (-10, 0, 1), (45, 1, 0), (-45, 1, 0)] {
        stage.world.set_ahead(Duration::seconds(ahead));
        let answer = stage.ask(health());
        let report = answer.json();
        let count = |list: &str| report[list].as_array().map_or(0, Vec::len);
        assert_eq!((count("reasons"), count("warnings")), (reason, warning), "{ahead}: {report}");
        let skew = report["clockSkewSeconds"].as_i64().expect("PVE says what time it is");
        assert!((skew + ahead).abs() <= 1, "{ahead}: {skew}");
        let which = if ahead > 0 { "behind" } else { "ahead of" };
        let said = told(&answer, "reasons") + &told(&answer, "warnings");
        assert!(reason + warning == 0 || said.contains("clock-skew") && said.contains(which), "{said}");
    }
    stage.world.set_ahead(Duration::ZERO);
    assert_green(&stage);
}

/// Where neither a domain nor a pool tells them, addresses come from PVE, since 8.1.
#[test]
fn versions_that_are_too_old_for_what_is_used() {
    let setup = Setup { version: Version::V7_4, ..Setup::default() };
    let world = World::new(plain_sim(setup), 7);
    world.sim_mut().admin_set(TEMPLATE, "hookscript", "local:snippets/hook.sh");
    let inside = Stage::of(world.clone(), &[("PVE_PUBLIC_DOMAIN", "")]);
    assert_red(&inside, "pve-unsupported", "8.1");
    assert_green(&Stage::of(world.clone(), &[]));
    // A name in the network is shown to people, and nothing is sent to it.
    let named = Stage::of(world.clone(), &[("PVE_PUBLIC_DOMAIN", ""), ("PVE_SEARCH_DOMAIN", "lan")]);
    assert_red(&named, "pve-unsupported", "8.1");
    let pool =
        [("PVE_PUBLIC_DOMAIN", ""), ("PVE_IP_POOL_CIDR", "10.50.0.0/24"), ("PVE_GATEWAY", "10.50.0.1")];
    assert_eq!(Stage::of(world.clone(), &pool).ask(health()).status, 200);
    world.sim_mut().setup_mut().version = Version::V8;
    assert_eq!(inside.ask(health()).status, 200);
    // An agent tells a VM's on any version.
    let setup = Setup { version: Version::V7_4, ..Setup::default() };
    let world = World::new(sim_of(Kind::Qemu, setup), 7);
    let vms = Stage::of_kind(Kind::Qemu, world, &[("PVE_PUBLIC_DOMAIN", "")]);
    assert_eq!(vms.ask(health()).status, 200);
    // Older than anything that is supported.
    let ancient = World::new(plain_sim(Setup::default()), 7);
    ancient.route("ancient.test", |request| {
        let data = match request.uri().path() {
            "/api2/json/version" => json!({"version": "6.4-15"}),
            "/api2/json/cluster/resources" => json!([]),
            _ => json!({"/": {"VM.Audit": 1}}),
        };
        let body = json!({ "data": data }).to_string().into_bytes();
        let (reason, headers) = (String::new(), HeaderMap::new());
        Ok(Reply { status: 200, reason, headers, body, delay: Duration::ZERO })
    });
    let stage = Stage::of(ancient, &[("PVE_API_URL", "https://ancient.test")]);
    let answer = assert_red(&stage, "pve-unsupported", "6.4 is too old");
    assert_eq!(answer.json()["clockSkewSeconds"], Value::Null);
}

#[test]
fn a_pool_without_a_gateway() {
    let world = World::new(plain_sim(Setup { bridge_address: "10.50.0.1/24".into(), ..Setup::default() }), 7);
    let pool = ("PVE_IP_POOL_CIDR", "10.50.0.0/24");
    let stage = Stage::of(world.clone(), &[pool]);
    let red = assert_red(&stage, "misconfigured", "PVE_GATEWAY=10.50.0.1").json();
    assert_eq!(red["detected"]["gateway"], json!({"value": "10.50.0.1", "from": "bridge"}));
    // It is set, and nothing has to be looked for.
    let set = assert_green(&Stage::of(world.clone(), &[pool, ("PVE_GATEWAY", "10.50.0.254")]));
    assert_eq!(set["detected"]["gateway"], json!({"value": "10.50.0.254", "from": "PVE_GATEWAY"}));
    // The bridge's own gateway comes before its address; one of another network is none.
    world.sim_mut().setup_mut().bridge_gateway = Some("10.50.0.9".into());
    assert_red(&stage, "misconfigured", "PVE_GATEWAY=10.50.0.9");
    let net0 = |gateway: &str| format!("name=eth0,bridge=vmbr0,ip=10.50.0.200/24,gw={gateway}");
    world.sim_mut().admin_set(TEMPLATE, "net0", &net0("192.168.0.1"));
    assert_red(&stage, "misconfigured", "template 9000 has no gateway of that network");
    // Nobody has one: a network of its own may be what is wanted.
    world.sim_mut().setup_mut().bridge_gateway = None;
    world.sim_mut().setup_mut().bridge_address = "192.168.0.1/24".into();
    let answer = stage.ask(health());
    assert_eq!((answer.status, told(&answer, "warnings").contains("no way out")), (200, true), "{answer:?}");
    // One that no sandbox can get does no harm but that.
    world.sim_mut().setup_mut().bridge_address = "10.50.0.1/24".into();
    let reserved = Stage::of(world.clone(), &[pool, ("PVE_IP_RESERVED", "10.50.0.1")]).ask(health());
    assert!(
        reserved.status == 200 && told(&reserved, "warnings").contains("PVE_GATEWAY=10.50.0.1"),
        "{reserved:?}"
    );
    assert_red(&stage, "misconfigured", "PVE_GATEWAY=10.50.0.1");
    // The template has one.
    world.sim_mut().admin_set(TEMPLATE, "net0", &net0("10.50.0.3"));
    let (answer, requests) = stage.counted(health());
    assert_eq!((answer.status, requests), (200, 4), "{answer:?}");
    assert_eq!(answer.json()["detected"]["gateway"], json!({"value": "10.50.0.3", "from": "template"}));
}

/// A bridge that is set and is not there, on one of the nodes that serve.
#[test]
fn a_bridge_that_does_not_exist() {
    for kind in BOTH {
        let stage =
            Stage::of_kind(kind, World::new(sim_of(kind, Setup::default()), 7), &[("PVE_BRIDGE", "vmbr7")]);
        assert_red(
            &stage,
            "misconfigured",
            "PVE_BRIDGE names vmbr7, and node pve1 has no such bridge; it has: vmbr0",
        );
        stage.world.sim_mut().setup_mut().bridges.push("vmbr7".into());
        assert_green(&stage);
    }
}

/// What is detected, and that each setting comes before it.
#[test]
fn what_is_detected() {
    let small = Storage { total: 1 << 38, ..Storage::new("small", StorageKind::ZfsPool) };
    let wide =
        Storage { total: 1 << 42, content: "images".into(), ..Storage::new("wide", StorageKind::LvmThin) };
    let mut setup = Setup::two_nodes();
    setup.nodes[0].memory.1 = 60 << 30;
    setup.storages.extend([small, wide]);
    let mut sim = plain_sim(setup);
    sim.add(Spec::template(9001).tags(SNAPSHOT).node("pve2"));
    let world = World::new(sim, 7);
    let detected = |changes: &[(&str, &str)]| {
        let (answer, requests) = Stage::of(world.clone(), changes).counted(health());
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.json()["detected"].clone(), requests - usual(&answer.json()))
    };
    let (found, requests) = detected(&[]);
    assert_eq!(found["node"], json!({"value": "pve2", "from": "free memory"}));
    assert_eq!(found["storage"], json!({"value": "local-lvm", "from": "free space"}));
    assert_eq!(requests, 0);
    let inside = ("PVE_PUBLIC_DOMAIN", "");
    let (found, requests) = detected(&[inside]);
    assert_eq!((&found["searchDomain"], requests), (&json!({"value": "lan", "from": "DNS"}), 1));
    for (name, value, field) in [
        ("PVE_NODE", "pve1", "node"),
        ("PVE_STORAGE", "small", "storage"),
        ("PVE_BRIDGE", "vmbr0", "bridge"),
        ("PVE_GATEWAY", "10.0.0.1", "gateway"),
        ("PVE_SEARCH_DOMAIN", "home.arpa", "searchDomain"),
    ] {
        // A gateway is a pool's.
        let pool = (name == "PVE_GATEWAY").then_some(("PVE_IP_POOL_CIDR", "10.0.0.0/24"));
        let changes: Vec<_> = pool.into_iter().chain([(name, value)]).collect();
        let (found, requests) = detected(&changes);
        // A bridge is looked for on both nodes.
        let more = if field == "bridge" { 2 } else { 0 };
        assert_eq!((&found[field], requests), (&json!({"value": value, "from": name}), more));
    }
}
