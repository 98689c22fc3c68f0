//! Siblings: what pages of other sandboxes can do with the visitor's cookies, which is nothing.

use super::*;

/// A sandbox whose pages are open in the same browser.
fn sibling(house: &House) -> String {
    let other = house.stage.ask(Ask::create()).id();
    let made = house.stage.ask(Ask::act(&other, "services/preview/link", json!({})));
    made.json()["url"].as_str().expect("a URL").split("/?").next().expect("an origin").to_owned()
}

#[test]
fn a_siblings_requests_do_not_count() {
    let house = House::new();
    let (cookie, other) = (house.cookie(), sibling(&house));
    let ask = |method: &'static str| Ask::visit(house.url()).method(method).header("cookie", &*cookie);
    let from = |ask: Ask, origin: &str| ask.header("origin", origin).header("sec-fetch-site", "same-site");
    for refused in [
        from(ask("POST"), &other).header("sec-fetch-mode", "cors"),
        from(ask("POST"), &other).header("sec-fetch-mode", "navigate"),
        from(ask("GET"), &other).header("sec-fetch-mode", "cors"),
        from(ask("POST"), "null"),
        ask("GET").header("sec-fetch-site", "same-site").header("sec-fetch-mode", "no-cors"),
        ask("GET").header("sec-fetch-site", "same-site").header("referer", format!("{other}/page")),
        ask("GET").websocket().header("origin", &*other),
        ask("GET").websocket(),
    ] {
        let answer = house.stage.ask(refused.clone());
        assert_eq!(answer.status, 401, "{refused:?}");
        assert!(answer.header("location").is_empty());
    }
    assert!(house.taken().is_empty());
    let own = house.origin();
    let mine = |ask: Ask| ask.header("origin", &*own).header("sec-fetch-site", "same-origin");
    assert_eq!(house.stage.ask(mine(ask("POST"))).status, 200);
    // What a program shows is nobody's but its own.
    let key = ask("POST").header("origin", &*other).header("x-pve-edge-token", "key-blue");
    assert_eq!(house.stage.ask(key).status, 200);
}

#[test]
fn only_its_own_services_may_frame_a_private_one() {
    let house = House::new();
    let policy = |cookie: &str| {
        let page = house.stage.ask(Ask::visit(house.url()).header("cookie", cookie).navigation());
        page.header("content-security-policy").to_owned()
    };
    let told = policy(&house.cookie());
    assert!(
        told.starts_with("frame-ancestors 'self' https://port-") && !told.contains(&sibling(&house)),
        "{told}"
    );
    assert!(told.contains(&house.origin().replace("port-3000", "port-39378")));
    let link = house.link(json!({"embed": ["https://app.test"]}));
    let entered = house.stage.ask(Ask::visit(&link).navigation());
    assert!(entered.header("set-cookie").ends_with("SameSite=None; Partitioned"));
    assert!(policy(&house.cookie_of(&link)).ends_with(" https://app.test"));
}

#[test]
fn a_preflight_is_answered_here() {
    let house = House::new();
    house.declare(json!({"allowOrigins": ["https://app.test"]}));
    let other = sibling(&house);
    let ask = |url: String, origin: &str| {
        let ask = Ask::visit(url).method("OPTIONS").header("origin", origin);
        house.stage.ask(
            ask.header("access-control-request-method", "PUT")
                .header("access-control-request-headers", "x-a"),
        )
    };
    let own_port = house.origin().replace("port-3000", "port-39378");
    for origin in ["https://app.test", &*own_port] {
        let allowed = ask(house.url(), origin);
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, origin));
        assert_eq!(allowed.header("access-control-allow-credentials"), "true");
        assert_eq!(
            (allowed.header("access-control-allow-methods"), allowed.header("access-control-allow-headers")),
            ("PUT", "x-a")
        );
    }
    for origin in [&*other, "https://app.test.evil.test", "null"] {
        let refused = ask(house.url(), origin);
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""), "{origin}");
    }
    // Of what is not there it is told the same, and a nonce that was made up asks PVE nothing.
    let nonce = house.id.split('-').nth(2).expect("a nonce").to_owned();
    let made_up = house.url().replace(&nonce, &"a".repeat(24));
    let short = format!("https://port-3000-vm-{}.sandbox.test/", house.vmid);
    let before = house.stage.pve_requests();
    for url in [made_up, short] {
        let refused = ask(url, "https://app.test");
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""));
    }
    assert_eq!(house.stage.pve_requests(), before);
    let url = house.url();
    house.stage.ask(Ask::end(&house.id).wait(20));
    house.stage.world.advance(Duration::seconds(10));
    assert_eq!(ask(url, "https://app.test").status, 403);
    assert!(house.taken().is_empty());
}

#[test]
fn an_allowed_origin_reads_the_answer_and_no_other() {
    let house = House::new();
    house.declare(json!({"allowOrigins": ["https://app.test"]}));
    let cookie = house.cookie();
    let read = Ask::visit(house.url()).header("cookie", &*cookie).header("origin", "https://app.test");
    let answer =
        house.stage.ask(read.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "cors"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://app.test"));
    assert_eq!(answer.headers.get_all("access-control-allow-origin").iter().count(), 1);
}
