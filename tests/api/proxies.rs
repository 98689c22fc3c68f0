//! What stands between here and PVE, or is at work there: refused at once and by name, or asked again while
//! the request may wait.

use crate::stage::prelude::*;

/// What stands between refused a write of this path with a page: PVE was not asked, and is not asked again.
fn refused_on_the_way(stage: &Stage, path: &'static str, status: u16, ask: Ask) -> Answer {
    let before = stage.world.requests().len();
    stage
        .world
        .fault_if(move |seen| (seen.is_write() && seen.path.ends_with(path)).then_some(Fault::Page(status)));
    let answer = stage.ask(ask);
    let requests = stage.world.requests();
    let writes = requests.iter().skip(before).filter(|it| it.is_write() && it.path.ends_with(path));
    assert_eq!(writes.count(), 1, "{path} {status}: sent again\n{}", stage.told());
    stage.world.clear_faults();
    answer
}

/// A login page, a firewall, a limit: told at once, with who answered.
#[test]
fn what_refuses_a_write_on_the_way_is_named_at_once() {
    for status in [302, 400, 401, 403, 404, 413, 429] {
        let stage = Stage::new();
        let id = stage.ask(Ask::create()).id();
        let asks = [
            ("/clone", Ask::create()),
            ("/config", Ask::extend(&id, 9000)),
            ("/config", Ask::end(&id)),
            ("/status/shutdown", Ask::act(&id, "stop", serde_json::json!({}))),
        ];
        for (path, ask) in asks {
            let began = stage.world.now();
            let answer = refused_on_the_way(&stage, path, status, ask);
            let told = answer.json();
            assert_eq!(answer.refusal(), "502 pve-bad-answer", "{path} {answer:?}");
            assert_eq!(
                (told["answeredStatus"].as_u64(), told["answeredBy"].as_str()),
                (Some(u64::from(status)), Some("nginx/1.26")),
                "{answer:?}"
            );
            assert_eq!(answer.retry_after(), (status == 429).then_some(7), "{answer:?}");
            assert!(!answer.body.contains("secret-of-the-page"), "{answer:?}");
            // It waited for nothing: only requests took their time.
            assert!(answer.at - began < time::Duration::seconds(2), "{path} {status}: {}", answer.at - began);
        }
    }
}

/// A proxy that fails may have passed it on: 202 or 409, with what it answered.
#[test]
fn what_fails_on_the_way_may_have_been_executed() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    for (path, ask) in [("/config", Ask::extend(&id, 9000)), ("/config", Ask::end(&id))] {
        stage
            .world
            .fault_if(move |seen| (seen.is_write() && seen.path.ends_with(path)).then_some(Fault::Page(502)));
        let answer = stage.ask(ask.clone());
        stage.world.clear_faults();
        assert_eq!(answer.refusal(), "409 conflict", "{ask:?} {answer:?}");
        assert!(answer.body.contains("status 502 from nginx/1.26"), "{answer:?}");
    }
    stage.world.fault_if(|seen| seen.path.ends_with("/clone").then_some(Fault::Page(502)));
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.shows(), "202 creating", "{answer:?}");
    let problem = answer.json()["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("status 502 from nginx/1.26"), "{answer:?}");
}

/// While a creation may wait, what PVE refuses for now is asked again, whichever step it is.
#[test]
fn what_is_refused_for_now_is_asked_again() {
    let timeout = "can't lock file '/run/lock/lxc/pve-config-758960.lock' - got timeout";
    let faults = [Fault::Refused(500, timeout.into()), Fault::Page(502), Fault::NeverSent, Fault::Unanswered];
    for path in ["/config", "/resize", "/status/start"] {
        for fault in faults.clone() {
            let stage = Stage::at_once();
            let again = fault.clone();
            stage.world.fault_once(move |seen| seen.is_write() && seen.path.ends_with(path), again);
            let body = serde_json::json!({"disk": 20});
            let answer = stage.ask(Ask::sandbox(body).wait(25));
            let told = format!("{path} {fault:?}: {answer:?}\n{}", stage.told());
            assert_eq!(answer.shows(), "201 running", "{told}");
            assert_eq!(stage.world.sim().guests().count(), 2, "one sandbox and its template: {told}");
        }
    }
    // One that lasts is told, with its cause, and by the reads that come after.
    let stage = Stage::new();
    stage.world.fault_if(move |seen| {
        let hit = seen.path.ends_with("/config") && seen.is_write();
        hit.then(|| Fault::Refused(500, timeout.into()))
    });
    let answer = stage.ask(Ask::create().wait(25));
    assert_eq!(answer.shows(), "202 creating", "{answer:?}");
    for shown in [&answer, &stage.ask(Ask::one(&answer.id()))] {
        let problem = shown.json()["problem"].as_str().unwrap_or_default().to_owned();
        assert!(problem.contains("got timeout"), "{shown:?}");
    }
}

/// A page of what stands between refuses a step of a creation: told at once, and not sent again.
#[test]
fn a_page_that_refuses_a_step_of_a_creation_is_told_at_once() {
    for kind in BOTH {
        for path in ["/config", "/resize", "/status/start"] {
            for status in [302, 403, 413, 429] {
                let stage = if kind == Kind::Lxc { Stage::at_once() } else { Stage::of_vms() };
                stage.world.fault_if(move |it| {
                    (it.is_write() && it.path.ends_with(path)).then_some(Fault::Page(status))
                });
                let began = stage.world.now();
                let ask = Ask::sandbox(json!({"disk": 20})).wait(25);
                let answer = stage.ask(ask);
                let told = format!("{path} {status}: {answer:?}\n{}", stage.told());
                let sent = stage.world.requests();
                let sent = sent.iter().filter(|it| it.is_write() && it.path.ends_with(path)).count();
                assert_eq!(sent, 1, "{told}");
                assert_eq!(answer.refusal(), "502 pve-bad-answer", "{told}");
                assert!(answer.body.contains("sandboxId"), "{told}");
                assert_eq!(answer.retry_after(), (status == 429).then_some(7), "{told}");
                assert!(answer.at - began < Duration::seconds(10), "{told}");
                // Nothing is known against the sandbox: it comes up once the way is clear.
                stage.world.clear_faults();
                let id = answer.json()["sandboxId"].as_str().unwrap_or_default().to_owned();
                let shown = stage.ask(Ask::one(&id).wait(25));
                assert_eq!(&*shown.state(), "running", "{told} {shown:?}");
            }
        }
    }
}
