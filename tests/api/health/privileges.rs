//! Each missing privilege, by the path where it is missing; and that the set-up script leaves none missing.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
};

use pve_edge_bed::sim::TOKEN;

use super::{Stage, assert_green, assert_red, health, told};
use crate::{setup::script::granted, stage::prelude::*};

/// The token, and its user.
fn grant(sim: &mut Sim, path: &str, privileges: &[&str]) {
    let token = TOKEN.rsplit_once('=').map_or(TOKEN, |(id, _)| id);
    for who in [token, token.split('!').next().unwrap_or(token)] {
        sim.grant(who, path, privileges);
    }
}

/// Privileges, by path.
type Granted = Vec<(String, Vec<String>)>;

/// What the set-up script grants for sandboxes of this kind, by path. Each is run once.
fn by_the_script(kind: Kind, version: Version) -> Granted {
    static GRANTED: LazyLock<Mutex<BTreeMap<(bool, Version), Granted>>> = LazyLock::new(Mutex::default);
    let has_vms = kind == Kind::Qemu;
    let set: &[(&str, &str)] = if has_vms { &[("SANDBOX_PROVIDER", "pve-vm")] } else { &[] };
    let mut known = GRANTED.lock().expect("no test failed here");
    known.entry((has_vms, version)).or_insert_with(|| granted(version, set, &[])).clone()
}

fn borrowed(privileges: &[String]) -> Vec<&str> {
    privileges.iter().map(String::as_str).collect()
}

/// As the script leaves PVE, and nothing at `/`.
fn prepared(kind: Kind, version: Version) -> Stage {
    let mut sim = sim_of(kind, Setup { version, ..Setup::default() });
    // Whoever reads the template's config sees that it has what it needs before 9.1.
    if kind == Kind::Lxc {
        sim.admin_set(TEMPLATE, "hookscript", "local:snippets/hook.sh");
    }
    grant(&mut sim, "/", &[]);
    for (path, privileges) in by_the_script(kind, version) {
        grant(&mut sim, &path, &borrowed(&privileges));
    }
    Stage::of_kind(kind, World::new(sim, 7), &[])
}

/// Healthy, and everything that the API does works.
#[test]
fn what_the_script_grants_is_enough() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in BOTH {
            let stage = prepared(kind, version);
            assert_green(&stage);
            let made = stage.ask(Ask::sandbox(json!({"disk": 10})).wait(25));
            let id = made.id();
            let to = |what: &str| format!("/api/sandboxes/{id}/{what}");
            let asks = [
                Ask::one(&id),
                Ask::get("/api/sandboxes"),
                Ask::exec(&id, "true"),
                Ask::extend(&id, 900),
                Ask::patch(to("").trim_end_matches('/').to_owned(), json!({"name": "x"})),
                Ask::post(to("stop"), json!({})),
                Ask::post(to("start"), json!({})),
                Ask::post(to("reboot"), json!({})),
                Ask::post(to("pause"), json!({})),
                Ask::post(to("resume"), json!({})),
                Ask::post(to("snapshots"), json!({"keep": true})),
                Ask::post(to("snapshots"), json!({})),
                Ask::post("/api/gc", json!({"dryRun": false})).by("ops"),
                Ask::end(&id),
            ];
            for ask in asks {
                stage.world.settle();
                let answer = stage.ask(ask.clone().wait(25));
                assert!((200..300).contains(&answer.status), "{version:?} {kind:?} {ask:?}: {answer:?}");
            }
            assert_green(&stage);
        }
    }
}

#[test]
fn what_the_script_grants_is_needed_one_by_one() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in BOTH {
            for (path, all) in by_the_script(kind, version) {
                for lost in &all {
                    let stage = prepared(kind, version);
                    let rest: Vec<&str> = borrowed(&all).into_iter().filter(|it| it != lost).collect();
                    grant(&mut stage.world.sim_mut(), &path, &rest);
                    let answer = assert_red(&stage, "pve-forbidden", &format!("lacks {lost} on {path}: "));
                    // A token without this one sees no guest, and no template.
                    let alone = lost != "VM.Audit";
                    assert!(!alone || told(&answer, "reasons").lines().count() == 1, "{answer:?}");
                    grant(&mut stage.world.sim_mut(), &path, &borrowed(&all));
                    assert_green(&stage);
                }
            }
        }
    }
}

/// A deeper role replaces what is inherited, a pool adds to it.
#[test]
fn on_a_template_alone() {
    let stage = prepared(Kind::Lxc, Version::V9);
    let path = format!("/vms/{TEMPLATE}");
    grant(&mut stage.world.sim_mut(), &path, &["VM.Audit"]);
    assert_red(&stage, "pve-forbidden", &format!("lacks VM.Clone on {path}: "));
    grant(&mut stage.world.sim_mut(), &path, &["VM.Audit", "VM.Clone"]);
    assert_green(&stage);
}

/// The token sees two storages and may use one: which one a template is on, its config tells.
#[test]
fn a_storage_that_is_seen_and_may_not_be_used() {
    for (mine, status) in [("local-lvm", 200), ("tank", 503)] {
        let mut setup = Setup::default();
        setup.storages.push(Storage::new("tank", StorageKind::ZfsPool));
        setup.storages.rotate_left(usize::from(mine == "tank"));
        let mut sim = plain_sim(setup);
        grant(&mut sim, "/storage/tank", &["Datastore.Audit"]);
        grant(&mut sim, "/storage/local-lvm", &["Datastore.AllocateSpace", "Datastore.Audit"]);
        let stage = Stage::on(sim);
        let (answer, requests) = stage.counted(health());
        assert_eq!((answer.status, requests), (status, 4), "{answer:?}");
        if status == 503 {
            assert_red(&stage, "pve-forbidden", "lacks Datastore.AllocateSpace on /storage/tank: ");
            grant(
                &mut stage.world.sim_mut(),
                "/storage/tank",
                &["Datastore.AllocateSpace", "Datastore.Audit"],
            );
            assert_green(&stage);
        }
    }
}

#[test]
fn what_is_set_is_checked_where_it_is() {
    let world = prepared(Kind::Lxc, Version::V9).world;
    world.sim_mut().setup_mut().bridges.push("vmbr1".into());
    world.sim_mut().add_storage(Storage::new("tank", StorageKind::ZfsPool));
    let stage = Stage::of(world.clone(), &[("PVE_BRIDGE", "vmbr1")]);
    assert_red(&stage, "pve-forbidden", "lacks SDN.Use on /sdn/zones/localnetwork/vmbr1: ");
    grant(&mut world.sim_mut(), "/sdn/zones/localnetwork/vmbr1", &["SDN.Use"]);
    assert_green(&stage);
    let stage = Stage::of(world.clone(), &[("PVE_STORAGE", "tank")]);
    assert_red(&stage, "pve-forbidden", "lacks Datastore.Audit, Datastore.AllocateSpace on /storage/tank: ");
    grant(&mut world.sim_mut(), "/storage/tank", &["Datastore.AllocateSpace", "Datastore.Audit"]);
    assert_green(&stage);
}

/// One template of VMs is enough to need what VMs do.
#[test]
fn of_a_mixed_deployment() {
    let stage = prepared(Kind::Lxc, Version::V9);
    let template = pve_edge_bed::sim::Spec::vm_template(VM_TEMPLATE).tags("pvevm_1vcpu_1gb_8gb_v1");
    stage.world.sim_mut().add(template);
    assert_red(&stage, "pve-forbidden", "lacks VM.GuestAgent.Unrestricted on /vms: ");
    let (path, privileges) = by_the_script(Kind::Qemu, Version::V9).remove(0);
    grant(&mut stage.world.sim_mut(), &path, &borrowed(&privileges));
    assert_green(&stage);
}
