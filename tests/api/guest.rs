//! Sandboxes with the project's own daemon in them: their identity, their keys, and what makes one ready.

use pve_edge_guest_protocol::{identity::HardwareAddress, keys::EdgeKey};

use crate::stage::{SECRET, guests::committed, keys_of, prelude::*};

const KEYS: &str = "/etc/pve-edge/keys";

fn stage(kind: Kind) -> Stage {
    Stage::with_daemon(kind, Setup::default(), SECRET)
}

/// The hardware address by which the daemon knows the sandbox.
fn address_of(id: &str) -> String {
    let without_node: Vec<&str> = id.splitn(4, '-').take(3).collect();
    HardwareAddress::of("prod", &without_node.join("-")).to_string()
}

fn restarted(stage: &Stage, id: &str) -> Answer {
    assert_eq!(stage.act(id, "stop", json!({})).status, 200);
    stage.act(id, "start", json!({}))
}

fn file(stage: &Stage, id: &str, path: &str) -> String {
    stage.guest(id).and_then(|it| it.file(path).map(str::to_owned)).unwrap_or_default()
}

/// Requests to the daemons of guests so far: path and answer are not PVE's.
fn asked(stage: &Stage) -> Vec<String> {
    let all = stage.world.requests();
    all.into_iter().filter(|it| !it.path.starts_with("/api2/")).map(|it| it.path).collect()
}

/// On any PVE, without `env` and without a hookscript.
#[test]
fn a_sandbox_needs_neither_env_nor_a_hookscript() {
    for (version, kind) in [
        (Version::V7_4, Kind::Lxc),
        (Version::V8, Kind::Lxc),
        (Version::V9, Kind::Lxc),
        (Version::V8, Kind::Qemu),
        (Version::V9, Kind::Qemu),
    ] {
        let stage = Stage::with_daemon(kind, Setup { version, ..Setup::default() }, SECRET);
        let made = stage.ask(Ask::create());
        assert_eq!(made.shows(), "201 running", "{version:?} {kind:?} {made:?}\n{}", stage.told());
        let id = made.id();
        assert_eq!(made.json()["commands"], "guest");
        let can = made.json()["capabilities"].as_array().cloned().unwrap_or_default();
        assert!(can.contains(&json!("pty")) && can.contains(&json!("exactBytes")), "{can:?}");
        assert!(stage.config(&id, "net0").contains(&address_of(&id)), "{}", stage.config(&id, "net0"));
        let listed = stage.ask(Ask::get("/api/sandboxes")).json();
        assert_eq!(listed["items"][0]["commands"], "guest");
        // A restart changes nothing, and asks for no more than that it is up.
        let started = restarted(&stage, &id);
        assert_eq!(started.outcome(), "200 started running", "{started:?}\n{}", stage.told());
    }
}

/// The first sandbox of a template finds out what is in it; those of its snapshots know.
#[test]
fn snapshots_hand_on_what_is_in_them() {
    let stage = stage(Kind::Lxc);
    let id = stage.created(json!({}));
    let taken = stage.act(&id, "snapshots", json!({}));
    stage.world.settle();
    let snapshot = taken.snapshot_id();
    stage.ready(&snapshot);
    let template = committed(&stage.guest(&snapshot).expect("it is there")).expect("ours");
    assert_eq!(template.guest_keys, committed(&stage.guest(&id).expect("one")).expect("ours").guest_keys);
    assert_eq!(template.guest_keys.len(), 1);
    assert!(!stage.config(&snapshot, "net0").contains(&address_of(&id)));
    let before = asked(&stage).len();
    let other = stage.created(json!({"snapshotId": snapshot}));
    assert_eq!(stage.config(&other, "env"), "", "no token is made for it");
    let mut asked = asked(&stage).split_off(before);
    asked.dedup();
    assert_eq!(asked, ["/healthz", "/v1/hello", "/v1/read"], "the former's environment is looked for");
    assert!(stage.config(&other, "net0").contains(&address_of(&other)));
}

#[test]
fn creating_takes_no_more_requests_than_with_another_daemon() {
    let cost = |stage: Stage| {
        let (answer, pve) = stage.counted(Ask::create());
        assert_eq!(answer.status, 201, "{answer:?}");
        pve
    };
    assert_eq!(cost(stage(Kind::Lxc)), cost(Stage::with(Kind::Lxc)));
    assert_eq!(cost(stage(Kind::Qemu)), cost(Stage::with(Kind::Qemu)));
}

/// The secret is rotated: each start brings the keys up to date, and a removed one ends there.
#[test]
fn a_start_brings_the_keys_up_to_date() {
    let new = "n".repeat(32);
    let other = EdgeKey::new(&[7; 32]).line("other");
    let stage = stage(Kind::Lxc);
    stage.world.sim_mut().set_keys(TEMPLATE, &format!("{}{other}\n", keys_of(SECRET)));
    let id = stage.created(json!({}));
    assert_eq!(file(&stage, &id, KEYS), format!("{}{other}\n", keys_of(SECRET)), "nothing was to be written");
    let both = format!("{new} {SECRET}");
    let mine = |secrets: &str| format!("{}{other}\n", keys_of(secrets));
    let rotated = stage.beside("rotated", &[("EDGE_SECRET", &both)]);
    assert_eq!(restarted(&rotated, &id).state(), "running", "{}", stage.told());
    assert_eq!(file(&stage, &id, KEYS), mine(&both));
    // The next call is signed with the newest, and so is that of a sandbox that was made since.
    let young = rotated.ask(Ask::create()).id();
    let only_new = stage.beside("new", &[("EDGE_SECRET", &new)]);
    assert_eq!(restarted(&only_new, &young).state(), "running", "{}", stage.told());
    assert_eq!(file(&stage, &young, KEYS), mine(&new));
}

/// A template whose keys are all unlisted is refused before PVE is asked to clone it.
#[test]
fn a_template_that_nobody_can_reach_is_refused_before_the_clone() {
    let new = "n".repeat(32);
    let stage = stage(Kind::Lxc);
    let id = stage.created(json!({}));
    let body = json!({"promote": {"preset": "2vcpu_1gb_8gb"}});
    let taken = stage.ask(Ask::act(&id, "snapshots", body).by("ops"));
    stage.world.settle();
    stage.ask(Ask::snapshot(&taken.snapshot_id()).by("ops").wait(20));
    let lost = stage.beside("lost", &[("EDGE_SECRET", &new)]);
    let clones = || stage.world.requests().iter().filter(|it| it.path.ends_with("/clone")).count();
    let before = clones();
    let answer = lost.ask(Ask::sandbox(json!({"preset": "2vcpu_1gb_8gb"})));
    assert_eq!(answer.refusal(), "502 guest-keys", "{answer:?}");
    assert!(answer.body.contains("install.sh"), "{answer:?}");
    assert_eq!(clones(), before);
    // Of a template by hand its first sandbox tells it.
    let answer = lost.ask(Ask::sandbox(json!({"templateVmid": TEMPLATE})));
    assert_eq!(answer.refusal(), "502 guest-keys", "{answer:?}\n{}", stage.told());
}

#[test]
fn a_daemon_that_obeys_anybody_is_stopped() {
    let key = "k";
    let vmid = vmid_of(&stage(Kind::Lxc).ask(Ask::create_keyed(key)).id());
    let stage = stage(Kind::Lxc);
    stage.world.fault_if(move |seen| {
        (seen.path == "/v1/hello" && seen.host.contains(&vmid.to_string()))
            .then(|| Fault::Refused(200, "{}".into()))
    });
    let answer = stage.ask(Ask::create_keyed(key));
    assert_eq!(answer.refusal(), "502 exec-unprotected", "{answer:?}\n{}", stage.told());
    stage.world.settle();
    assert!(stage.world.sim().guest(vmid).is_some_and(|it| it.run.is_none()));
}

/// An administrator's hand changes the hardware address, or two guests have one IP address.
#[test]
fn who_takes_itself_for_another_is_told_by_its_address() {
    let stage = stage(Kind::Lxc);
    let id = stage.created(json!({}));
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    let theirs = "BC:24:11:00:00:01";
    let net0 = stage.config(&id, "net0").replace(&address_of(&id), theirs);
    stage.world.sim_mut().admin_set(vmid_of(&id), "net0", &net0);
    let answer = stage.act(&id, "start", json!({}));
    assert_eq!(answer.refusal(), "502 guest-identity", "{answer:?}\n{}", stage.told());
    assert!(answer.body.contains(theirs) && answer.body.contains(&address_of(&id)), "{answer:?}");

    // A thief of an address sees calls that it cannot obey, and is not taken for the sandbox.
    let pool = [("PVE_PUBLIC_DOMAIN", ""), ("PVE_IP_POOL_CIDR", "10.0.0.0/8"), ("PVE_GATEWAY", "10.0.0.1")];
    let stage = Stage::of(stage.world.clone(), &pool);
    let made = stage.created(json!({}));
    let ip = stage.guest(&made).and_then(|it| it.run).expect("it runs").address;
    let net0 = format!("name=eth0,bridge=vmbr0,ip={ip}/8");
    let thief = Spec::guest(150_000).set("net0", &net0).with_daemon(&keys_of(SECRET)).running();
    stage.world.sim_mut().add(thief);
    let answer = restarted(&stage, &made);
    assert_eq!(answer.refusal(), "502 guest-identity", "{answer:?}\n{}", stage.told());
    assert!(answer.body.contains("another guest's"), "{answer:?}");
}

/// The environment goes into a file once, and what the owner makes of it stays.
#[test]
fn the_environment_is_written_once() {
    let stage = stage(Kind::Lxc);
    let path = "/etc/pve-edge/env";
    let id = stage.created(json!({"env": {"A": "it's mine"}}));
    let written = file(&stage, &id, path);
    assert!(written.starts_with("# pve-edge ") && written.ends_with("\nA='it'\\''s mine'\n"), "{written}");
    let put = |id: &str, text: &str| stage.world.sim_mut().put_file(vmid_of(id), path, text);
    put(&id, &format!("{written}B=1\n"));
    assert_eq!(restarted(&stage, &id).state(), "running");
    assert_eq!(file(&stage, &id, path), format!("{written}B=1\n"));
    // Another sandbox's file on the disk is replaced, or goes; that of the template's maker stays.
    let theirs = "# pve-edge aaaaaaaaaaaaaaaaaaaaaaaa\nA=theirs\n";
    put(&id, theirs);
    assert_eq!(restarted(&stage, &id).state(), "running");
    assert_eq!(file(&stage, &id, path), written);
    let taken = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.world.settle();
    stage.ready(&taken);
    let without = stage.created(json!({"snapshotId": taken}));
    assert_eq!(file(&stage, &without, path), "");
    put(&without, "A=makers\n");
    assert_eq!(restarted(&stage, &without).state(), "running");
    assert_eq!(file(&stage, &without, path), "A=makers\n");
}

/// Memory that came back has old sessions: they end before the sandbox is called running.
#[test]
fn memory_that_came_back_is_renewed_first() {
    let stage = stage(Kind::Qemu);
    let id = stage.created(json!({}));
    let daemon = || stage.guest(&id).and_then(|it| it.run).expect("it runs").daemon;
    let kept = stage.act(&id, "snapshots", json!({"keep": true, "memory": true})).snapshot_id();
    stage.world.advance(Duration::seconds(2));
    let first = daemon();
    let answer = stage.ask(Ask::rollback(&id, &kept));
    assert_eq!(answer.shows(), "200 running", "{answer:?}\n{}", stage.told());
    let second = daemon();
    assert!(second.boot != first.boot && second.session != first.session);
    assert_eq!(stage.act(&id, "pause", json!({"keeps": "memory"})).status, 200);
    // Whoever resumed it dies before it could be renewed: the next one does it.
    stage.world.fault_if(|seen| (seen.path == "/v1/renew").then_some(Fault::NeverSent));
    let resumed = stage.ask(Ask::act(&id, "resume", json!({})).wait(3));
    assert_eq!(resumed.shows(), "202 creating", "{resumed:?}\n{}", stage.told());
    assert_eq!(daemon().boot, second.boot);
    stage.world.clear_faults();
    assert_eq!(stage.ask(Ask::one(&id).wait(20)).state(), "running", "{}", stage.told());
    let third = daemon();
    assert!(third.boot != second.boot && third.session != second.session);
    // Once is enough.
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    assert_eq!(daemon().boot, third.boot);
    // A plain start draws its own.
    assert_eq!(restarted(&stage, &id).state(), "running");
    let renewals = asked(&stage).iter().filter(|it| *it == "/v1/renew").count();
    assert!(renewals >= 2, "{renewals}");
}

/// A call that the domain's proxy never got goes to the address, where that is proved.
#[test]
fn what_was_never_sent_goes_another_way() {
    let pool = [("PVE_IP_POOL_CIDR", "10.0.0.0/8"), ("PVE_GATEWAY", "10.0.0.1")];
    let mut stage = Stage::of(stage(Kind::Lxc).world, &pool);
    stage.world.fault_if(|seen| seen.host.starts_with("gate.").then_some(Fault::NeverSent));
    let lone = stage.ask(Ask::create().wait(3));
    assert_eq!(lone.shows(), "202 creating", "{lone:?}");
    stage.platform.private_network = true;
    let answer = stage.ask(Ask::one(&lone.id()).wait(20));
    assert_eq!(answer.state(), "running", "{answer:?}\n{}", stage.told());
}

/// A deployment in the guests' network may be the proxy itself: its own calls would come back to it.
#[test]
fn in_the_guests_network_nothing_goes_through_the_proxy() {
    let pool = [("PVE_IP_POOL_CIDR", "10.0.0.0/8"), ("PVE_GATEWAY", "10.0.0.1")];
    let mut stage = Stage::of(stage(Kind::Lxc).world, &pool);
    (stage.platform.private_network, stage.platform.in_guest_network) = (true, true);
    let made = stage.ask(Ask::create().wait(20));
    assert_eq!(made.shows(), "201 running", "{made:?}");
    assert_eq!(stage.ask(Ask::exec(&made.id(), "true")).status, 200);
    let hosts: std::collections::BTreeSet<_> = stage.world.requests().into_iter().map(|it| it.host).collect();
    assert!(hosts.iter().all(|it| !it.contains("sandbox.test")), "{hosts:?}");
    assert!(hosts.iter().any(|it| it.starts_with("10.") && it.ends_with(":39375")), "{hosts:?}");
}
