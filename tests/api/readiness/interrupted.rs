//! Others act between two looks of a request that brings a sandbox up.

use pve_edge_bed::world::Handle;
use pve_edge_core::pve::marks::Want;

use crate::stage::{guests::committed, prelude::*};

#[test]
fn a_start_that_finds_execd_open_to_everyone_stops_the_guest() {
    for action in ["start", "reboot"] {
        let stage = Stage::new();
        let id = stage.created(json!({}));
        if action == "start" {
            stage.act(&id, "stop", json!({}));
        }
        stage.world.sim_mut().admin_set(vmid_of(&id), "env", "A=1");
        let answer = stage.act(&id, action, json!({}));
        assert_eq!(answer.refusal(), "502 exec-unprotected", "{answer:?}");
        stage.world.settle();
        assert!(!stage.runs(&id), "{}", stage.told());
    }
}

/// Lets a request go on until it has sent one of this path, and that was answered.
fn until_sent(stage: &Stage, handle: &Handle<Answer>, path: &str) {
    let sent = || stage.world.requests().iter().filter(|it| it.is_write() && it.path.ends_with(path)).count();
    let before = sent();
    while sent() == before {
        assert!(!handle.is_done(), "{path} was never sent\n{}", stage.told());
        stage.world.advance(Duration::milliseconds(5));
    }
}

/// Its start was refused for now, and then its config could not be read: what is started after that
/// may be anybody's.
#[test]
fn what_could_not_be_read_again_is_not_started() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let timeout = "can't lock file '/run/lock/lxc/pve-config-1.lock' - got timeout";
        stage.world.fault_once(|it| it.path.ends_with("/status/start"), Fault::Refused(500, timeout.into()));
        let handle = stage.world.spawn(stage.pending(Ask::create().wait(20)));
        until_sent(&stage, &handle, "/status/start");
        let start = stage.world.requests().into_iter().find(|it| it.path.ends_with("/status/start"));
        let vmid: u32 = start.unwrap().path.split('/').rev().nth(2).unwrap().parse().unwrap();
        // An administrator removes it, and makes a guest of his own of that number.
        {
            let mut sim = stage.world.sim_mut();
            sim.admin_remove(vmid);
            sim.add(if kind == Kind::Lxc { Spec::guest(vmid) } else { Spec::vm(vmid) });
        }
        let sent = stage.world.requests().len();
        let mut failing = 3;
        stage.world.fault_if(move |it| {
            let fails = failing > 0 && it.method == "GET" && it.path.ends_with("/config");
            failing -= u32::from(fails);
            fails.then(|| Fault::Refused(500, "unable to read it now".into()))
        });
        stage.world.advance(Duration::minutes(1));
        assert!(handle.is_done());
        let writes: Vec<_> =
            stage.world.requests().into_iter().skip(sent).filter(|it| it.is_write()).collect();
        assert!(writes.is_empty(), "{kind:?} {writes:#?}\n{}", stage.told());
    }
}

/// A GET finds that its time to come up is over, and asks it once more; meanwhile its owner starts
/// it again, with the whole time to come up.
#[test]
fn what_is_started_again_meanwhile_is_not_given_up() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        {
            let mut sim = stage.world.sim_mut();
            let setup = sim.setup_mut();
            (setup.boot, setup.vm_boot) = (Duration::days(1), Duration::days(1));
        }
        let made = stage.ask(Ask::create().wait(2));
        assert_eq!(made.shows(), "202 creating", "{made:?}");
        let id = made.id();
        stage.world.advance(Duration::minutes(11));
        let owner = stage.beside("owner", &[]);
        let late = stage.world.spawn(stage.pending(Ask::one(&id)));
        let seen = stage.world.requests().len();
        // It has read all that PVE says of it.
        let is_probe =
            |it: &pve_edge_bed::world::Seen| !it.path.starts_with("/api2/") || it.path.contains("/agent/");
        while !stage.world.requests().iter().skip(seen).any(is_probe) {
            assert!(!late.is_done(), "{}", stage.told());
            stage.world.advance(Duration::milliseconds(1));
        }
        let start = Ask::act(&id, "start", json!({})).wait(0);
        let started = owner.ask(start);
        assert_eq!(started.shows(), "202 creating", "{started:?}");
        stage.world.advance(Duration::seconds(30));
        assert!(late.take().is_some());
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 creating", "{kind:?} {shown:?}\n{}", stage.told());
        assert_eq!(vmid_of(&id), vmid_of(&shown.id()));
    }
}

/// It answered, and before that was written it was stopped and started again: that it came up is known of
/// the time before.
#[test]
fn an_answer_of_before_a_restart_proves_nothing() {
    let stage = Stage::new();
    let handle = stage.world.spawn(stage.pending(Ask::create().wait(25)));
    // The mark's second write says that it came up; the first one is lost on its way.
    let mut puts = 0;
    stage.world.fault_if(move |it| {
        let is_put = it.name.is_empty() && it.is_write() && it.path.ends_with("/config");
        puts += u32::from(is_put);
        (is_put && puts == 2).then(|| Fault::Slow(std::time::Duration::from_secs(12)))
    });
    until_sent(&stage, &handle, "/config");
    until_sent(&stage, &handle, "/config");
    let owner = stage.beside("owner", &[]);
    let listed = owner.ask(Ask::get("/api/sandboxes")).json()["items"][0]["id"].clone();
    let id = listed.as_str().expect("it is committed").to_owned();
    let stop = Ask::act(&id, "stop", json!({"force": true}));
    let stopped = owner.ask(stop);
    assert_eq!(stopped.status, 200, "{stopped:?}");
    stage.world.sim_mut().setup_mut().boot = Duration::days(1);
    let start = Ask::act(&id, "start", json!({})).wait(0);
    assert_eq!(owner.ask(start).status, 202, "{}", stage.told());
    stage.world.advance(Duration::minutes(1));
    let made = handle.take().expect("an answer");
    assert_eq!(made.shows(), "202 creating", "{made:?}\n{}", stage.told());
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(&*shown.state(), "creating", "{shown:?}\n{}", stage.told());
}

/// Its exec daemon lets everyone in, and when that is written the VMID is another's: nobody stops that one.
#[test]
fn what_is_stopped_for_an_open_daemon_is_ours() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let act = |verb: &str| Ask::act(&id, verb, json!({}));
    assert_eq!(stage.ask(act("stop")).status, 200);
    stage.world.sim_mut().admin_set(vmid_of(&id), "env", "A=1");
    let handle = stage.world.spawn(stage.pending(act("start")));
    let (mut probed, mut stranger) = (false, None);
    let swapped = std::rc::Rc::new(std::cell::Cell::new(None));
    let told = swapped.clone();
    stage.world.hook(move |sim, moment, seen| {
        probed |= !seen.path.starts_with("/api2/");
        let vmid =
            seen.path.strip_suffix("/config").and_then(|it| it.rsplit('/').next()?.parse::<u32>().ok());
        if probed && moment == Moment::Before && seen.method == "GET" && stranger.is_none() {
            let Some(vmid) = vmid else { return };
            stranger = Some(vmid);
            sim.admin_remove(vmid);
            sim.add(Spec::guest(vmid).running());
            told.set(Some(seen.index));
        }
    });
    stage.world.advance(Duration::minutes(1));
    assert!(handle.is_done());
    let at = swapped.get().expect("it was looked at again");
    let requests = stage.world.requests();
    let writes: Vec<_> = requests.iter().filter(|it| it.index > at && it.is_write()).collect();
    assert!(writes.is_empty(), "{writes:#?}\n{}", stage.told());
}

/// Its disk has grown, and before the creation hears of that its owner stops it: nobody starts it.
#[test]
fn what_is_stopped_while_its_disk_grows_is_not_started() {
    for kind in BOTH {
        let stage = if kind == Kind::Lxc { Stage::at_once() } else { Stage::of_vms() };
        let create = Ask::sandbox(json!({"disk": 20})).wait(20);
        let handle = stage.world.spawn(stage.pending(create));
        let mut grows = false;
        stage.world.fault_if(move |it| {
            grows |= it.path.ends_with("/resize");
            let asks = grows && it.name.is_empty() && it.method == "GET" && it.path.contains("/tasks/");
            asks.then_some(Fault::Slow(std::time::Duration::from_secs(4)))
        });
        until_sent(&stage, &handle, "/resize");
        stage.world.advance(Duration::seconds(2));
        let owner = stage.beside("owner", &[]);
        let listed = owner.ask(Ask::get("/api/sandboxes")).json()["items"][0]["id"].clone();
        let id = listed.as_str().expect("it is committed").to_owned();
        let stop = Ask::act(&id, "stop", json!({"force": true}));
        let stopped = owner.ask(stop);
        assert_eq!(stopped.shows(), "200 stopped", "{kind:?} {stopped:?}");
        stage.world.advance(Duration::minutes(1));
        let made = handle.take().expect("an answer");
        assert_eq!(made.status, 202, "{made:?}");
        let runs = stage.world.sim().guest(vmid_of(&id)).is_some_and(|it| it.run.is_some());
        assert!(!runs, "{kind:?} {made:?}\n{}", stage.told());
        assert_eq!(&*stage.ask(Ask::one(&id)).state(), "stopped");
    }
}

/// Who finds that it cannot be finished does not overrule its owner.
#[test]
fn what_was_stopped_meanwhile_is_no_error() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    // An exec daemon that lets everyone in: whoever starts it has to stop it again.
    stage.world.sim_mut().admin_set(vmid_of(&id), "env", "A=1");
    let mut config_reads = 0;
    stage.world.fault_if(move |seen| {
        config_reads += usize::from(seen.method == "GET" && seen.path.ends_with("/config"));
        (config_reads == 3).then(|| {
            config_reads += 1;
            Fault::Slow(std::time::Duration::from_secs(5))
        })
    });
    let start = Ask::act(&id, "start", json!({}));
    let handle = stage.world.spawn(stage.pending(start));
    stage.world.advance(Duration::seconds(6));
    let stopped = stage.beside("owner", &[]).act(&id, "stop", json!({"force": true}));
    assert_eq!(stopped.status, 200, "{stopped:?}\n{}", stage.told());
    stage.world.advance(Duration::seconds(20));
    let answer = handle.take().unwrap_or_else(|| panic!("{}", stage.told()));
    assert_eq!(answer.code(), "exec-unprotected", "{answer:?}\n{}", stage.told());
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.state(), "stopped", "{shown:?}\n{}", stage.told());
    let want = stage.world.sim().guest(vmid_of(&id)).and_then(committed).map(|it| it.want);
    assert_eq!(want, Some(Want::Off));
}

/// PVE's work on a young one says nothing of whether it has booted.
#[test]
fn what_boots_while_it_is_locked_is_not_said_to_run() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.sim_mut().setup_mut().boot = Duration::seconds(30);
        stage.world.sim_mut().setup_mut().vm_boot = Duration::seconds(30);
        let made = stage.ask(Ask::create().wait(6));
        assert_eq!(made.shows(), "202 creating", "{made:?}");
        let id = made.id();
        stage.world.sim_mut().set_lock(vmid_of(&id), Some("snapshot"));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "creating", "{}", stage.told());
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
    }
}
