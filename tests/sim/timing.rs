//! What takes long on a real PVE, and what it keeps others from.

use crate::talk::{call, cloned, fails, item, ok, request, task, with};
use http::Request;
use pve_edge_bed::{
    sim::{Setup, Sim, Spec, Storage, StorageKind},
    world::World,
};
use pve_edge_core::io::{Io, fetch};
use time::Duration;

const START: &str = "POST /nodes/pve1/lxc/200/status/start";
const CURRENT: &str = "GET /nodes/pve1/lxc/200/status/current";
const OTHER: &str = "GET /nodes/pve1/lxc/300/status/current";

#[test]
fn growing_an_ext4_takes_22_seconds_under_the_file_lock() {
    for (kind, seconds, started) in [
        (StorageKind::LvmThin, 22, "can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout"),
        (StorageKind::Btrfs, 22, "can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout"),
        (StorageKind::ZfsPool, 1, "OK"),
    ] {
        let mut sim = mounted(kind);
        cloned(&mut sim, 200);
        let began = sim.now();
        ok(&mut sim, "PUT /nodes/pve1/lxc/200/resize disk=rootfs&size=32G");
        assert_eq!(task(&mut sim, START), started, "{kind:?}");
        assert_eq!((sim.now() - began).whole_seconds(), seconds, "{kind:?}");
        let config = ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
        assert!(config["rootfs"].as_str().is_some_and(|it| it.ends_with(",size=32G")), "{config}");
    }
}

#[test]
fn the_start_after_a_rollback_of_a_running_container_takes_50_seconds() {
    let mut sim = stuck(StorageKind::LvmThin);
    let began = sim.now();
    assert!(fails(&mut sim, "PUT /nodes/pve1/lxc/200/config tags=a").contains("can't lock file"));
    assert_eq!((sim.now() - began).whole_seconds(), 10);
    sim.settle();
    assert_eq!((sim.now() - began).whole_seconds(), 49, "it began a second ago");
    assert_eq!(ok(&mut sim, CURRENT)["status"], "running");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/reboot"), "OK");
    for mut sim in [stuck(StorageKind::ZfsPool), rolled_back(&Setup::default().without_mount_protection())] {
        sim.advance(Duration::SECOND);
        assert_eq!(ok(&mut sim, CURRENT)["status"], "running", "not on ZFS, and not where it is left out");
    }
}

#[test]
fn a_look_at_a_container_that_recovers_hangs() {
    let mut sim = stuck(StorageKind::LvmThin);
    let began = sim.now();
    let reply = call(&mut sim, CURRENT);
    assert_eq!((reply.status, &*reply.reason, reply.body.len()), (596, "Connection timed out", 0));
    assert_eq!(sim.now() - began, Duration::seconds(30));
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/lxc/200/config")["hostname"], "s200");
    let active = ok(&mut sim, "GET /nodes/pve1/tasks?source=active&vmid=200");
    assert_eq!((&active[0]["type"], &active[0]["status"]), (&"vzstart".into(), &"RUNNING".into()));
    assert_eq!((sim.now() - began).whole_seconds(), 30, "these two were answered at once");
    assert_eq!(ok(&mut sim, CURRENT)["status"], "running");
    assert_eq!((sim.now() - began).whole_seconds(), 49);
}

/// pveproxy gives up after 30 s; the workers that it asked do not.
#[test]
fn three_such_looks_keep_all_of_pvedaemon() {
    let mut sim = stuck(StorageKind::LvmThin);
    let now = sim.now();
    ok(&mut sim, OTHER);
    for n in 1..=3 {
        let arrived = now - Duration::milliseconds(n);
        assert!(sim.answer(&request(CURRENT), arrived).is_err());
    }
    let began = sim.now();
    assert_eq!(call(&mut sim, OTHER).status, 596);
    assert_eq!(sim.now() - began, Duration::seconds(30));
    ok(&mut sim, "GET /nodes/pve1/lxc/300/config");
    ok(&mut sim, "GET /cluster/resources");
    assert_eq!((sim.now() - began).whole_seconds(), 30);
    ok(&mut sim, OTHER);
    assert_eq!((sim.now() - began).whole_seconds(), 49, "when the start is over");
}

#[test]
fn pvestatd_stands_still_before_a_container_that_recovers() {
    let mut sim = stuck(StorageKind::LvmThin);
    sim.set_running(300, true);
    sim.advance(Duration::seconds(25));
    assert_eq!(item(&mut sim, 300)["status"], "stopped");
    sim.settle();
    sim.advance(Duration::seconds(11));
    assert_eq!(item(&mut sim, 300)["status"], "running");
}

#[test]
fn a_connection_is_tried_again_each_second() {
    for (boot, seconds) in [(160, 1), (1400, 2)] {
        let boot = Duration::milliseconds(boot);
        let mut sim = Sim::new(Setup { connect_every: Some(Duration::SECOND), boot, ..Setup::default() });
        sim.add(Spec::guest(200).set("net0", "name=eth0,bridge=vmbr0,ip=10.50.0.5/16"));
        let world = World::new(sim, 1);
        world.latency(0, 0);
        world.sim_mut().set_running(200, true);
        let (io, began) = (world.io(), world.now());
        let answer = world.run(async move {
            let asked = Request::get("http://10.50.0.5:39375/healthz").body(Vec::new()).expect("a request");
            let deadline = io.now() + Duration::seconds(5);
            fetch(&io, asked, deadline, 100).await
        });
        assert_eq!(answer.map(|it| it.status).ok(), Some(200));
        assert_eq!(world.now() - began, Duration::seconds(seconds));
    }
}

/// The template stays locked for longer than the clone's worker works.
#[test]
fn as_measured() {
    let mut sim = with(Setup::measured());
    let began = sim.now();
    ok(&mut sim, "POST /nodes/pve1/lxc/9000/clone newid=200&full=0");
    assert_eq!(sim.now() - began, Duration::milliseconds(94));
    sim.advance_to(began + Duration::milliseconds(501));
    let locks = |sim: &Sim| {
        [200, 9000].map(|vmid| sim.guest(vmid).and_then(|it| it.config.lock()).map(str::to_owned))
    };
    assert_eq!(locks(&sim), [None, Some("disk".to_owned())]);
    sim.advance_to(began + Duration::milliseconds(901));
    assert_eq!(locks(&sim), [None, None]);
    let began = sim.now();
    ok(&mut sim, "GET /nodes/pve1/lxc/200/config");
    ok(&mut sim, "GET /cluster/resources");
    assert_eq!(sim.now() - began, Duration::milliseconds(9));
}

fn mounted(kind: StorageKind) -> Sim {
    let setup = Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() };
    with(setup)
}

/// A running container that was rolled back, a second after its start began; and a stopped one.
fn stuck(kind: StorageKind) -> Sim {
    let setup = Setup { storages: vec![Storage::new("s", kind)], ..Setup::default() };
    rolled_back(&setup)
}

fn rolled_back(setup: &Setup) -> Sim {
    let mut sim = with(setup.clone());
    sim.add(Spec::guest(300));
    cloned(&mut sim, 200);
    assert_eq!(task(&mut sim, START), "OK");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/snapshot snapname=s1"), "OK");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/snapshot/s1/rollback"), "OK");
    ok(&mut sim, START);
    sim.advance(Duration::milliseconds(990));
    sim
}
