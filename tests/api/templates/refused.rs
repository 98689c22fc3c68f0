//! What is refused: bad input, before PVE hears of it; what PVE lacks; what the token lacks.

use pve_edge_bed::sim::MINIMAL;

use super::{PRESET, body, build, get, sim, stage, until};
use crate::{ids::old_id, stage::prelude::*};

fn with(changes: Value) -> Value {
    let mut wanted = body();
    for (name, value) in changes.as_object().unwrap() {
        match value.is_null() {
            true => drop(wanted.as_object_mut().unwrap().remove(name)),
            false => wanted[name] = value.clone(),
        }
    }
    wanted
}

#[test]
fn bad_input_names_its_field() {
    let url = |text: &str| json!({"appliance": null, "url": text});
    let image = |text: &str| json!({"appliance": null, "image": text});
    for (changes, field) in [
        (json!({"appliance": null}), "appliance"),
        (json!({"url": "https://a.test/x.tar.zst"}), "appliance"),
        (json!({"appliance": "../x"}), "appliance"),
        (json!({"fromTemplate": 9000}), "appliance"),
        (json!({"appliance": null, "fromTemplate": 9000, "cpu": 2}), "fromTemplate"),
        (json!({"appliance": null, "fromTemplate": 9000, "node": "pve1"}), "fromTemplate"),
        (url("ftp://a.test/x.tar.zst"), "url"),
        (url("https://user:pass@a.test/x.tar.zst"), "url"),
        (url("https://a.test"), "url"),
        (url("https://a.test/x.zip"), "url"),
        (url("https://a.test/.tar.zst"), "url"),
        (url("https://a.test/x y.tar.zst"), "url"),
        (url("https:///x.tar.zst"), "url"),
        (image("debian"), "image"),
        (image("debian@sha256:0123"), "image"),
        (image("user:pass@r.test/debian:13"), "image"),
        (image("r.test/Debian:13"), "image"),
        (image("r.test//debian:13"), "image"),
        (json!({"checksum": "00"}), "checksum"),
        (json!({"appliance": null, "url": "https://a.test/x.tar.zst", "checksum": "0f"}), "checksum"),
        (
            json!({"appliance": null, "url": "https://a.test/x.tar.zst", "checksum": "zz", "checksumAlgorithm": "md5"}),
            "checksum",
        ),
        (json!({"preset": null}), "preset"),
        (json!({"preset": "small"}), "preset"),
        (json!({"preset": "small_warm_fast"}), "disk"),
        (json!({"cpu": 0}), "cpu"),
        (json!({"memory": 1}), "memory"),
        (json!({"disk": 0}), "disk"),
        (json!({"node": "a/b"}), "node"),
        (json!({"storage": "a:b"}), "storage"),
        (json!({"templateStorage": ""}), "templateStorage"),
        (json!({"bridge": "a,ip=dhcp"}), "bridge"),
        (json!({"features": "nesting"}), "features"),
        (json!({"features": "keyctl=1;reboot"}), "features"),
        (json!({"hookscript": "/bin/sh"}), "hookscript"),
        (json!({"hookscript": "local:snippets/x;reboot"}), "hookscript"),
        (json!({"execd": "maybe"}), "execd"),
        (json!({"password": "x"}), "password"),
    ] {
        let stage = stage();
        let answer = stage.ask(build(&with(changes.clone())));
        assert_eq!(answer.refusal(), "400 invalid-request", "{changes}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{changes}: {answer:?}");
        assert_eq!(stage.world.requests().len(), 0, "{changes}");
        assert!(!answer.body.contains("pass@"), "{answer:?}");
    }
    let stage = stage();
    let empty = Ask::patch(format!("/api/templates/{}", old_id(100_017)), json!({})).by("ops");
    assert_eq!(stage.ask(empty).json()["errors"][0]["field"], "execd");
    assert_eq!(stage.ask(build(&json!([]))).status, 400);
}

#[test]
fn it_is_for_admins() {
    let stage = stage();
    let id = old_id(100_017);
    let path = format!("/api/templates/{id}");
    for ask in [
        Ask::post("/api/templates", body()),
        Ask::get(&*path),
        Ask::patch(&*path, json!({"execd": "included"})),
        Ask::delete(&*path),
    ] {
        let answer = stage.ask(ask);
        assert_eq!(answer.refusal(), "403 forbidden", "{answer:?}");
    }
    assert_eq!(stage.world.requests().len(), 0);
    assert_eq!(stage.ask(get("nothing")).status, 404);
}

#[test]
fn what_is_no_template_from_nothing_is_not_found() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let taken = stage.act(&id, "snapshots", json!({}));
    let own = taken.snapshot_id();
    stage.world.settle();
    for id in [id, own] {
        assert_eq!(stage.ask(get(&id)).status, 404);
        assert_eq!(stage.ask(Ask::delete(format!("/api/templates/{id}")).by("ops")).status, 404);
    }
    assert_eq!(stage.world.sim().guests().count(), 3);
}

#[test]
fn images_need_a_new_pve() {
    for (version, text) in [(Version::V7_4, "7.4-20"), (Version::V8, "8.4.21")] {
        let stage = Stage::on(sim(version, StorageKind::LvmThin));
        let answer = stage.ask(build(&with(json!({"appliance": null, "image": "debian:13"}))));
        assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        assert!(answer.body.contains(text) && answer.body.contains("9.1"), "{answer:?}");
    }
}

/// The usual role makes sandboxes, and is told what it lacks for this.
#[test]
fn privileges_are_named() {
    let url = with(json!({"appliance": null, "url": "https://a.test/x.tar.zst"}));
    let image = with(json!({"appliance": null, "image": "debian:13"}));
    let stage = |more: &[&str]| {
        let mut sim = sim(Version::V9, StorageKind::LvmThin);
        let all: Vec<&str> = MINIMAL.iter().chain(more).copied().collect();
        for who in ["edge@pve", "edge@pve!edge"] {
            sim.grant(who, "/", &all);
        }
        Stage::on(sim)
    };
    for (wanted, more, lacks) in [
        (body(), &[][..], "Datastore.AllocateTemplate on /storage/local"),
        (url.clone(), &[], "Datastore.AllocateTemplate on /storage/local"),
        (url, &["Datastore.AllocateTemplate"], "Sys.AccessNetwork on /nodes/pve1"),
        (image, &["Datastore.AllocateTemplate"], "Sys.AccessNetwork on /nodes/pve1"),
    ] {
        let stage = stage(more);
        let answer = stage.ask(build(&wanted));
        assert_eq!(answer.refusal(), "502 pve-forbidden", "{answer:?}");
        assert!(answer.body.contains(lacks), "{answer:?}");
        assert_eq!(stage.world.sim().guests().count(), 0);
    }
    // An appliance needs no right to the network.
    until(&stage(&["Datastore.AllocateTemplate"]), &build(&body()), "ready");
    // A token that sees no such storage.
    let stage = stage(&[]);
    for who in ["edge@pve", "edge@pve!edge"] {
        stage.world.sim_mut().grant(who, "/storage/local", &[]);
    }
    assert!(stage.ask(build(&body())).body.contains("content vztmpl"), "{}", stage.told());
}

#[test]
fn storages_nodes_and_bridges() {
    let mut cluster = sim(Version::V9, StorageKind::LvmThin);
    cluster.add_storage(Storage { total: 1 << 50, ..Storage::new("huge", StorageKind::Dir) });
    cluster.add_storage(Storage { total: 1 << 45, ..Storage::new("large", StorageKind::ZfsPool) });
    let stage = Stage::on(cluster);
    // Not the one of most room, which makes no linked clones.
    let made = until(&stage, &build(&body()), "ready");
    let rootfs = |id: &str| {
        let sim = stage.world.sim();
        sim.guest(crate::stage::vmid_of(id)).unwrap().config.get("rootfs").unwrap().to_owned()
    };
    assert!(rootfs(&made.id()).starts_with("large:"));
    let keyed = |changes: Value, key: &'static str| build(&with(changes)).header("idempotency-key", key);
    let named = until(&stage, &keyed(json!({"storage": "store"}), "k1"), "ready");
    assert!(rootfs(&named.id()).starts_with("store:"));
    for (changes, code, says) in [
        (json!({"storage": "huge"}), "linked-clone-unsupported", "lvmthin"),
        (json!({"storage": "none"}), "invalid-request", "store"),
        (json!({"templateStorage": "store"}), "invalid-request", "vztmpl"),
        (json!({"node": "pve9"}), "invalid-request", "pve9"),
        (json!({"appliance": "gentoo"}), "template-not-found", "pveam"),
        (json!({"appliance": null, "fromTemplate": 123_456, "features": null}), "invalid-request", "123456"),
        (json!({"bridge": "vmbr7"}), "", ""),
    ] {
        let answer = stage.ask(keyed(changes.clone(), "k2"));
        if code.is_empty() {
            continue;
        }
        assert_eq!(answer.code(), code, "{changes}: {answer:?}");
        assert!(answer.body.contains(says), "{changes}: {answer:?}");
    }
    // Settings stand in for what is not said.
    let set = Stage::of(World::new(sim(Version::V9, StorageKind::Dir), 1), &[("PVE_STORAGE", "store")]);
    assert_eq!(set.ask(build(&body())).code(), "linked-clone-unsupported");
    stage.world.sim_mut().set_online("pve1", false);
    assert_eq!(stage.ask(keyed(json!({"node": "pve1"}), "k4")).code(), "node-offline");
}

/// A download that fails is told, and begun anew by whoever asks a minute later.
#[test]
fn a_download_that_fails_is_told_once_and_made_again() {
    let stage = stage();
    stage.world.sim_mut().fail_next("download", "checksum mismatch: got 'a' != expect 'b'");
    let first = stage.ask(build(&body()).wait(0));
    assert_eq!((first.status, &first.json()["status"]), (202, &json!("downloading")), "{first:?}");
    stage.world.settle();
    let told = stage.ask(build(&body()));
    assert_eq!(told.refusal(), "502 task-failed", "{told:?}");
    assert!(told.body.contains("checksum mismatch"), "{told:?}");
    assert_eq!(super::count(&stage, "POST", "/aplinfo"), 1);
    stage.world.advance(Duration::seconds(61));
    until(&stage, &build(&body()), "ready");
}

#[test]
fn a_creation_that_fails_is_told() {
    for wait in ["wait=0", "wait=20"] {
        let stage = stage();
        stage.world.sim_mut().fail_next("vzcreate", "no space left on device");
        let mut answer = until_not_downloading(&stage, wait);
        if answer.status == 202 {
            stage.world.settle();
            answer = stage.ask(get(&answer.id()));
        }
        assert_eq!(answer.refusal(), "507 storage-full", "{answer:?}\n{}", stage.told());
        assert!(answer.body.contains("no space left"), "{answer:?}");
        assert_eq!(stage.world.sim().guests().count(), 0);
        until(&stage, &build(&body()), "ready");
    }
}

fn until_not_downloading(stage: &Stage, wait: &'static str) -> crate::stage::Answer {
    loop {
        let answer = stage.ask(build(&body()).header("prefer", wait));
        if answer.json()["status"] != "downloading" {
            return answer;
        }
        stage.world.advance(Duration::seconds(2));
    }
}

#[test]
fn another_body_with_the_same_key_is_refused() {
    let stage = stage();
    until(&stage, &build(&body()), "ready");
    let other = stage.ask(build(&with(json!({"cpu": 3}))));
    assert_eq!(other.refusal(), "409 idempotency-conflict", "{other:?}");
    // The order of its members is no other body.
    let text = format!(
        r#"{{"preset":"{PRESET}","execd":"included","features":"nesting=1","appliance":"debian-12-standard"}}"#
    );
    assert_eq!(stage.ask(build(&body()).bytes(text)).status, 200);
}

/// No archive's address is told to anybody but PVE.
#[test]
fn addresses_are_not_told() {
    let stage = stage();
    let wanted = with(json!({"appliance": null, "url": "https://a.test/x.tar.zst?token=s3cr3t"}));
    let fault = Fault::Refused(500, "unexpected failure".into());
    stage.world.fault_once(|seen| seen.path.ends_with("download-url"), fault);
    let mut answers = stage.ask(build(&wanted)).body;
    answers.push_str(&until(&stage, &build(&wanted), "ready").body);
    answers.push_str(&stage.ask(Ask::get("/api/snapshots").by("ops")).body);
    let paths: String = stage.world.requests().iter().map(|it| it.path.clone()).collect();
    let kept: String = stage.world.sim().guests().map(|it| it.config.text()).collect();
    for text in [answers, paths, kept, stage.debugged()] {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}
