//! Output of processes: from any place on, as events or as a page, in either encoding.

use pve_edge_bed::sim::execd::ExecLine;
use pve_edge_guest_protocol::process::Stream::{Stderr, Stdout};

use super::sandbox::{Event, Sandbox, events, names, of_page, output, pause};
use crate::stage::prelude::*;

/// A sandbox with a process that has written this and ended: a character is cut in two, and some bytes are none.
fn ended() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    for (stream, bytes) in [
        (Stdout, &b"gr\xc3"[..]),
        (Stderr, b"e\xe2\x82"),
        (Stdout, b"\xbcn\n"),
        (Stderr, b"\xac!"),
        (Stdout, b"\xff\x00end"),
    ] {
        sandbox.writes(stream, bytes);
    }
    sandbox.ends();
    (sandbox, process)
}

const ALL: [&[u8]; 2] = [b"gr\xc3\xbcn\n\xff\x00end", b"e\xe2\x82\xac!"];
const AS_TEXT: [&str; 2] = ["grün\n\u{fffd}\0end", "e€!"];

#[test]
fn events_have_their_place_as_their_id() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    sandbox.writes(Stdout, b"one\n");
    sandbox.writes(Stderr, b"two\n");
    sandbox.ends();
    let event = |name: &str, id: &str, data| Event { name: name.into(), id: Some(id.into()), data };
    let all = [
        event("started", "0", json!({"process": process, "pid": 4242})),
        event("stdout", "4", json!({"data": "one\n"})),
        event("stderr", "8.4", json!({"data": "two\n"})),
        event("exit", "8.4", json!({"exitCode": 0, "timedOut": false})),
    ];
    assert_eq!(sandbox.events(&format!("{process}/output")), all);
    let page = sandbox.get(&format!("{process}/output")).json();
    assert_eq!((&page["state"], &page["cursor"]), (&json!("exited"), &json!("8.4")));
    assert_eq!(page["exit"], json!({"exitCode": 0, "timedOut": false}));
    for (told, event) in of_page(&page).into_iter().zip(all) {
        let mut data = event.data;
        (data["event"], data["cursor"]) = (json!(event.name), json!(event.id));
        assert_eq!(told.data, data);
    }
}

/// Behind each event, in each encoding and also in the other one, by header and by parameter: nothing is lost or doubled.
#[test]
fn a_client_goes_on_behind_any_event() {
    let (sandbox, process) = ended();
    let ask = |encoding: &str, after: Option<&str>, is_header: bool| {
        let query = match after {
            Some(after) if !is_header => format!("?encoding={encoding}&after={after}"),
            _ => format!("?encoding={encoding}"),
        };
        let ask = Ask::get(sandbox.path(&format!("/{process}/output{query}")))
            .header("accept", "text/event-stream");
        let after = after.filter(|_| is_header);
        events(&sandbox.stage.ask(match after {
            Some(after) => ask.header("last-event-id", after),
            None => ask,
        }))
    };
    for encoding in ["text", "base64"] {
        let whole = ask(encoding, None, false);
        let is_base64 = encoding == "base64";
        let right =
            if is_base64 { ALL.map(<[u8]>::to_vec) } else { AS_TEXT.map(|it| it.as_bytes().to_vec()) };
        assert_eq!(output(&whole, is_base64), right);
        for (index, event) in whole.iter().enumerate().filter(|(_, it)| it.name != "exit") {
            for is_header in [false, true] {
                let rest = ask(encoding, event.id.as_deref(), is_header);
                assert_eq!(rest, whole[index + 1..], "{encoding} {event:?}");
            }
        }
        // In the other encoding the bytes of a begun character are told with those that complete it.
        for (index, event) in whole.iter().enumerate() {
            let rest = ask("base64", event.id.as_deref(), true);
            let [before, after] = [output(&whole[..=index], is_base64), output(&rest, true)];
            for stream in 0..2 {
                let all = [before[stream].clone(), after[stream].clone()].concat();
                let right = if is_base64 {
                    ALL[stream].to_vec()
                } else {
                    String::from_utf8_lossy(ALL[stream]).into_owned().into_bytes()
                };
                assert_eq!(String::from_utf8_lossy(&all), String::from_utf8_lossy(&right), "{event:?}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_told_as_lossy_or_in_base64() {
    let (sandbox, process) = ended();
    let page =
        |encoding: &str| of_page(&sandbox.get(&format!("{process}/output?encoding={encoding}")).json());
    let text = page("text");
    let lossy: Vec<_> = text.iter().filter(|it| it.data["lossy"] == true).collect();
    assert_eq!(lossy.len(), 1, "{text:?}");
    assert_eq!(lossy[0].data["data"], "\u{fffd}\0end");
    assert_eq!(output(&text, false), AS_TEXT.map(|it| it.as_bytes().to_vec()));
    let base64 = page("base64");
    assert!(base64.iter().all(|it| it.data.get("lossy").is_none()));
    assert_eq!(output(&base64, true), ALL.map(<[u8]>::to_vec));
}

/// A page is what has come; with `Prefer: wait` the next output is waited for, and no longer.
#[test]
fn pages_tell_what_has_come_so_far() {
    let line = |text: &str| ExecLine::Stdout(text.into());
    let all = vec![line("one"), pause(5), line("two"), pause(100), line("three"), ExecLine::Exit(7)];
    let sandbox = Sandbox::with(Kind::Lxc, all);
    let process = sandbox.started(json!({"command": "a"}));
    let page = |after: &str, seconds: u64| {
        let began = sandbox.stage.world.now();
        let ask = Ask::get(sandbox.path(&format!("/{process}/output?after={after}"))).wait(seconds);
        let answer = sandbox.stage.ask(ask);
        assert_eq!((answer.status, answer.header("preference-applied")), (200, &*format!("wait={seconds}")));
        let [stdout, _] = output(&of_page(&answer.json()), false);
        let stdout = String::from_utf8(stdout).expect("text");
        ((answer.at - began).whole_seconds(), stdout, answer.json())
    };
    let (took, text, first) = page("start", 20);
    assert_eq!(
        (took, &*text, &first["state"], &first["cursor"]),
        (0, "one\n", &json!("running"), &json!("4"))
    );
    assert!(first.get("exit").is_none());
    let (took, text, none) = page("4", 0);
    assert_eq!((took, &*text, &none["cursor"], &none["events"]), (0, "", &json!("4"), &json!([])));
    let (took, text, second) = page("4", 20);
    assert!((3..=5).contains(&took), "{took}");
    assert_eq!((&*text, &second["cursor"]), ("two\n", &json!("8")));
    let (took, text, none) = page("end", 20);
    assert_eq!((took, &*text, &none["cursor"]), (20, "", &json!("8")), "the end is a place");
    sandbox.stage.world.advance(Duration::seconds(100));
    let (_, text, last) = page("8", 20);
    assert_eq!((&*text, &last["state"], &last["exit"]["exitCode"]), ("three\n", &json!("exited"), &json!(7)));
    let (took, text, end) = page("14", 20);
    assert_eq!((took, &*text, names(&of_page(&end)).as_slice()), (0, "", ["exit"].as_slice()));
}

/// API Gateway gives up after 29 s: a problem is told before, and so is a page that was waited for as long as may be.
#[test]
fn pages_are_told_in_time() {
    for fault in [Fault::Silent, Fault::Unanswered, Fault::Slow(std::time::Duration::from_secs(40))] {
        let sandbox = Sandbox::new();
        let process = sandbox.started(json!({"command": "a"}));
        let (began, faulty) = (sandbox.stage.world.now(), fault.clone());
        sandbox.stage.world.fault_if(move |it| (it.path == "/v1/follow").then(|| faulty.clone()));
        let answer = sandbox.stage.ask(Ask::get(sandbox.path(&format!("/{process}/output"))).wait(25));
        assert_eq!(answer.refusal(), "502 exec-cut", "{fault:?} {answer:?}");
        assert!(answer.at - began < Duration::seconds(29), "{fault:?} {}", answer.at - began);
    }
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    let began = sandbox.stage.world.now();
    let slow = Fault::Slow(std::time::Duration::from_secs(6));
    sandbox.stage.world.fault_once(|it| it.path.starts_with("/api2/"), slow);
    let answer = sandbox.stage.ask(Ask::get(sandbox.path(&format!("/{process}/output?after=end"))).wait(25));
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!([])), "{answer:?}");
    assert!((Duration::seconds(20)..Duration::seconds(29)).contains(&(answer.at - began)));
}

/// 1. A VM's memory with a process in it is brought back: the guest has another boot than the process.
/// 2. The daemon's session ends while somebody follows it.
#[test]
fn a_process_in_memory_that_came_back_is_followed() {
    let sandbox =
        Sandbox::with(Kind::Qemu, vec![pause(600), ExecLine::Stdout("late".into()), ExecLine::Exit(0)]);
    let process = sandbox.started(json!({"command": "a"}));
    let kept =
        sandbox.stage.act(&sandbox.id, "snapshots", json!({"keep": true, "memory": true})).snapshot_id();
    sandbox.stage.world.settle();
    assert_eq!(sandbox.stage.ask(Ask::rollback(&sandbox.id, &kept)).shows(), "200 running");
    assert_eq!(sandbox.get(&process).shows(), "200 running");
    let (vmid, mut is_first) = (sandbox.vmid(), true);
    sandbox.stage.world.fault_once(|it| it.path == "/v1/follow", Fault::CutBody(1));
    sandbox.stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::After && seen.path == "/v1/follow" && std::mem::take(&mut is_first) {
            sim.draw_session(vmid);
        }
    });
    let told = sandbox.events(&format!("{process}/output"));
    assert_eq!(names(&told), ["started", "stdout", "exit"], "{told:?}");
}

#[test]
fn large_output_comes_in_pages_with_nothing_lost() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    let all: Vec<u8> = (0..5_000_000_u32).map(|it| (it.wrapping_mul(it) >> 7) as u8).collect();
    all.chunks(30_000).for_each(|it| sandbox.writes(Stdout, it));
    sandbox.ends();
    let (mut after, mut read, mut pages) = ("start".to_owned(), Vec::new(), 0);
    loop {
        let answer = sandbox.get(&format!("{process}/output?encoding=base64&after={after}"));
        assert!(answer.status == 200 && answer.body.len() < 4 << 20, "{}", answer.status);
        let page = answer.json();
        read.extend(output(&of_page(&page), true)[0].clone());
        (after, pages) = (page["cursor"].as_str().expect("a place").to_owned(), pages + 1);
        if page["state"] == "exited" {
            break;
        }
    }
    assert!(read == all && pages > 3, "{} bytes in {pages} pages", read.len());
}

#[test]
fn output_that_nobody_has_read_is_a_gap() {
    let (sandbox, process) = ended();
    sandbox.process().dropped = 4;
    let told = sandbox.events(&format!("{process}/output"));
    assert_eq!(names(&told)[..2], ["started", "gap"], "{told:?}");
    assert_eq!((&told[1].data, told[1].id.as_deref()), (&json!({"bytes": 4}), Some("4")));
    let rest: usize = output(&sandbox.events(&format!("{process}/output?encoding=base64")), true)
        .iter()
        .map(Vec::len)
        .sum();
    assert_eq!(rest + 4, ALL.iter().map(|it| it.len()).sum::<usize>());
    // Who has read so far misses nothing.
    let told = sandbox.events(&format!("{process}/output?after=4"));
    assert!(!names(&told).contains(&"gap"), "{told:?}");
    let page = of_page(&sandbox.get(&format!("{process}/output?after=2")).json());
    assert_eq!((&*page[0].name, &page[0].data["bytes"]), ("gap", &json!(2)));
}

/// The way to the sandbox is cut after any piece, again and again: a client sees nothing of it.
#[test]
fn cuts_on_the_way_to_the_sandbox_are_not_seen() {
    let (sandbox, process) = ended();
    let whole = sandbox.events(&format!("{process}/output"));
    for fault in [
        Fault::NeverSent,
        Fault::Unanswered,
        Fault::Page(502),
        Fault::CutBody(0),
        Fault::CutBody(2),
        Fault::CutBody(3),
    ] {
        let (faulty, mut left) = (fault.clone(), 4);
        sandbox.stage.world.fault_if(move |seen| {
            left -= i32::from(seen.path == "/v1/follow");
            (seen.path == "/v1/follow" && left >= 0).then(|| faulty.clone())
        });
        assert_eq!(sandbox.events(&format!("{process}/output")), whole, "{fault:?}");
        sandbox.stage.world.clear_faults();
    }
    // A silent daemon is none that says nothing: it says that it is there.
    let sandbox =
        Sandbox::with(Kind::Lxc, vec![pause(600), ExecLine::Stdout("late".into()), ExecLine::Exit(0)]);
    let process = sandbox.started(json!({"command": "a"}));
    let answer = sandbox
        .stage
        .ask(Ask::get(sandbox.path(&format!("/{process}/output"))).header("accept", "text/event-stream"));
    assert_eq!(names(&events(&answer)), ["started", "stdout", "exit"]);
    assert!(answer.body.matches(": still running").count() > 30);
    assert_eq!(sandbox.asked("follow"), 1);
}

#[test]
fn a_way_that_stays_cut_ends_as_an_error() {
    let (sandbox, process) = ended();
    sandbox.stage.world.fault_if(|seen| (seen.path == "/v1/follow").then_some(Fault::CutBody(0)));
    let told = sandbox.events(&format!("{process}/output"));
    assert_eq!(names(&told), ["error"]);
    assert_eq!(told[0].data["code"], "exec-cut");
    assert_eq!(sandbox.get(&format!("{process}/output")).refusal(), "502 exec-cut");
}

#[test]
fn a_process_without_its_keeper_is_lost() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    sandbox.writes(Stdout, b"so far");
    let now = sandbox.stage.world.now();
    sandbox.process().ends(now, None);
    assert_eq!(sandbox.get(&process).shows(), "200 lost");
    let page = sandbox.get(&format!("{process}/output")).json();
    assert_eq!((&page["state"], &page["cursor"]), (&json!("lost"), &json!("6")), "{page}");
    assert_eq!(output(&of_page(&page), false)[0], b"so far");
    assert!(page.get("exit").is_none());
    let told = sandbox.events(&format!("{process}/output"));
    assert_eq!(names(&told), ["started", "stdout", "error"]);
    assert_eq!(told[2].data["code"], "process-lost");
    assert_eq!(
        sandbox.post(&format!("{process}/signal"), json!({"signal": "TERM"})).refusal(),
        "409 process-gone"
    );
    assert_eq!(sandbox.delete(&process).status, 204);
}

/// 1. A client follows a process.
/// 2. The guest is restarted, and the connection breaks.
/// 3. The process is no more, and nobody knows how it ended.
#[test]
fn a_restart_ends_what_is_followed() {
    for key in [None, Some("k")] {
        let sandbox =
            Sandbox::with(Kind::Lxc, vec![ExecLine::Stdout("one".into()), ExecLine::Cut, pause(60)]);
        let process = match key {
            Some(key) => super::name(&sandbox.start_keyed(key, json!({"command": "a"}))),
            None => sandbox.started(json!({"command": "a"})),
        };
        let vmid = sandbox.vmid();
        sandbox.stage.world.hook(move |sim, moment, seen| {
            if moment == Moment::After && seen.path == "/v1/follow" {
                sim.set_running(vmid, false);
                sim.set_running(vmid, true);
            }
        });
        let told = sandbox.events(&format!("{process}/output"));
        assert_eq!(names(&told), ["started", "stdout", "error"], "{told:?}");
        assert_eq!(told[2].data["code"], "exec-cut");
        sandbox.stage.world.unhook();
        sandbox.stage.world.advance(Duration::seconds(1));
        let stands = sandbox.get(&process);
        let wanted = if key.is_some() { "200 lost" } else { "404 " };
        assert_eq!(stands.shows(), wanted, "{stands:?}");
        let page = sandbox.get(&format!("{process}/output?after=4"));
        assert_eq!(page.shows(), wanted, "{page:?}");
    }
}

#[test]
fn where_nothing_streams_events_are_refused_and_pages_told() {
    let (mut sandbox, process) = ended();
    sandbox.stage.platform.streams = false;
    let ask = Ask::get(sandbox.path(&format!("/{process}/output")));
    let answer = sandbox.stage.ask(ask.header("accept", "text/event-stream"));
    assert_eq!(answer.refusal(), "406 streaming-unavailable");
    assert_eq!(sandbox.get(&format!("{process}/output")).json()["state"], "exited");
}
