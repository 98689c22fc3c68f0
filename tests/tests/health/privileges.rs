//! Each missing privilege, by the path where it is missing.

use pve_edge_tests::{
    sim::{Kind, Setup, Sim, Storage, StorageKind, TOKEN, Version},
    world::World,
};

use super::{Stage, assert_green, assert_red, health, told};
use crate::stage::{TEMPLATE, VM_TEMPLATE, plain_sim, sim_of};

const GUESTS: [&str; 10] = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
    "VM.Snapshot",
];
const STORAGE: &str = "/storage/local-lvm";
const BRIDGE: &str = "/sdn/zones/localnetwork/vmbr0";

/// The token, and its user.
fn grant(sim: &mut Sim, path: &str, privileges: &[&str]) {
    let token = TOKEN.rsplit_once('=').map_or(TOKEN, |(id, _)| id);
    for who in [token, token.split('!').next().unwrap_or(token)] {
        sim.grant(who, path, privileges);
    }
}

/// The agent's privilege is a VM's alone.
fn guests(kind: Kind, version: Version) -> Vec<&'static str> {
    let agent = if version >= Version::V9 { "VM.GuestAgent.Unrestricted" } else { "VM.Monitor" };
    GUESTS.into_iter().chain((kind == Kind::Qemu).then_some(agent)).collect()
}

/// As the README has it, and nothing at `/`.
fn by_the_book(kind: Kind, version: Version) -> Stage {
    let mut sim = sim_of(kind, Setup { version, ..Setup::default() });
    // Whoever reads the template's config sees that it has what it needs before 9.1.
    if kind == Kind::Lxc {
        sim.admin_set(TEMPLATE, "hookscript", "local:snippets/hook.sh");
    }
    grant(&mut sim, "/", &[]);
    grant(&mut sim, "/vms", &guests(kind, version));
    grant(&mut sim, STORAGE, &["Datastore.AllocateSpace"]);
    if version >= Version::V8 {
        grant(&mut sim, BRIDGE, &["SDN.Use"]);
    }
    grant(&mut sim, "/nodes", &["Sys.Audit"]);
    Stage::of_kind(kind, World::new(sim, 7), &[])
}

#[test]
fn the_roles_of_the_readme_are_enough() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in [Kind::Lxc, Kind::Qemu] {
            assert_green(&by_the_book(kind, version));
        }
    }
}

#[test]
fn one_at_a_time() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in [Kind::Lxc, Kind::Qemu] {
            let all = guests(kind, version);
            let sdn = (version >= Version::V8).then_some((BRIDGE, vec!["SDN.Use"]));
            let places =
                [("/vms", all), (STORAGE, vec!["Datastore.AllocateSpace"]), ("/nodes", vec!["Sys.Audit"])];
            for (path, all) in places.into_iter().chain(sdn) {
                for lost in &all {
                    let stage = by_the_book(kind, version);
                    let rest: Vec<&str> = all.iter().copied().filter(|it| it != lost).collect();
                    grant(&mut stage.world.sim_mut(), path, &rest);
                    let answer = assert_red(&stage, "pve-forbidden", &format!("lacks {lost} on {path}: "));
                    // A token without this one sees no guest, and no template.
                    let alone = !["VM.Audit", "Datastore.AllocateSpace"].contains(lost);
                    assert!(!alone || told(&answer, "reasons").lines().count() == 1, "{answer:?}");
                    grant(&mut stage.world.sim_mut(), path, &all);
                    assert_green(&stage);
                }
            }
        }
    }
}

/// A deeper role replaces what is inherited, a pool adds to it.
#[test]
fn on_a_template_alone() {
    let stage = by_the_book(Kind::Lxc, Version::V9);
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
        grant(&mut sim, "/storage/local-lvm", &["Datastore.AllocateSpace"]);
        let stage = Stage::on(sim);
        let (answer, requests) = stage.counted(health());
        assert_eq!((answer.status, requests), (status, 4), "{answer:?}");
        if status == 503 {
            assert_red(&stage, "pve-forbidden", "lacks Datastore.AllocateSpace on /storage/tank: ");
            grant(&mut stage.world.sim_mut(), "/storage/tank", &["Datastore.AllocateSpace"]);
            assert_green(&stage);
        }
    }
}

#[test]
fn what_is_set_is_checked_where_it_is() {
    let world = by_the_book(Kind::Lxc, Version::V9).world;
    world.sim_mut().setup_mut().bridges.push("vmbr1".into());
    world.sim_mut().add_storage(Storage::new("tank", StorageKind::ZfsPool));
    let stage = Stage::of(world.clone(), &[("PVE_BRIDGE", "vmbr1")]);
    assert_red(&stage, "pve-forbidden", "lacks SDN.Use on /sdn/zones/localnetwork/vmbr1: ");
    grant(&mut world.sim_mut(), "/sdn/zones/localnetwork/vmbr1", &["SDN.Use"]);
    assert_green(&stage);
    let stage = Stage::of(world.clone(), &[("PVE_STORAGE", "tank")]);
    assert_red(&stage, "pve-forbidden", "lacks Datastore.AllocateSpace on /storage/tank: ");
    grant(&mut world.sim_mut(), "/storage/tank", &["Datastore.AllocateSpace"]);
    assert_green(&stage);
}

/// One template of VMs is enough to need what VMs do.
#[test]
fn of_a_mixed_deployment() {
    let stage = by_the_book(Kind::Lxc, Version::V9);
    let template = pve_edge_tests::sim::Spec::vm_template(VM_TEMPLATE).tags("pvevm_1vcpu_1gb_8gb_v1");
    stage.world.sim_mut().add(template);
    assert_red(&stage, "pve-forbidden", "lacks VM.GuestAgent.Unrestricted on /vms: ");
    grant(&mut stage.world.sim_mut(), "/vms", &guests(Kind::Qemu, Version::V9));
    assert_green(&stage);
}
