//! Each call of the making of a tunnel meets each fault; then somebody asks again.

use std::time::Duration;

use super::{Bed, make, undo};
use crate::stage::prelude::*;

fn faults() -> Vec<Fault> {
    vec![
        Fault::Unanswered,
        Fault::Silent,
        Fault::NeverSent,
        Fault::Page(403),
        Fault::Page(502),
        Fault::Late(Duration::from_secs(40)),
        Fault::Dies,
        Fault::DiesAfter,
        Fault::CutBody(0),
    ]
}

#[test]
fn whatever_is_lost_the_next_request_ends_with_one_tunnel() {
    for vpc in [false, true] {
        let calls = if vpc { 10 } else { 8 };
        for fault in faults() {
            for at in 0..calls {
                let bed = Bed::new();
                bed.stage.world.fault_at(at, fault.clone());
                let first = bed.stage.try_ask(make(json!({"vpc": vpc})));
                let told = format!("{fault:?} at {at}, vpc {vpc}: {first:?}\n{}", bed.stage.told());
                assert!(bed.account().exchanges.len() + 1 >= at, "{told}");
                if let Some(first) = &first {
                    assert!([200, 503, 504].contains(&first.status), "{told}");
                    // What was not answered was looked at, or it is told that it may be asked again.
                    assert!(first.status == 200 || first.retry_after().is_some(), "{told}");
                }
                bed.stage.world.clear_faults();
                let again = bed.make(json!({"vpc": vpc}));
                let told = format!("{told}\n{again:?}");
                assert_eq!(again.status, 200, "{told}");
                bed.stage.world.advance(time::Duration::minutes(2));
                assert_eq!(bed.account().living().len(), 1, "{told}");
                assert_eq!(bed.compare().json()["complete"], true, "{told}");
                match vpc {
                    false => bed.assert_one(&told),
                    true => assert_eq!(bed.account().services.len(), 1, "{told}"),
                }
            }
        }
    }
}

/// A write that was executed without an answer is found by the look that follows it.
#[test]
fn an_unanswered_write_is_followed_by_a_look() {
    for at in [3, 4, 6] {
        let bed = Bed::new();
        bed.stage.world.fault_at(at, Fault::Unanswered);
        let answer = bed.make(json!({}));
        assert_eq!(answer.status, 200, "{at} {answer:?}\n{}", bed.stage.told());
        bed.assert_one("looked");
    }
}

#[test]
fn whatever_is_lost_of_a_deletion_the_next_one_ends_it() {
    let fresh = || {
        let bed = Bed::new();
        bed.make(json!({"vpc": true}));
        bed.account().add_record("A", "www.example.com", "192.0.2.1", true);
        bed
    };
    let bed = fresh();
    let before = bed.stage.world.requests().len();
    assert_eq!(bed.stage.ask(undo("")).status, 200);
    let after = bed.stage.world.requests().len();
    for fault in faults() {
        for at in before..after {
            let bed = fresh();
            bed.stage.world.fault_at(at, fault.clone());
            let first = bed.stage.try_ask(undo(""));
            bed.stage.world.clear_faults();
            let again = bed.stage.ask(undo("?vpc=true"));
            let told = format!("{fault:?} at {at}: {first:?} {again:?}\n{}", bed.stage.told());
            assert_eq!(again.status, 200, "{told}");
            bed.stage.world.advance(time::Duration::minutes(2));
            let account = bed.account();
            assert_eq!(
                (account.living().len(), account.services.len(), account.records.len()),
                (0, 0, 1),
                "{told}"
            );
        }
    }
}

/// Half of it was made, and Cloudflare says no: what is there is kept, and the next request goes on.
#[test]
fn what_was_half_made_is_gone_on_with() {
    use pve_edge_bed::cloudflare::Permission;
    let bed = Bed::new();
    bed.account().permissions.remove(&Permission::Connectivity);
    let first = bed.make(json!({"vpc": true}));
    assert_eq!(first.refusal(), "502 cloudflare-forbidden", "{first:?}");
    let failing = bed.stage.world.requests().len() + 4;
    bed.stage.world.fault_at(failing, Fault::Page(502));
    let half = bed.make(json!({}));
    assert_eq!(half.refusal(), "503 cloudflare-unreachable", "{half:?}\n{}", bed.stage.told());
    assert_eq!(bed.account().living().len(), 1);
    assert_eq!(bed.account().records.len(), 0);
    bed.stage.world.clear_faults();
    let whole = bed.make(json!({}));
    assert_eq!(whole.status, 200, "{whole:?}");
    bed.assert_one("whole");
}
