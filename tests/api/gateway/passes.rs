//! Passes: links, cookies and keys, what they open, and what no guest sees of them.

use super::*;
use pve_edge_bed::sim::Node;

#[test]
fn a_link_lets_a_browser_in() {
    let house = House::new();
    let link = format!("{}&a=%20b", house.link(json!({})));
    assert!(link.starts_with(&format!("https://port-3000-vm-{}-", house.vmid)), "{link}");
    let entered = house.stage.ask(Ask::visit(&link).navigation());
    assert_eq!((entered.status, entered.header("location")), (303, "/?a=%20b"));
    assert_eq!(
        (entered.header("cache-control"), entered.header("referrer-policy")),
        ("no-store", "no-referrer")
    );
    let cookie = entered.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-pve_edge="), "{cookie}");
    assert!(cookie.ends_with("; Secure; HttpOnly; Path=/; Max-Age=43200; SameSite=Lax"), "{cookie}");
    let cookie = format!("a=1; {}; b=2", cookie.split(';').next().expect("a cookie"));
    let page = house.stage.ask(Ask::visit(house.url()).header("cookie", cookie).navigation());
    assert_eq!((page.status, &*page.body), (200, "hello"));
    let [seen] = &house.taken()[..] else { panic!("one request") };
    assert_eq!(header(seen, "cookie"), "a=1; b=2");
    let address = std::net::Ipv4Addr::from(u32::from_be_bytes([10, 1, 0, 1]) + house.vmid - 200_000);
    assert_eq!(header(seen, "x-edge-to"), format!("{address}:3000"));
    assert!(format!("{seen:?}").find("__Host-pve_edge").is_none());
}

/// A link previewer fetches first, and curl has no cookies: nothing depends on a token being used once.
#[test]
fn what_is_no_page_is_served_at_once_and_as_often_as_it_is_asked() {
    let house = House::new();
    let link = house.link(json!({}));
    for _ in 0..2 {
        assert_eq!(house.stage.ask(Ask::visit(&link)).status, 200);
        assert_eq!(house.stage.ask(Ask::visit(&link).navigation()).status, 303);
    }
    for seen in house.taken() {
        assert_eq!(seen.uri().query(), None);
    }
    let token = link.split("pve_edge_token=").nth(1).expect("a token");
    let by_header = Ask::visit(house.url()).method("POST").bytes("x").header("content-length", "1");
    assert_eq!(house.stage.ask(by_header.header("x-pve-edge-token", token)).status, 200);
    let [seen] = &house.taken()[..] else { panic!("one request") };
    assert_eq!((&seen.body()[..], header(seen, "x-pve-edge-token")), (&b"x"[..], ""));
}

#[test]
fn pve_is_asked_once_in_ten_seconds() {
    let house = House::new();
    let (cookie, url) = (house.cookie(), house.url());
    house.stage.world.advance(Duration::seconds(60));
    let visit = |house: &House| {
        let before = house.stage.pve_requests();
        let ask = Ask::visit(&url).header("cookie", &*cookie).header("sec-fetch-site", "same-origin");
        assert_eq!(house.stage.ask(ask).status, 200);
        house.stage.pve_requests() - before
    };
    assert_eq!(visit(&house), 1);
    assert_eq!((visit(&house), visit(&house)), (0, 0));
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!(visit(&house), 1);
}

/// Where addresses come back within seconds, nothing is remembered.
#[test]
fn in_a_small_pool_pve_is_asked_each_time() {
    let house = House::with(&[("PVE_IP_POOL_CIDR", "10.1.0.0/24")]);
    let (cookie, url) = (house.cookie(), house.url());
    for _ in 0..3 {
        let before = house.stage.pve_requests();
        let ask = Ask::visit(&url).header("cookie", &*cookie).header("sec-fetch-site", "same-origin");
        assert_eq!(house.stage.ask(ask).status, 200);
        assert_eq!(house.stage.pve_requests() - before, 1);
    }
}

/// A key tells no node: that of the last visit is asked first.
#[test]
fn a_visit_by_key_takes_one_request_too() {
    let nodes = ["pve1", "pve2"].map(Node::new).to_vec();
    let sim = plain_sim(Setup { nodes, ..Setup::default() });
    let house = House::of(Stage::of(World::new(sim, 7), &settings(&[("PVE_IP_POOL_CIDR", "10.1.0.0/24")])));
    let url = house.url();
    let by_key = || {
        let before = house.stage.pve_requests();
        assert_eq!(house.stage.ask(Ask::visit(&url).header("x-pve-edge-token", "key-blue")).status, 200);
        house.stage.pve_requests() - before
    };
    by_key();
    assert_eq!((by_key(), by_key()), (1, 1));
    // It has moved: a listing tells where it is, and from then on that node is asked.
    let other = if house.id.ends_with("pve1") { "pve2" } else { "pve1" };
    house.stage.world.sim_mut().migrate(house.vmid, other);
    house.stage.world.advance(Duration::seconds(30));
    assert!(by_key() > 1);
    assert_eq!(by_key(), 1);
}

#[test]
fn whoever_shows_nothing_learns_nothing_and_costs_nothing() {
    let house = House::new();
    let before = house.stage.pve_requests();
    let there = house.stage.ask(Ask::visit(format!("https://port-3000-vm-{}.sandbox.test/", house.vmid)));
    for vmid in 200_000..200_050 {
        let url = format!("https://port-3000-vm-{vmid}.sandbox.test/");
        let (program, person) =
            (house.stage.ask(Ask::visit(&url)), house.stage.ask(Ask::visit(&url).navigation()));
        assert_eq!((program.refusal(), person.status), ("401 unauthorized".into(), 401));
        assert_eq!(program.json()["detail"], there.json()["detail"]);
        assert_eq!(
            (program.header("www-authenticate"), program.header("cache-control")),
            ("Bearer", "no-store")
        );
        assert!(
            person.header("content-type").starts_with("text/html") && person.header("location").is_empty()
        );
    }
    assert_eq!(house.stage.pve_requests(), before);
}

#[test]
fn a_pass_opens_its_own_port_of_its_own_sandbox() {
    let house = House::new();
    let other = house.stage.ask(Ask::create()).id();
    let (cookie, link) = (house.cookie(), house.link(json!({})));
    let token = link.split('?').nth(1).expect("a token");
    for url in [
        house.url().replace("port-3000", "port-3001"),
        house.url().replace(&house.vmid.to_string(), &vmid_of(&other).to_string()),
        house.url().replace(house.id.split('-').nth(2).unwrap(), other.split('-').nth(2).unwrap()),
    ] {
        assert_eq!(
            house.stage.ask(Ask::visit(&url).header("cookie", &*cookie).navigation()).status,
            401,
            "{url}"
        );
        assert_eq!(house.stage.ask(Ask::visit(format!("{url}?{token}"))).status, 401, "{url}");
    }
    assert!(house.taken().is_empty());
}

#[test]
fn a_revoked_link_and_its_cookies_open_nothing() {
    let house = House::new();
    let (cookie, link) = (house.cookie(), house.link(json!({})));
    house.declare(json!({"revokeLinks": true}));
    // What was known may count for ten seconds.
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!(house.stage.ask(house.inside(&cookie)).refusal(), "401 unauthorized");
    assert_eq!(house.stage.ask(Ask::visit(&link)).status, 401);
    assert_eq!(house.stage.ask(house.inside(&house.cookie())).status, 200);
    let removed = house.stage.ask(Ask::delete(format!("/api/sandboxes/{}/services/web", house.id)));
    assert_eq!(removed.status, 204);
    let before = house.taken().len();
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!(house.stage.ask(Ask::visit(&link)).status, 401);
    assert_eq!((house.taken().len(), before), (0, 1));
}

#[test]
fn a_link_and_a_cookie_end_with_their_time() {
    let house = House::new();
    house.stage.ask(Ask::extend(&house.id, 100_000));
    let link = house.link(json!({"ttlSeconds": 60}));
    let cookie = house.cookie_of(&link);
    house.stage.world.advance(Duration::seconds(60));
    assert_eq!(house.stage.ask(Ask::visit(&link)).status, 401);
    assert_eq!(house.stage.ask(house.inside(&cookie)).status, 200);
    // A page that is opened after half of its time renews it, and nothing else does.
    house.stage.world.advance(Duration::hours(7));
    let url = house.url();
    let open = |cookie: &str| house.stage.ask(Ask::visit(&url).header("cookie", cookie).navigation());
    assert!(house.stage.ask(house.inside(&cookie)).header("set-cookie").is_empty());
    let renewed = open(&cookie).header("set-cookie").split(';').next().expect("a cookie").to_owned();
    house.stage.world.advance(Duration::hours(6));
    assert_eq!(open(&cookie).status, 401);
    let again = open(&renewed);
    assert_eq!((again.status, again.header("set-cookie")), (200, ""));
}

#[test]
fn a_deleted_sandbox_is_gone_for_whoever_was_let_in() {
    let house = House::new();
    let (cookie, url) = (house.cookie(), house.url());
    assert_eq!(house.stage.ask(Ask::end(&house.id).wait(20)).status, 204);
    house.stage.world.advance(Duration::seconds(10));
    let ask = || Ask::visit(&url).header("cookie", &*cookie).header("sec-fetch-site", "same-origin");
    assert_eq!(house.stage.ask(ask()).refusal(), "404 gone");
    // Whoever gets the VMID next is somebody else.
    let next = house.stage.ask(Ask::create()).id();
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!(house.stage.ask(ask()).refusal(), "404 gone", "{next}");
    assert!(house.taken().is_empty());
}

#[test]
fn a_key_opens_the_sandboxes_of_its_team() {
    let house = House::new();
    let by = |name: &'static str, value: &str| house.stage.ask(Ask::visit(house.url()).header(name, value));
    assert_eq!(by("x-pve-edge-token", "key-blue").status, 200);
    assert_eq!(by("authorization", "Bearer key-blue").status, 200);
    assert_eq!(by("authorization", "Bearer key-ops").status, 200);
    assert_eq!(by("x-api-key", "key-blue").status, 200);
    assert_eq!(by("x-pve-edge-token", "nonsense").status, 401);
    // Another team's sandbox is none.
    let short = |vmid: u32| {
        let url = format!("https://port-3000-vm-{vmid}.sandbox.test/");
        let answer = house.stage.ask(Ask::visit(url).header("x-pve-edge-token", "key-red"));
        (answer.refusal(), answer.json()["detail"].clone())
    };
    assert_eq!(by("authorization", "Bearer key-red").refusal(), "404 gone");
    assert_eq!(short(house.vmid), short(200_900));
    // A guest is shown none of ours, whatever is beside it.
    let several = Ask::visit(house.url()).header("authorization", "Bearer their-own, Bearer key-blue");
    let several = several.header("x-api-key", "key-ops");
    assert_eq!(house.stage.ask(several).status, 200);
    let last = house.seen.borrow().last().map(|it| header(it, "authorization").to_owned());
    assert_eq!(last.as_deref(), Some("Bearer their-own"));
    for seen in house.taken() {
        assert!(!format!("{seen:?}").contains("key-"), "{seen:?}");
    }
    // What is not ours is the guest's.
    let cookie = house.cookie();
    for theirs in ["Bearer their-own", "Basic YTpi"] {
        assert_eq!(house.stage.ask(house.inside(&cookie).header("authorization", theirs)).status, 200);
        assert_eq!(header(&house.taken()[0], "authorization"), theirs);
    }
}

#[test]
fn a_public_service_is_open_where_the_deployment_allows_it() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    house.declare(json!({"visibility": "public"}));
    let short = format!("https://port-3000-vm-{}.sandbox.test/a?b", house.vmid);
    assert_eq!(house.stage.ask(Ask::visit(&short)).status, 200);
    let led = house.stage.ask(Ask::visit(&short).navigation());
    assert_eq!((led.status, led.header("location")), (303, &*format!("{}a?b", house.url())));
    assert_eq!(house.stage.ask(Ask::visit(house.url()).navigation()).status, 200);
    // A key of ours goes to no guest, be it needed or not.
    house.taken();
    assert_eq!(house.stage.ask(Ask::visit(&short).header("authorization", "Bearer key-blue")).status, 200);
    assert_eq!(header(&house.taken()[0], "authorization"), "");
    // A walk over VMIDs finds the limiter of the platform, and each absent one is asked for once.
    let walk =
        |vmid: u32| house.stage.ask(Ask::visit(format!("https://port-3000-vm-{vmid}.sandbox.test/"))).status;
    let before = house.stage.pve_requests();
    assert_eq!((walk(200_500), walk(200_500)), (401, 401));
    assert_eq!(house.stage.pve_requests() - before, 1);
    house.stage.world.limit(|_| false);
    assert_eq!((walk(200_501), walk(house.vmid)), (429, 200));
}

/// Whoever asks for names that were made up, or for those of earlier guests, keeps nobody else out.
#[test]
fn a_false_name_does_not_hide_a_true_one() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    house.declare(json!({"visibility": "public"}));
    let (url, nonce) = (house.url(), house.id.split('-').nth(2).expect("a nonce").to_owned());
    let other = house.stage.ask(Ask::create()).id();
    let before = house.stage.pve_requests();
    for false_nonce in ["a".repeat(24), other.split('-').nth(2).expect("a nonce").to_owned()] {
        assert_eq!(house.stage.ask(Ask::visit(url.replace(&nonce, &false_nonce))).status, 401);
    }
    assert_eq!(house.stage.pve_requests(), before);
    assert_eq!(house.stage.ask(Ask::visit(&url)).status, 200);
}

#[test]
fn public_is_private_where_the_deployment_does_not_allow_it() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    house.declare(json!({"visibility": "public"}));
    let closed = house.stage.beside("closed", &settings(&[]));
    assert_eq!(closed.ask(Ask::visit(house.url())).status, 401);
    let put = Ask::put(format!("/api/sandboxes/{}/services/web", house.id))
        .json(json!({"port": 3000, "visibility": "public"}));
    assert_eq!(closed.ask(put).refusal(), "400 invalid-request");
}

/// While PVE is silent, whoever was let in goes on for a minute, and nobody new comes in.
#[test]
fn a_silent_pve_keeps_nobody_out_who_was_in() {
    let house = House::new();
    let (cookie, url, link) = (house.cookie(), house.url(), house.link(json!({})));
    let ask = || Ask::visit(&url).header("cookie", &*cookie).header("sec-fetch-site", "same-origin");
    assert_eq!(house.stage.ask(ask()).status, 200);
    house.stage.world.fault_if(|seen| seen.path.starts_with("/api2/").then_some(Fault::NeverSent));
    house.stage.world.advance(Duration::seconds(30));
    assert_eq!(house.stage.ask(ask()).status, 200);
    assert_eq!(house.stage.ask(Ask::visit(&link)).status, 503);
    house.stage.world.advance(Duration::seconds(31));
    assert_eq!(house.stage.ask(ask()).status, 503);
}

#[test]
fn no_token_is_told_or_logged() {
    let house = House::new();
    let link = house.link(json!({}));
    let token = link.split("pve_edge_token=").nth(1).expect("a token");
    let cookie = house.cookie_of(&link);
    house.stage.ask(house.inside(&cookie));
    house.stage.ask(Ask::visit(&link));
    let answered = house.stage.ask(Ask::visit(link.replace("port-3000", "port-3001"))).body;
    let told = format!("{}{answered}{}", house.stage.debugged(), house.stage.told());
    let code = token.rsplit('.').next().expect("a code");
    assert!(!told.contains(code) && !told.contains(cookie.rsplit('.').next().expect("a code")));
}

/// A sibling fills the jar of the visitor's browser with cookies below the common domain, of every name that it may give them.
#[test]
fn planted_cookies_neither_open_nor_hide_anything() {
    let house = House::new();
    let cookie = house.cookie();
    let planted: Vec<_> = (0..300)
        .map(|at| match at % 3 {
            0 => format!("__host-pve_edge={at}"),
            1 => format!("__Host-pve_edge{at}=x"),
            _ => format!("pve_edge={at}"),
        })
        .collect();
    let planted = planted.join("; ");
    let with =
        |cookies: &str| house.stage.ask(Ask::visit(house.url()).header("cookie", cookies).navigation());
    assert_eq!(with(&format!("{planted}; {cookie}")).status, 200);
    assert_eq!(with(&format!("{cookie}; {planted}")).status, 200);
    assert_eq!(with(&planted).status, 401);
    house.stage.world.clear_transcript();
    let before = house.taken().len();
    assert_eq!(before, 2);
    // A platform joins headers by a comma, and a sibling may write one into a value.
    let commas = format!("a=x{}", ", __Host-pve_edge=1".repeat(40));
    assert_eq!(with(&format!("{commas}; {cookie}")).status, 200);
    assert_eq!(with(&format!("{cookie}, a=1")).status, 200);
    assert_eq!(with(&format!("a=1, {cookie}")).status, 200);
    assert_eq!(with(&commas).status, 401);
    let shown: Vec<_> = house.taken().iter().map(|it| header(it, "cookie").to_owned()).collect();
    assert_eq!(shown, ["a=x", "a=1", "a=1"]);
    assert_eq!(
        (with(&format!("{planted}; {cookie}")).status, with(&format!("{cookie}; {planted}")).status),
        (200, 200)
    );
    for seen in house.taken() {
        assert_eq!(header(&seen, "cookie"), planted);
    }
}
