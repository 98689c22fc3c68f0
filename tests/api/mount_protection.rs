//! File systems that wait before they are grown or mounted (ext4's multi-mount protection): tasks
//! that hold a guest's lock for long, and what is asked of PVE meanwhile.

use crate::stage::{SECRET, prelude::*};

const SECOND: Duration = Duration::seconds(1);

fn stage() -> Stage {
    Stage::on(plain_sim(Setup::default()))
}

/// Asks, and how long the answer took.
fn timed(stage: &Stage, ask: Ask) -> (Answer, Duration) {
    let began = stage.world.now();
    let answer = stage.ask(ask);
    let took = answer.at - began;
    (answer, took)
}

/// How often a request whose path ends so was sent.
fn sent(stage: &Stage, from: usize, end: &str) -> usize {
    stage.world.requests().iter().skip(from).filter(|it| it.path.ends_with(end)).count()
}

fn is_starting(stage: &Stage, vmid: u32) -> bool {
    let sim = stage.world.sim();
    sim.tasks().iter().any(|it| it.kind == "vzstart" && it.id == vmid.to_string() && it.end.is_none())
}

/// The disk grows for 22 s under the lock that the start needs: the start is sent once, afterwards.
#[test]
fn a_disk_is_grown_before_the_start() {
    for wait in ["wait=0", "wait=10", "wait=25"] {
        let stage = stage();
        let made = stage.ask(Ask::sandbox(json!({"disk": 20})).header("prefer", wait));
        assert_eq!(made.shows(), "202 creating", "{made:?}");
        let id = made.id();
        let mut shown = made;
        for _ in 0..60 {
            shown = stage.ask(Ask::one(&id));
            if shown.state() == "running" {
                break;
            }
            assert_eq!(shown.shows(), "200 creating", "{shown:?}\n{}", stage.told());
            stage.world.advance(SECOND);
        }
        assert_eq!(&*shown.state(), "running", "{}", stage.told());
        assert_eq!(
            (sent(&stage, 0, "/resize"), sent(&stage, 0, "/status/start")),
            (1, 1),
            "{}",
            stage.told()
        );
        let sim = stage.world.sim();
        let guest = sim.guest(vmid_of(&id)).expect("it is there");
        assert!(guest.config.get("rootfs").is_some_and(|it| it.contains("size=20G")), "{:?}", guest.config);
    }
}

/// Whoever is told to wait is told what for.
#[test]
fn a_creation_that_waits_for_its_disk_says_so() {
    let stage = stage();
    let made = stage.ask(Ask::sandbox(json!({"disk": 20})).wait(10));
    let problem = made.json()["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("grows the disk"), "{made:?}");
    let shown = stage.ask(Ask::one(&made.id()));
    let problem = shown.json()["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("resize"), "{shown:?}");
}

/// Its address by DHCP is a question that hangs as well. While that is not known nobody is asked by a name: behind the
/// proxy none leads to a guest, and a daemon that listens would be taken for none.
#[test]
fn a_guest_that_hangs_in_its_start_is_not_asked_for_its_address() {
    for settings in [("PVE_PUBLIC_DOMAIN", ""), ("EDGE_GUEST_NETWORK", "10.0.0.0/8")] {
        let world = Stage::with_daemon(Kind::Lxc, Setup::default(), SECRET).world;
        let stage = Stage::of(world, &[settings]);
        let id = stage.ask(Ask::create().wait(25)).id();
        let shown = stage.ask(Ask::one(&id).wait(25));
        assert_eq!(shown.shows(), "200 running", "{}", stage.told());
        let kept = stage.act(&id, "snapshots", json!({"keep": true}));
        let snapshot = kept.json()["snapshotId"].as_str().unwrap_or_default().to_owned();
        stage.world.advance(SECOND * 60);
        let before = stage.world.requests().len();
        let back = stage.ask(Ask::act(&id, "rollback", json!({ "snapshot": snapshot })).wait(5));
        assert_eq!(back.status, 202, "{back:?}\n{}", stage.told());
        assert!(is_starting(&stage, vmid_of(&id)));
        while is_starting(&stage, vmid_of(&id)) {
            stage.ask(Ask::exec(&id, "true"));
            stage.ask(Ask::one(&id));
            assert_eq!(sent(&stage, before, "/interfaces"), 0, "{}", stage.told());
            stage.world.advance(SECOND * 5);
        }
        stage.world.advance(SECOND * 10);
        let up = stage.ask(Ask::one(&id).wait(25));
        assert_eq!(up.shows(), "200 running", "{}", stage.told());
        assert_eq!(up.json()["commands"], shown.json()["commands"]);
        assert!(sent(&stage, before, "/interfaces") > 0);
        let by_name = stage.world.requests().iter().any(|it| it.host.starts_with("port-"));
        assert!(!by_name, "{}", stage.told());
    }
}

/// A start after a rollback hangs for 50 s, and so does the question for its status: nobody asks it,
/// and neither it nor another sandbox is answered late.
#[test]
fn a_guest_that_hangs_in_its_start_makes_nobody_wait() {
    let stage = stage();
    let (id, other) = (stage.ask(Ask::create()).id(), stage.ask(Ask::create()).id());
    let kept = stage.act(&id, "snapshots", json!({"keep": true}));
    let snapshot = kept.json()["snapshotId"].as_str().unwrap_or_default().to_owned();
    stage.world.advance(SECOND * 60);
    let body = json!({ "snapshot": snapshot });
    let back = stage.ask(Ask::act(&id, "rollback", body).wait(5));
    assert_eq!(back.status, 202, "{back:?}\n{}", stage.told());
    let before = stage.world.requests().len();
    let status = format!("/lxc/{}/status/current", vmid_of(&id));
    let mut seen = 0;
    while is_starting(&stage, vmid_of(&id)) {
        let (shown, took) = timed(&stage, Ask::one(&id));
        seen += 1;
        assert_eq!(shown.shows(), "200 creating", "{shown:?}");
        assert!(took < SECOND, "{took}\n{}", stage.told());
        let (shown, took) = timed(&stage, Ask::one(&other));
        assert_eq!(shown.shows(), "200 running", "{shown:?}");
        assert!(took < SECOND, "another's: {took}\n{}", stage.told());
        assert_eq!(sent(&stage, before, &status), 0, "asked while it hangs\n{}", stage.told());
        stage.world.advance(SECOND);
    }
    assert!(seen > 20, "it never hung\n{}", stage.told());
    stage.world.advance(SECOND);
    assert_eq!(&*stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
    assert_eq!(sent(&stage, 0, "/rollback"), 1);
}
