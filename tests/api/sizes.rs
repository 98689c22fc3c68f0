//! Sizes that a template's own stand against: done whole, or refused with the reason.

use crate::stage::prelude::*;

const GIB: u64 = 1 << 30;

/// PVE takes no memory below what a VM's shrinks to: both go down together.
#[test]
fn memory_below_a_templates_balloon() {
    let mut sim = sim_of(Kind::Qemu, Setup::default());
    sim.admin_set(VM_TEMPLATE, "balloon", "1536");
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
    for (asked, balloon) in [(512, "512"), (1536, "1536"), (4096, "1536")] {
        let ask = Ask::sandbox(json!({"memory": asked})).wait(25);
        let answer = stage.ask(ask);
        assert_eq!(answer.status, 201, "{asked}: {answer:?}\n{}", stage.told());
        let sim = stage.world.sim();
        let config = &sim.guest(vmid_of(&answer.id())).unwrap().config;
        let has = (config.get("memory"), config.get("balloon"));
        assert_eq!(has, (Some(&*asked.to_string()), Some(balloon)));
    }
}

/// What a creation answers is what its guest has been given, as everybody reads it who asks later: its
/// config was the template's when it was read.
#[test]
fn a_creation_tells_the_sizes_that_it_gave() {
    let sizes = |answer: &Answer| ["cpu", "memory", "disk"].map(|name| answer.json()[name].as_u64());
    for kind in BOTH {
        let sim = sim_of(kind, Setup::default().without_mount_protection());
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
        for (asked, expected) in
            [(json!({"cpu": 3, "memory": 3072, "disk": 40}), Some([3, 3072, 40])), (json!({}), None)]
        {
            let answer = stage.ask(Ask::sandbox(asked.clone()).wait(25));
            assert_eq!(answer.status, 201, "{kind:?} {asked}: {answer:?}\n{}", stage.told());
            let told = sizes(&answer);
            if let Some(expected) = expected {
                assert_eq!(told, expected.map(Some), "{kind:?} {asked}: {answer:?}");
            }
            stage.world.settle();
            assert_eq!(told, sizes(&stage.ask(Ask::one(&answer.id()))), "{kind:?} {asked}: {answer:?}");
        }
    }
}

/// A disk is as large as it was asked for, however its template's size is written, or not written at all.
#[test]
fn disks_whose_sizes_are_no_whole_gibibytes() {
    for (written, has, asked, expected) in [
        ("size=2.5G", 5 * GIB / 2, 3, 3 * GIB),
        ("size=2.5G", 5 * GIB / 2, 2, 5 * GIB / 2),
        ("size=2560M", 5 * GIB / 2, 3, 3 * GIB),
        ("size=2560M", 5 * GIB / 2, 2, 5 * GIB / 2),
        ("", 4 * GIB, 6, 6 * GIB),
        ("", 4 * GIB, 4, 4 * GIB),
        ("", 4 * GIB, 2, 4 * GIB),
    ] {
        let mut sim = sim_of(Kind::Lxc, Setup::default().without_mount_protection());
        let rootfs = sim.guest(TEMPLATE).unwrap().config.get("rootfs").unwrap().to_owned();
        let volid = rootfs.split(',').next().unwrap().to_owned();
        let value = if written.is_empty() { volid.clone() } else { format!("{volid},{written}") };
        sim.admin_set(TEMPLATE, "rootfs", &value);
        sim.set_volume_size(&volid, has);
        let stage = Stage::on(sim);
        let answer = stage.ask(Ask::sandbox(json!({"disk": asked})).wait(25));
        assert_eq!(answer.status, 201, "{written} {asked}: {answer:?}\n{}", stage.told());
        stage.world.settle();
        let sim = stage.world.sim();
        let own = sim.guest(vmid_of(&answer.id())).unwrap().config.get("rootfs").unwrap().to_owned();
        let own = own.split(',').next().unwrap().to_owned();
        assert_eq!(sim.volumes()[&*own], expected, "{written} {asked}");
    }
}

#[test]
fn sizes_are_applied_and_the_disk_grows() {
    for (kind, disk) in [(Kind::Lxc, "rootfs"), (Kind::Qemu, "scsi0")] {
        let stage = if kind == Kind::Lxc { Stage::at_once() } else { Stage::of_vms() };
        let id = stage.created(json!({"cpu": 4, "memory": 4096, "disk": 16}));
        let disk = stage.config(&id, disk);
        assert!(disk.ends_with("size=16G"), "{disk}");
        assert_eq!((&*stage.config(&id, "cores"), &*stage.config(&id, "memory")), ("4", "4096"));
    }
}
