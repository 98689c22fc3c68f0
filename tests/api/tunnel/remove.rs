//! The end of a tunnel: what is ours, and nothing else.

use super::{Bed, NAME, WILDCARD, undo};
use crate::stage::prelude::*;

#[test]
fn what_is_ours_goes_the_other_way_round() {
    let bed = Bed::new();
    bed.make(json!({"vpc": true}));
    bed.account().add_tunnel("pve-edge-staging", "cloudflare");
    bed.account().add_record("A", "www.example.com", "192.0.2.1", true);
    // Others that lead into our tunnel are ours too.
    let ours = format!("{}.cfargotunnel.com", bed.account().tunnels[0].id);
    bed.account().add_record("CNAME", "port-1.example.com", &ours, true);
    let before = bed.account().exchanges.len();
    let answer = bed.stage.ask(undo(""));
    assert_eq!(answer.json(), json!({"removed": ["service", "record", "tunnel"], "kept": []}), "{answer:?}");
    expect_test::expect![[r#"
        GET /zones/{id}
        GET /accounts/{id}/cfd_tunnel
        GET /accounts/{id}/cfd_tunnel/{id}/configurations
        GET /zones/{id}/dns_records
        GET /accounts/{id}/connectivity/directory/services
        GET /accounts/{id}/cfd_tunnel/{id}/connections
        DELETE /accounts/{id}/connectivity/directory/services/{id}
        POST /zones/{id}/dns_records/batch
        DELETE /accounts/{id}/cfd_tunnel/{id}
    "#]]
    .assert_eq(&bed.calls(before));
    let account = bed.account();
    let left: Vec<_> = account.records.iter().map(|it| it["name"].clone()).collect();
    assert_eq!((left, account.services.len()), (vec![json!("www.example.com")], 0));
    assert_eq!(account.living().iter().map(|it| &*it.name).collect::<Vec<_>>(), ["pve-edge-staging"]);
    drop(account);
    let writes = bed.account().writes();
    let again = bed.stage.ask(undo(""));
    assert_eq!(again.json(), json!({"removed": [], "kept": []}), "{again:?}");
    assert_eq!(bed.account().writes(), writes);
}

#[test]
fn a_foreign_record_stays_and_is_told() {
    let bed = Bed::new();
    bed.make(json!({}));
    bed.account().records.clear();
    bed.account().add_record("CNAME", WILDCARD, "elsewhere.example", true);
    let answer = bed.stage.ask(undo(""));
    let kept = json!([{"name": WILDCARD, "type": "CNAME"}]);
    assert_eq!(answer.json(), json!({"removed": ["tunnel"], "kept": kept}), "{answer:?}");
    assert_eq!(bed.account().records.len(), 1);
}

/// What is set for all rules says nothing of whose they are.
#[test]
fn ours_with_a_setting_for_all_rules_goes() {
    let bed = Bed::new();
    bed.make(json!({}));
    bed.account().tunnels[0].config["originRequest"] = json!({"connectTimeout": 10});
    let answer = bed.stage.ask(undo(""));
    assert_eq!(answer.json()["removed"], json!(["record", "tunnel"]), "{answer:?}");
}

#[test]
fn a_connected_client_is_told_and_not_killed_without_force() {
    let bed = Bed::new();
    bed.make(json!({}));
    bed.account().connect(NAME, 4);
    let writes = bed.account().writes();
    let refused = bed.stage.ask(undo(""));
    assert_eq!(refused.refusal(), "409 tunnel-connected", "{refused:?}");
    assert!(refused.body.contains("cloudflared 2026.11.1 with 4 connections"), "{refused:?}");
    assert_eq!(refused.json()["connectors"][0]["connections"].as_array().map(Vec::len), Some(4));
    assert_eq!(bed.account().writes(), writes, "nothing was removed");
    let forced = bed.stage.ask(undo("?force=true"));
    assert_eq!(forced.json()["removed"], json!(["record", "tunnel"]), "{forced:?}");
    assert_eq!(bed.account().living().len(), 0);
}

/// A client connects between the look and the deletion, with force too: 1022.
#[test]
fn one_that_connects_meanwhile_is_told() {
    for (query, says) in
        [("", "cloudflared 2026.11.1 with 1 connections"), ("?force=true", "cloudflared 2026.11.1")]
    {
        let bed = Bed::new();
        bed.make(json!({}));
        let account = bed.account.clone();
        bed.stage.world.hook(move |_, moment, seen| {
            let deletes = seen.method == "DELETE" && !seen.path.ends_with("/connections");
            if moment == Moment::Before && deletes {
                account.borrow_mut().connect(NAME, 1);
            }
        });
        let answer = bed.stage.ask(undo(query));
        assert_eq!(answer.refusal(), "409 tunnel-connected", "{answer:?}");
        assert!(answer.body.contains(says), "{answer:?}");
        assert_eq!(bed.account().living().len(), 1);
        bed.stage.world.unhook();
        bed.account().connect(NAME, 0);
        let again = bed.stage.ask(undo(query));
        assert_eq!(again.json()["removed"], json!(["tunnel"]), "{again:?}");
    }
}
