//! What surprises in QEMU virtual machines.

use pve_edge_bed::sim::{Setup, Sim, Spec, Storage, StorageKind, Version};
use time::Duration;

use crate::talk::{fails, item, ok, request, task};

const TEMPLATE: u32 = 9100;
const CLONE: &str = "POST /nodes/pve1/qemu/9100/clone newid=300&full=0&name=s300&description=mine";

pub(crate) fn sim() -> Sim {
    with(Setup::default())
}

pub(crate) fn with(setup: Setup) -> Sim {
    let mut sim = Sim::new(setup);
    sim.add(Spec::vm_template(TEMPLATE).tags("pvevm_2vcpu_4gb_16gb_v1").description("a template\n\n"));
    sim
}

pub(crate) fn cloned(sim: &mut Sim, vmid: u32) {
    let line =
        format!("POST /nodes/pve1/qemu/{TEMPLATE}/clone newid={vmid}&full=0&name=s{vmid}&description=mine");
    assert_eq!(task(sim, &line), "OK");
}

/// A clone that runs, with an answering agent.
pub(crate) fn running(sim: &mut Sim) {
    cloned(sim, 300);
    assert_eq!(task(sim, "POST /nodes/pve1/qemu/300/status/start"), "OK");
    sim.advance(sim.setup().vm_boot);
}

fn memory(sim: &Sim) -> Option<u64> {
    sim.guest(300).and_then(|guest| guest.run.as_ref()).map(|run| run.memory)
}

#[test]
fn clones_of_one_template_work_at_once() {
    let mut sim = sim();
    let began = sim.now();
    for vmid in 300..308 {
        ok(&mut sim, &CLONE.replace("300", &vmid.to_string()));
    }
    sim.settle();
    assert!(sim.now() - began < Duration::seconds(2));
    assert!(sim.tasks().iter().all(|task| task.exit.as_deref() == Some("OK")));
    assert_eq!(sim.guest(TEMPLATE).and_then(|guest| guest.config.lock()), None);
    assert_eq!(sim.guests().count(), 9);
}

#[test]
fn newid_is_claimed_by_the_worker_and_the_loser_hears_it_from_its_task() {
    let mut sim = sim();
    let now = sim.now();
    for _ in 0..2 {
        assert_eq!(sim.answer(&request(CLONE), now).map(|reply| reply.status), Ok(200));
    }
    assert!(sim.guest(300).is_none(), "a UPID is no claim");
    sim.settle();
    let mut ends: Vec<_> = sim.tasks().iter().filter_map(|task| task.exit.clone()).collect();
    ends.sort();
    let late = "unable to create VM 300: config file already exists";
    let busy = "can't lock file '/var/lock/qemu-server/lock-300.conf' - got timeout";
    assert_eq!(ends[0], "OK");
    assert!(ends[1] == late || ends[1] == busy, "{}", ends[1]);
    assert_eq!(fails(&mut sim, CLONE), format!("500 {late}"));
}

#[test]
fn a_container_of_that_number_is_noticed_by_the_worker_alone() {
    let mut sim = sim();
    sim.add(Spec::guest(300));
    let file = "/etc/pve/nodes/pve1/qemu-server/300.conf";
    assert_eq!(task(&mut sim, CLONE), format!("close (rename) atomic file '{file}' failed: File exists"));
    assert!(fails(&mut sim, "GET /nodes/pve1/qemu/300/config").contains("nodes/pve1/qemu-server/300.conf"));
}

#[test]
fn first_nothing_then_a_temporary_file_then_the_config_with_its_lock() {
    let mut sim = sim();
    ok(&mut sim, CLONE);
    assert!(fails(&mut sim, "GET /nodes/pve1/qemu/300/config").ends_with("does not exist"));
    sim.advance(Duration::milliseconds(100));
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert_eq!(
        (&config["description"], &config["lock"]),
        (&"qmclone temporary file".into(), &"clone".into())
    );
    assert!(config.get("tags").is_none());
    sim.advance(Duration::milliseconds(600));
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert_eq!((&config["description"], &config["lock"]), (&"mine".into(), &"clone".into()));
    assert_eq!(config["tags"], "pvevm_2vcpu_4gb_16gb_v1");
    assert_eq!(
        fails(&mut sim, "PUT /nodes/pve1/qemu/300/config digest=0&tags=a").split(' ').next(),
        Some("500")
    );
    sim.settle();
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert!(config.get("lock").is_none());
    assert_eq!(config["scsi0"], "local-lvm:vm-300-disk-0,size=8G");
    assert_eq!(config["ide2"], "local-lvm:vm-300-cloudinit,media=cdrom");
}

#[test]
fn everything_is_inherited_but_the_addresses_and_the_name() {
    let mut sim = Sim::new(Setup::default());
    let spec = Spec::vm_template(TEMPLATE).tags("cmux;preset").description("the template's");
    sim.add(spec.set("protection", "1").set("onboot", "1").set("ciuser", "root").set("name", "golden"));
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/9100/clone newid=300&full=0&description="), "OK");
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    let template = ok(&mut sim, "GET /nodes/pve1/qemu/9100/config");
    assert_eq!(config["name"], "Copy-of-VM-golden");
    for same in ["tags", "protection", "onboot", "ciuser", "description"] {
        assert_eq!(config[same], template[same], "{same}");
    }
    for other in ["net0", "smbios1", "scsi0", "ide2"] {
        assert_ne!(config[other], template[other], "{other}");
    }
    assert!(config.get("template").is_none());
    assert!(config["net0"].as_str().is_some_and(|net| net.starts_with("virtio=BC:24:11:")));
    let text = "500 can't remove VM 300 - protection mode enabled";
    assert_eq!(fails(&mut sim, "DELETE /nodes/pve1/qemu/300"), text);
}

#[test]
fn a_crashed_clone_leaves_a_lock_that_no_token_removes() {
    let mut sim = sim();
    ok(&mut sim, CLONE);
    sim.advance(Duration::milliseconds(100));
    sim.crash(300);
    let unlock = fails(&mut sim, "PUT /nodes/pve1/qemu/300/config delete=lock");
    assert_eq!(unlock, "500 only root can set 'lock' config");
    assert_eq!(task(&mut sim, "DELETE /nodes/pve1/qemu/300"), "VM is locked (clone)");
    assert_eq!(task(&mut sim, &CLONE.replace("300", "301")), "OK", "the template is free");
}

#[test]
fn a_failed_clone_frees_the_number() {
    let mut sim = sim();
    let volumes = sim.volumes().len();
    sim.fail_next("qmclone", "no space left");
    assert_eq!(task(&mut sim, CLONE), "clone failed: no space left");
    assert!(sim.guest(300).is_none());
    assert_eq!(sim.volumes().len(), volumes);
    assert_eq!(task(&mut sim, CLONE), "OK");
}

#[test]
fn linked_clones_depend_on_the_storage_and_the_words_on_the_version() {
    let of = |kind, spec: Spec, version| {
        let setup = Setup { storages: vec![Storage::new("s", kind)], version, ..Setup::default() };
        let mut sim = Sim::new(setup);
        sim.add(spec);
        crate::talk::call(&mut sim, CLONE).reason
    };
    for kind in [StorageKind::LvmThin, StorageKind::ZfsPool, StorageKind::Dir] {
        assert_eq!(of(kind, Spec::vm_template(TEMPLATE), Version::V9), "OK");
    }
    assert_eq!(
        of(StorageKind::ZfsPool, Spec::vm(TEMPLATE), Version::V9),
        "Linked clone feature is not supported for 's:vm-9100-disk-0' (scsi0)"
    );
    assert_eq!(
        of(StorageKind::ZfsPool, Spec::vm(TEMPLATE), Version::V8),
        "Linked clone feature is not supported for drive 'scsi0'"
    );
}

#[test]
fn a_base_is_held_by_its_clones_but_not_on_lvm_thin() {
    let of = |kind| {
        let mut sim = with(Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() });
        cloned(&mut sim, 300);
        task(&mut sim, "DELETE /nodes/pve1/qemu/9100")
    };
    let held = |volid: &str| format!("base volume '{volid}' is still in use by linked cloned");
    assert_eq!(of(StorageKind::ZfsPool), held("s:base-9100-disk-0"));
    assert_eq!(of(StorageKind::Dir), held("s:9100/base-9100-disk-0.qcow2"));
    assert_eq!(of(StorageKind::LvmThin), "OK");
}

#[test]
fn the_digest_comes_before_the_lock_and_its_words_changed() {
    for (version, text) in [(Version::V8, "missmatch"), (Version::V9, "mismatch")] {
        let mut sim = with(Setup { version, ..Setup::default() });
        cloned(&mut sim, 300);
        let digest = ok(&mut sim, "GET /nodes/pve1/qemu/300/config")["digest"].clone();
        let put = format!("PUT /nodes/pve1/qemu/300/config tags=a&digest={}", digest.as_str().unwrap_or(""));
        ok(&mut sim, &put);
        sim.set_lock(300, Some("backup"));
        let said = fails(&mut sim, &put);
        assert_eq!(said, format!("500 checksum {text} (file change by other user?)"));
        assert_eq!(fails(&mut sim, "PUT /nodes/pve1/qemu/300/config tags=b"), "500 VM is locked (backup)");
    }
}

#[test]
fn a_description_reads_back_without_white_space_at_its_end() {
    let mut sim = sim();
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/9100/config");
    assert_eq!(config["description"], "a template");
}

#[test]
fn cores_and_memory_of_a_running_vm_wait_for_a_start() {
    let mut sim = sim();
    running(&mut sim);
    ok(&mut sim, "PUT /nodes/pve1/qemu/300/config cores=4&name=other&ipconfig0=ip=10.0.0.7/24&cipassword=x");
    let current = ok(&mut sim, "GET /nodes/pve1/qemu/300/config?current=1");
    assert_eq!((&current["cores"], &current["name"]), (&2.into(), &"other".into()));
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert_eq!((&config["cores"], &config["cipassword"]), (&4.into(), &"**********".into()));
    assert_eq!(config["memory"], "2048", "a string since 8");
    let pending = ok(&mut sim, "GET /nodes/pve1/qemu/300/pending");
    let cores = pending.as_array().and_then(|all| all.iter().find(|item| item["key"] == "cores")).cloned();
    assert_eq!(cores, Some(serde_json::json!({ "key": "cores", "value": 2, "pending": 4 })));
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/reboot"), "OK");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/config?current=1")["cores"], 4);
    let address = sim.guest(300).and_then(|guest| guest.run.as_ref()).map(|run| run.address.to_string());
    assert_eq!(address.as_deref(), Some("10.0.0.7"));
}

#[test]
fn a_post_of_the_config_is_a_task_unless_it_may_be_waited_for() {
    let mut sim = sim();
    cloned(&mut sim, 300);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/config tags=a"), "OK");
    let waited = ok(&mut sim, "POST /nodes/pve1/qemu/300/config tags=b&background_delay=5");
    assert!(waited.is_null());
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/config")["tags"], "b");
}

#[test]
fn a_resize_says_no_in_its_task_and_the_same_size_is_success() {
    let mut sim = sim();
    cloned(&mut sim, 300);
    let resize = |size: &str| format!("PUT /nodes/pve1/qemu/300/resize disk=scsi0&size={size}");
    assert_eq!(task(&mut sim, &resize("16G")), "OK");
    assert_eq!(task(&mut sim, &resize("16G")), "OK");
    assert_eq!(task(&mut sim, &resize("8G")), "shrinking disks is not supported");
    assert_eq!(task(&mut sim, &resize("8G").replace("scsi0", "scsi3")), "disk 'scsi3' does not exist");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/config")["scsi0"], "local-lvm:vm-300-disk-0,size=16G");
    let mut old = with(Setup { version: Version::V7_4, ..Setup::default() });
    cloned(&mut old, 300);
    assert!(ok(&mut old, &resize("16G")).is_null());
    assert_eq!(fails(&mut old, &resize("8G")), "500 shrinking disks is not supported");
}

#[test]
fn power_errors_are_mostly_of_the_task() {
    let mut sim = sim();
    running(&mut sim);
    let post = |action: &str| format!("POST /nodes/pve1/qemu/300/status/{action}");
    assert_eq!(task(&mut sim, &post("start")), "VM 300 already running");
    assert_eq!(fails(&mut sim, "DELETE /nodes/pve1/qemu/300"), "500 VM 300 is running - destroy failed");
    assert_eq!(task(&mut sim, &post("stop")), "OK");
    assert_eq!(task(&mut sim, &post("stop")), "OK", "there is nothing to stop");
    assert_eq!(fails(&mut sim, &post("reboot")), "500 VM 300 not running");
    assert_eq!(fails(&mut sim, &post("suspend")), "500 VM 300 not running");
    let template = "POST /nodes/pve1/qemu/9100/status/start";
    assert_eq!(task(&mut sim, template), "you can't start a vm if it's a template");
    sim.set_lock(300, Some("backup"));
    assert_eq!(task(&mut sim, &post("start")), "VM is locked (backup)");
    let force = fails(&mut sim, "DELETE /nodes/pve1/qemu/300?force=1");
    assert!(force.starts_with("400") && force.contains("force"), "{force}");
}

#[test]
fn a_paused_vm_runs_for_pve_and_answers_nobody() {
    let mut sim = sim();
    running(&mut sim);
    let before = memory(&sim);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend"), "OK");
    let current = ok(&mut sim, "GET /nodes/pve1/qemu/300/status/current");
    assert_eq!((&current["status"], &current["qmpstatus"]), (&"running".into(), &"paused".into()));
    sim.advance(Duration::seconds(10));
    assert_eq!(item(&mut sim, 300)["status"], "paused");
    let began = sim.now();
    assert_eq!(
        fails(&mut sim, "POST /nodes/pve1/qemu/300/agent/ping"),
        "500 QEMU guest agent is not running"
    );
    assert!(sim.now() - began >= Duration::seconds(3));
    let shutdown = fails(&mut sim, "POST /nodes/pve1/qemu/300/status/shutdown");
    assert_eq!(shutdown, "500 VM is paused - cannot shutdown");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/resume"), "OK");
    ok(&mut sim, "POST /nodes/pve1/qemu/300/agent/ping");
    assert_eq!(memory(&sim), before);
}

#[test]
fn a_vm_suspended_to_disk_accepts_no_change_and_comes_back_with_its_memory() {
    for action in ["resume", "start"] {
        let mut sim = sim();
        running(&mut sim);
        let before = memory(&sim);
        assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend todisk=1"), "OK");
        assert_eq!(item(&mut sim, 300)["lock"], "suspended");
        assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/status/current")["status"], "stopped");
        assert_eq!(fails(&mut sim, "PUT /nodes/pve1/qemu/300/config tags=a"), "500 VM is locked (suspended)");
        assert_eq!(memory(&sim), None);
        assert_eq!(task(&mut sim, &format!("POST /nodes/pve1/qemu/300/status/{action}")), "OK");
        assert_eq!(memory(&sim), before, "{action}");
        let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
        assert!(config.get("lock").is_none() && config.get("vmstate").is_none());
        ok(&mut sim, "POST /nodes/pve1/qemu/300/agent/ping");
        assert!(sim.volumes().keys().all(|volid| !volid.contains("state")));
    }
}

#[test]
fn while_memory_is_written_the_lock_is_another_and_stays_after_a_failure() {
    let mut sim = sim();
    running(&mut sim);
    ok(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend todisk=1");
    sim.advance(Duration::milliseconds(500));
    assert_eq!(item(&mut sim, 300)["lock"], "suspending");
    sim.fail_next("qmsuspend", "no space left");
    sim.settle();
    assert_eq!(item(&mut sim, 300)["lock"], "suspending");
    assert!(memory(&sim).is_some(), "it runs on");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/stop"), "VM is locked (suspending)");
}

#[test]
fn a_suspended_vm_is_deleted_or_loses_its_memory_on_demand() {
    let mut sim = sim();
    running(&mut sim);
    let volumes = sim.volumes().len();
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend todisk=1"), "OK");
    sim.admin_set(300, "protection", "1");
    let held = fails(&mut sim, "PUT /nodes/pve1/qemu/300/config delete=vmstate&protection=0");
    assert!(held.starts_with("500 can't remove vmstate 'local-lvm:vm-300-state-suspend-"), "{held}");
    assert!(held.ends_with("- protection mode enabled"), "{held}");
    sim.admin_set(300, "protection", "0");
    ok(&mut sim, "PUT /nodes/pve1/qemu/300/config delete=vmstate&tags=a");
    assert_eq!(sim.volumes().len(), volumes);
    assert_eq!(item(&mut sim, 300)["tags"], "a");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/start"), "OK");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend todisk=1"), "OK");
    assert_eq!(task(&mut sim, "DELETE /nodes/pve1/qemu/300?purge=1"), "OK");
    assert!(sim.volumes().keys().all(|volid| !volid.contains("300")));
}

#[test]
fn a_rollback_to_memory_runs_and_keeps_the_description_alone() {
    let mut sim = sim();
    running(&mut sim);
    let before = memory(&sim);
    ok(&mut sim, "PUT /nodes/pve1/qemu/300/config tags=old");
    assert_eq!(
        task(&mut sim, "POST /nodes/pve1/qemu/300/snapshot snapname=ram&vmstate=1&description=d"),
        "OK"
    );
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/snapshot snapname=disk"), "OK");
    let all = ok(&mut sim, "GET /nodes/pve1/qemu/300/snapshot");
    let vmstate = |name: &str| {
        let found = all.as_array().and_then(|all| all.iter().find(|item| item["name"] == name));
        found.map(|item| item["vmstate"].clone())
    };
    assert_eq!((vmstate("ram"), vmstate("disk")), (Some(1.into()), Some(0.into())));
    ok(&mut sim, "PUT /nodes/pve1/qemu/300/config tags=new&description=now");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/stop"), "OK");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/snapshot/ram/rollback"), "OK");
    assert_eq!(memory(&sim), before);
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert_eq!((&config["tags"], &config["description"]), (&"old".into(), &"now".into()));
    assert!(config.get("vmstate").is_none());
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/snapshot/disk/rollback"), "OK");
    assert_eq!(memory(&sim), None, "without memory it is stopped");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/snapshot/ram/config")["description"], "d");
    let pending = fails(&mut sim, "POST /nodes/pve1/qemu/300/snapshot snapname=pending");
    assert_eq!(pending, "500 unable to use snapshot name 'pending' (reserved name)");
    assert_eq!(task(&mut sim, "DELETE /nodes/pve1/qemu/300/snapshot/ram"), "OK");
    assert!(sim.volumes().keys().all(|volid| !volid.contains("state")));
}

#[test]
fn a_conversion_is_a_task() {
    let mut sim = sim();
    running(&mut sim);
    let running = "500 you can't convert a VM to template if VM is running";
    assert_eq!(fails(&mut sim, "POST /nodes/pve1/qemu/300/template"), running);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/stop"), "OK");
    let feature = ok(&mut sim, "GET /nodes/pve1/qemu/300/feature?feature=snapshot");
    assert_eq!((&feature["hasFeature"], &feature["nodes"]), (&1.into(), &serde_json::json!(["pve1"])));
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/template"), "OK");
    let config = ok(&mut sim, "GET /nodes/pve1/qemu/300/config");
    assert_eq!(config["scsi0"], "local-lvm:base-300-disk-0,size=8G");
    assert_eq!(config["template"], 1);
}
