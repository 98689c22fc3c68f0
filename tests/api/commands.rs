//! Commands: output, exit codes and time limits, by a container's exec daemon and a VM's guest agent.

use std::time::Duration;

use pve_edge_bed::sim::execd::ExecLine;

use crate::stage::prelude::*;

#[test]
fn output_and_events_are_those_of_the_command() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        let answer = stage.ask(Ask::exec(&id, "grün"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({"exitCode": 0, "stdout": "grün\n", "stderr": "", "timedOut": false})
        );
        let stream = stage.ask(Ask::exec(&id, "true").header("accept", "text/event-stream"));
        assert_eq!(
            stream.body,
            "event: stdout\ndata: {\"data\":\"true\\n\"}\n\nevent: exit\ndata: {\"exitCode\":0,\"timedOut\":false}\n\n"
        );
    }
}

#[test]
fn both_outputs_and_the_exit_code_are_told_when_it_ends() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.sim_mut().set_runner(|_, _| {
            vec![
                ExecLine::Stdout("grün".into()),
                ExecLine::Wait(Duration::from_secs(5)),
                ExecLine::Stderr("rot: ü".into()),
                ExecLine::Exit(3),
            ]
        });
        let began = stage.world.now();
        let answer = stage.ask(Ask::exec(&id, "x"));
        let told = answer.json();
        assert_eq!((answer.status, &told["exitCode"]), (200, &json!(3)), "{answer:?}");
        assert_eq!(told["timedOut"], false);
        assert_eq!((&told["stdout"], &told["stderr"]), (&json!("grün\n"), &json!("rot: ü\n")));
        assert!(answer.at - began < Duration::from_secs(9));
        let events = stage.ask(Ask::exec(&id, "x").header("accept", "text/event-stream"));
        assert_eq!((events.status, events.header("content-type")), (200, "text/event-stream"));
        for part in ["event: stdout", "grün", "event: stderr", "event: exit", "3"] {
            assert!(events.body.contains(part), "{part}: {}", events.body);
        }
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended_and_told_so() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.sim_mut().set_runner(|_, _| {
            let hour = ExecLine::Wait(Duration::from_secs(3600));
            vec![ExecLine::Stdout("begun".into()), hour, ExecLine::Exit(0)]
        });
        let answer = stage.act(&id, "exec", json!({"command": "x", "timeoutMs": 4000}));
        assert_eq!((answer.status, &answer.json()["timedOut"]), (200, &json!(true)), "{answer:?}");
        assert_eq!(answer.json()["stdout"], "begun\n");
    }
}

#[test]
fn a_command_is_never_sent_twice() {
    let is_command = |it: &Seen| it.path.ends_with("/agent/exec") || it.path.ends_with("/exec");
    for kind in BOTH {
        for fault in [Fault::Unanswered, Fault::Silent, Fault::CutBody(0), Fault::Refused(596, String::new())]
        {
            // A container's daemon has no 596.
            if kind == Kind::Lxc && matches!(fault, Fault::Refused(..)) {
                continue;
            }
            let stage = Stage::with(kind);
            let id = stage.created(json!({}));
            stage.world.fault_once(is_command, fault.clone());
            let sent = || stage.world.requests().iter().filter(|it| is_command(it)).count();
            let before = sent();
            let answer = stage.ask(Ask::exec(&id, "true"));
            assert_eq!(answer.refusal(), "502 exec-cut", "{kind:?} {fault:?}");
            assert_eq!(sent() - before, 1, "{kind:?} {fault:?}");
        }
    }
}

#[test]
fn all_versions_of_pve_and_all_storages_make_one_that_runs_a_command() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in [StorageKind::LvmThin, StorageKind::ZfsPool, StorageKind::Dir] {
            let storages = vec![Storage::new("s", kind)];
            let sim = sim_of(Kind::Qemu, Setup { version, storages, ..Setup::default() });
            let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
            let id = stage.created(json!({}));
            let answer = stage.ask(Ask::exec(&id, "hello there"));
            let outcome = (answer.status, &answer.json()["exitCode"], &answer.json()["stdout"]);
            assert_eq!(outcome, (200, &json!(0), &json!("hello there\n")), "{version:?} {answer:?}");
        }
    }
}
