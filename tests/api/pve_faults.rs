//! What can be wrong with PVE and the way to it: a code, a status, and a
//! sentence that says what to do; and nothing is left behind.

use std::time::Duration;

use http::HeaderMap;
use pve_edge_bed::sim::{MINIMAL, Reply, TOKEN};

use crate::stage::prelude::*;

/// A creation ends with this problem, and no guest is new.
fn check(stage: &Stage, expected: (u16, &str), says: &str) -> Answer {
    let before = stage.world.sim().snapshot_of(|_| true);
    let answer = stage.ask(Ask::create());
    let told = answer.json();
    assert_eq!((answer.status, &*answer.code()), expected, "{answer:?}\n{}", stage.told());
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(says), "{says}: {detail}");
    let retryable = told["retryable"] == true;
    assert!(!retryable || answer.retry_after().is_some() || expected.1 == "pve-bad-answer", "{answer:?}");
    stage.world.settle();
    assert_eq!(stage.world.sim().snapshot_of(|_| true), before, "something is left\n{}", stage.told());
    answer
}

fn with_fault(fault: Fault) -> Stage {
    let stage = Stage::new();
    stage.world.fault_if(move |_| Some(fault.clone()));
    stage
}

#[test]
fn the_way_to_pve() {
    for (fault, expected, says) in [
        (Fault::NeverSent, (503, "pve-unreachable"), "is the tunnel running"),
        (Fault::Silent, (504, "pve-timeout"), "ask again"),
        (Fault::Unanswered, (504, "pve-timeout"), "ask again"),
        (Fault::CutBody(0), (504, "pve-timeout"), "ask again"),
        (Fault::Refused(401, String::new()), (502, "pve-unauthorized"), "PVE_API_TOKEN"),
        (Fault::Refused(501, "Method not implemented".into()), (502, "pve-unsupported"), "501"),
        (Fault::Refused(595, "No route to host".into()), (503, "node-offline"), "neighbour"),
        (Fault::Refused(596, String::new()), (503, "node-offline"), "neighbour"),
        (Fault::Refused(500, "cluster not ready - no quorum?".into()), (503, "pve-no-quorum"), "quorum"),
        (Fault::Refused(500, String::new()), (502, "pve-error"), "task log"),
    ] {
        check(&with_fault(fault), expected, says);
    }
}

/// What stands before PVE answers in its place.
#[test]
fn edges_tunnels_and_access_proxies() {
    for (status, expected, says) in [
        (302, (502, "pve-bad-answer"), "Access"),
        (200, (502, "pve-bad-answer"), "PVE_API_URL"),
        (403, (502, "pve-bad-answer"), "PVE_API_URL"),
        (404, (502, "pve-bad-answer"), "PVE_API_URL"),
        (502, (502, "pve-bad-answer"), "PVE_API_URL"),
        (504, (502, "pve-bad-answer"), "PVE_API_URL"),
        (520, (504, "pve-timeout"), "520"),
        (521, (503, "pve-unreachable"), "521"),
        (522, (504, "pve-timeout"), "522"),
        (523, (503, "pve-unreachable"), "523"),
        (524, (504, "pve-timeout"), "524"),
        (525, (502, "pve-tls"), "certificate"),
        (526, (502, "pve-tls"), "certificate"),
        (530, (503, "pve-unreachable"), "tunnel"),
    ] {
        let world = World::new(plain_sim(Setup::default()), 7);
        world.route("edge.test", move |_| {
            let body = b"<html>secret-of-the-page</html>".to_vec();
            let delay = time::Duration::ZERO;
            Ok(Reply { status, reason: String::new(), headers: HeaderMap::new(), body, delay })
        });
        let stage = Stage::of(world, &[("PVE_API_URL", "https://edge.test")]);
        let answer = check(&stage, expected, says);
        assert!(!answer.body.contains("secret-of-the-page"), "{answer:?}");
    }
}

/// The start is the first step after the commit: the sandbox is kept, as `error` with its cause.
#[test]
fn a_start_that_the_token_may_not_ask_for() {
    let stage = Stage::new();
    let rest: Vec<&str> = MINIMAL.iter().copied().filter(|it| *it != "VM.PowerMgmt").collect();
    granted(&mut stage.world.sim_mut(), &rest);
    let answer = stage.ask(Ask::create());
    let told = answer.json();
    assert_eq!(answer.refusal(), "502 pve-forbidden", "{answer:?}");
    assert!(
        told["detail"].as_str().is_some_and(|it| it.contains("lacks VM.PowerMgmt on /vms/")),
        "{answer:?}"
    );
    let shown = stage.ask(Ask::one(told["sandboxId"].as_str().unwrap_or_default()));
    assert_eq!(&*shown.state(), "error", "{shown:?}");
    assert!(shown.body.contains("VM.PowerMgmt"), "{shown:?}");
}

/// The token, and its user, with these privileges alone.
fn granted(sim: &mut Sim, privileges: &[&str]) {
    let token = TOKEN.rsplit_once('=').map_or(TOKEN, |(id, _)| id);
    let user = token.split('!').next().unwrap_or(token);
    for who in [token, user] {
        sim.revoke(who);
        sim.grant(who, "/", privileges);
    }
}

#[test]
fn missing_privileges_are_named_with_their_path() {
    for (privilege, says) in [
        ("VM.Clone", "lacks VM.Clone on /vms/9000"),
        // PVE does not name it, since the pool's would do as well.
        (
            "VM.Allocate",
            "Permission check failed: the token lacks a privilege that PVE does not name, VM.Allocate on /vms",
        ),
        ("VM.Config.Options", "lacks VM.Config.Options on /vms/"),
        ("VM.Config.CPU", "lacks VM.Config.CPU on /vms/"),
        ("VM.Config.Memory", "lacks VM.Config.Memory on /vms/"),
        ("VM.Config.Network", "lacks VM.Config.Network on /vms/"),
        ("Datastore.AllocateSpace", "lacks Datastore.AllocateSpace on /storage/local-lvm"),
        ("SDN.Use", "lacks SDN.Use on /sdn/zones/localnetwork/vmbr0"),
    ] {
        let stage = Stage::new();
        let rest: Vec<&str> = MINIMAL.iter().copied().filter(|it| *it != privilege).collect();
        granted(&mut stage.world.sim_mut(), &rest);
        check(&stage, (502, "pve-forbidden"), says);
    }
}

/// As PVE answers a change of a container that starts (pve-container `LXC/Config.pm`): nothing is wrong with it.
#[test]
fn a_container_of_which_pve_cannot_tell_whether_it_runs() {
    const SAID: &str = "command 'lxc-info -n 200000 -p' failed: exit code 1";
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let path = format!("/{}/config", vmid_of(&id));
    stage.world.fault_if(move |seen| {
        (seen.method == "PUT" && seen.path.ends_with(&path)).then(|| Fault::Refused(500, SAID.into()))
    });
    for ask in [Ask::act(&id, "extend", json!({"ttlSeconds": 7200})), Ask::end(&id).wait(5)] {
        let refused = stage.ask(ask);
        assert_eq!(refused.refusal(), "409 guest-locked", "{refused:?}\n{}", stage.told());
        assert!(refused.retry_after().is_some());
    }
    stage.world.clear_faults();
    assert_eq!(stage.ask(Ask::end(&id).wait(25)).status, 204);
}

#[test]
fn a_token_that_sees_nothing() {
    let stage = Stage::new();
    granted(&mut stage.world.sim_mut(), &[]);
    check(&stage, (502, "pve-no-audit"), "VM.Audit");
    for ask in [Ask::get("/api/sandboxes"), Ask::get("/api/config/sandbox")] {
        assert_eq!(stage.ask(ask).code(), "pve-no-audit");
    }
    assert_eq!(stage.ask(Ask::get("/api/health/sandbox")).status, 503);
}

/// An empty cluster is no error, where the token would see more.
#[test]
fn an_empty_cluster() {
    let stage = Stage::on(Sim::new(Setup::default()));
    assert_eq!(stage.ask(Ask::get("/api/sandboxes")).body, r#"{"items":[],"nextCursor":null}"#);
    check(&stage, (422, "template-not-found"), "pvelxc_4vcpu_6gb_32gb_v1");
}

#[test]
fn tags_that_the_token_may_not_set() {
    let stage = Stage::new();
    stage.world.sim_mut().set_tag_access("none", &[], &[]);
    check(&stage, (502, "pve-tags-restricted"), "user-tag-access");
}

#[test]
fn templates() {
    let stage = Stage::new();
    stage.world.sim_mut().admin_set(TEMPLATE, "template", "0");
    check(&stage, (422, "not-a-template"), "pct template 9000");
    let stage = Stage::new();
    stage.world.sim_mut().set_lock(TEMPLATE, Some("disk"));
    check(&stage, (503, "template-lock-stale"), "pct unlock 9000");
    let stage = Stage::new();
    stage.world.sim_mut().fail_next("vzclone", "lvcreate: No space left on device");
    check(&stage, (507, "storage-full"), "No space left");
    let stage = Stage::new();
    stage.world.sim_mut().fail_next("vzclone", "command 'lvcreate' failed");
    check(&stage, (502, "clone-failed"), "lvcreate");
    let mut sim =
        Sim::new(Setup { storages: vec![Storage::new("local", StorageKind::Dir)], ..Setup::default() });
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT));
    check(&Stage::on(sim), (422, "linked-clone-unsupported"), "lvmthin");
}

/// One that is tagged and is none is passed over where others are offered.
#[test]
fn another_template_serves() {
    let mut sim = plain_sim(Setup::default());
    sim.add(Spec::guest(8999).tags(SNAPSHOT));
    let stage = Stage::on(sim);
    stage.world.sim_mut().admin_set(8999, "template", "0");
    stage.world.advance(time::Duration::seconds(30));
    for at in [8999, TEMPLATE] {
        stage.world.sim_mut().admin_set(at, "template", "1");
    }
    stage.world.advance(time::Duration::seconds(30));
    // The listing is late to tell that it is a template no more.
    stage.world.sim_mut().admin_set(8999, "template", "0");
    let answer = stage.ask(Ask::create());
    assert_eq!((answer.status, &answer.json()["templateVmid"]), (201, &TEMPLATE.into()), "{answer:?}");
    assert!(
        stage.world.requests().iter().any(|it| it.path.ends_with("/lxc/8999/config")),
        "{}",
        stage.told()
    );
}

/// A storage's bad moment is no reason to give a sandbox up.
#[test]
fn a_bare_500_on_resize_is_asked_again() {
    let stage = Stage::at_once();
    let once = std::cell::Cell::new(true);
    stage.world.fault_if(move |seen| {
        let hit = seen.path.ends_with("/resize") && once.replace(false);
        hit.then(|| Fault::Refused(500, "unexpected failure".into()))
    });
    let body = serde_json::json!({"disk": 20});
    let answer = stage.ask(Ask::sandbox(body.clone()));
    assert_eq!(answer.shows(), "201 running", "{answer:?}");
    // One that lasts is told.
    stage.world.fault_if(|seen| {
        seen.path.ends_with("/resize").then(|| Fault::Refused(500, "unexpected failure".into()))
    });
    let id = stage.ask(Ask::sandbox(body)).id();
    stage.world.advance(time::Duration::seconds(61));
    assert_eq!(stage.ask(Ask::one(&id)).code(), "pve-error");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "error");
}

#[test]
fn a_template_on_another_node() {
    let setup = Setup::two_nodes();
    let stage = Stage::of(World::new(plain_sim(setup.clone()), 7), &[("PVE_NODE", "pve2")]);
    check(&stage, (422, "template-on-other-node"), "PVE_NODE");
    let stage = Stage::on(plain_sim(setup));
    stage.world.sim_mut().set_online("pve1", false);
    check(&stage, (503, "node-offline"), "template 9000 on pve1");
}

/// What a clone has of its template, and what the commit makes of it.
#[test]
fn what_a_clone_inherits() {
    let mut sim = Sim::new(Setup::default());
    let env = "LANG=C\0CMUX_EXECD_AUTH_TOKEN=of-the-template";
    let template = Spec::template(TEMPLATE).tags(SNAPSHOT).set("protection", "1").set("onboot", "1");
    sim.add(template.set("env", env).set("net0", "name=eth0,bridge=vmbr0,ip=10.0.0.9/24,gw=10.0.0.1"));
    echo(&mut sim);
    let stage = Stage::on(sim);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    let sim = stage.world.sim();
    let guest = sim.guest(crate::stage::vmid_of(&answer.id())).expect("it is there");
    let of = |key: &str| guest.config.get(key).unwrap_or_default().to_owned();
    assert_eq!((of("protection"), of("onboot")), ("1".into(), "0".into()));
    assert!(
        of("env").starts_with("LANG=C\0CMUX_EXECD_AUTH_TOKEN=") && !of("env").contains("of-the-template")
    );
    assert!(of("net0").contains("ip=dhcp") && !of("net0").contains("gw="), "{}", of("net0"));
    assert!(!guest.tags().contains(&SNAPSHOT), "{:?}", guest.tags());
}

/// A lock that lasts (a backup) refuses changes by name, and nothing else.
#[test]
fn a_locked_sandbox() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(time::Duration::minutes(20));
    stage.world.sim_mut().set_lock(crate::stage::vmid_of(&id), Some("backup"));
    for ask in [Ask::extend(&id, 600), Ask::change(&id, serde_json::json!({"name": "x"})), Ask::end(&id)] {
        let answer = stage.ask(ask.clone());
        assert_eq!(answer.refusal(), "409 guest-locked", "{ask:?}: {answer:?}");
        assert_eq!((answer.json()["lock"].as_str(), answer.retry_after().is_some()), (Some("backup"), true));
    }
    assert_eq!(
        (stage.ask(Ask::one(&id)).state(), stage.ask(Ask::exec(&id, "true")).status),
        ("running".into(), 200)
    );
}

/// What PVE could not start is kept as `error` with its cause, and can be deleted.
#[test]
fn a_start_that_fails() {
    let stage = Stage::new();
    stage.world.sim_mut().fail_next("vzstart", "startup for container failed: no such bridge");
    let answer = stage.ask(Ask::create_keyed("k"));
    assert_eq!(answer.refusal(), "502 start-failed", "{answer:?}");
    let id = answer.json()["sandboxId"].as_str().unwrap_or_default().to_owned();
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.shows(), "200 error", "{shown:?}");
    assert!(shown.json()["problem"].as_str().is_some_and(|it| it.contains("no such bridge")), "{shown:?}");
    let replay = stage.ask(Ask::create_keyed("k"));
    assert_eq!((replay.status, replay.id(), &*replay.state()), (200, id.clone(), "error"));
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert_eq!(stage.ask(Ask::create_keyed("k")).status, 201);
}

/// An exec daemon that asks nobody for a token must not stay reachable.
#[test]
fn an_exec_daemon_that_lets_everyone_in() {
    let mut sim = Sim::new(Setup { version: pve_edge_bed::sim::Version::V8, ..Setup::default() });
    // Its hookscript does not read the notes, as far as the guest is concerned.
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("hookscript", "local:snippets/other.sh"));
    echo(&mut sim);
    let stage = Stage::on(sim);
    stage.world.hook(|sim, _, _| {
        let vmids: Vec<u32> = sim.guests().filter(|it| it.run.is_none()).map(|it| it.vmid).collect();
        for vmid in vmids.into_iter().filter(|it| *it != TEMPLATE) {
            let notes = sim.guest(vmid).and_then(|it| it.config.description.clone()).unwrap_or_default();
            sim.admin_describe(vmid, &notes.replace("cmux-execd-auth-token=", "x-"));
        }
    });
    let answer = stage.ask(Ask::create());
    stage.world.unhook();
    assert_eq!(answer.refusal(), "502 exec-unprotected", "{answer:?}");
    stage.world.settle();
    let sim = stage.world.sim();
    assert!(sim.guests().all(|it| it.run.is_none()), "{}", stage.told());
}

#[test]
fn a_node_that_is_offline() {
    let setup = Setup::two_nodes();
    let stage = Stage::on(plain_sim(setup));
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(time::Duration::minutes(20));
    stage.world.sim_mut().migrate(crate::stage::vmid_of(&id), "pve2");
    stage.world.sim_mut().set_online("pve2", false);
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.shows(), "200 error", "{shown:?}");
    for ask in [Ask::extend(&id, 60), Ask::end(&id), Ask::exec(&id, "true")] {
        let answer = stage.ask(ask);
        assert_eq!(answer.refusal(), "503 node-offline", "{answer:?}");
    }
}

/// Time-outs end within what the platform gives an invocation.
#[test]
fn nobody_waits_longer_than_the_platform_does() {
    for index in 0..9 {
        let stage = Stage::new();
        let began = stage.world.now();
        stage.world.fault_if(move |seen| (seen.index >= index).then_some(Fault::Silent));
        let answer = stage.ask(Ask::create());
        let took = Duration::try_from(answer.at - began).unwrap_or_default();
        assert!(took <= Duration::from_secs(28), "{index}: {took:?} {answer:?}");
    }
}

#[test]
fn health_tells_whether_pve_can_be_reached() {
    let stage = Stage::new();
    let health = stage.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((health.status, &health.json()["reachable"]), (200, &json!(true)), "{health:?}");
    let wrong = stage.beside("", &[("PVE_API_TOKEN", "edge@pve!edge=wrong")]);
    let refused = wrong.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((refused.status, &refused.json()["reasons"][0]["code"]), (503, &json!("pve-unauthorized")));
    let nowhere = stage.beside("", &[("PVE_API_URL", "https://nowhere.test:8006")]);
    let silent = nowhere.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((silent.status, &silent.json()["reachable"]), (503, &json!(false)), "{silent:?}");
}
