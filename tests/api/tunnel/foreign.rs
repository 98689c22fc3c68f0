//! What is not ours: told, and overwritten by who has seen it alone.

use super::{Bed, NAME, SETTINGS, WILDCARD, make, rows};
use crate::stage::prelude::*;

fn plan_of(answer: &Answer) -> String {
    answer.json()["plan"].as_str().unwrap_or_else(|| panic!("no plan in {answer:?}")).to_owned()
}

#[test]
fn a_foreign_record_is_a_conflict_that_force_overwrites() {
    for (kind, content) in [("CNAME", "elsewhere.example"), ("A", "192.0.2.7"), ("AAAA", "100::")] {
        let bed = Bed::new();
        bed.account().add_record(kind, WILDCARD, content, true);
        let refused = bed.make(json!({}));
        assert_eq!(refused.refusal(), "409 tunnel-conflict", "{refused:?}");
        assert_eq!(rows(&refused), "certificate same, tunnel missing, ingress missing, record foreign");
        assert!(refused.body.contains(content), "{refused:?}");
        assert_eq!(bed.account().writes(), 0, "a conflict is found before anything is made");
        let plan = plan_of(&refused);
        assert_eq!(plan_of(&bed.make(json!({"dryRun": true}))), plan);
        let forced = bed.make(json!({"force": true, "plan": plan}));
        assert_eq!(forced.status, 200, "{forced:?}\n{}", bed.stage.told());
        bed.assert_one(kind);
    }
}

#[test]
fn force_needs_the_plan_that_is_still_right() {
    let bed = Bed::new();
    let id = bed.account().add_record("A", WILDCARD, "192.0.2.7", true);
    let unseen = bed.make(json!({"force": true}));
    assert_eq!(unseen.refusal(), "400 invalid-request", "{unseen:?}");
    let plan = plan_of(&bed.make(json!({"dryRun": true})));
    // Somebody changes the record between the look and the force.
    bed.account()
        .records
        .iter_mut()
        .filter(|it| it["id"] == id)
        .for_each(|it| it["content"] = json!("192.0.2.8"));
    let stale = bed.make(json!({"force": true, "plan": plan}));
    assert_eq!(stale.refusal(), "412 plan-changed", "{stale:?}");
    assert_eq!(bed.account().writes(), 0);
    let forced = bed.make(json!({"force": true, "plan": plan_of(&stale)}));
    assert_eq!(forced.status, 200, "{forced:?}");
    bed.assert_one("forced");
    // Records beside it are nobody's business.
    let plan = plan_of(&bed.compare());
    bed.account().add_record("A", "www.example.com", "192.0.2.7", true);
    assert_eq!(plan_of(&bed.compare()), plan);
}

/// The record appears after the look, before the write: it was in no plan.
#[test]
fn what_comes_between_look_and_write_is_not_overwritten() {
    for force in [false, true] {
        let bed = Bed::new();
        let plan = plan_of(&bed.make(json!({"dryRun": true})));
        let account = bed.account.clone();
        bed.stage.world.hook(move |_, moment, seen| {
            if moment == Moment::Before && seen.method == "POST" && seen.path.ends_with("/dns_records") {
                let mut account = account.borrow_mut();
                if account.records.is_empty() {
                    account.add_record("A", WILDCARD, "192.0.2.9", true);
                }
            }
        });
        let answer = bed.make(json!({"force": force, "plan": plan}));
        assert_eq!(answer.refusal(), "409 tunnel-conflict", "{answer:?}\n{}", bed.stage.told());
        assert_eq!(bed.account().records[0]["content"], "192.0.2.9");
    }
}

#[test]
fn foreign_rules_are_a_conflict() {
    for config in [
        json!({"ingress": [{"hostname": "ssh.example.com", "service": "ssh://10.0.0.2:22"}, {"service": "http_status:404"}]}),
        json!({"ingress": [{"service": "http://10.0.0.2"}]}),
        // Of a deployment of the same name, before another PVE.
        json!({"ingress": [{"hostname": "*.example.org", "service": "http://127.0.0.1:39370"}, {"service": "http_status:404"}]}),
        json!({"ingress": [{"hostname": WILDCARD, "path": "/x", "service": "http://127.0.0.1:39370"}, {"service": "http_status:404"}]}),
        json!({"ingress": [{"hostname": WILDCARD, "service": "http://127.0.0.1:39370", "originRequest": {"httpHostHeader": "x"}}, {"service": "http_status:404"}]}),
        json!({"originRequest": {"httpHostHeader": "x"}, "ingress": [{"hostname": WILDCARD, "service": "http://127.0.0.1:39370"}, {"service": "http_status:404"}]}),
    ] {
        let bed = Bed::new();
        let id = bed.account().add_tunnel(NAME, "cloudflare");
        bed.account().tunnels[0].config = config.clone();
        let refused = bed.make(json!({}));
        assert_eq!(refused.refusal(), "409 tunnel-conflict", "{config} {refused:?}");
        assert_eq!(rows(&refused), "certificate same, tunnel same, ingress foreign, record missing");
        let is_ours = config.get("originRequest").is_some();
        for force in ["", "?force=true"].into_iter().filter(|_| !is_ours) {
            let kept = bed.stage.ask(super::undo(force));
            assert_eq!(kept.refusal(), "409 tunnel-conflict", "{config} {kept:?}");
        }
        assert_eq!(bed.account().writes(), 0);
        assert_eq!(bed.account().living().len(), 1);
        let forced = bed.make(json!({"force": true, "plan": plan_of(&refused)}));
        assert_eq!((forced.status, &forced.json()["id"]), (200, &json!(id)), "{forced:?}");
        bed.assert_one("forced");
    }
}

/// A tunnel that a file on its host configures is never migrated, and never removed.
#[test]
fn a_local_tunnel_is_left_alone() {
    let bed = Bed::new();
    bed.account().add_tunnel(NAME, "local");
    let refused = bed.make(json!({}));
    assert_eq!(refused.refusal(), "409 tunnel-conflict", "{refused:?}");
    assert_eq!(rows(&refused), "certificate same, tunnel foreign, ingress missing, record missing");
    let forced = bed.make(json!({"force": true, "plan": plan_of(&refused)}));
    assert_eq!(forced.refusal(), "409 tunnel-conflict", "{forced:?}");
    let removed = bed.stage.ask(super::undo("?force=true"));
    assert_eq!(removed.refusal(), "409 tunnel-conflict", "{removed:?}");
    assert_eq!(bed.account().writes(), 0);
    assert_eq!(bed.account().living().len(), 1);
}

/// A deleted tunnel of the same name, another deployment's, one whose name only begins so: none is ours.
#[test]
fn other_tunnels_are_not_taken_for_ours() {
    let bed = Bed::new();
    let old = bed.account().add_tunnel(NAME, "cloudflare");
    bed.account().tunnels[0].deleted = Some(bed.stage.world.now());
    bed.account().add_tunnel("pve-edge-production", "cloudflare");
    let answer = bed.make(json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.json()["id"], json!(old));
    assert_eq!(bed.account().living().len(), 2);
}

#[test]
fn a_domain_below_the_zones_name_has_no_certificate() {
    let below: Vec<_> = SETTINGS
        .iter()
        .map(|(name, value)| (*name, if name.ends_with("DOMAIN") { "sandbox.example.com" } else { *value }))
        .collect();
    let bed = Bed::of(7, &below);
    let refused = bed.make(json!({}));
    assert_eq!(refused.refusal(), "409 certificate-depth", "{refused:?}");
    assert!(refused.body.contains("Advanced Certificate"), "{refused:?}");
    assert_eq!(bed.account().writes(), 0);
    let forced = bed.make(json!({"force": true, "plan": plan_of(&refused)}));
    assert_eq!(forced.status, 200, "{forced:?}");
    assert_eq!(bed.account().records[0]["name"], "*.sandbox.example.com");
    // The next one is asked too: nothing remembers that there is a certificate.
    assert_eq!(bed.make(json!({})).refusal(), "409 certificate-depth");
}

#[test]
fn records_that_the_route_catches_are_told() {
    let bed = Bed::new();
    for (kind, name, proxied) in [
        ("A", "www.example.com", true),
        ("CNAME", "a.b.example.com", true),
        ("A", "mail.example.com", false),
        ("A", "example.com", true),
        ("TXT", "_dmarc.example.com", false),
    ] {
        bed.account().add_record(kind, name, "192.0.2.1", proxied);
    }
    let caught =
        json!([{"name": "a.b.example.com", "type": "CNAME"}, {"name": "www.example.com", "type": "A"}]);
    assert_eq!(bed.make(json!({"dryRun": true})).json()["caught"], caught);
    // They are warnings: the route is not this API's to make.
    let made = bed.make(json!({}));
    assert_eq!((made.status, &made.json()["caught"]), (200, &caught), "{made:?}");
    bed.assert_one("beside others");
}

#[test]
fn lists_are_read_page_by_page() {
    let bed = Bed::new();
    bed.account().add_record("A", "0.example.com", "192.0.2.1", false);
    bed.account().add_record("CNAME", WILDCARD, "elsewhere.example", true);
    bed.account().page = 1;
    // Of two pages the second is read.
    assert_eq!(bed.make(json!({})).refusal(), "409 tunnel-conflict");
    // A zone of more is not one for guests alone, and is not guessed about.
    bed.account().add_record("A", "1.example.com", "192.0.2.1", false);
    let long = bed.stage.ask(make(json!({})));
    assert_eq!(long.refusal(), "502 cloudflare-error", "{long:?}");
    assert_eq!(bed.account().writes(), 0);
}
