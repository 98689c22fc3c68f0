//! What a sandbox is made from, sizes, keys, environment.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use pve_edge_bed::{morph::Spec, sim::execd::ExecLine};

use super::{SMALL, made, ours, stage};
use crate::stage::prelude::*;

#[test]
fn the_newest_version_of_the_smallest_preset() {
    let stage = stage();
    let big = Spec { vcpus: 4, memory: 8192, disk_size: 32_768 };
    for preset in ["morph_4vcpu_8gb_32gb_v1", "morph_4vcpu_8gb_32gb_v2"] {
        stage.account().add_snapshot(big, &[("edge.deployment", "prod"), ("edge.preset", preset)]);
    }
    // Of two with one version the older is the version.
    stage.world.advance(time::Duration::seconds(1));
    let late = [("edge.deployment", "prod"), ("edge.preset", "morph_4vcpu_8gb_32gb_v2")];
    let late = stage.account().add_snapshot(SMALL, &late);
    let config = stage.ask(Ask::get("/api/config/sandbox")).json();
    assert_eq!(config["defaultPresetId"], "1vcpu_1gb_8gb");
    let versions: Vec<_> = config["presets"][1]["versions"].as_array().into_iter().flatten().collect();
    assert_eq!(versions.len(), 2, "{config}");
    let capable = &config["capabilities"];
    let can = |name: &str| capable[name].as_bool();
    assert_eq!((can("hibernate"), can("rollback"), can("snapshots")), (Some(true), Some(false), Some(true)));
    assert_eq!(can("streamingExec"), Some(true));
    let newest = made(&stage, json!({"preset": "4vcpu_8gb_32gb"}));
    assert_eq!(newest.json()["snapshotId"], "morph_4vcpu_8gb_32gb_v2");
    let account = stage.account();
    let instance = &account.instances[&newest.id()];
    assert_ne!(instance.snapshot, late);
    assert_eq!(instance.spec, big);
}

#[test]
fn sizes_are_applied_and_a_disk_only_grows() {
    let stage = stage();
    let id = made(&stage, json!({"cpu": 2, "memory": 2048, "disk": 1})).id();
    let wanted = Spec { vcpus: 2, memory: 2048, disk_size: 8192 };
    assert_eq!(stage.account().instances[&id].spec, wanted);
    let id = made(&stage, json!({"disk": 20})).id();
    assert_eq!(stage.account().instances[&id].spec, Spec { disk_size: 20_480, ..SMALL });
    // A preset's name says what it has.
    let preset = [("edge.deployment", "prod"), ("edge.preset", "morph_2vcpu_4gb_16gb_v1")];
    stage.account().add_snapshot(SMALL, &preset);
    let id = made(&stage, json!({"preset": "2vcpu_4gb_16gb"})).id();
    assert_eq!(stage.account().instances[&id].spec, Spec { vcpus: 2, memory: 4096, disk_size: 16_384 });
}

#[test]
fn any_snapshot_of_the_account_is_for_admins() {
    let stage = stage();
    let plain = stage.account().add_snapshot(SMALL, &[]);
    let body = json!({"snapshotId": plain});
    assert_eq!(stage.ask(Ask::sandbox(body.clone())).code(), "template-not-found");
    let made = stage.ask(Ask::sandbox(body).by("ops"));
    assert_eq!((made.status, &made.json()["snapshotId"]), (201, &json!(plain)), "{made:?}");
    for (body, code) in [
        (json!({"snapshotId": "snapshot_nosuch"}), "template-not-found"),
        (json!({"preset": "9vcpu_9gb_9gb"}), "template-not-found"),
        (json!({"snapshotId": "morph_9vcpu_9gb_9gb_v1"}), "template-not-found"),
    ] {
        assert_eq!(stage.ask(Ask::sandbox(body)).code(), code);
    }
}

#[test]
fn bad_input_names_its_field_and_nothing_is_made() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let before = stage.account().instances.clone();
    let sandboxes = "/api/sandboxes";
    let at = |rest: &str| format!("{sandboxes}/{id}{rest}");
    for (ask, field) in [
        (Ask::post(sandboxes, json!({"templateVmid": 9000})), "templateVmid"),
        (Ask::post(sandboxes, json!({"snapshotId": "pvelxc_1vcpu_1gb_8gb_v1"})), "snapshotId"),
        (
            Ask::post(sandboxes, json!({"snapshotId": "pvelxc-200017-abtwk2lnkrifgvbzq5c2n7ye-pve1"})),
            "snapshotId",
        ),
        (Ask::post(sandboxes, json!({"snapshotId": "snapshot_../x"})), "snapshotId"),
        (Ask::post(sandboxes, json!({"metadata": {"edge.team": "red"}})), "metadata.edge.team"),
        (Ask::post(sandboxes, json!({"ttlSeconds": 0})), "ttlSeconds"),
        (Ask::post(sandboxes, json!({"env": {"A-B": "1"}})), "env.A-B"),
        (Ask::patch(at(""), json!({"metadata": {"edge.team": null}})), "metadata.edge.team"),
        (Ask::patch(at(""), json!({"name": ""})), "name"),
        (Ask::post(at("/snapshots"), json!({"metadata": {"edge.preset": "x"}})), "metadata.edge.preset"),
        (Ask::post(at("/extend"), json!({"ttlSeconds": -1})), "ttlSeconds"),
        (Ask::post(at("/reboot"), json!({"timeoutSeconds": 0})), "timeoutSeconds"),
        (Ask::post(at("/exec"), json!({})), "command"),
    ] {
        let answer = stage.ask(ask);
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (400, &json!(field)), "{answer:?}");
    }
    for id in [
        "pvelxc-200017-abtwk2lnkrifgvbzq5c2n7ye-pve1",
        "morphvm_",
        "morphvm_a%2Fb",
        "morphvm_..",
        "snapshot_x",
    ] {
        assert_eq!(stage.ask(Ask::one(id)).status, 404, "{id}");
    }
    assert_eq!(stage.account().instances, before);
    assert_eq!(stage.account().snapshots.len(), 1);
}

#[test]
fn one_key_one_sandbox() {
    let stage = stage();
    let first = stage.ask(Ask::create_keyed("k"));
    assert_eq!(first.status, 201, "{first:?}");
    let again = stage.ask(Ask::create_keyed("k"));
    assert_eq!((again.status, again.id()), (200, first.id()));
    let other = stage.ask(Ask::create_keyed("k").json(json!({"name": "other"})));
    assert_eq!(other.code(), "idempotency-conflict");
    // Another team's key is another key.
    assert_ne!(stage.ask(Ask::create_keyed("k").by("red")).id(), first.id());
    assert_eq!(ours(&stage), [first.id()]);
    stage.ask(Ask::extend(&first.id(), 10));
    stage.world.advance(time::Duration::seconds(12));
    assert_eq!(stage.ask(Ask::create_keyed("k")).code(), "expired");
    stage.world.advance(time::Duration::seconds(30));
    assert_eq!(stage.ask(Ask::create_keyed("k")).status, 201);
}

#[test]
fn whoever_is_in_a_hurry_gets_an_id_that_stays() {
    let stage = stage();
    for ask in [Ask::create(), Ask::create_keyed("k")] {
        let claimed = stage.ask(ask.wait(0));
        assert_eq!(claimed.shows(), "202 creating", "{claimed:?}");
        let id = claimed.id();
        let exec = stage.ask(Ask::exec(&id, "true"));
        assert_eq!(exec.code(), "still-creating", "{exec:?}");
        assert_eq!(stage.ask(Ask::change(&id, json!({}))).code(), "still-creating");
        let polled = stage.ask(Ask::one(&id).wait(20));
        assert_eq!(polled.shows(), "200 running", "{polled:?}\n{}", stage.told());
        super::assert_runs(&stage, &id);
    }
}

/// A creation that was not answered is looked for, not sent again.
#[test]
fn an_answer_that_is_lost_makes_no_second_one() {
    let stage = stage();
    let posts = |it: &pve_edge_bed::world::Seen| it.method == "POST" && it.path.contains("snapshot_id=");
    stage.world.fault_once(posts, Fault::Unanswered);
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(ours(&stage), [answer.id()]);
    assert_eq!(stage.world.requests().iter().filter(|it| posts(it)).count(), 1);
}

/// `timeout` ended what it runs first; that it cannot is said by another code.
#[test]
fn a_machine_that_is_slow_at_first_is_waited_for() {
    let stage = stage();
    let slow = AtomicU32::new(2);
    stage.account().set_runner(Arc::new(move |_, _| {
        let left = slow.fetch_update(Relaxed, Relaxed, |it| it.checked_sub(1));
        vec![ExecLine::Exit(if left.is_ok() { 124 } else { 0 })]
    }));
    super::assert_runs(&stage, &made(&stage, json!({})).id());
    stage.account().set_runner(Arc::new(|_, _| vec![ExecLine::Exit(1)]));
    assert_eq!(stage.ask(Ask::create()).code(), "exec-failed");
}

#[test]
fn an_environment_is_sealed_and_goes_with_every_command() {
    let stage = stage();
    let id = made(&stage, json!({"env": {"TOKEN": "s3cret of its owner"}, "metadata": {"a": "b"}})).id();
    let sealed = stage.account().instances[&id].metadata.clone();
    assert!(!sealed.values().any(|it| it.contains("s3cret")), "{sealed:?}");
    assert!(!stage.ask(Ask::one(&id)).body.contains("TOKEN"));
    stage.ask(Ask::exec(&id, "printenv TOKEN"));
    let account = stage.account();
    let ran: Vec<&String> = account.executions().keys().map(|(_, command)| command).collect();
    assert!(ran.iter().any(|it| it.contains("/etc/pve-edge/env") && it.contains("TOKEN=")), "{ran:?}");
    let with = ran.iter().find(|it| it.contains("printenv TOKEN")).expect("it ran");
    assert!(with.contains(" TOKEN="), "{with}");
}
