//! What others do between two looks of a request that brings a sandbox up.

use pve_edge_tests::{
    sim::{Kind, Spec},
    world::{Fault, Handle, Moment},
};
use serde_json::json;
use time::Duration;

use crate::stage::{Answer, Ask, Stage, vmid_of};

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
    for kind in [Kind::Lxc, Kind::Qemu] {
        let stage = Stage::with(kind);
        let timeout = "can't lock file '/run/lock/lxc/pve-config-1.lock' - got timeout";
        stage.world.fault_once(|it| it.path.ends_with("/status/start"), Fault::Refused(500, timeout.into()));
        let handle = stage.world.spawn(stage.pending(Ask::create().header("prefer", "wait=20")));
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
    for kind in [Kind::Lxc, Kind::Qemu] {
        let stage = Stage::with(kind);
        {
            let mut sim = stage.world.sim_mut();
            let setup = sim.setup_mut();
            (setup.boot, setup.vm_boot) = (Duration::days(1), Duration::days(1));
        }
        let made = stage.ask(Ask::create().header("prefer", "wait=2"));
        assert_eq!((made.status, &*made.state()), (202, "creating"), "{made:?}");
        let id = made.id();
        stage.world.advance(Duration::minutes(11));
        let owner = stage.beside("owner", &[]);
        let late = stage.world.spawn(stage.pending(Ask::one(&id)));
        let seen = stage.world.requests().len();
        // It has read all that PVE says of it.
        let is_probe =
            |it: &pve_edge_tests::world::Seen| !it.path.starts_with("/api2/") || it.path.contains("/agent/");
        while !stage.world.requests().iter().skip(seen).any(is_probe) {
            assert!(!late.is_done(), "{}", stage.told());
            stage.world.advance(Duration::milliseconds(1));
        }
        let start = Ask::post(format!("/api/sandboxes/{id}/start"), json!({})).header("prefer", "wait=0");
        let started = owner.ask(start);
        assert_eq!((started.status, &*started.state()), (202, "creating"), "{started:?}");
        stage.world.advance(Duration::seconds(30));
        assert!(late.take().is_some());
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(
            (shown.status, &*shown.state()),
            (200, "creating"),
            "{kind:?} {shown:?}\n{}",
            stage.told()
        );
        assert_eq!(vmid_of(&id), vmid_of(&shown.id()));
    }
}

/// It answered, and before that was written it was stopped and started again: that it came up is known of
/// the time before.
#[test]
fn an_answer_of_before_a_restart_proves_nothing() {
    let stage = Stage::new();
    let handle = stage.world.spawn(stage.pending(Ask::create().header("prefer", "wait=25")));
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
    let stop = Ask::post(format!("/api/sandboxes/{id}/stop"), json!({"force": true}));
    let stopped = owner.ask(stop);
    assert_eq!(stopped.status, 200, "{stopped:?}");
    stage.world.sim_mut().setup_mut().boot = Duration::days(1);
    let start = Ask::post(format!("/api/sandboxes/{id}/start"), json!({})).header("prefer", "wait=0");
    assert_eq!(owner.ask(start).status, 202, "{}", stage.told());
    stage.world.advance(Duration::minutes(1));
    let made = handle.take().expect("an answer");
    assert_eq!((made.status, &*made.state()), (202, "creating"), "{made:?}\n{}", stage.told());
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(&*shown.state(), "creating", "{shown:?}\n{}", stage.told());
}

/// A page of what stands between refuses a step of a creation: told at once, and not sent again.
#[test]
fn a_page_that_refuses_a_step_of_a_creation_is_told_at_once() {
    for kind in [Kind::Lxc, Kind::Qemu] {
        for path in ["/config", "/resize", "/status/start"] {
            for status in [302, 403, 413, 429] {
                let stage = if kind == Kind::Lxc { Stage::at_once() } else { Stage::of_vms() };
                stage.world.fault_if(move |it| {
                    (it.is_write() && it.path.ends_with(path)).then_some(Fault::Page(status))
                });
                let began = stage.world.now();
                let ask = Ask::post("/api/sandboxes", json!({"disk": 20})).header("prefer", "wait=25");
                let answer = stage.ask(ask);
                let told = format!("{path} {status}: {answer:?}\n{}", stage.told());
                let sent = stage.world.requests();
                let sent = sent.iter().filter(|it| it.is_write() && it.path.ends_with(path)).count();
                assert_eq!(sent, 1, "{told}");
                assert_eq!((answer.status, &*answer.code()), (502, "pve-bad-answer"), "{told}");
                assert!(answer.body.contains("sandboxId"), "{told}");
                assert_eq!(answer.retry_after(), (status == 429).then_some(7), "{told}");
                assert!(answer.at - began < Duration::seconds(10), "{told}");
                // Nothing is known against the sandbox: it comes up once the way is clear.
                stage.world.clear_faults();
                let id = answer.json()["sandboxId"].as_str().unwrap_or_default().to_owned();
                let shown = stage.ask(Ask::one(&id).header("prefer", "wait=25"));
                assert_eq!(&*shown.state(), "running", "{told} {shown:?}");
            }
        }
    }
}

/// Its exec daemon lets everyone in, and when that is written the VMID is another's: nobody stops that one.
#[test]
fn what_is_stopped_for_an_open_daemon_is_ours() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let act = |verb: &str| Ask::post(format!("/api/sandboxes/{id}/{verb}"), json!({}));
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

/// Input that is repeated in an answer is cut, whatever is wrong with it.
#[test]
fn a_long_name_that_is_there_twice_is_cut() {
    let stage = Stage::new();
    let name = "n".repeat(100_000);
    for body in [
        format!(r#"{{"{name}": 1, "{name}": 2}}"#),
        format!(r#"{{"{name}": 1}}"#),
        format!(r#"{{"metadata": {{"{name}": "1", "{name}": "2"}}}}"#),
        format!(r#"{{"metadata": {{"{name}": 1}}}}"#),
    ] {
        let answer = stage.ask(Ask::post("/api/sandboxes", json!({})).bytes(body));
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.len() < 2000, "{}", answer.body.len());
    }
}

/// Its disk has grown, and before the creation hears of that its owner stops it: nobody starts it.
#[test]
fn what_is_stopped_while_its_disk_grows_is_not_started() {
    for kind in [Kind::Lxc, Kind::Qemu] {
        let stage = if kind == Kind::Lxc { Stage::at_once() } else { Stage::of_vms() };
        let create = Ask::post("/api/sandboxes", json!({"disk": 20})).header("prefer", "wait=20");
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
        let stop = Ask::post(format!("/api/sandboxes/{id}/stop"), json!({"force": true}));
        let stopped = owner.ask(stop);
        assert_eq!((stopped.status, &*stopped.state()), (200, "stopped"), "{kind:?} {stopped:?}");
        stage.world.advance(Duration::minutes(1));
        let made = handle.take().expect("an answer");
        assert_eq!(made.status, 202, "{made:?}");
        let runs = stage.world.sim().guest(vmid_of(&id)).is_some_and(|it| it.run.is_some());
        assert!(!runs, "{kind:?} {made:?}\n{}", stage.told());
        assert_eq!(&*stage.ask(Ask::one(&id)).state(), "stopped");
    }
}
