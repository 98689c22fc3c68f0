use pve_edge_bed::sim::{Setup, Sim, Storage, StorageKind};

use crate::talk::{cloned, fails, ok, task, with};

const SNAPSHOT: &str = "/nodes/pve1/lxc/200/snapshot";

fn one(kind: StorageKind) -> Sim {
    let mut sim = with(Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() });
    cloned(&mut sim, 200);
    sim
}

#[test]
fn rollback_takes_tags_back_and_keeps_the_description() {
    let mut sim = one(StorageKind::LvmThin);
    ok(&mut sim, "PUT /nodes/pve1/lxc/200/config tags=old&description=old");
    assert_eq!(task(&mut sim, &format!("POST {SNAPSHOT} snapname=first")), "OK");
    ok(&mut sim, "PUT /nodes/pve1/lxc/200/config tags=new&description=new");
    assert_eq!(task(&mut sim, &format!("POST {SNAPSHOT}/first/rollback")), "OK");
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
    assert_eq!((&config["tags"], &config["description"]), (&"old".into(), &"new\n".into()));
    assert!(config.get("lock").is_none() && config.get("snaptime").is_none());
}

#[test]
fn zfs_rolls_back_to_the_newest_only() {
    for (kind, end) in [
        (StorageKind::ZfsPool, "can't rollback, 'first' is not most recent snapshot on"),
        (StorageKind::LvmThin, "OK"),
    ] {
        let mut sim = one(kind);
        for name in ["first", "second"] {
            assert_eq!(task(&mut sim, &format!("POST {SNAPSHOT} snapname={name}")), "OK");
        }
        assert!(task(&mut sim, &format!("POST {SNAPSHOT}/first/rollback")).starts_with(end));
        assert_eq!(task(&mut sim, &format!("DELETE {SNAPSHOT}/second")), "OK");
        assert_eq!(task(&mut sim, &format!("POST {SNAPSHOT}/first/rollback")), "OK");
    }
}

#[test]
fn a_linked_clone_of_a_snapshot_needs_lvm_thin() {
    for (kind, works) in [(StorageKind::ZfsPool, false), (StorageKind::LvmThin, true)] {
        let mut sim = one(kind);
        assert_eq!(task(&mut sim, &format!("POST {SNAPSHOT} snapname=first")), "OK");
        let feature = "GET /nodes/pve1/lxc/200/feature?feature=clone&snapname=first";
        assert_eq!(ok(&mut sim, feature)["hasFeature"], u8::from(works));
        let clone = "POST /nodes/pve1/lxc/200/clone newid=201&full=0&snapname=first";
        if works {
            assert_eq!(task(&mut sim, clone), "OK");
        } else {
            assert!(fails(&mut sim, clone).contains("is not available"));
        }
        assert_eq!(task(&mut sim, &clone.replace("201&full=0", "202&full=1")), "OK");
    }
}

#[test]
fn a_directory_has_no_snapshots() {
    let mut sim = with(Setup { storages: vec![Storage::new("s", StorageKind::Dir)], ..Setup::default() });
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/9000/clone newid=200&full=1"), "OK");
    assert_eq!(
        task(&mut sim, &format!("POST {SNAPSHOT} snapname=first")),
        "snapshot feature is not available"
    );
    assert_eq!(
        fails(&mut sim, &format!("POST {SNAPSHOT} snapname=current")),
        "500 unable to use snapshot name 'current' (reserved name)"
    );
}

#[test]
fn template_conversion_answers_null_and_works_on() {
    let mut sim = one(StorageKind::LvmThin);
    let template = "POST /nodes/pve1/lxc/200/template";
    assert!(ok(&mut sim, template).is_null());
    assert!(ok(&mut sim, "GET /nodes/pve1/lxc/200/config").get("template").is_none());
    sim.settle();
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
    assert_eq!((&config["template"], &config["rootfs"]), (&1.into(), &"s:base-200-disk-0,size=8G".into()));
    assert_eq!(fails(&mut sim, template), "500 you can't convert a template to a template");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/clone newid=201&full=0"), "OK");
}
