use pve_edge_bed::sim::{Setup, Sim, Spec, Storage, StorageKind, TOKEN};
use time::Duration;

use crate::talk::{TEMPLATE, call, cloned, fails, ok, request, sim, task, with};

const CLONE: &str = "POST /nodes/pve1/lxc/9000/clone newid=200&full=0";

#[test]
fn the_source_is_locked_until_the_worker_ends() {
    let mut sim = sim();
    ok(&mut sim, CLONE);
    let second = CLONE.replace("200", "201");
    assert_eq!(fails(&mut sim, &second), "500 CT is locked (disk)");
    sim.settle();
    assert_eq!(task(&mut sim, &second), "OK");
}

#[test]
fn newid_is_claimed_at_once_and_only_once() {
    let mut sim = sim();
    ok(&mut sim, CLONE);
    sim.set_lock(TEMPLATE, None);
    assert_eq!(fails(&mut sim, CLONE), "500 CT 200 already exists on node 'pve1'");
    assert_eq!(sim.guest(TEMPLATE).and_then(|guest| guest.config.lock()), None, "the source is free again");
}

#[test]
fn a_failed_claim_flaps_the_lock_of_the_source() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    let now = sim.now();
    assert_eq!(sim.answer(&request(CLONE), now).map(|reply| reply.status), Ok(500));
    assert_eq!(sim.guest(TEMPLATE).and_then(|guest| guest.config.lock()), Some("disk"));
    sim.advance(Duration::milliseconds(2));
    assert_eq!(sim.guest(TEMPLATE).and_then(|guest| guest.config.lock()), None);
}

#[test]
fn for_a_moment_the_new_config_is_only_a_lock() {
    let mut sim = sim();
    let now = sim.now();
    let line = "POST /nodes/pve1/lxc/9000/clone newid=200&full=0&description=mine&hostname=h";
    assert_eq!(sim.answer(&request(line), now).map(|reply| reply.status), Ok(200));
    assert_eq!(sim.guest(200).map(|guest| guest.config.text()), Some("lock: create\n".into()));
    sim.advance(Duration::milliseconds(3));
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
    assert_eq!(config["description"], "mine\n");
    assert_eq!((&config["lock"], &config["hostname"]), (&"create".into(), &"h".into()));
    assert!(config.get("rootfs").is_none());
    assert_eq!(fails(&mut sim, "PUT /nodes/pve1/lxc/200/config tags=a"), "500 CT is locked (create)");
}

#[test]
fn everything_is_inherited() {
    let mut sim = Sim::new(Setup::default());
    let spec = Spec::template(TEMPLATE).tags("cmux;preset").description("the template's");
    sim.add(spec.set("protection", "1").set("onboot", "1").set("env", "A=b").set("hookscript", "local:x"));
    cloned(&mut sim, 200);
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
    assert_eq!(config["tags"], "cmux;preset");
    assert_eq!((&config["protection"], &config["onboot"]), (&1.into(), &1.into()));
    assert_eq!((&config["env"], &config["hookscript"]), (&"A=b".into(), &"local:x".into()));
    assert!(config.get("template").is_none());
    let of = |sim: &mut Sim, vmid| ok(sim, &format!("GET /nodes/pve1/lxc/{vmid}/config"))["net0"].clone();
    assert_ne!(of(&mut sim, 200), of(&mut sim, TEMPLATE), "a new hardware address");
    assert_eq!(
        fails(&mut sim, "DELETE /nodes/pve1/lxc/200?force=1"),
        "500 can't remove CT 200 - protection mode enabled"
    );
    let line = format!("POST /nodes/pve1/lxc/{TEMPLATE}/clone newid=201&full=0&description=");
    assert_eq!(task(&mut sim, &line), "OK");
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/201/config");
    assert_eq!(config["description"], "the template's\n", "an empty description counts as none");
}

#[test]
fn linked_clones_depend_on_the_storage() {
    let of = |kind, template: bool| {
        let mut sim = Sim::new(Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() });
        let spec = if template { Spec::template(TEMPLATE) } else { Spec::guest(TEMPLATE) };
        sim.add(spec);
        call(&mut sim, CLONE).reason
    };
    assert_eq!(of(StorageKind::LvmThin, true), "OK");
    assert_eq!(of(StorageKind::ZfsPool, true), "OK");
    let no = "Linked clone feature for 's:9000/base-9000-disk-0' is not available";
    assert_eq!(of(StorageKind::Dir, true), no);
    assert_eq!(
        of(StorageKind::LvmThin, false),
        "Linked clone feature for 's:vm-9000-disk-0' is not available"
    );
}

#[test]
fn a_base_is_held_by_its_clones_on_zfs_and_not_on_lvm_thin() {
    let of = |kind| {
        let mut sim = with(Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() });
        cloned(&mut sim, 200);
        task(&mut sim, "DELETE /nodes/pve1/lxc/9000")
    };
    assert_eq!(
        of(StorageKind::ZfsPool),
        "base volume 'basevol-9000-disk-0' is still in use by linked clones"
    );
    assert_eq!(of(StorageKind::LvmThin), "OK");
}

#[test]
fn a_crashed_clone_leaves_locks_that_no_token_removes() {
    let mut sim = sim();
    ok(&mut sim, CLONE);
    sim.crash(200);
    sim.settle();
    assert_eq!(fails(&mut sim, CLONE), "500 CT is locked (disk)");
    assert_eq!(fails(&mut sim, "DELETE /nodes/pve1/lxc/200"), "500 CT is locked (create)");
    assert_eq!(fails(&mut sim, "PUT /nodes/pve1/lxc/200/config delete=lock"), "500 CT is locked (create)");
    assert_eq!(sim.tasks()[0].exit.as_deref(), Some("unexpected status"));
}

#[test]
fn a_failed_worker_frees_the_number() {
    let mut sim = sim();
    sim.fail_next("vzclone", "no space left");
    assert_eq!(task(&mut sim, CLONE), "clone failed: no space left");
    assert!(sim.guest(200).is_none());
    assert_eq!(task(&mut sim, CLONE), "OK");
}

#[test]
fn rights_through_a_pool_begin_when_the_clone_ends() {
    let mut sim = with(Setup { pools: ["p".to_owned()].into(), ..Setup::default() });
    let user = TOKEN.split('!').next().expect("a user");
    let token = TOKEN.rsplit_once('=').expect("a secret").0;
    for who in [user, token] {
        sim.revoke(who);
        sim.grant(who, "/vms/9000", &["VM.Clone", "VM.Audit"]);
        sim.grant(who, "/pool/p", &["VM.Allocate", "VM.Audit"]);
        sim.grant(who, "/storage", &["Datastore.AllocateSpace"]);
        sim.grant(who, "/sdn", &["SDN.Use"]);
    }
    assert_eq!(fails(&mut sim, CLONE), "403 Permission check failed");
    ok(&mut sim, &format!("{CLONE}&pool=p"));
    let read = "GET /nodes/pve1/lxc/200/config";
    assert_eq!(fails(&mut sim, read), "403 Permission check failed (/vms/200, VM.Audit)");
    sim.settle();
    ok(&mut sim, read);
}

#[test]
fn btrfs_clones_what_is_stopped_without_copying_it() {
    let storages = vec![Storage::new("s", StorageKind::Btrfs)];
    let mut sim = with(Setup { storages, ..Setup::default() });
    sim.add(Spec::guest(201));
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/lxc/201/feature?feature=clone")["hasFeature"], 1);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/201/clone newid=202&full=0"), "OK");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/lxc/202/config")["rootfs"], "s:202/vm-202-disk-0.raw,size=8G");
    cloned(&mut sim, 200);
    assert_eq!(task(&mut sim, "DELETE /nodes/pve1/lxc/9000"), "OK", "no clone holds its base");
}
