//! Whether a sandbox came up: GET, exec and lists say the same, and why not.

mod interrupted;

use crate::stage::prelude::*;

/// Guests that start, and in which nothing answers.
fn silent(stage: &Stage) {
    let mut sim = stage.world.sim_mut();
    let setup = sim.setup_mut();
    (setup.boot, setup.vm_boot) = (Duration::days(1), Duration::days(1));
}

fn act(stage: &Stage, id: &str, verb: &str) -> Answer {
    stage.act(id, verb, json!({}))
}

fn states(stage: &Stage, query: &str) -> Vec<(String, String)> {
    let page = stage.ask(Ask::get(format!("/api/sandboxes{query}"))).json();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    items.iter().map(|it| (text(it, "id"), text(it, "state"))).collect()
}

/// By a GET, or by the sweep when nobody asks.
#[test]
fn what_never_answers_ends_in_error_with_its_cause() {
    for kind in BOTH {
        for by_sweep in [false, true] {
            let stage = Stage::with(kind);
            silent(&stage);
            let made = stage.ask(Ask::create().wait(5));
            assert_eq!(made.shows(), "202 creating", "{made:?}");
            let id = made.id();
            stage.world.advance(Duration::minutes(5));
            let shown = stage.ask(Ask::one(&id));
            assert_eq!(&*shown.state(), "creating", "{shown:?}");
            assert!(shown.json()["problem"].is_string(), "{shown:?}");
            let exec = stage.ask(Ask::exec(&id, "true"));
            assert_eq!(exec.refusal(), "409 still-creating", "{exec:?}");
            stage.world.advance(Duration::minutes(6));
            assert_eq!(states(&stage, ""), [(id.clone(), "error".into())]);
            if by_sweep {
                let report = stage.ask(Ask::gc());
                assert!(report.body.contains("\"finish\""), "{report:?}");
            }
            let shown = stage.ask(Ask::one(&id));
            assert_eq!(shown.shows(), "200 error", "{shown:?}\n{}", stage.told());
            let problem = shown.json()["problem"].as_str().unwrap_or_default().to_owned();
            assert!(problem.contains("600 s"), "{problem}");
            let exec = stage.ask(Ask::exec(&id, "true"));
            assert_eq!(exec.refusal(), "409 not-running", "{exec:?}");
            assert_eq!(states(&stage, "?state=error"), [(id.clone(), "error".into())]);
            // And it stays so, whoever comes.
            assert_eq!(stage.ask(Ask::one(&id)).json()["problem"], problem);
        }
    }
}

/// Nobody has asked for eleven minutes, and it was up all the time.
#[test]
fn who_asks_late_finds_what_came_up() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        {
            let mut sim = stage.world.sim_mut();
            (sim.setup_mut().boot, sim.setup_mut().vm_boot) = (Duration::seconds(30), Duration::seconds(30));
        }
        let made = stage.ask(Ask::create().wait(6));
        assert_eq!(made.status, 202, "{made:?}");
        stage.world.advance(Duration::minutes(11));
        assert_eq!(stage.ask(Ask::exec(&made.id(), "true")).status, 200, "{}", stage.told());
        assert_eq!(stage.ask(Ask::one(&made.id())).state(), "running");
        assert_eq!(states(&stage, ""), [(made.id(), "running".into())]);
    }
}

#[test]
fn what_was_ready_once_is_never_given_up_for_a_slow_daemon() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.ask(Ask::create()).id();
        assert_eq!(act(&stage, &id, "stop").status, 200);
        silent(&stage);
        let started = stage.ask(Ask::act(&id, "start", json!({})).wait(5));
        assert_eq!(started.shows(), "202 creating", "{started:?}");
        stage.world.advance(Duration::minutes(11));
        stage.ask(Ask::gc());
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 running", "{shown:?}\n{}", stage.told());
        assert_eq!(states(&stage, ""), [(id, "running".into())]);
    }
}

/// PVE's listing may be 15 s old; the head tag is not.
#[test]
fn a_list_says_at_once_what_was_done() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        // pvestatd is silent: the listing knows nothing of all this.
        stage.world.sim_mut().silence_stats(true);
        let id = stage.ask(Ask::create()).id();
        let is = |state: &str| {
            assert_eq!(states(&stage, ""), [(id.clone(), state.to_owned())], "{kind:?}");
            assert_eq!(states(&stage, &format!("?state={state}")), [(id.clone(), state.to_owned())]);
            let shown = stage.ask(Ask::one(&id));
            assert_eq!(&*shown.state(), state, "{kind:?}: {shown:?}");
        };
        is("running");
        for (verb, state) in
            [("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")]
        {
            let answer = act(&stage, &id, verb);
            assert_eq!(answer.status, 200, "{verb}: {answer:?}");
            is(state);
        }
    }
}

/// That it came up could not be written, or nobody knows whether it was.
#[test]
fn a_ready_that_is_lost_is_written_by_whoever_asks_next() {
    for fault in [
        Fault::Unanswered,
        Fault::NeverSent,
        Fault::Refused(500, "cfs-lock error".into()),
        Fault::Late(std::time::Duration::from_secs(40)),
    ] {
        let stage = Stage::on(plain_sim(Setup::default()));
        let mut puts = 0;
        let injected = fault.clone();
        stage.world.fault_if(move |seen| {
            puts += usize::from(seen.method == "PUT" && seen.path.ends_with("/config"));
            (puts == 2).then(|| {
                puts += 1;
                injected.clone()
            })
        });
        let made = stage.ask(Ask::create());
        assert!(matches!(made.status, 201 | 202), "{fault:?}: {made:?}");
        assert_eq!(made.status == 201, made.state() == "running", "{made:?}");
        let id = made.id();
        if made.status == 201 {
            assert_eq!(states(&stage, ""), [(id.clone(), "running".into())], "{fault:?}");
        }
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{fault:?}: {}", stage.told());
        assert_eq!(states(&stage, ""), [(id, "running".into())], "{fault:?}");
    }
}

/// Whoever stops it while it comes up has the last word.
#[test]
fn a_stop_while_it_comes_up_is_not_undone() {
    for at in 5..12 {
        let stage = Stage::on(plain_sim(Setup::default()));
        let key = || Ask::create_keyed("k").wait(20);
        let handle = stage.world.spawn(stage.pending(key()));
        while stage.world.requests().len() < at && !handle.is_done() {
            stage.world.advance(Duration::milliseconds(20));
        }
        let owner = stage.beside("owner", &[]);
        let found = stage.ask(Ask::get("/api/sandboxes")).json()["items"][0]["id"].clone();
        let Some(id) = found.as_str() else { continue };
        let stopped = owner.act(id, "stop", json!({"force": true}));
        stage.world.advance(Duration::minutes(2));
        assert!(handle.take().is_some());
        if stopped.status == 200 {
            let shown = stage.ask(Ask::one(id));
            assert_eq!(shown.state(), "stopped", "{at}: {shown:?}\n{}", stage.told());
        }
    }
}

/// The end of a snapshot of ours is waited for; another's lock, or a longer one, is told.
#[test]
fn the_end_of_a_snapshot_is_waited_for() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let path = format!("/api/sandboxes/{id}");
    let asks = [
        Ask::patch(&*path, json!({"name": "x"})),
        Ask::extend(&id, 600),
        Ask::post(format!("{path}/stop"), json!({"force": true})),
        Ask::post(format!("{path}/start"), json!({})),
        Ask::end(&id),
    ];
    for ask in asks {
        stage.world.sim_mut().set_lock(vmid_of(&id), Some("snapshot-delete"));
        let handle = stage.world.spawn(stage.pending(ask.clone()));
        stage.world.advance(Duration::milliseconds(2500));
        assert!(!handle.is_done(), "{ask:?}");
        stage.world.sim_mut().set_lock(vmid_of(&id), None);
        stage.world.advance(Duration::seconds(20));
        let answer = handle.take().expect("an answer");
        assert!(matches!(answer.status, 200 | 204), "{ask:?}: {answer:?}");
    }
    let id = stage.ask(Ask::create()).id();
    for (lock, wait, most) in
        [("snapshot-delete", "wait=20", 7), ("snapshot-delete", "wait=1", 2), ("backup", "wait=20", 1)]
    {
        stage.world.sim_mut().set_lock(vmid_of(&id), Some(lock));
        let began = stage.world.now();
        let answer = stage.ask(Ask::extend(&id, 600).header("prefer", wait));
        assert_eq!(answer.refusal(), "409 guest-locked", "{answer:?}");
        assert!(answer.at - began < Duration::seconds(most), "{lock} {wait}: {}", answer.at - began);
    }
}

#[test]
fn a_crashed_creation_is_an_error_in_the_end() {
    let stage = Stage::new();
    let answer = stage.ask(Ask::create().wait(0));
    let id = answer.id();
    stage.world.sim_mut().crash(vmid_of(&id));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "creating");
    stage.world.advance(Duration::seconds(601));
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.state(), "error", "{shown:?}");
    assert!(shown.json()["problem"].as_str().unwrap().contains("locked (create)"), "{shown:?}");
}

/// Whether the newest version of a preset lacks it, or a template that was asked for by its VMID.
#[test]
fn a_template_of_vms_without_an_agent_is_told() {
    for agent in ["", "0"] {
        let stage = Stage::of_vms();
        let lacking = Spec::vm_template(9101).tags("pvevm_1vcpu_1gb_8gb_v2").set("agent", agent);
        stage.world.sim_mut().add(lacking);
        for body in [json!({}), json!({"templateVmid": 9101})] {
            let answer = stage.ask(Ask::sandbox(body));
            assert_eq!(answer.refusal(), "502 guest-agent-missing", "{agent:?} {answer:?}");
        }
    }
}
