//! Who may not, what is not set, and what Cloudflare refuses.

use pve_edge_bed::cloudflare::Permission;
use pve_edge_core::io::Way;

use super::{Bed, SETTINGS, make, undo};
use crate::stage::prelude::*;

fn all() -> [Ask; 3] {
    [make(json!({"vpc": true})), Ask::get("/api/tunnel?vpc=true").by("ops"), undo("?vpc=true")]
}

#[test]
fn admins_alone_may() {
    let bed = Bed::new();
    for ask in all() {
        let answer = bed.stage.ask(ask.by("blue"));
        assert_eq!(answer.refusal(), "403 forbidden", "{answer:?}");
    }
    assert_eq!(bed.account().exchanges.len(), 0);
}

#[test]
fn settings_that_are_missing_are_named() {
    for missing in ["CF_API_TOKEN", "CF_ACCOUNT_ID", "CF_ZONE_ID", "CF_DOMAIN"] {
        let bed = Bed::of(7, &[(missing, "")]);
        for ask in all() {
            let answer = bed.stage.ask(ask);
            assert_eq!(answer.refusal(), "503 misconfigured", "{answer:?}");
            assert!(answer.body.contains(missing), "{missing} {answer:?}");
        }
        assert_eq!(bed.account().exchanges.len(), 0);
    }
}

#[test]
fn morph_needs_no_tunnel() {
    let stage = Stage::on_morph(7, &SETTINGS[1..]);
    for ask in all() {
        let answer = stage.ask(ask);
        assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        assert!(answer.body.contains("Morph Cloud gives"), "{answer:?}");
    }
}

/// Each call names the permission that it lacks, whatever asks.
#[test]
fn a_missing_permission_is_named_by_the_call_that_lacks_it() {
    for (lacks, named) in [
        (Permission::Zone, "Zone > Zone > Read"),
        (Permission::Tunnel, "Account > Cloudflare Tunnel > Edit"),
        (Permission::Dns, "Zone > DNS > Edit"),
        (Permission::Connectivity, "Account > Connectivity Directory > Admin"),
    ] {
        let bed = Bed::new();
        bed.account().permissions.remove(&lacks);
        for ask in all() {
            let answer = bed.stage.ask(ask);
            assert_eq!(answer.refusal(), "502 cloudflare-forbidden", "{lacks:?} {answer:?}");
            assert_eq!(answer.json()["permission"], named, "{answer:?}");
        }
        assert_eq!(bed.account().writes(), 0, "{lacks:?}");
        // VPC services are asked about where they are wanted alone.
        let without = bed.make(json!({}));
        assert_eq!(without.status == 200, lacks == Permission::Connectivity, "{lacks:?} {without:?}");
    }
}

#[test]
fn a_token_or_an_id_that_is_wrong_is_told_as_such() {
    let other = "00000000000000000000000000000000";
    for (name, value, refusal, says) in [
        ("CF_API_TOKEN", "another", "502 cloudflare-unauthorized", "CF_API_TOKEN"),
        ("CF_ACCOUNT_ID", other, "503 misconfigured", "CF_ACCOUNT_ID"),
        ("CF_ZONE_ID", other, "502 cloudflare-error", "CF_ZONE_ID"),
    ] {
        let answer = Bed::of(7, &[(name, value)]).make(json!({}));
        assert_eq!(answer.refusal(), refusal, "{answer:?}");
        assert!(answer.body.contains(says), "{answer:?}");
    }
    let elsewhere = [("CF_DOMAIN", "example.org"), ("PVE_PUBLIC_DOMAIN", "example.org")];
    let answer = Bed::of(7, &elsewhere).make(json!({}));
    assert_eq!(answer.refusal(), "503 misconfigured", "{answer:?}");
    assert!(answer.body.contains("not in the zone example.com"), "{answer:?}");
}

/// 1,200 calls in five minutes block all of them for five minutes, and nobody waits for that.
#[test]
fn a_block_is_passed_on_and_not_waited_for() {
    let bed = Bed::new();
    for _ in 0..1200 {
        let request = http::Request::get("https://api.cloudflare.com/client/v4/zones/x").body(Vec::new());
        let now = bed.stage.world.now();
        bed.account().answer(&request.expect("a request"), now);
    }
    for ask in all() {
        let (began, before) = (bed.stage.world.now(), bed.account().exchanges.len());
        let answer = bed.stage.ask(ask);
        assert_eq!(answer.refusal(), "503 cloudflare-busy", "{answer:?}");
        let after = answer.retry_after().unwrap_or_default();
        assert!((295..=300).contains(&after), "{answer:?}");
        assert_eq!(bed.account().exchanges.len() - before, 1, "it goes on after a block");
        assert!(answer.at - began < Duration::seconds(1), "it waits");
    }
    bed.stage.world.advance(Duration::minutes(5));
    assert_eq!(bed.make(json!({})).status, 200);
}

/// What is no answer of the API is told as the way's, whatever its status.
#[test]
fn a_page_is_not_the_apis_answer() {
    for (status, refusal) in [
        (200, "503 cloudflare-unreachable"),
        (302, "503 cloudflare-unreachable"),
        (403, "503 cloudflare-unreachable"),
        (500, "503 cloudflare-unreachable"),
        (522, "504 cloudflare-timeout"),
        (530, "503 cloudflare-unreachable"),
    ] {
        let bed = Bed::new();
        bed.stage.world.fault_if(move |_| Some(Fault::Page(status)));
        let answer = bed.make(json!({}));
        assert_eq!(answer.refusal(), refusal, "{status} {answer:?}");
        assert!(!answer.body.contains("secret-of-the-page"), "{answer:?}");
        assert!(answer.retry_after().is_some(), "{answer:?}");
    }
    // Of the limiter that stands before the API, the status is enough.
    let bed = Bed::new();
    bed.stage.world.fault_if(|_| Some(Fault::Page(429)));
    let answer = bed.make(json!({}));
    assert_eq!(
        (answer.refusal(), answer.retry_after()),
        ("503 cloudflare-busy".to_owned(), Some(7)),
        "{answer:?}"
    );
}

#[test]
fn all_calls_go_by_a_public_name() {
    let bed = Bed::new();
    for ask in all() {
        bed.stage.ask(ask);
    }
    let requests = bed.stage.world.requests();
    assert!(requests.len() > 10 && requests.iter().all(|it| it.way == Some(Way::Public)));
    let (answer, pve) = bed.stage.counted(make(json!({})));
    assert_eq!((answer.status, pve), (200, 0));
}
