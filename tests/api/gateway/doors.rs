//! Doors: which names lead to a sandbox, to the API, and to nothing.

use super::*;
use pve_edge_core::io::Platform;

#[test]
fn a_name_has_one_spelling_and_all_others_lead_to_nothing() {
    let house = House::new();
    let (vmid, host) = (house.vmid, house.origin().trim_start_matches("https://").to_owned());
    let before = house.stage.pve_requests();
    let cookie = "x=1";
    for host in [
        format!("{host}."),
        format!("{host}:8443"),
        format!("x.{host}"),
        format!("x{host}"),
        host.replace("port-3000", "port-03000"),
        host.replace("port-3000", "port-0"),
        host.replace("port-3000", "port-65536"),
        host.replace("port-", "port_"),
        host.replace(&format!("vm-{vmid}"), &format!("vm-0{vmid}")),
        host.replace(&format!("vm-{vmid}"), "vm-99"),
        host.replace(&format!("vm-{vmid}"), "morphvm-x"),
        "sandbox.test".to_owned(),
        "www.sandbox.test".to_owned(),
        "gate.sandbox.test".to_owned(),
    ] {
        let refused = house.stage.ask(Ask::visit(format!("https://{host}/")).header("cookie", cookie));
        assert_eq!(refused.refusal(), "404 unknown-host", "{host}");
        // Whatever its path: the API is not there.
        let api = house.stage.ask(Ask::visit(format!("https://{host}/api/health")).by("ops"));
        assert_eq!(api.refusal(), "404 unknown-host", "{host}");
    }
    let probe = house
        .stage
        .ask(Ask::visit("https://probe.sandbox.test/").header("origin", "https://edge.example.org"));
    assert_eq!((probe.status, probe.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(house.stage.pve_requests(), before);
    // Letters are letters.
    let cookie = house.cookie();
    let shouted = house.stage.ask(
        Ask::visit(house.url().to_ascii_uppercase().replace("HTTPS", "https"))
            .header("cookie", cookie)
            .navigation(),
    );
    assert_eq!(shouted.status, 200);
}

/// A guest may not choose who it is.
#[test]
fn no_header_says_which_host_was_asked() {
    let house = House::new();
    let host = house.origin().trim_start_matches("https://").to_owned();
    let ask = |name: &'static str, value: &str| {
        house.stage.ask(Ask::get("https://edge.example.org/api/health").header(name, value))
    };
    for (name, value) in [("x-forwarded-host", &*host), ("forwarded", "host=x"), ("x-edge-to", "200000:22")] {
        assert_eq!(ask(name, value).status, 200);
    }
    let cookie = house.cookie();
    let forged =
        house.inside(&cookie).header("x-forwarded-host", "evil.test").header("x-edge-to", "200000:22");
    assert_eq!(house.stage.ask(forged.header("x-edge-client", "edge")).status, 200);
    let [seen] = &house.taken()[..] else { panic!("one request") };
    assert_eq!(header(seen, "x-forwarded-host"), host);
    assert!(header(seen, "x-edge-to").ends_with(":3000") && header(seen, "x-edge-client") == "0.0.0.0");
}

#[test]
fn the_api_has_its_own_host() {
    let house = House::with(&[("EDGE_API_HOST", "api.sandbox.test")]);
    let ask = |host: &str| house.stage.ask(Ask::get(format!("https://{host}/api/health"))).status;
    for host in
        ["api.sandbox.test", "pve-edge.account.workers.dev", "localhost:8787", "127.0.0.1:8787", "[::1]:8787"]
    {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in ["edge.example.org", "other.sandbox.test"] {
        assert_eq!(ask(host), 404, "{host}");
    }
    // Without it, any name that is not below the domain.
    let any = House::new();
    assert_eq!(any.stage.ask(Ask::get("https://edge.example.org/api/health")).status, 200);
}

#[test]
fn some_ports_are_nobodys() {
    let house = House::new();
    for port in [22, 25, 111, 2049, 8006, 39375] {
        let url = house.url().replace("port-3000", &format!("port-{port}"));
        assert_eq!(
            house.stage.ask(Ask::visit(&url).header("x-pve-edge-token", "key-ops")).refusal(),
            "403 forbidden"
        );
    }
    assert_eq!(
        house.stage.ask(Ask::act(&house.id, "services/exec/link", json!({}))).refusal(),
        "403 forbidden"
    );
}

/// Others' own calls come by this name: those of a Lambda, and of a Worker whose API is in another zone.
#[test]
fn what_has_the_proxys_key_is_sent_on_to_the_proxy_once() {
    let house = House::new();
    house.stage.ask(house.inside(&house.cookie()));
    let sent = house.taken().remove(0);
    let key = header(&sent, "x-edge-key");
    let of = |client: &str, port: u16| {
        let ask = Ask::visit("https://gate.sandbox.test/healthz?b=%20").header("x-edge-key", key);
        ask.header("x-edge-client", client).header("x-edge-to", format!("{}:{port}", house.vmid))
    };
    let (call, before) = (of("edge", 39375), house.stage.pve_requests());
    let answer = house.stage.ask(call.clone());
    assert_eq!((answer.status, answer.header("x-edge-from")), (200, "guest"), "{answer:?}");
    let passed = house.stage.world.requests().pop().expect("a request");
    assert!(passed.path.ends_with("/healthz?b=%20") || passed.path == "/healthz", "{passed:?}");
    assert_eq!(house.stage.ask(of("edge", 1)).header("x-edge-fault"), "dial");
    assert_eq!(house.stage.pve_requests(), before);
    // Who has got hold of the key reaches no more than the daemon, which wants a signature.
    for (client, port) in [("192.0.2.1", 3000), ("edge", 3000), ("192.0.2.1", 39375)] {
        assert_eq!(house.stage.ask(of(client, port)).refusal(), "508 gateway-loop");
    }
    assert!(house.taken().is_empty());
    // What comes back is not sent on for ever.
    let again = call.clone().header("x-edge-sent-on", "1");
    assert_eq!(house.stage.ask(again).refusal(), "508 gateway-loop");
    let forged = house.stage.ask(of("edge", 39375).header("x-edge-key", "0".repeat(64)));
    assert_eq!((forged.status, forged.header("x-edge-fault")), (404, "refused"));
    // Whoever has asked reads from it what became of the request.
    for (fault, status, told) in [(Fault::NeverSent, 530, ""), (Fault::Unanswered, 502, "late")] {
        house.stage.world.fault_once(|seen| seen.path.starts_with("/healthz"), fault);
        let failed = house.stage.ask(call.clone());
        assert_eq!((failed.status, failed.header("x-edge-fault")), (status, told), "{failed:?}");
    }
}

#[test]
fn what_comes_back_to_the_gateway_is_a_loop() {
    let house = House::new();
    house.stage.ask(house.inside(&house.cookie()));
    let key = header(&house.taken()[0], "x-edge-key").to_owned();
    assert_eq!(key.len(), 64);
    let again = Ask::visit(house.url()).header("x-edge-key", key);
    assert_eq!(house.stage.ask(again).refusal(), "508 gateway-loop");
    // Anybody else's is a header like any other, which goes to nobody.
    let forged = house.inside(&house.cookie()).header("x-edge-key", "0".repeat(64));
    assert_eq!(house.stage.ask(forged).status, 200);
}

/// The short name's origin was an earlier guest's, and will be a later one's: it carries no page.
#[test]
fn a_browser_gets_nothing_under_the_short_name() {
    let house = House::new();
    let long = house.link(json!({}));
    let (origin, token) = long.split_once("/?").expect("a token");
    let short = format!("https://port-3000-vm-{}.sandbox.test", house.vmid);
    let before = house.stage.pve_requests();
    let led = house.stage.ask(Ask::visit(format!("{short}/x?a=1&{token}")).navigation());
    assert_eq!(led.status, 303);
    let to = led.header("location").to_owned();
    assert!(to.starts_with(&format!("{origin}/x?a=1&pve_edge_token=v1.")), "{to}");
    // The token names the sandbox: PVE is asked nothing.
    assert_eq!(house.stage.pve_requests(), before);
    assert_eq!(house.stage.ask(Ask::visit(&to).navigation()).header("location"), "/x?a=1");
    let fetched = Ask::visit(format!("{short}/?{token}"))
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-site", "cross-site");
    assert_eq!(house.stage.ask(fetched).status, 401);
    let by_page = Ask::visit(format!("{short}/?{token}")).header("origin", "https://evil.test").websocket();
    assert_eq!(house.stage.ask(by_page).status, 401);
    assert!(house.taken().is_empty());
    // Programs have no origin.
    assert_eq!(house.stage.ask(Ask::visit(format!("{short}/?{token}"))).status, 200);
}

#[test]
fn lambda_is_no_gateway_and_says_so() {
    let house = House::new();
    let mut lambda = house.stage.beside("lambda", &settings(&[]));
    lambda.platform = Platform { name: "lambda", upgrades: false, ..lambda.platform };
    let refused = lambda.ask(Ask::visit(house.url()).header("x-pve-edge-token", "key-blue"));
    assert_eq!(refused.refusal(), "501 gateway-unsupported");
    // Its links lead to a Worker with the same secret.
    let link = lambda.ask(Ask::act(&house.id, "services/web/link", json!({})));
    let url = link.json()["url"].as_str().expect("a URL").to_owned();
    assert_eq!(house.stage.ask(Ask::visit(url).navigation()).status, 303);
    let config =
        |stage: &Stage| stage.ask(Ask::get("/api/config/sandbox")).json()["capabilities"]["gateway"].clone();
    assert_eq!((config(&lambda), config(&house.stage)), (json!(false), json!(true)));
}
