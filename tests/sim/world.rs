use std::{cell::RefCell, pin::Pin, rc::Rc, time::Duration};

use crate::talk::{TEMPLATE, request, sim};
use expect_test::expect;
use http::Request;
use pve_edge_bed::{
    sim::{Spec, execd::ExecLine},
    world::{Fault, Moment, World, WorldIo},
};
use pve_edge_core::io::{Io, NetError, Sent, Whole, fetch};

const CLONE: &str = "POST /nodes/pve1/lxc/9000/clone newid=200&full=0&description=mine";

async fn ask(io: WorldIo, line: &'static str) -> Result<Whole, NetError> {
    let deadline = io.now() + time::Duration::seconds(25);
    fetch(&io, request(line), deadline, 1 << 20).await
}

fn boxed<T>(future: impl Future<Output = T> + 'static) -> Pin<Box<dyn Future<Output = T>>> {
    Box::pin(future)
}

#[test]
fn of_two_clones_at_once_the_seed_decides_who_wins() {
    let winner = |seed| {
        let world = World::new(sim(), seed);
        let one = |name| {
            let io = world.io_named(name);
            boxed(async move { ask(io, CLONE).await.expect("an answer").status })
        };
        world.run_all([one("a"), one("b")])
    };
    let outcomes: Vec<_> = (0..20).map(winner).collect();
    assert!(outcomes.contains(&vec![Some(200), Some(500)]));
    assert!(outcomes.contains(&vec![Some(500), Some(200)]));
    assert_eq!(winner(7), winner(7));
}

#[test]
fn faults_differ_in_what_was_executed_and_in_what_the_caller_knows() {
    let run = |fault: Fault| {
        let world = World::new(sim(), 1);
        world.fault_at(0, fault);
        let result = world.try_run(ask(world.io(), CLONE));
        let said = match result {
            None => "died".to_owned(),
            Some(Ok(whole)) => whole.status.to_string(),
            Some(Err(error)) => format!("{:?} {:?}", error.sent, error.failure),
        };
        let at_once = world.sim().guest(200).is_some();
        world.advance(time::Duration::seconds(60));
        (said, at_once, world.sim().guest(200).is_some())
    };
    let of = |text: &str, now, later| (text.to_owned(), now, later);
    assert_eq!(run(Fault::Refused(500, "CT is locked (disk)".into())), of("500", false, false));
    assert_eq!(run(Fault::NeverSent), of("Never Connect", false, false));
    assert_eq!(run(Fault::Unanswered), of("Maybe Cut", true, true));
    assert_eq!(run(Fault::Silent), of("Maybe Timeout", true, true));
    assert_eq!(run(Fault::Late(Duration::from_secs(40))), of("Maybe Cut", false, true));
    assert_eq!(run(Fault::Slow(Duration::from_secs(5))), of("200", true, true));
    assert_eq!(run(Fault::Dies), of("died", false, false));
    assert_eq!(run(Fault::DiesAfter), of("died", true, true));
}

#[test]
fn a_hook_acts_between_two_requests() {
    let world = World::new(sim(), 1);
    world.hook(|sim, moment, seen| {
        if moment == Moment::Before && seen.nth == 1 {
            sim.set_lock(TEMPLATE, Some("backup"));
        }
    });
    let io = world.io();
    let answer = world.run(async move {
        ask(io.clone(), "GET /nodes/pve1/lxc/9000/config").await.expect("an answer");
        ask(io, CLONE).await.expect("an answer")
    });
    assert_eq!(answer.status, 500);
    expect![[r#"
        > GET /api2/json/nodes/pve1/lxc/9000/config
        < 200 {"data":{"cores":2,"description":"a template\n","digest":"<digest>","memory":2048,"net0":"name=eth0,bridge=vmbr0,hwaddr=BC:24:11:<mac>,ip=dhcp,type=veth","rootfs":"local-lvm:base-9000-disk-0,size=8G","tags":"preset","template":1,"unprivileged":1}}
        > POST /api2/json/nodes/pve1/lxc/9000/clone newid=200 full=0 description=mine
        < 500 {"data":null,"message":"CT is locked (backup)\n"}
    "#]]
    .assert_eq(&steady(&world.transcript()));
}

#[test]
fn time_passes_only_by_waiting() {
    let world = World::new(sim(), 1);
    let (io, log) = (world.io(), Rc::new(RefCell::new(Vec::new())));
    let sleeper = |seconds: u64| {
        let (io, log) = (io.clone(), log.clone());
        boxed(async move {
            io.sleep(Duration::from_secs(seconds)).await;
            log.borrow_mut().push(seconds);
        })
    };
    let began = world.now();
    world.run_all([sleeper(3600), sleeper(1), sleeper(60)]);
    assert_eq!(*log.borrow(), [1, 60, 3600]);
    assert_eq!(world.now() - began, time::Duration::hours(1));
}

#[test]
fn a_write_waits_for_the_file_lock_while_others_go_on() {
    let mut sim = sim();
    sim.add(Spec::guest(300).running());
    sim.setup_mut().stop_secs = time::Duration::seconds(4);
    let world = World::new(sim, 1);
    let io = world.io();
    let (took, read) = world.run(async move {
        ask(io.clone(), "POST /nodes/pve1/lxc/300/status/stop").await.expect("an answer");
        let began = io.now();
        let put = async { ask(io.clone(), "PUT /nodes/pve1/lxc/300/config tags=a").await.map(|_| io.now()) };
        let get = async { ask(io.clone(), "GET /nodes/pve1/lxc/300/config").await.map(|_| io.now()) };
        let (put, get) = futures_util::future::join(put, get).await;
        (put.expect("an answer") - began, get.expect("an answer") - began)
    });
    assert!(took > time::Duration::seconds(3), "{took}");
    assert!(read < time::Duration::seconds(1), "{read}");
}

#[test]
fn execd_answers_under_its_public_name_and_its_stream_may_break() {
    let mut sim = sim();
    sim.add(Spec::guest(300).running());
    sim.advance(time::Duration::seconds(1));
    sim.set_runner(|_, _| {
        vec![ExecLine::Stdout("hi".into()), ExecLine::Wait(Duration::from_secs(3)), ExecLine::Exit(0)]
    });
    let world = World::new(sim, 1);
    let exec = |host: &'static str| {
        let io = world.io();
        let request = Request::post(format!("https://{host}/exec"))
            .header("authorization", "Bearer secret")
            .header("content-type", "application/json")
            .body(br#"{"command":"echo hi"}"#.to_vec())
            .expect("a request");
        let deadline = io.now() + time::Duration::seconds(25);
        world.run(async move { fetch(&io, request, deadline, 1 << 20).await.map(|whole| whole.status) })
    };
    assert_eq!(exec("port-39375-vm-300.example.com"), Ok(200));
    assert_eq!(exec("port-39375-vm-301.example.com").map_err(|error| error.sent), Err(Sent::Never));
    let address = world.sim().guest(300).and_then(|guest| guest.run.clone()).expect("it runs").address;
    assert_eq!(exec(Box::leak(format!("{address}:39375").into_boxed_str())), Ok(200));
    world.fault_if(|_| Some(Fault::CutBody(1)));
    assert_eq!(exec("port-39375-vm-300.example.com").map_err(|error| error.sent), Err(Sent::Maybe));
    assert_eq!(world.sim().executions().values().sum::<u32>(), 3);
    assert!(!world.transcript().contains("secret"));
}

/// Without what only the seed decides.
fn steady(text: &str) -> String {
    let cut = |text: &str, from: &str, length: usize, with: &str| match text.find(from) {
        None => text.to_owned(),
        Some(at) => format!("{}{from}{with}{}", &text[..at], &text[at + from.len() + length..]),
    };
    cut(&cut(text, "\"digest\":\"", 40, "<digest>"), "BC:24:11:", 8, "<mac>")
}
