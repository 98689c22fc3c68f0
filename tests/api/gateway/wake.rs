//! Waking: who wakes a sandbox, how often it is started, and what its visitors are told meanwhile.

use super::*;
use pve_edge_bed::world::Handle;

fn paused() -> (House, String) {
    let house = House::new();
    let cookie = house.cookie();
    assert_eq!(house.stage.ask(Ask::act(&house.id, "stop", json!({}))).status, 200);
    house.stage.world.advance(Duration::seconds(20));
    (house, cookie)
}

#[test]
fn a_page_wakes_it_and_tells_what_happens() {
    let (house, cookie) = paused();
    let open = || Ask::visit(house.url()).header("cookie", &*cookie).navigation();
    let mut told = house.stage.ask(open());
    let mut asked = 1;
    while told.status == 503 && asked < 20 {
        assert_eq!(told.header("refresh"), "2", "{told:?}");
        assert!(
            told.body.contains("<h1>The sandbox is starting</h1>") && !told.body.contains("<script"),
            "{}",
            told.body
        );
        house.stage.world.advance(Duration::seconds(2));
        told = house.stage.ask(open());
        asked += 1;
    }
    assert_eq!((told.status, &*told.body, house.starts()), (200, "hello", 2), "{asked} {told:?}");
}

/// A browser that does not tell that a person has opened it shows the page with a link that says so.
#[test]
fn the_page_that_says_that_it_sleeps_leads_to_it() {
    let (house, cookie) = paused();
    let open = |path: &str, site: &str| {
        let ask = Ask::visit(format!("{}{path}", house.url())).header("cookie", &*cookie);
        let ask = ask.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        house.stage.ask(ask.header("sec-fetch-site", site.to_owned()).header("accept", "text/html"))
    };
    let asleep = open("a?b=%22", "none");
    assert_eq!(asleep.status, 503);
    assert!(asleep.body.contains("<a href=\"/a?b=%22&amp;pve_edge_wake=1\">Start it</a>"), "{}", asleep.body);
    assert_eq!(house.starts(), 1);
    let woken = open("a?b=%22&pve_edge_wake=1", "same-origin");
    assert_eq!((woken.status, &*woken.body, house.starts()), (200, "hello", 2));
    assert_eq!(house.taken()[0].uri().path_and_query().map(|it| it.as_str()), Some("/a?b=%22"));
}

/// A program that shows a key means it, whatever its request looks like.
#[test]
fn a_request_without_a_body_or_with_another_upgrade_wakes_it() {
    for (method, upgrade) in [("DELETE", None), ("POST", None), ("GET", Some("h2c"))] {
        let (house, _) = paused();
        let mut ask = Ask::visit(house.url()).method(method).header("x-pve-edge-token", "key-blue");
        if let Some(upgrade) = upgrade {
            ask = ask.header("connection", "upgrade, http2-settings").header("upgrade", upgrade);
        }
        let answer = house.stage.ask(ask);
        assert_eq!((answer.status, house.starts()), (200, 2), "{method} {upgrade:?} {answer:?}");
    }
}

/// Nothing that never opens is a use of it.
#[test]
fn websockets_that_are_not_opened_give_it_no_time() {
    let house = House::new();
    let (cookie, origin, writes) = (house.cookie(), house.origin(), house.writes());
    house.stage.world.sim_mut().set_running(house.vmid, false);
    house.stage.world.advance(Duration::minutes(31));
    for _ in 0..5 {
        house.stage.world.advance(Duration::seconds(15));
        let tab = house.inside(&cookie).header("origin", &*origin).websocket();
        assert_eq!(house.stage.ask(tab).status, 101);
    }
    assert_eq!((house.writes(), house.starts()), (writes, 1));
}

#[test]
fn a_program_waits_until_it_is_up() {
    let (house, _) = paused();
    let ask = Ask::visit(house.url()).method("POST").bytes("x").header("content-length", "1");
    let answer = house.stage.ask(ask.header("x-pve-edge-token", "key-blue"));
    assert_eq!((answer.status, &*answer.body), (200, "hello"), "{answer:?}");
    let seen = house.taken();
    assert_eq!((seen.len(), &seen[0].body()[..]), (1, &b"x"[..]));
}

/// An open tab would undo every pause, and so would whoever looks at a link.
#[test]
fn nobody_wakes_it_who_does_not_mean_it() {
    let (house, cookie) = paused();
    let link = house.link(json!({}));
    let (url, origin) = (house.url(), house.origin());
    let own = || {
        Ask::visit(&url)
            .header("cookie", &*cookie)
            .header("sec-fetch-site", "same-origin")
            .header("origin", &*origin)
    };
    let opened = || Ask::visit(&url).header("cookie", &*cookie).navigation();
    for ask in [
        own().header("sec-fetch-mode", "cors"),
        own().header("sec-fetch-mode", "cors").header("accept", "text/event-stream"),
        opened().header("sec-purpose", "prefetch"),
        opened().method("HEAD"),
        Ask::visit(format!("{url}favicon.ico"))
            .header("cookie", &*cookie)
            .header("sec-fetch-site", "same-origin"),
        own().header("sec-fetch-mode", "same-origin").header("service-worker", "script"),
        Ask::visit(&link),
        // It loads itself again: current Vite does, when a websocket of its was opened, be it closed at once.
        Ask::visit(&url)
            .header("cookie", &*cookie)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "same-origin"),
        // Another sandbox's page shows it in a frame, and may know how a person asks for it.
        Ask::visit(format!("{url}?pve_edge_wake=1"))
            .header("cookie", &*cookie)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "iframe")
            .header("sec-fetch-site", "same-site"),
    ] {
        let answer = house.stage.ask(ask.clone());
        assert_eq!(answer.status, 503, "{ask:?} {answer:?}");
    }
    // A page learns nothing of a websocket that was refused: it is opened, and closed.
    let closed = house.stage.ask(own().websocket().header("sec-websocket-protocol", "vite-hmr, other"));
    assert_eq!(
        (closed.status, closed.body.split(':').next(), closed.header("sec-websocket-protocol")),
        (101, Some("4503 the sandbox is stopped"), "vite-hmr")
    );
    let without_key = own().header("upgrade", "websocket").header("connection", "upgrade");
    assert_eq!(house.stage.ask(without_key).refusal(), "503 asleep");
    assert_eq!(house.stage.ask(Ask::visit(&url).websocket()).status, 401);
    assert_eq!(house.starts(), 1);
    assert_eq!(house.stage.ask(Ask::one(&house.id)).state(), "stopped");
}

#[test]
fn a_hundred_visitors_at_once_start_it_once() {
    let (house, cookie) = paused();
    let ask = || Ask::visit(house.url()).header("cookie", &*cookie).navigation();
    let starts = house.starts();
    let pending: Vec<Handle<Answer>> = (0..100)
        .map(|at| house.stage.beside(["a", "b", "c", "d"][at % 4], &settings(&[])))
        .map(|stage| house.stage.world.spawn(stage.pending(ask())))
        .collect();
    house.stage.world.settle();
    house.stage.world.advance(Duration::seconds(30));
    for told in pending {
        assert!(matches!(told.take().map(|it| it.status), Some(200 | 503)));
    }
    assert_eq!(house.starts() - starts, 1);
    assert_eq!(house.stage.ask(Ask::one(&house.id)).state(), "running");
    assert_eq!(house.stage.ask(ask()).status, 200);
}

#[test]
fn visitors_who_come_one_after_the_other_start_it_once() {
    for apart in [7, 70, 300] {
        let (house, cookie) = paused();
        let ask = || Ask::visit(house.url()).header("cookie", &*cookie).navigation();
        let starts = house.starts();
        let pending: Vec<Handle<Answer>> = (0..60)
            .map(|at| {
                house.stage.world.advance(Duration::milliseconds(apart));
                let stage = house.stage.beside(["a", "b", "c", "d"][at % 4], &settings(&[]));
                house.stage.world.spawn(stage.pending(ask()))
            })
            .collect();
        house.stage.world.advance(Duration::seconds(30));
        assert!(pending.iter().all(|it| matches!(it.take().map(|it| it.status), Some(200 | 503))));
        assert_eq!(house.starts() - starts, 1, "{apart} ms");
        assert_eq!(house.stage.ask(ask()).status, 200);
    }
}

/// 1. A visitor's request writes that the sandbox shall run, and dies before it has started it.
/// 2. For ten seconds all others wait for it.
/// 3. Then one of those who mean it starts it, and an open tab does not.
#[test]
fn a_start_that_somebody_has_left_is_begun_again_once() {
    let (house, cookie) = paused();
    let ask = || Ask::visit(house.url()).header("cookie", &*cookie).navigation();
    let starts = house.starts();
    let is_start = |seen: &pve_edge_bed::world::Seen| seen.path.ends_with("/status/start");
    house.stage.world.fault_once(is_start, Fault::Dies);
    let left = house.stage.world.spawn(house.stage.pending(ask()));
    house.stage.world.advance(Duration::seconds(5));
    assert!(left.take().is_none_or(|it| it.status == 503));
    assert_eq!((house.stage.ask(ask()).status, house.starts() - starts), (503, 1));
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!((house.stage.ask(house.inside(&cookie)).status, house.starts() - starts), (503, 1));
    let pending: Vec<_> = (0..20).map(|_| house.stage.world.spawn(house.stage.pending(ask()))).collect();
    house.stage.world.advance(Duration::seconds(30));
    assert!(pending.iter().all(|it| matches!(it.take().map(|it| it.status), Some(200 | 503))));
    assert_eq!((house.stage.ask(ask()).status, house.starts() - starts), (200, 2));
}

/// What ends by itself, or by a command within, is stopped, and its mark does not say so.
#[test]
fn one_that_has_stopped_by_itself_is_started() {
    let house = House::new();
    let cookie = house.cookie();
    house.stage.world.sim_mut().set_running(house.vmid, false);
    house.stage.world.advance(Duration::seconds(60));
    let open = || house.stage.ask(Ask::visit(house.url()).header("cookie", &*cookie).navigation());
    assert_eq!(house.stage.ask(house.inside(&cookie)).status, 503);
    assert_eq!((open().status, house.starts()), (200, 2));
    assert_eq!((open().status, house.starts()), (200, 2));
}

#[test]
fn a_large_body_does_not_wake_it() {
    let (house, _) = paused();
    let large =
        Ask::visit(house.url()).method("POST").bytes(vec![0; 70_000]).header("content-length", "70000");
    let refused = house.stage.ask(large.header("x-pve-edge-token", "key-blue"));
    assert_eq!((refused.refusal(), house.starts()), ("503 asleep".into(), 1));
}

#[test]
fn a_public_service_wakes_only_where_its_owner_says_so() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    house.declare(json!({"visibility": "public"}));
    house.stage.ask(Ask::act(&house.id, "stop", json!({})));
    house.stage.world.advance(Duration::seconds(20));
    let open = || house.stage.ask(Ask::visit(house.url()).navigation());
    assert_eq!((open().status, house.starts()), (503, 1));
    house.declare(json!({"visibility": "public", "wake": "public"}));
    house.stage.world.advance(Duration::seconds(10));
    open();
    assert_eq!(house.starts(), 2);
}

#[test]
fn whoever_uses_it_gives_it_its_time_again_and_seldom() {
    let house = House::new();
    let (cookie, url) = (house.cookie(), house.url());
    let expires = |house: &House| house.stage.ask(Ask::one(&house.id)).json()["expiresAt"].clone();
    let (before, writes) = (expires(&house), house.writes());
    let open =
        |house: &House| house.stage.ask(Ask::visit(&url).header("cookie", &*cookie).navigation()).status;
    assert_eq!((open(&house), house.writes()), (200, writes));
    house.stage.world.advance(Duration::minutes(31));
    // What an open tab fetches is no use of it.
    let fetch = Ask::visit(&url)
        .header("cookie", &*cookie)
        .header("sec-fetch-site", "same-origin")
        .header("sec-fetch-mode", "cors");
    assert_eq!((house.stage.ask(fetch).status, house.writes()), (200, writes));
    house.stage.world.advance(Duration::seconds(10));
    let pending: Vec<_> = (0..100)
        .map(|_| {
            house
                .stage
                .world
                .spawn(house.stage.pending(Ask::visit(&url).header("cookie", &*cookie).navigation()))
        })
        .collect();
    house.stage.world.settle();
    assert!(pending.iter().all(|it| it.take().is_some_and(|it| it.status == 200)));
    assert_ne!(expires(&house), before);
    assert_eq!(house.writes(), writes + 1);
    let renewed = expires(&house);
    house.stage.world.advance(Duration::minutes(20));
    assert_eq!((open(&house), expires(&house)), (200, renewed));
}

/// Servers that start with a sandbox listen later than its daemon does: for a minute it is waited for them.
#[test]
fn a_server_that_listens_later_is_waited_for() {
    let house = House::new();
    let url = house.url().replace("port-3000", "port-3001");
    let by_key = || Ask::visit(&url).header("x-pve-edge-token", "key-blue");
    let page = || by_key().navigation();
    let told = house.stage.ask(page());
    assert_eq!((told.status, told.header("refresh")), (503, "2"), "{told:?}");
    assert!(told.body.contains("nothing listens at its port 3001 yet"), "{}", told.body);
    let post = by_key().method("POST").bytes("x").header("content-length", "1");
    let waiting = house.stage.world.spawn(house.stage.pending(post));
    house.stage.world.advance(Duration::seconds(5));
    assert!(!waiting.is_done());
    let seen = Seen::default();
    let told = seen.clone();
    house.stage.world.serve(&format!("{}:3001", house.vmid), move |request, _| {
        told.borrow_mut().push(request.clone());
        Streamed { status: 200, headers: HeaderMap::new(), pieces: vec![Piece::Bytes(b"late".to_vec())] }
    });
    house.stage.world.advance(Duration::seconds(5));
    let answer = waiting.take().unwrap();
    assert_eq!((answer.status, &*answer.body, seen.borrow().len()), (200, "late", 1));
    assert_eq!(house.starts(), 1);
}

#[test]
fn its_port_is_closed_while_it_runs() {
    let house = House::new();
    house.stage.world.advance(Duration::seconds(60));
    let ask =
        Ask::visit(house.url().replace("port-3000", "port-3001")).header("x-pve-edge-token", "key-blue");
    let refused = house.stage.ask(ask);
    assert_eq!((refused.refusal(), refused.retry_after()), ("502 port-closed".into(), Some(2)));
    assert!(refused.body.contains("0.0.0.0"), "{}", refused.body);
}

/// What PVE does to one that runs is no start of it.
#[test]
fn its_port_is_closed_while_pve_works_on_it() {
    let house = House::new();
    house.stage.world.advance(Duration::seconds(60));
    let closed = house.url().replace("port-3000", "port-3001");
    let taking = house.stage.pending(Ask::act(&house.id, "snapshots", json!({})).wait(20));
    let taking = house.stage.world.spawn(taking);
    let mut told = Vec::new();
    while !taking.is_done() {
        told.push(house.stage.ask(Ask::visit(&closed).header("x-pve-edge-token", "key-blue")).refusal());
        house.stage.world.advance(Duration::milliseconds(200));
    }
    assert!(told.len() > 2 && told.iter().all(|it| it == "502 port-closed"), "{told:?}");
}
