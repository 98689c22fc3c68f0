//! Where a sandbox is reached: public domain, then FQDN, then its address.

use pve_edge_tests::{
    sim::{Kind, Setup, Spec, Version},
    world::World,
};
use serde_json::{Value, json};

use crate::stage::{Answer, Ask, SNAPSHOT, Stage, TEMPLATE, sim_of, vmid_of};

const INSIDE: (&str, &str) = ("PVE_PUBLIC_DOMAIN", "");

fn created(kind: Kind, changes: &[(&str, &str)]) -> (Stage, Answer) {
    let stage = Stage::of_kind(kind, World::new(sim_of(kind, Setup::default()), 7), changes);
    let answer = stage.ask(Ask::create().header("prefer", "wait=25"));
    assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
    (stage, answer)
}

/// The services' URLs, by name, are those of `base` with each port.
fn assert_served(answer: &Answer, kind: Kind, base: impl Fn(u16) -> String) {
    let table = [
        ("vscode", 39378),
        ("worker", 39377),
        ("xterm", 39383),
        ("exec", 39375),
        ("vnc", 39380),
        ("preview", 5173),
    ];
    // No exec daemon listens in a VM.
    let table = table.into_iter().filter(|(name, _)| kind == Kind::Lxc || *name != "exec");
    let services: Vec<Value> =
        table.map(|(name, port)| json!({"name": name, "port": port, "url": base(port)})).collect();
    let sandbox = answer.json();
    assert_eq!(sandbox["services"], Value::from(services));
    let socket = |port: u16| base(port).replacen("http", "ws", 1);
    let viewers = json!({
        "vnc": base(39380) + "/vnc.html?autoconnect=1&resize=scale",
        "vncWebsocket": socket(39380) + "/websockify",
        "xterm": base(39383) + "/",
        "xtermWebsocket": socket(39383) + "/ws",
        "socketIo": socket(9776) + "/socket.io/",
    });
    assert_eq!(sandbox["viewers"], viewers);
}

#[test]
fn the_chain() {
    for kind in [Kind::Lxc, Kind::Qemu] {
        let both = [
            ("PVE_SEARCH_DOMAIN", "lan"),
            ("PVE_IP_POOL_CIDR", "10.50.0.0/16"),
            ("PVE_GATEWAY", "10.50.0.1"),
        ];
        // A public domain comes before all else.
        let (stage, answer) = created(kind, &both);
        let vmid = vmid_of(&answer.id());
        let public = |port| format!("https://port-{port}-vm-{vmid}.sandbox.test");
        assert_served(&answer, kind, public);
        assert_served(&stage.ask(Ask::one(&answer.id())), kind, public);
        // Then the name in the network's DNS.
        let (_, answer) = created(kind, &[INSIDE, both[0], both[1], both[2]]);
        let vmid = vmid_of(&answer.id());
        assert_served(&answer, kind, |port| format!("http://vm-{vmid}.lan:{port}"));
        // Then the address that the pool gave it, which nobody has to ask for.
        let (stage, answer) = created(kind, &[INSIDE, both[1], both[2]]);
        let address =
            stage.world.sim().guest(vmid_of(&answer.id())).and_then(|it| Some(it.run.as_ref()?.address));
        let address = address.expect("it runs");
        assert!(address.octets()[..2] == [10, 50], "{address}");
        assert_served(&answer, kind, |port| format!("http://{address}:{port}"));
        assert!(stage.world.requests().iter().all(|it| !it.path.contains("interfaces")), "{}", stage.told());
        // Then the one that DHCP gave it.
        let (stage, answer) = created(kind, &[INSIDE]);
        let address =
            stage.world.sim().guest(vmid_of(&answer.id())).and_then(|it| Some(it.run.as_ref()?.address));
        let address = address.expect("it runs");
        assert_served(&answer, kind, |port| format!("http://{address}:{port}"));
        assert_eq!(stage.ask(Ask::exec(&answer.id(), "true")).status, 200);
        // What does not run has none.
        let stop = Ask::post(format!("/api/sandboxes/{}/stop", answer.id()), json!({}));
        assert_eq!(stage.ask(stop.header("prefer", "wait=25")).status, 200);
        stage.world.settle();
        let stopped = stage.ask(Ask::one(&answer.id())).json();
        assert_eq!(
            (&stopped["services"][0]["url"], stopped.get("viewers")),
            (&Value::Null, None),
            "{stopped}"
        );
    }
}

/// The guest's own search domain is as good as the setting.
#[test]
fn by_the_guests_own_search_domain() {
    let mut sim = sim_of(Kind::Lxc, Setup::default());
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("searchdomain", "home.arpa lan"));
    let stage = Stage::of(World::new(sim, 7), &[INSIDE]);
    let answer = stage.ask(Ask::create());
    let vmid = vmid_of(&answer.id());
    assert_served(&answer, Kind::Lxc, |port| format!("http://vm-{vmid}.home.arpa:{port}"));
}

/// Before 8.1 PVE tells no address of a container; the names still serve.
#[test]
fn by_name_where_pve_tells_no_address() {
    let setup = Setup { version: Version::V7_4, ..Setup::default() };
    let mut sim = sim_of(Kind::Lxc, setup);
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("hookscript", "local:snippets/hook.sh"));
    let stage = Stage::of(World::new(sim, 7), &[INSIDE, ("PVE_SEARCH_DOMAIN", "lan")]);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(stage.ask(Ask::exec(&answer.id(), "true")).status, 200);
}

#[test]
fn what_the_config_tells_a_client() {
    let origin = ("NEXT_PUBLIC_SERVER_ORIGIN", "https://cmux-server.example.com");
    let config = |changes: &[(&str, &str)]| {
        let world = World::new(sim_of(Kind::Lxc, Setup::default()), 7);
        Stage::of(world, changes).ask(Ask::get("/api/config/sandbox")).json()
    };
    let told = config(&[origin]);
    assert_eq!(told["serverOrigin"], origin.1);
    assert_eq!(told["portUrl"], "https://port-{port}-vm-{vmid}.sandbox.test");
    let ports: Vec<_> = told["services"].as_array().into_iter().flatten().map(|it| &it["port"]).collect();
    assert_eq!(ports, [39378, 39377, 39383, 39375, 39380, 5173]);
    let told = config(&[("PVE_PUBLIC_DOMAIN", "http://localhost:8787")]);
    assert_eq!(told["portUrl"], "http://port-{port}-vm-{vmid}.localhost:8787");
    assert_eq!(config(&[INSIDE])["portUrl"], Value::Null);
}

/// With no PVE_GATEWAY it is the template's, and nobody gets that address for its own.
#[test]
fn the_gateway_of_the_pool() {
    for kind in [Kind::Lxc, Kind::Qemu] {
        let (line, network) = match kind {
            Kind::Lxc => ("net0", "name=eth0,bridge=vmbr0,ip=10.50.0.9/29,gw=10.50.0.3"),
            Kind::Qemu => ("ipconfig0", "ip=10.50.0.9/29,gw=10.50.0.3"),
        };
        let template = if kind == Kind::Lxc { TEMPLATE } else { crate::stage::VM_TEMPLATE };
        let mut sim = sim_of(kind, Setup::default());
        sim.admin_set(template, line, network);
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[("PVE_IP_POOL_CIDR", "10.50.0.0/29")]);
        let mut taken = Vec::new();
        for nth in 0..5 {
            let answer = stage.ask(Ask::create().header("prefer", "wait=25"));
            assert_eq!(answer.status, 201, "{kind:?} {nth}: {answer:?}\n{}", stage.told());
            let sim = stage.world.sim();
            let guest = sim.guest(vmid_of(&answer.id())).expect("it is there");
            let net = guest.config.get(line).unwrap_or_default();
            assert!(net.contains("gw=10.50.0.3") && !net.contains("ip=10.50.0.3/"), "{net}");
            taken.push(guest.run.as_ref().map(|it| it.address));
        }
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 5);
        // The sixth would have been the gateway.
        let answer = stage.ask(Ask::create());
        assert_eq!((answer.status, answer.code()), (503, "no-free-vmid".into()), "{answer:?}");
        // What is set comes first.
        let mut sim = sim_of(kind, Setup::default());
        sim.admin_set(template, line, network);
        let changes = [("PVE_IP_POOL_CIDR", "10.50.0.0/29"), ("PVE_GATEWAY", "10.50.0.1")];
        let stage = Stage::of_kind(kind, World::new(sim, 7), &changes);
        let answer = stage.ask(Ask::create().header("prefer", "wait=25"));
        let sim = stage.world.sim();
        let net = sim
            .guest(vmid_of(&answer.id()))
            .and_then(|it| it.config.get(line))
            .unwrap_or_default()
            .to_owned();
        assert!(net.contains("gw=10.50.0.1"), "{net}");
    }
}
