//! The tunnel by Cloudflare's API, on the stand-in of it, in virtual time.

mod faults;
mod foreign;
mod refused;
mod remove;
mod secrets;
mod shapes;

use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
};

use expect_test::expect;
use pve_edge_bed::cloudflare::{ACCOUNT, Cloudflare, DOMAIN, HOST, Shared, TOKEN, ZONE};

use crate::stage::prelude::*;

/// Settings of a deployment with a tunnel.
const SETTINGS: [(&str, &str); 5] = [
    ("PVE_PUBLIC_DOMAIN", DOMAIN),
    ("CF_DOMAIN", DOMAIN),
    ("CF_API_TOKEN", TOKEN),
    ("CF_ACCOUNT_ID", ACCOUNT),
    ("CF_ZONE_ID", ZONE),
];
/// Name of its tunnel.
const NAME: &str = "pve-edge-prod";
/// Name of its record.
const WILDCARD: &str = "*.example.com";

/// A deployment, and an account at Cloudflare.
pub(crate) struct Bed {
    pub(crate) stage: Stage,
    account: Shared,
}

impl Bed {
    fn new() -> Self {
        Self::of(7, &[])
    }

    /// With settings beyond the usual ones.
    fn of(seed: u64, changes: &[(&str, &str)]) -> Self {
        let world = World::new(plain_sim(Setup::default()), seed);
        let account: Shared = Rc::new(RefCell::new(Cloudflare::new(world.now())));
        let served = account.clone();
        world.serve(HOST, move |request, now| served.borrow_mut().answer(request, now));
        let kept = SETTINGS.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let changes: Vec<_> = kept.chain(changes).copied().collect();
        Self { stage: Stage::of(world, &changes), account }
    }

    fn account(&self) -> RefMut<'_, Cloudflare> {
        self.account.borrow_mut()
    }

    /// Asks for the tunnel.
    fn make(&self, body: Value) -> Answer {
        self.stage.ask(make(body))
    }

    /// Compares it.
    fn compare(&self) -> Answer {
        self.stage.ask(Ask::get("/api/tunnel").by("ops"))
    }

    /// Numbers of calls, and of those that write.
    fn counts(&self) -> (usize, usize) {
        let account = self.account();
        (account.exchanges.len(), account.writes())
    }

    /// Calls since the account had so many of them: method and path.
    fn calls(&self, from: usize) -> String {
        let account = self.account();
        account.exchanges.iter().skip(from).map(|it| format!("{} {}\n", it.method, it.path)).collect()
    }

    /// That there is one tunnel with the right rules, and one record that leads into it.
    fn assert_one(&self, told: &str) {
        let account = self.account();
        let living = account.living();
        let [tunnel] = &*living else { panic!("{told}: {:?}\n{}", account.tunnels, self.stage.told()) };
        assert_eq!((&*tunnel.name, tunnel.config_src), (NAME, "cloudflare"), "{told}");
        let rules = json!([
            {"hostname": WILDCARD, "service": "http://127.0.0.1:39370", "originRequest": {}},
            {"service": "http_status:404"},
        ]);
        assert_eq!(tunnel.config["ingress"], rules, "{told}");
        let records: Vec<_> = account.records.iter().filter(|it| it["name"] == WILDCARD).collect();
        let [record] = &*records else { panic!("{told}: {records:?}\n{}", self.stage.told()) };
        let content = format!("{}.cfargotunnel.com", tunnel.id);
        assert_eq!((&record["type"], &record["content"]), (&json!("CNAME"), &json!(content)), "{told}");
        assert_eq!(
            (&record["proxied"], &record["comment"]),
            (&json!(true), &json!("pve-edge prod")),
            "{told}"
        );
    }
}

fn make(body: Value) -> Ask {
    Ask::post("/api/tunnel", body).by("ops")
}

fn undo(query: &str) -> Ask {
    Ask::delete(format!("/api/tunnel{query}")).by("ops")
}

/// Each row of an answer: part and state.
fn rows(answer: &Answer) -> String {
    let rows = answer.json()["rows"].as_array().cloned().unwrap_or_default();
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|it| format!("{} {}", text(it, "part"), text(it, "state"))).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_fresh_zone_gets_all_of_it_in_order_and_once() {
    let bed = Bed::new();
    let answer = bed.make(json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    expect![[r#"
        GET /zones/{id}
        GET /accounts/{id}/cfd_tunnel
        GET /zones/{id}/dns_records
        POST /accounts/{id}/cfd_tunnel
        PUT /accounts/{id}/cfd_tunnel/{id}/configurations
        GET /accounts/{id}/cfd_tunnel/{id}/configurations
        POST /zones/{id}/dns_records
        GET /accounts/{id}/cfd_tunnel/{id}/token
    "#]]
    .assert_eq(&bed.calls(0));
    bed.assert_one("fresh");
    let told = answer.json();
    assert_eq!(told["did"], json!(["tunnel", "ingress", "record"]));
    assert_eq!(told["complete"], true);
    assert_eq!(rows(&answer), "certificate same, tunnel same, ingress same, record same");
    assert!(told["token"].as_str().is_some_and(|it| it.len() > 20), "{told}");
    assert_eq!(answer.header("cache-control"), "no-store");
    // Again: looks, and does nothing.
    let (before, writes) = bed.counts();
    let again = bed.make(json!({}));
    assert_eq!((&again.json()["did"], &again.json()["token"]), (&json!([]), &told["token"]), "{again:?}");
    assert_eq!(bed.account().writes(), writes, "{}", bed.calls(before));
    bed.assert_one("again");
}

#[test]
fn the_command_has_neither_key_nor_token_on_a_command_line() {
    let bed = Bed::new();
    let answer = bed
        .stage
        .ask(make(json!({})).header("host", "edge.example.net").header("x-forwarded-proto", "https"));
    let command = answer.json()["command"].as_str().unwrap_or_default().to_owned();
    let expected = "(umask 077; printf 'Authorization: Bearer %s\\n' \"$KEY\" | curl -fsS -H @- -o proxy.sh \
                    'https://edge.example.net/api/setup/proxy.sh' && sh proxy.sh --new-token; rm -f proxy.sh)";
    assert_eq!(command, expected);
    assert!(!command.contains(answer.json()["token"].as_str().unwrap_or("?")), "{command}");
}

#[test]
fn a_dry_run_writes_nothing_and_costs_eight_calls_at_most() {
    for had in [None, Some(json!({})), Some(json!({"vpc": true}))] {
        for vpc in [false, true] {
            let bed = Bed::new();
            had.iter().for_each(|it| drop(bed.make(it.clone())));
            let told = format!("{had:?}");
            bed.account().page = 1;
            let (before, writes) = bed.counts();
            let answer = bed.make(json!({"dryRun": true, "vpc": vpc}));
            assert_eq!(answer.status, 200, "{told} {answer:?}");
            assert_eq!(bed.account().writes(), writes, "{told}: {}", bed.calls(before));
            let calls = bed.account().exchanges.len() - before;
            assert!(calls <= 8, "{told} {vpc}: {calls} calls\n{}", bed.calls(before));
            let told = answer.json();
            assert!(told.get("token").is_none() && told.get("command").is_none(), "{told}");
        }
    }
}

#[test]
fn making_and_comparing_cost_few_calls() {
    let bed = Bed::new();
    bed.account().add_record("A", "www.example.com", "192.0.2.1", true);
    let cost = |ask: Ask| {
        let before = bed.account().exchanges.len();
        let answer = bed.stage.ask(ask);
        assert_eq!(answer.status, 200, "{answer:?}");
        bed.account().exchanges.len() - before
    };
    assert_eq!(cost(make(json!({}))), 8);
    bed.account().page = 1;
    assert!(cost(Ask::get("/api/tunnel").by("ops")) <= 8);
    bed.account().page = 100;
    assert!(cost(make(json!({"vpc": true}))) <= 10);
    assert!(cost(Ask::get("/api/tunnel").by("ops")) <= 8);
}

#[test]
fn two_callers_at_once_end_with_one_tunnel() {
    let mut raced = 0;
    for seed in 0..60 {
        let bed = Bed::of(seed, &[]);
        bed.stage.world.latency(1, 400);
        let other = bed.stage.beside("b", &SETTINGS);
        let both = [bed.stage.pending(make(json!({}))), other.pending(make(json!({})))];
        let answers: Vec<Answer> = bed.stage.world.run_all(both).into_iter().flatten().collect();
        let told = format!("seed {seed}\n{}", bed.stage.told());
        assert_eq!(answers.iter().map(|it| it.status).collect::<Vec<_>>(), [200, 200], "{answers:?} {told}");
        assert_eq!(answers[0].json()["token"], answers[1].json()["token"], "{told}");
        assert_eq!(bed.account().tunnels.len(), 1, "{told}");
        bed.assert_one(&told);
        raced += usize::from(bed.account().exchanges.iter().any(|it| it.status == 409));
    }
    assert!(raced > 10, "only {raced} met");
}

#[test]
fn what_differs_is_ours_and_is_changed() {
    let bed = Bed::new();
    bed.make(json!({}));
    {
        let mut account = bed.account();
        let old = json!([{"hostname": WILDCARD, "service": "http://127.0.0.1:39371"}, {"service": "http_status:404"}]);
        account.tunnels[0].config = json!({"ingress": old, "warp-routing": {"enabled": true}});
        let record = account.records.iter_mut().find(|it| it["name"] == WILDCARD).expect("ours");
        record["content"] = json!("0191dce4-9ab4-7fce-b660-8e5dec5172da.cfargotunnel.com");
    }
    assert_eq!(rows(&bed.compare()), "certificate same, tunnel same, ingress differs, record differs");
    let answer = bed.make(json!({}));
    assert_eq!(answer.json()["did"], json!(["ingress", "record"]), "{answer:?}");
    bed.assert_one("changed");
    assert_eq!(
        bed.account().tunnels[0].config["warp-routing"],
        json!({"enabled": true}),
        "what else it had is kept"
    );
    // A record that is not proxied leads nobody in.
    bed.account().records.iter_mut().for_each(|it| it["proxied"] = json!(false));
    assert_eq!(bed.make(json!({})).json()["did"], json!(["record"]));
    bed.assert_one("proxied");
}

#[test]
fn a_vpc_service_is_made_beside_a_record_that_leads_nowhere() {
    let bed = Bed::new();
    let answer = bed.make(json!({"vpc": true}));
    let told = answer.json();
    assert_eq!(told["did"], json!(["tunnel", "ingress", "service", "record"]), "{answer:?}");
    let service = bed.account().services[0].clone();
    assert_eq!(told["serviceId"], service["service_id"]);
    let host = json!({"ipv4": "127.0.0.1", "network": {"tunnel_id": bed.account().tunnels[0].id}});
    assert_eq!((&service["host"], &service["http_port"]), (&host, &json!(39370)));
    let record = bed.account().records[0].clone();
    assert_eq!((&record["type"], &record["content"]), (&json!("AAAA"), &json!("100::")));
    // Who compares needs not say so: the record does.
    let all = "certificate same, tunnel same, ingress same, service same, record same";
    let shown = bed.compare();
    assert_eq!((rows(&shown), &shown.json()["vpc"]), (all.to_owned(), &json!(true)));
    bed.account().services[0]["http_port"] = json!(80);
    assert_eq!(bed.make(json!({"vpc": true})).json()["did"], json!(["service"]));
    assert_eq!(bed.account().services[0]["http_port"], 39370);
    // Back to the other way: the record leads into the tunnel again.
    assert_eq!(bed.make(json!({})).json()["did"], json!(["record"]));
    bed.assert_one("back");
}

/// The record that leads guests' names in is replaced by one that leads nowhere.
#[test]
fn a_vpc_service_that_cannot_be_made_leaves_the_way_that_is_there() {
    let bed = Bed::new();
    bed.make(json!({}));
    bed.stage
        .world
        .fault_once(|seen| seen.method == "POST" && seen.path.ends_with("/services"), Fault::Page(403));
    let refused = bed.make(json!({"vpc": true}));
    assert!(refused.status >= 400, "{refused:?}");
    bed.stage.world.clear_faults();
    bed.assert_one("the record");
}

#[test]
fn cloudflareds_are_told_with_version_and_age() {
    let bed = Bed::new();
    let before = bed.compare();
    assert_eq!(rows(&before), "certificate same, tunnel missing, ingress missing, record missing");
    assert_eq!((&before.json()["id"], &before.json()["connectors"]), (&json!(null), &json!([])));
    bed.make(json!({}));
    assert_eq!(bed.compare().json()["status"], "down");
    bed.account().connect(NAME, 4);
    let told = bed.compare().json();
    assert_eq!((&told["status"], &told["complete"]), (&json!("healthy"), &json!(true)));
    let connector = &told["connectors"][0];
    assert_eq!((&connector["version"], &connector["configVersion"]), (&json!("2026.11.1"), &json!(1)));
    let connections = connector["connections"].as_array().cloned().unwrap_or_default();
    assert_eq!(connections.len(), 4);
    assert!(
        connections.iter().all(|it| it["ageSeconds"].as_i64().is_some_and(|it| (90..100).contains(&it))),
        "{told}"
    );
    assert!(told.get("token").is_none(), "{told}");
}
