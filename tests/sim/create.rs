use pve_edge_bed::sim::{DOWNLOAD, MINIMAL, Setup, Sim, Storage, StorageKind, Version};
use time::Duration;

use crate::talk::{call, fails, ok, request, task, with};

const ARCHIVE: &str = "debian-12-standard_12.7-1_amd64.tar.zst";

/// With a directory for archives, and the privileges to fill it.
fn sim(version: Version) -> Sim {
    let storages = vec![Storage::new("local-lvm", StorageKind::LvmThin), Storage::local()];
    let mut sim = with(Setup { version, storages, ..Setup::default() });
    let all: Vec<&str> = MINIMAL.iter().chain(DOWNLOAD).copied().collect();
    for who in ["edge@pve", "edge@pve!edge"] {
        sim.grant(who, "/", &all);
    }
    sim
}

fn create(more: &str) -> String {
    format!(
        "POST /nodes/pve1/lxc vmid=300&unprivileged=1&rootfs=local-lvm:8&ostemplate=local:vztmpl/{ARCHIVE}{more}"
    )
}

fn downloaded() -> Sim {
    let mut sim = sim(Version::V9);
    let line = format!("POST /nodes/pve1/aplinfo storage=local&template={ARCHIVE}");
    assert_eq!(task(&mut sim, &line), "OK");
    sim
}

#[test]
fn whose_a_container_is_shows_when_it_is_unpacked() {
    let mut sim = downloaded();
    let line = create("&description=mine&tags=b;a&features=nesting=1&net0=name=eth0,bridge=vmbr0,ip=dhcp");
    let now = sim.now();
    assert_eq!(sim.answer(&request(&line), now).map(|it| it.status), Ok(200));
    sim.advance(Duration::seconds(3));
    assert_eq!(sim.guest(300).map(|it| it.config.text()), Some("lock: create\n".into()));
    assert_eq!(fails(&mut sim, &line), "500 CT 300 already exists on node 'pve1'");
    sim.advance(Duration::seconds(1));
    // Whole and unlocked, while the worker still has the file lock.
    let config = ok(&mut sim, "GET /nodes/pve1/lxc/300/config");
    assert_eq!((&config["description"], &config["tags"]), (&"mine\n".into(), &"a;b".into()));
    assert_eq!((&config["lock"], &config["memory"]), (&serde_json::Value::Null, &512.into()));
    assert_eq!(config["rootfs"], "local-lvm:vm-300-disk-0,size=8G");
    let before = sim.now();
    call(&mut sim, "PUT /nodes/pve1/lxc/300/config onboot=0");
    assert!(sim.now() - before >= Duration::milliseconds(200), "it waited");
}

#[test]
fn what_a_token_may_not_set_makes_nothing() {
    let mut sim = downloaded();
    for (more, says) in [
        ("&features=nesting=1,keyctl=1", "except nesting"),
        ("&hookscript=local:snippets/x.sh", "hookscript is only allowed for root@pam"),
        ("&net0=name=eth0,bridge=vmbr0", ""),
    ] {
        if more.contains("net0") {
            sim.grant("edge@pve!edge", "/sdn/zones/localnetwork/vmbr0", &[]);
        }
        let said = fails(&mut sim, &create(more));
        assert!(said.starts_with("403") && said.contains(says), "{more}: {said}");
        assert!(sim.guest(300).is_none());
    }
    for (from, to, says) in [
        ("unprivileged=1", "unprivileged=0", "/, Sys.Modify"),
        ("local-lvm:8", "local:8", "does not support container directories"),
        ("debian-12", "debian-11", "does not exist"),
    ] {
        assert!(fails(&mut sim, &create("").replace(from, to)).contains(says), "{to}");
        assert!(sim.guest(300).is_none());
    }
    sim.grant("edge@pve!edge", "/vms", &["VM.Audit"]);
    assert_eq!(fails(&mut sim, &create("")), "403 Permission check failed");
}

#[test]
fn a_creation_that_fails_leaves_nothing_and_one_that_crashes_its_lock() {
    let mut sim = downloaded();
    sim.fail_next("vzcreate", "no space left on device");
    assert_eq!(task(&mut sim, &create("")), "unable to create CT 300 - no space left on device");
    assert!(sim.guest(300).is_none());
    ok(&mut sim, &create(""));
    sim.advance(Duration::seconds(1));
    sim.crash(300);
    sim.settle();
    assert_eq!(sim.guest(300).map(|it| it.config.text()), Some("lock: create\n".into()));
}

#[test]
fn downloads() {
    let mut sim = sim(Version::V9);
    let url = |name: &str| {
        let rest = format!("content=vztmpl&filename={name}&url=https://images.test/x.tar.zst");
        format!("POST /nodes/pve1/storage/local/download-url {rest}")
    };
    let now = sim.now();
    assert_eq!(sim.answer(&request(&url("a.tar.zst")), now).map(|it| it.status), Ok(200));
    let running = ok(&mut sim, "GET /nodes/pve1/tasks?source=active&typefilter=download");
    assert_eq!(running[0]["id"], "a.tar.zst");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/storage/local/content?content=vztmpl"), serde_json::json!([]));
    sim.settle();
    let content = ok(&mut sim, "GET /nodes/pve1/storage/local/content?content=vztmpl");
    assert_eq!(content[0]["volid"], "local:vztmpl/a.tar.zst");
    assert!(task(&mut sim, &url("a.tar.zst")).starts_with("refusing to override existing file"));
    assert_eq!(task(&mut sim, &url("a.tar.zst&checksum=00&checksum-algorithm=md5")), "OK");
    assert!(fails(&mut sim, &url("a.zip")).contains("wrong file extension"));
    assert!(fails(&mut sim, &url("a.tar.zst").replace("https://", "ftp://")).starts_with("400"));
    let pull = "POST /nodes/pve1/storage/local/oci-registry-pull reference=docker.io/library/debian:13";
    assert_eq!(task(&mut sim, pull), "OK");
    assert_eq!(fails(&mut sim, pull), "500 refusing to override existing file 'debian_13.tar'");
    assert!(fails(&mut sim, &pull.replace(":13", "")).starts_with("400"));
    let absent = "POST /nodes/pve1/aplinfo storage=local&template=x.tar.zst";
    assert!(fails(&mut sim, absent).contains("no such template"));
}

#[test]
fn rights_of_downloads() {
    for (version, text) in [(Version::V7_4, "501"), (Version::V8, "501"), (Version::V9, "403")] {
        let mut sim = sim(version);
        sim.grant("edge@pve!edge", "/", MINIMAL);
        let url = "POST /nodes/pve1/storage/local/download-url content=vztmpl&filename=a.tar.zst&url=https://i.test/a";
        assert!(fails(&mut sim, url).contains("(/storage/local, Datastore.AllocateTemplate)"));
        let apl = format!("POST /nodes/pve1/aplinfo storage=local&template={ARCHIVE}");
        assert!(fails(&mut sim, &apl).contains("Datastore.AllocateTemplate"));
        sim.grant("edge@pve!edge", "/storage/local", &["Datastore.AllocateTemplate"]);
        assert_eq!(task(&mut sim, &apl), "OK");
        assert_eq!(fails(&mut sim, url), "403 Permission check failed");
        let pull = "POST /nodes/pve1/storage/local/oci-registry-pull reference=debian:13";
        assert!(fails(&mut sim, pull).starts_with(text));
        if version == Version::V7_4 {
            sim.grant("edge@pve!edge", "/nodes/pve1", &["Sys.AccessNetwork"]);
            assert_eq!(fails(&mut sim, url), "403 Permission check failed");
        }
    }
}
