//! What goes through the gateway, and what its faults are told as.

use super::*;
use http::{HeaderName, HeaderValue};

/// Has the guest answer so.
fn answers(house: &House, status: u16, headers: &[(&'static str, &'static str)], pieces: Vec<Piece>) {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let answer = Streamed { status, headers, pieces };
    house.stage.world.serve(&format!("{}:3000", house.vmid), move |_, _| answer.clone());
}

#[test]
fn a_guest_says_nothing_for_the_edge() {
    let house = House::new();
    let cookie = house.cookie();
    answers(
        &house,
        502,
        &[
            ("x-edge-fault", ""),
            ("x-edge-key", "forged"),
            ("access-control-allow-origin", "*"),
            ("etag", "\"a\""),
            ("x-own", "kept"),
        ],
        vec![Piece::Bytes(b"tea".to_vec())],
    );
    // The real proxy takes the guest's fault away, and this one does not: it is a fault then, and never an answer.
    assert_eq!(house.stage.ask(house.inside(&cookie)).refusal(), "502 service-cut");
    answers(
        &house,
        418,
        &[("x-edge-key", "forged"), ("access-control-allow-origin", "*"), ("x-own", "kept")],
        Vec::new(),
    );
    let answer = house.stage.ask(house.inside(&cookie));
    assert_eq!((answer.status, answer.header("x-own")), (418, "kept"));
    assert_eq!((answer.header("x-edge-key"), answer.header("access-control-allow-origin")), ("", ""));
}

/// cloudflared says 502 where it finds no proxy, or loses it: that is no answer of the sandbox, and gives it no time.
#[test]
fn what_comes_from_before_the_sandbox_is_not_its_answer() {
    let house = House::new();
    let cookie = house.cookie();
    let expires = |house: &House| house.stage.ask(Ask::one(&house.id)).json()["expiresAt"].clone();
    let before = expires(&house);
    house.stage.world.advance(time::Duration::minutes(40));
    for status in [502, 503, 504, 520, 522, 524] {
        house.stage.world.fault_once(|seen| seen.path == "/" && seen.method == "GET", Fault::Page(status));
        let told = house.stage.ask(house.inside(&cookie).navigation());
        assert_eq!(told.status, 502, "{status}: {told:?}");
        assert!(told.body.contains("came from before the sandbox"), "{status}: {told:?}");
        assert_eq!(expires(&house), before, "{status}");
        house.stage.world.clear_faults();
        // What is known of the sandbox is asked for anew.
        house.stage.world.advance(time::Duration::seconds(15));
    }
    answers(&house, 502, &[], vec![Piece::Bytes(b"of the guest".to_vec())]);
    let told = house.stage.ask(house.inside(&cookie).navigation());
    assert_eq!((told.status, &*told.body), (502, "of the guest"));
    assert_ne!(expires(&house), before);
}

/// 100 MB at 3 Mbit/s.
#[test]
fn a_slow_upload_has_its_time() {
    let house = House::new();
    let piece = [Piece::Bytes(vec![b'x'; 1000]), Piece::Wait(std::time::Duration::from_secs(9))];
    let pieces: Vec<_> = std::iter::repeat_n(piece, 30).flatten().collect();
    let upload = Ask::visit(house.url()).method("POST").pieces(pieces).header("transfer-encoding", "chunked");
    let answer = house.stage.ask(upload.header("x-pve-edge-token", "key-blue"));
    assert_eq!((answer.status, &*answer.body), (200, "hello"), "{answer:?}\n{}", house.stage.told());
    assert_eq!(house.taken()[0].body().len(), 30_000);
}

#[test]
fn cookies_of_a_guest_stay_its_own() {
    let house = House::new();
    let cookie = house.cookie();
    let headers: HeaderMap = ["a=1; Domain=sandbox.test; Path=/", "__Host-pve_edge=forged; Path=/", "b=2"]
        .into_iter()
        .map(|it| (http::header::SET_COOKIE, HeaderValue::from_static(it)))
        .collect();
    house.stage.world.serve(&format!("{}:3000", house.vmid), move |_, _| Streamed {
        status: 200,
        headers: headers.clone(),
        pieces: Vec::new(),
    });
    let answer = house.stage.ask(house.inside(&cookie));
    let set: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|it| it.to_str().unwrap()).collect();
    assert_eq!(set, ["a=1; Path=/", "b=2"]);
}

#[test]
fn a_server_of_development_is_told_localhost() {
    let house = House::new();
    let cookie = house.cookie();
    house.stage.ask(house.inside(&cookie));
    house.declare(json!({"hostHeader": "local"}));
    house.stage.world.advance(Duration::seconds(10));
    house.stage.ask(house.inside(&cookie));
    let host = house.origin().trim_start_matches("https://").to_owned();
    let seen = house.taken();
    let hosts: Vec<_> =
        seen.iter().map(|it| (header(it, "x-edge-host"), header(it, "x-edge-public-host"))).collect();
    assert_eq!(hosts, [(&*host, &*host), ("localhost:3000", &*host)]);
}

#[test]
fn each_fault_says_which_link_is_broken() {
    let house = House::new();
    house.stage.world.advance(Duration::seconds(60));
    let cookie = house.cookie();
    let ask = || house.stage.ask(house.inside(&cookie));
    for (fault, told) in
        [("dial", "502 port-closed"), ("late", "502 service-cut"), ("refused", "502 proxy-refused")]
    {
        answers(&house, 502, &[("x-edge-fault", fault)], Vec::new());
        let answer = ask();
        assert_eq!(answer.refusal(), told);
        assert!(answer.body.len() < 800, "{}", answer.body);
    }
    house.stage.world.fault_once(|seen| seen.path == "/" && seen.method == "GET", Fault::Page(530));
    assert_eq!(ask().refusal(), "502 tunnel-down");
    // What a guest itself says is its own.
    answers(&house, 502, &[], vec![Piece::Bytes(b"mine".to_vec())]);
    assert_eq!((ask().status, &*ask().body), (502, "mine"));
    answers(&house, 530, &[], vec![Piece::Bytes(b"mine".to_vec())]);
    let own = ask();
    assert_eq!((own.status, &*own.body, own.headers.get("x-edge-from")), (530, "mine", None));
}

#[test]
fn a_cut_answer_stays_cut_and_nothing_is_sent_twice() {
    let house = House::new();
    let cookie = house.cookie();
    let sent = Rc::new(RefCell::new(0));
    let count = sent.clone();
    house.stage.world.route(&format!("{}:3000", house.vmid), move |_| {
        *count.borrow_mut() += 1;
        Err(pve_edge_core::io::NetError::new(
            pve_edge_core::io::Sent::Maybe,
            pve_edge_core::io::Failure::Cut,
            "cut",
        ))
    });
    let post = house
        .inside(&cookie)
        .method("POST")
        .header("origin", house.origin())
        .bytes("x")
        .header("content-length", "1");
    assert_eq!(house.stage.ask(post).refusal(), "502 service-cut");
    assert_eq!(*sent.borrow(), 1);
}

#[test]
fn without_a_network_that_is_known_there_is_no_road() {
    let house = House::of(Stage::of(World::new(plain_sim(Setup::default()), 7), &[]));
    let refused = house.stage.ask(Ask::visit(house.url()).header("x-pve-edge-token", "key-blue"));
    assert_eq!(refused.refusal(), "502 no-road");
}

/// One guest's word would throw the visitor out of all the others.
#[test]
fn no_guest_clears_a_browsers_cookies() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    house.stage.world.serve(&format!("{}:3001", house.vmid), move |_, _| {
        let cleared = ("clear-site-data".parse().expect("a name"), "\"*\"".parse().expect("a value"));
        Streamed { status: 200, headers: [cleared].into_iter().collect(), pieces: Vec::new() }
    });
    let url = house.url().replace("port-3000", "port-3001");
    let ask = || house.stage.ask(Ask::visit(&url).header("x-pve-edge-token", "key-blue"));
    assert_eq!((ask().status, ask().header("clear-site-data")), (200, ""));
    let public = json!({"port": 3001, "visibility": "public"});
    house.stage.ask(Ask::put(format!("/api/sandboxes/{}/services/other", house.id)).json(public));
    house.stage.world.advance(Duration::seconds(10));
    let open = house.stage.ask(Ask::visit(&url));
    assert_eq!((open.status, open.header("clear-site-data")), (200, ""));
}

/// A server in the guest would take the visitor for one of its own network.
#[test]
fn no_client_takes_away_what_is_told_of_it() {
    let mut stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &settings(&[]));
    (stage.platform.private_network, stage.platform.in_guest_network) = (true, true);
    let house = House::of(stage);
    let (told, guest) = (house.seen.clone(), house.stage.world.sim().guest(house.vmid).cloned());
    let address = guest.and_then(|it| it.run).map(|it| it.address.to_string());
    house.stage.world.serve(&address.expect("it runs"), move |request, _| {
        told.borrow_mut().push(request.clone());
        Streamed { status: 200, headers: HeaderMap::new(), pieces: Vec::new() }
    });
    let names = "x-forwarded-for, x-forwarded-host, x-forwarded-proto, host";
    let ask = Ask::visit(house.url()).header("x-pve-edge-token", "key-blue").header("connection", names);
    assert_eq!(house.stage.ask(ask).status, 200);
    let [seen] = &house.taken()[..] else { panic!("one request") };
    for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "host"] {
        assert!(!header(seen, name).is_empty(), "{name} {seen:?}");
    }
}
