//! Every request of the whole flow meets every fault; the client asks again,
//! and there is one template, offered once, or nothing.

use pve_edge_core::pve::marks;

use super::{PRESET, body, build, cleaned_by_root, gc, sim, until};
use crate::{
    matrix::faults,
    stage::{
        client,
        guests::{all_committed, mark},
        prelude::*,
    },
};

/// Others' guests, one of them in the range of templates.
fn crowded() -> Stage {
    let mut sim = sim(Version::V9, StorageKind::LvmThin);
    sim.add(Spec::guest(100).running().tags("db"));
    sim.add(Spec::guest(150_000).description("somebody's"));
    Stage::on(sim)
}

fn strangers(stage: &Stage) -> std::collections::BTreeMap<u32, String> {
    stage.world.sim().snapshot_of(|it| matches!(it.vmid, 100 | 150_000))
}

fn done(answer: &crate::stage::Answer) -> bool {
    answer.json()["status"] == "ready"
}

/// Everything in one request, and step by step: different requests fail.
#[test]
fn whatever_fails_there_is_one_template_in_the_end() {
    for wait in ["wait=25", "wait=0"] {
        let ask = || build(&body()).header("prefer", wait);
        let stage = crowded();
        let mut asked = 0;
        loop {
            let answer = stage.ask(ask());
            if done(&answer) {
                break;
            }
            if answer.json()["status"] == "needs-root" {
                stage.ask(cleaned_by_root(&stage, &answer));
            }
            asked += 1;
            assert!(asked < 60, "{}", stage.told());
            stage.world.advance(Duration::seconds(4));
        }
        let requests = stage.world.requests().len();
        for nth in 0..requests {
            for fault in faults() {
                one(wait, nth, &fault);
            }
        }
    }
}

fn one(wait: &'static str, nth: usize, fault: &Fault) {
    let ask = || build(&body()).header("prefer", wait);
    let told = format!("request {nth}, {fault:?}, {wait}");
    let stage = crowded();
    let before = strangers(&stage);
    stage.world.fault_at(nth, fault.clone());
    for _ in 0..60 {
        let answer = stage.try_ask(ask());
        if let Some(waiting) = answer.as_ref().filter(|it| it.json()["status"] == "needs-root") {
            stage.try_ask(cleaned_by_root(&stage, waiting));
        }
        if let Some(answer) = answer
            && done(&answer)
        {
            let sim = stage.world.sim();
            let guest = sim.guest(vmid_of(&answer.id())).unwrap_or_else(|| panic!("{told}: {answer:?}"));
            assert!(guest.config.is("template"), "{told}: ready and is none\n{}", stage.told());
            break;
        }
        stage.world.advance(Duration::seconds(4));
    }
    stage.world.clear_faults();
    let ready = until(&stage, &ask(), "ready");
    stage.world.settle();
    stage.world.advance(Duration::seconds(100));
    let again = stage.ask(ask());
    assert_eq!((again.status, again.id()), (200, ready.id()), "{told}: {again:?}\n{}", stage.told());
    only(&stage, &ready.id(), &told);
    assert_eq!(strangers(&stage), before, "{told}: a stranger was touched");
}

/// One template of ours and no half-made one, offered once, once what was late
/// has happened and the sweep has been there; and it is of use.
fn only(stage: &Stage, id: &str, told: &str) {
    for _ in 0..14 {
        stage.world.advance(Duration::seconds(100));
        stage.ask(gc());
    }
    stage.world.settle();
    let sim = stage.world.sim();
    let ours: Vec<u32> = sim.guests().filter(|it| mark(it).is_some()).map(|it| it.vmid).collect();
    assert_eq!(ours, [vmid_of(id)], "{told}\n{}", stage.told());
    let offered = sim.guests().filter_map(|it| marks::template(it.config.get("tags")?)?);
    let offered: Vec<String> = offered.map(|it| it.to_string()).collect();
    assert_eq!(offered, [format!("pvelxc_{PRESET}_v1")], "{told}\n{}", stage.told());
    assert_eq!(all_committed(&sim).len(), 1, "{told}");
    drop(sim);
    let made = stage.ask(Ask::sandbox(json!({"preset": PRESET})));
    assert_eq!(made.status, 201, "{told}: {made:?}\n{}", stage.told());
}

/// One that root has done its part for, but for the word that the daemon is in.
fn waiting() -> (Stage, String) {
    let stage = crowded();
    let mut wanted = body();
    wanted["execd"] = json!("manual");
    let id = until(&stage, &build(&wanted), "needs-root").id();
    stage.world.advance(Duration::minutes(20));
    (stage, id)
}

/// Each request of this meets each fault; then it is asked for until `end`.
fn each(prepare: fn() -> (Stage, String), ask: fn(&str) -> Ask, end: fn(&Stage, &str, &str)) {
    let (begun, id) = prepare();
    let stage = begun.fork();
    let before = stage.world.requests().len();
    let first = stage.ask(ask(&id));
    assert!(first.status < 300, "{first:?}");
    let flow = stage.world.requests().len() - before;
    for nth in 0..flow {
        for fault in faults() {
            let told = format!("request {nth}, {fault:?}");
            let stage = begun.fork();
            let unchanged = strangers(&stage);
            stage.world.fault_at(stage.world.requests().len() + nth, fault);
            stage.try_ask(ask(&id));
            stage.world.clear_faults();
            end(&stage, &id, &told);
            assert_eq!(strangers(&stage), unchanged, "{told}: a stranger was touched");
        }
    }
}

fn confirm(id: &str) -> Ask {
    let ask = Ask::patch(format!("/api/templates/{id}"), json!({"execd": "included"}));
    ask.by("ops").wait(25)
}

#[test]
fn whatever_fails_a_confirmed_one_is_made() {
    each(waiting, confirm, |stage, id, told| {
        stage.world.run(client::repeat(stage.clone(), confirm(id), done));
        only(stage, id, told);
    });
}

#[test]
fn whatever_fails_a_deleted_one_is_gone() {
    let delete = |id: &str| Ask::delete(format!("/api/templates/{id}")).by("ops");
    each(waiting, delete, |stage, id, told| {
        let delete = Ask::delete(format!("/api/templates/{id}")).by("ops");
        stage.world.run(client::repeat(stage.clone(), delete, |it| matches!(it.status, 204 | 404)));
        stage.world.settle();
        stage.world.advance(Duration::seconds(100));
        let ours = stage.world.sim().guests().filter(|it| mark(it).is_some()).count();
        assert_eq!(ours, 0, "{told}\n{}", stage.told());
    });
}

/// The sweep goes on with what nobody asks for again.
#[test]
fn whatever_fails_the_sweep_goes_on() {
    let prepare = || {
        let stage = crowded();
        let waiting = until(&stage, &build(&body()).wait(0), "needs-root");
        stage.ask(cleaned_by_root(&stage, &waiting).wait(0));
        (stage, waiting.id())
    };
    each(prepare, |_| gc(), only);
}
