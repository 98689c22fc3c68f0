//! Where a sandbox is reached: public domain, then FQDN, then its address.

use crate::stage::prelude::*;

const INSIDE: (&str, &str) = ("PVE_PUBLIC_DOMAIN", "");

fn created(kind: Kind, changes: &[(&str, &str)]) -> (Stage, Answer) {
    let stage = Stage::of_kind(kind, World::new(sim_of(kind, Setup::default()), 7), changes);
    let answer = stage.ask(Ask::create().wait(25));
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
    let services: Vec<Value> = table
        .map(|(name, port)| json!({"name": name, "port": port, "url": base(port), "visibility": "private"}))
        .collect();
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
    for kind in BOTH {
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
        assert_eq!(stage.ask(stop.wait(25)).status, 200);
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

/// Before 8.1 PVE tells no address of a container, and a name may be anybody's: nothing is sent to it.
#[test]
fn no_token_where_pve_tells_no_address() {
    let world = || {
        let mut sim = sim_of(Kind::Lxc, Setup { version: Version::V7_4, ..Setup::default() });
        sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("hookscript", "local:snippets/hook.sh"));
        World::new(sim, 7)
    };
    let stage = Stage::of(world(), &[INSIDE, ("PVE_SEARCH_DOMAIN", "lan")]);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.refusal(), "502 pve-unsupported", "{answer:?}");
    assert_eq!(hosts_of_execd(&stage), [] as [String; 0]);
    // The pool's address is in the config.
    let stage = Stage::of(world(), &[INSIDE, ("PVE_IP_POOL_CIDR", "10.50.0.0/24")]);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(stage.ask(Ask::exec(&answer.id(), "true")).status, 200);
}

/// Hosts that were sent a token or a command, each once.
fn hosts_of_execd(stage: &Stage) -> Vec<String> {
    let requests = stage.world.requests();
    let sent = requests.iter().filter(|it| !it.path.starts_with("/api2/"));
    let mut hosts: Vec<String> = sent.map(|it| it.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Only the card that PVE gave the guest has its address, whatever else the guest makes for itself.
#[test]
fn nothing_is_sent_to_an_address_that_is_not_proved_to_be_the_guests() {
    for kind in BOTH {
        let inner = [("docker0", "172.17.0.1/16"), ("br-1", "10.9.9.9/24")];
        let inner_interfaces = inner.map(|(name, cidr)| (name.to_owned(), cidr.to_owned())).to_vec();
        let sim = sim_of(kind, Setup { inner_interfaces, ..Setup::default() });
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[INSIDE]);
        let answer = stage.ask(Ask::create().wait(25));
        assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
        let vmid = vmid_of(&answer.id());
        let address = stage.world.sim().guest(vmid).and_then(|it| Some(it.run.as_ref()?.address)).unwrap();
        assert_served(&stage.ask(Ask::one(&answer.id())), kind, |port| format!("http://{address}:{port}"));
        // A name is shown, and gets nothing.
        let named = stage.beside("named", &[INSIDE, ("PVE_SEARCH_DOMAIN", "lan")]);
        assert_served(&named.ask(Ask::one(&answer.id())), kind, |port| {
            format!("http://vm-{vmid}.lan:{port}")
        });
        assert_eq!(named.ask(Ask::exec(&answer.id(), "true")).status, 200);
        // A VM is asked whether our own daemon is in it, too.
        let expected = [format!("{address}:39375")];
        assert_eq!(hosts_of_execd(&stage), expected);
        // With no address of its own it has none.
        let net0 = stage.world.sim().guest(vmid).unwrap().config.get("net0").unwrap().to_owned();
        let mac = net0.split(',').find_map(|it| it.split_once('=').filter(|it| it.1.len() == 17)).unwrap().1;
        let other = net0.replace(mac, "BC:24:11:FF:FF:FF");
        stage.world.sim_mut().setup_mut().inner_interfaces.clear();
        stage.world.sim_mut().admin_set(vmid, "net0", &other.replace("BC:24:11:FF:FF:FF", ""));
        let shown = stage.ask(Ask::one(&answer.id())).json();
        assert_eq!(shown["services"][0]["url"], Value::Null, "{shown}");
        if kind == Kind::Lxc {
            let refused = stage.ask(Ask::exec(&answer.id(), "true"));
            assert_eq!(refused.refusal(), "502 exec-unreachable", "{refused:?}");
            assert_eq!(hosts_of_execd(&stage), expected);
        }
    }
}

/// Settings decide at creation: what exists keeps its address, and no other gets it.
#[test]
fn settings_move_no_address_of_a_sandbox_that_exists() {
    for kind in BOTH {
        let pool = ("PVE_IP_POOL_CIDR", "10.50.0.0/28");
        let (stage, first) = created(kind, &[INSIDE, pool]);
        let url =
            |answer: &Answer| answer.json()["services"][0]["url"].as_str().unwrap_or_default().to_owned();
        let address = |answer: &Answer| url(answer)["http://".len()..].split(':').next().unwrap().to_owned();
        let own = address(&first);
        let others: Vec<String> = (1..15).map(|it| format!("10.50.0.{it}")).filter(|it| *it != own).collect();
        let now: [&[(&str, &str)]; 4] = [
            &[INSIDE, pool, ("PVE_GATEWAY", &others[0])],
            &[INSIDE, pool, ("PVE_GATEWAY", &others[0]), ("PVE_IP_RESERVED", &others[1..4].join(" "))],
            &[INSIDE, pool, ("PVE_IP_RESERVED", &own)],
            &[INSIDE],
        ];
        let mut taken = vec![own.clone()];
        for (nth, settings) in now.iter().enumerate() {
            let changed = stage.beside(["a", "b", "c", "d"][nth], settings);
            let shown = changed.ask(Ask::one(&first.id()));
            assert_eq!(address(&shown), own, "{settings:?}: {shown:?}");
            assert_eq!(changed.ask(Ask::exec(&first.id(), "true")).status, 200);
            // Nor does any change of it, a start included.
            let restart = |what: &str| Ask::post(format!("/api/sandboxes/{}/{what}", first.id()), json!({}));
            for what in ["stop", "start"] {
                let answer = changed.ask(restart(what).wait(25));
                assert_eq!(answer.status, 200, "{what}: {answer:?}");
                stage.world.settle();
            }
            let shown = changed.ask(Ask::one(&first.id()));
            assert_eq!(address(&shown), own, "{settings:?}: {shown:?}");
            // A listing reads no config: it tells nothing that it does not know.
            let listed = changed.ask(Ask::get("/api/sandboxes")).json();
            assert_eq!(listed["items"][0]["services"][0]["url"], Value::Null, "{listed}");
            let another = changed.ask(Ask::create().wait(25));
            assert_eq!(another.status, 201, "{settings:?}: {another:?}");
            taken.push(address(&another));
            assert!(nth != 1 || !others[..4].contains(taken.last().unwrap()), "{taken:?}");
        }
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 5, "{taken:?}");
    }
}

/// A key draws the same VMIDs whatever is reserved: its sandbox is found again.
#[test]
fn a_key_finds_its_sandbox_whatever_is_reserved_since() {
    let pool = ("PVE_IP_POOL_CIDR", "10.50.0.0/29");
    let stage = Stage::of(World::new(sim_of(Kind::Lxc, Setup::default()), 7), &[INSIDE, pool]);
    let keyed = |stage: &Stage, key: &str| stage.ask(Ask::create_keyed(key).wait(25));
    let first = keyed(&stage, "k");
    assert_eq!(first.status, 201, "{first:?}");
    let all = "10.50.0.1-10.50.0.5";
    let reserved = stage.beside("r", &[INSIDE, pool, ("PVE_IP_RESERVED", all)]);
    let again = keyed(&reserved, "k");
    assert_eq!((again.status, again.id()), (200, first.id()), "{again:?}");
    // The one address that is left is given, to whichever key asks.
    let taken = vmid_of(&first.id());
    let last = keyed(&reserved, "another");
    let none = taken == 200_005;
    assert_eq!(last.status, if none { 503 } else { 201 }, "{last:?}");
    if !none {
        assert_eq!(vmid_of(&last.id()), 200_005);
    }
    assert_eq!(keyed(&reserved, "a third").code(), "no-free-vmid");
}

/// A template of a sandbox keeps the gateway that its network card cannot.
#[test]
fn a_promoted_snapshot_keeps_the_gateway() {
    for kind in BOTH {
        let (line, network) = match kind {
            Kind::Lxc => ("net0", "name=eth0,bridge=vmbr0,ip=10.50.0.9/24,gw=10.50.0.3"),
            Kind::Qemu => ("ipconfig0", "ip=10.50.0.9/24,gw=10.50.0.3"),
        };
        let template = if kind == Kind::Lxc { TEMPLATE } else { crate::stage::VM_TEMPLATE };
        let mut sim = sim_of(kind, Setup::default());
        sim.admin_set(template, line, network);
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[("PVE_IP_POOL_CIDR", "10.50.0.0/24")]);
        let mut id = stage.ask(Ask::create().wait(25)).id();
        // A template of a template's sandbox, too.
        for nth in 0..2 {
            let promote = json!({"promote": {"preset": "2vcpu_2gb_8gb"}});
            let path = format!("/api/sandboxes/{id}/snapshots");
            let taken = stage.ask(Ask::post(path, promote).by("ops").wait(25));
            assert!(matches!(taken.status, 201 | 202), "{nth}: {taken:?}");
            let snapshot = taken.snapshot_id();
            for _ in 0..40 {
                stage.world.advance(time::Duration::seconds(2));
                let path = format!("/api/snapshots/{snapshot}");
                if stage.ask(Ask::get(path).by("ops")).json()["status"] == "ready" {
                    break;
                }
            }
            stage.world.settle();
            let made = taken.json()["templateVmid"].as_u64().and_then(|it| u32::try_from(it).ok()).unwrap();
            let sim = stage.world.sim();
            let net = sim.guest(made).and_then(|it| it.config.get(line)).unwrap_or_default().to_owned();
            drop(sim);
            assert!(net.contains("ip=dhcp") && !net.contains("gw="), "{net}");
            let body = json!({"templateVmid": made});
            let child = stage.ask(Ask::sandbox(body).by("ops").wait(25));
            assert_eq!(child.status, 201, "{kind:?} {nth}: {child:?}\n{}", stage.told());
            id = child.id();
            let sim = stage.world.sim();
            let net =
                sim.guest(vmid_of(&id)).and_then(|it| it.config.get(line)).unwrap_or_default().to_owned();
            assert!(net.contains("gw=10.50.0.3") && net.contains("ip=10.50.0."), "{kind:?} {nth}: {net}");
        }
        let health = stage.ask(Ask::get("/api/health/sandbox"));
        assert_eq!(health.status, 200, "{health:?}");
        assert!(!health.body.contains("no gateway"), "{health:?}");
    }
}

/// No two sandboxes have one address on a further card either, and health tells of the template.
#[test]
fn further_cards_have_no_static_address() {
    for kind in BOTH {
        let (template, line) = match kind {
            Kind::Lxc => (TEMPLATE, "net1"),
            Kind::Qemu => (crate::stage::VM_TEMPLATE, "ipconfig1"),
        };
        let mut sim = sim_of(kind, Setup::default());
        let card = if kind == Kind::Lxc { "name=eth1,bridge=vmbr0," } else { "" };
        let fixed = format!("{card}ip=10.60.0.9/24,gw=10.60.0.1,ip6=fd00::9/64");
        sim.admin_set(template, line, &fixed);
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
        let answer = stage.ask(Ask::create().wait(25));
        assert_eq!(answer.status, 201, "{answer:?}");
        let sim = stage.world.sim();
        let net = sim.guest(vmid_of(&answer.id())).and_then(|it| it.config.get(line)).unwrap_or_default();
        assert!(
            net.contains("ip=dhcp") && !net.contains("10.60") && !net.contains("fd00"),
            "{kind:?}: {net}"
        );
        drop(sim);
        let health = stage.ask(Ask::get("/api/health/sandbox"));
        let warnings = health.json()["warnings"].to_string();
        assert!(health.status == 200 && warnings.contains(line) && warnings.contains("DHCP"), "{health:?}");
    }
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
    for kind in BOTH {
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
            let answer = stage.ask(Ask::create().wait(25));
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
        assert_eq!(answer.refusal(), "503 no-free-vmid", "{answer:?}");
        // What is set comes first.
        let mut sim = sim_of(kind, Setup::default());
        sim.admin_set(template, line, network);
        let changes = [("PVE_IP_POOL_CIDR", "10.50.0.0/29"), ("PVE_GATEWAY", "10.50.0.1")];
        let stage = Stage::of_kind(kind, World::new(sim, 7), &changes);
        let answer = stage.ask(Ask::create().wait(25));
        let sim = stage.world.sim();
        let net = sim
            .guest(vmid_of(&answer.id()))
            .and_then(|it| it.config.get(line))
            .unwrap_or_default()
            .to_owned();
        assert!(net.contains("gw=10.50.0.1"), "{net}");
    }
}

#[test]
fn no_two_sandboxes_get_their_templates_ipv6_address() {
    let net0 = "name=eth0,bridge=vmbr0,ip=10.0.0.9/24,gw=10.0.0.1,ip6=fd00::9/64,gw6=fd00::1,tag=7";
    let stage = Stage::from_template(Spec::template(TEMPLATE).set("net0", net0));
    let id = stage.created(json!({}));
    let sim = stage.world.sim();
    let net0 = sim.guest(vmid_of(&id)).unwrap().config.get("net0").unwrap();
    assert!(net0.contains("ip=dhcp") && net0.contains("tag=7") && !net0.contains("fd00::"), "{net0}");
}
