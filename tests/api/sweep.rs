//! The sweep: what is over goes, in two runs; nothing else is touched.

mod expired;
mod half_made;

use pve_edge_core::{
    pve::{
        marks::{Mark, Phase, Want},
        sweep::{Verdict, verdict},
    },
    sandbox::OnExpiry,
};

use crate::stage::{
    guests::{all_committed, mark},
    prelude::*,
};

fn sweep(stage: &Stage) -> Vec<(u32, String)> {
    let answer = stage.ask(Ask::gc());
    actions(&answer)
}

fn actions(answer: &Answer) -> Vec<(u32, String)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = answer.json()["actions"].as_array().cloned().unwrap_or_default();
    let told = |it: &Value| {
        (u32::try_from(it["vmid"].as_u64().unwrap()).unwrap(), it["action"].as_str().unwrap().to_owned())
    };
    all.iter().map(told).collect()
}

fn writes(stage: &Stage) -> usize {
    stage.world.requests().into_iter().filter(|it| it.is_write() && it.path.contains("/config")).count()
}

/// The listing says for up to 15 s that it is stopped, after that too when a node's pvestatd hangs.
#[test]
fn what_was_just_resumed_is_left_alone() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let order = |action: &str| stage.act(&id, action, json!({}));
    assert_eq!(order("pause").state(), "paused");
    stage.world.advance(Duration::minutes(1));
    stage.world.sim_mut().silence_stats(true);
    assert_eq!(order("resume").state(), "running");
    assert_eq!(sweep(&stage), []);
    stage.world.settle();
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
}

#[test]
fn what_expires_is_condemned_and_deleted_a_run_later() {
    let stage = Stage::new();
    let (id, kept) = (stage.created(json!({"ttlSeconds": 60})), stage.created(json!({})));
    let vmid = vmid_of(&id);
    assert_eq!(sweep(&stage), []);
    stage.world.advance(Duration::seconds(61));
    assert_eq!(sweep(&stage), [(vmid, "condemn".into())]);
    // Another run at once does nothing: its owner's late requests have a minute.
    assert_eq!(sweep(&stage), []);
    stage.world.advance(Duration::seconds(61));
    assert_eq!(sweep(&stage), [(vmid, "delete".into())]);
    stage.world.settle();
    assert!(!stage.exists(&id) && stage.exists(&kept));
    assert_eq!(sweep(&stage), []);
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 60}));
    stage.world.advance(Duration::seconds(61));
    let before = writes(&stage);
    let dry = stage.ask(Ask::post("/api/gc", json!({"dryRun": true})).by("ops"));
    assert_eq!(actions(&dry), [(vmid_of(&id), "condemn".into())]);
    assert!(dry.json()["dryRun"].as_bool().unwrap());
    assert_eq!(writes(&stage), before);
}

#[test]
fn renewed_after_its_expiry_it_lives_and_condemned_it_cannot_be_renewed() {
    let stage = Stage::new();
    let (renewed, over) =
        (stage.created(json!({"ttlSeconds": 60})), stage.created(json!({"ttlSeconds": 60})));
    stage.world.advance(Duration::seconds(70));
    assert_eq!(stage.ask(Ask::extend(&renewed, 3600)).status, 200);
    assert_eq!(sweep(&stage), [(vmid_of(&over), "condemn".into())]);
    for ask in [
        Ask::extend(&over, 3600),
        Ask::change(&over, json!({"ttlSeconds": 3600})),
        Ask::act(&over, "start", json!({})),
        Ask::act(&over, "resume", json!({})),
    ] {
        let answer = stage.ask(ask.clone());
        assert_eq!(answer.refusal(), "409 condemned", "{ask:?} {answer:?}");
    }
    stage.world.advance(Duration::minutes(2));
    sweep(&stage);
    stage.world.settle();
    assert!(stage.exists(&renewed) && !stage.exists(&over));
}

#[test]
fn on_expiry_stop_and_pause_stop_and_keep_for_as_long_as_is_set() {
    for (on_expiry, state) in [("stop", "stopped"), ("pause", "paused")] {
        let stage = Stage::new();
        let id = stage.created(json!({"ttlSeconds": 60, "onExpiry": on_expiry}));
        stage.world.advance(Duration::seconds(70));
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.state(), state);
        assert!(shown.json()["expiredAt"].is_string(), "{shown:?}");
        assert_eq!(sweep(&stage), [(vmid_of(&id), on_expiry.to_owned())]);
        stage.world.settle();
        assert!(stage.world.sim().guest(vmid_of(&id)).unwrap().run.is_none());
        assert_eq!(stage.ask(Ask::one(&id)).state(), state);
        // Resumable with a new TTL.
        let started = stage.act(&id, "start", json!({"ttlSeconds": 60}));
        assert_eq!(started.shows(), "200 running");
        stage.world.advance(Duration::seconds(61));
        sweep(&stage);
        stage.world.advance(Duration::days(7));
        assert_eq!(sweep(&stage), [(vmid_of(&id), "condemn".into())]);
    }
}

/// The crash left the template locked too.
fn created_after_crash(stage: &Stage) -> String {
    stage.world.sim_mut().set_lock(crate::stage::TEMPLATE, None);
    stage.created(json!({"ttlSeconds": 60}))
}

#[test]
fn nobody_elses_guest_is_touched() {
    let setup = Setup::two_nodes();
    let mut sim = plain_sim(setup);
    sim.add(Spec::guest(100).running());
    sim.add(Spec::guest(200_123).description("somebody's").node("pve2"));
    let stage = Stage::on(sim);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    let theirs = staging.ask(Ask::sandbox(json!({"ttlSeconds": 60}))).id();
    let red = stage.ask(Ask::create().by("red")).id();
    // An admin's clone of a sandbox carries its marks, which name another VMID.
    let copy = {
        let mut sim = stage.world.sim_mut();
        let source = sim.guest(vmid_of(&red)).unwrap().clone();
        let tags = source.config.get("tags").unwrap_or_default().to_owned();
        let text = source.config.description.clone().unwrap_or_default();
        sim.add(Spec::guest(250_000).tags(&tags).description(&text));
        250_000
    };
    stage.world.advance(Duration::days(1));
    let before = stage.world.sim().snapshot_of(|guest| guest.vmid != vmid_of(&red));
    for _ in 0..3 {
        sweep(&stage);
        stage.world.advance(Duration::minutes(2));
    }
    let after = stage.world.sim().snapshot_of(|guest| guest.vmid != vmid_of(&red));
    assert_eq!(before, after);
    assert!(stage.exists(&theirs) && stage.world.sim().guest(copy).is_some());
}

#[test]
fn a_sweep_costs_one_listing_and_at_most_two_requests_for_each_guest() {
    let stage = Stage::new();
    for _ in 0..5 {
        stage.created(json!({"ttlSeconds": 60}));
    }
    let untouched = stage.created(json!({}));
    stage.world.advance(Duration::seconds(61));
    let (answer, requests) = stage.counted(Ask::gc());
    assert_eq!((actions(&answer).len(), requests), (5, 1 + 2 * 5));
    stage.world.advance(Duration::seconds(61));
    let (answer, requests) = stage.counted(Ask::gc());
    assert_eq!((actions(&answer).len(), requests), (5, 1 + 2 * 5));
    assert!(stage.exists(&untouched));
}

#[test]
fn a_bounded_sweep_says_that_there_is_more_and_the_next_ones_get_through() {
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 3), &[("EDGE_SWEEP_REQUESTS", "9")]);
    for _ in 0..6 {
        stage.created(json!({"ttlSeconds": 60}));
    }
    stage.world.advance(Duration::seconds(120));
    let (answer, requests) = stage.counted(Ask::gc());
    assert!(answer.json()["more"].as_bool().unwrap() && requests <= 9, "{requests} {answer:?}");
    for _ in 0..20 {
        sweep(&stage);
        stage.world.advance(Duration::seconds(61));
    }
    assert_eq!(all_committed(&stage.world.sim()).len(), 0);
}

#[test]
fn the_sweep_is_for_admins() {
    let stage = Stage::new();
    let answer = stage.ask(Ask::post("/api/gc", json!({})));
    assert_eq!(answer.refusal(), "403 forbidden");
    assert_eq!(stage.pve_requests(), 0);
}

/// Every request of a sweep may fail in any way: nothing renewed is lost, and the next ones get through.
#[test]
fn every_request_of_a_sweep_may_fail() {
    for fault in [
        Fault::NeverSent,
        Fault::Unanswered,
        Fault::Silent,
        Fault::Late(std::time::Duration::from_secs(40)),
        Fault::Dies,
        Fault::DiesAfter,
    ] {
        for index in 0..6 {
            let stage = Stage::of(World::new(plain_sim(Setup::default()), index), &[]);
            let (over, kept) = (stage.created(json!({"ttlSeconds": 60})), stage.created(json!({})));
            stage.world.advance(Duration::seconds(61));
            let at = stage.world.requests().len() + usize::try_from(index).unwrap();
            stage.world.fault_at(at, fault.clone());
            stage.try_ask(Ask::gc());
            stage.world.clear_faults();
            for _ in 0..4 {
                stage.world.advance(Duration::minutes(2));
                sweep(&stage);
            }
            stage.world.settle();
            assert!(!stage.exists(&over) && stage.exists(&kept), "{fault:?} at {index}\n{}", stage.told());
        }
    }
}

/// Two sweeps and a renewal at once, at every interleaving that the seeds give.
#[test]
fn two_sweeps_at_once_and_a_late_renewal_are_harmless() {
    for seed in 0..40 {
        let stage = Stage::of(World::new(plain_sim(Setup::default()), seed), &[]);
        let id = stage.created(json!({"ttlSeconds": 60}));
        stage.world.advance(Duration::seconds(61));
        stage.world.latency(1, 400);
        let gc = || stage.pending(Ask::gc());
        let answers = stage.world.run_all(vec![gc(), stage.pending(Ask::extend(&id, 3600)), gc()]);
        let renewed = answers[1].as_ref().unwrap().status == 200;
        for _ in 0..3 {
            stage.world.advance(Duration::seconds(70));
            sweep(&stage);
        }
        stage.world.settle();
        assert_eq!(stage.exists(&id), renewed, "seed {seed}\n{}", stage.told());
    }
}

/// The verdict, row by row.
#[test]
fn the_verdict() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 3600}));
    let mark = mark(stage.world.sim().guest(vmid_of(&id)).unwrap()).unwrap();
    let birth = mark.birth();
    let week = 7 * 24 * 3600;
    let judge = |change: &dyn Fn(&mut Mark), committed, running, seconds| {
        let mut mark = mark.clone();
        change(&mut mark);
        verdict(&mark, committed, running, birth + Duration::seconds(seconds), week)
    };
    let as_it_is = |_: &mut Mark| {};
    assert_eq!(judge(&as_it_is, true, true, 30), Verdict::Leave);
    assert_eq!(judge(&as_it_is, true, false, 30), Verdict::Leave, "switched off from inside");
    let coming = |mark: &mut Mark| mark.phase = Phase::Committed;
    assert_eq!(judge(&coming, true, false, 30), Verdict::Finish);
    assert_eq!(judge(&coming, true, false, 700), Verdict::Leave);
    assert_eq!(judge(&coming, false, false, 30), Verdict::Finish);
    assert_eq!(judge(&coming, false, false, 600), Verdict::Condemn);
    assert_eq!(judge(&as_it_is, true, true, 3700), Verdict::Condemn);
    let stop = |mark: &mut Mark| mark.on_expiry = OnExpiry::Stop;
    assert_eq!(judge(&stop, true, true, 3700), Verdict::Stop);
    let stopped = |mark: &mut Mark| (mark.on_expiry, mark.want) = (OnExpiry::Stop, Want::Off);
    assert_eq!(judge(&stopped, true, false, 3700), Verdict::Leave);
    assert_eq!(judge(&stopped, true, false, 3700 + i64::from(week)), Verdict::Condemn);
    let for_ever = |mark: &mut Mark| mark.expires = None;
    assert_eq!(judge(&for_ever, true, true, 1_000_000_000), Verdict::Leave);
    let gone = |mark: &mut Mark| (mark.want, mark.expires) = (Want::Gone, Some(birth.unix_timestamp()));
    assert_eq!(judge(&gone, true, false, 59), Verdict::Leave);
    assert_eq!(judge(&gone, true, false, 60), Verdict::Delete);
}

#[test]
fn crashed_locks_are_told_with_the_command_and_backups_are_waited_for() {
    let stage = Stage::new();
    let crashed = stage.ask(Ask::create_keyed("a").wait(0)).id();
    stage.world.sim_mut().crash(vmid_of(&crashed));
    let backed_up = created_after_crash(&stage);
    stage.world.advance(Duration::seconds(601));
    stage.world.sim_mut().set_lock(vmid_of(&backed_up), Some("backup"));
    let answer = stage.ask(Ask::gc());
    let text = answer.body.clone();
    assert!(text.contains(&format!("pct unlock {}", vmid_of(&crashed))), "{text}");
    assert!(text.contains("locked (backup): left for a later sweep"), "{text}");
    assert!(stage.exists(&crashed) && stage.exists(&backed_up));
}
