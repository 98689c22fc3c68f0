//! An id that this deployment never gave out is 404, and PVE never hears of it.

use pve_edge_core::{
    access::secret::Keyring,
    sandbox::{
        id::Kind,
        nonce::{Nonce, Origin},
        vmid::Vmid,
    },
};
use time::OffsetDateTime;

use crate::stage::{SECRET, prelude::*};

const NEW: &str = "a-newer-secret-of-the-tests-0123456789abcdef";

/// The nonce that a deployment with [`SECRET`] gives to a guest.
pub(crate) fn nonce(deployment: &str, kind: Kind, vmid: Vmid, origin: Origin) -> Nonce {
    let secrets = Keyring::parse(SECRET).expect("32 bytes");
    origin.nonce(secrets.newest(), deployment, kind, vmid)
}

/// An id that deployment `prod` gave out long ago, of a guest that is gone.
pub(crate) fn old_id(vmid: u32) -> String {
    let origin = Origin::new(OffsetDateTime::UNIX_EPOCH + Duration::seconds(1_764_000_000), [1, 2, 3, 4]);
    let nonce = nonce("prod", Kind::Lxc, vmid.try_into().expect("a VMID"), origin);
    format!("pvelxc-{vmid}-{nonce}-pve1")
}

/// Every operation of the contract whose path names a guest, and a creation from it.
fn everything(id: &str, kept: &str) -> Vec<Ask> {
    let contract: Value = serde_json::from_str(include_str!("../../core/openapi.json")).expect("JSON");
    let mut asks = vec![Ask::sandbox(json!({"snapshotId": id}))];
    for (template, operations) in contract["paths"].as_object().expect("paths") {
        let path = template.replace("{id}", id).replace("{snapshot}", kept).replace("{name}", "web");
        let path = path.replace("{process}", &"0".repeat(32));
        let last = template.rsplit('/').next();
        let query = match last {
            Some("files" | "list" | "watch") => "?path=/a",
            Some("stdin") => "?at=0",
            _ => "",
        };
        let path = format!("{path}{query}");
        let body = match last {
            Some("exec" | "processes") => json!({"command": "true"}),
            Some("signal") => json!({"signal": "TERM"}),
            Some("resize") => json!({"cols": 80, "rows": 24}),
            Some("mkdir") => json!({"path": "/a"}),
            Some("move") => json!({"from": "/a", "to": "/b"}),
            Some("rollback") => json!({"snapshot": kept}),
            _ if template.starts_with("/api/templates") => json!({"execd": "included"}),
            _ => json!({}),
        };
        for method in operations.as_object().expect("operations").keys().filter(|_| template.contains("{id}"))
        {
            match method.as_str() {
                "get" if last == Some("terminal") => asks.push(Ask::get(&*path).websocket()),
                "get" => asks.push(Ask::get(&*path)),
                "delete" => asks.push(Ask::delete(&*path)),
                "post" => asks.push(Ask::post(&*path, body.clone())),
                "patch" => asks.push(Ask::patch(&*path, body.clone())),
                "put" if last == Some("{name}") => asks.push(Ask::put(&*path).json(json!({"port": 3000}))),
                "put" => asks.push(Ask::put(&*path)),
                _ => {}
            }
        }
    }
    asks
}

/// All of it is 404 to a team and to an admin, and nobody was asked anything.
fn assert_never_given_out(stage: &Stage, id: &str, kept: &str) {
    let asks = everything(id, kept);
    assert!(asks.len() >= 19, "{asks:?}");
    for ask in asks.into_iter().flat_map(|it| [it.clone(), it.by("ops")]) {
        let before = stage.world.requests().len();
        let answer = stage.ask(ask.clone());
        assert_eq!(answer.refusal(), "404 not-found", "{ask:?}: {answer:?}");
        assert_eq!(stage.world.requests().len(), before, "{ask:?}\n{}", stage.told());
    }
}

fn keep(stage: &Stage, id: &str) -> String {
    let taken = stage.act(id, "snapshots", json!({"keep": true}));
    assert_eq!(taken.status, 201, "{taken:?}\n{}", stage.told());
    taken.json()["snapshotId"].as_str().unwrap_or_default().to_owned()
}

fn snapshot(stage: &Stage, id: &str) -> String {
    let taken = stage.act(id, "snapshots", json!({}));
    assert!(matches!(taken.status, 201 | 202), "{taken:?}\n{}", stage.told());
    stage.world.settle();
    taken.json()["snapshotId"].as_str().unwrap_or_default().to_owned()
}

fn health(stage: &Stage) -> Value {
    stage.ask(Ask::get("/api/health/sandbox")).json()
}

/// Each character of its nonce changed, one after another.
fn misspelled(id: &str) -> Vec<String> {
    let nonce = id.split('-').nth(2).unwrap_or_default();
    let changed = (0..nonce.len()).map(|at| {
        let other = if nonce[at..].starts_with('a') { "b" } else { "a" };
        format!("{}{other}{}", &nonce[..at], &nonce[at + 1..])
    });
    changed.map(|it| id.replace(nonce, &it)).collect()
}

#[test]
fn made_up_ids_are_404_and_pve_is_not_asked() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let kept = keep(&stage, &id);
    let (own, vmid) = (snapshot(&stage, &id), vmid_of(&id));
    for id in [&id, &own] {
        for made_up in misspelled(id) {
            assert_never_given_out(&stage, &made_up, &kept);
        }
    }
    let staging = stage.beside("staging", &[("EDGE_DEPLOYMENT", "staging")]);
    let theirs = staging.ask(Ask::create()).id();
    let number = |to: u32| id.replace(&vmid.to_string(), &to.to_string());
    for made_up in [
        number(vmid + 1),
        number(101),
        number(9000),
        number(999_999_999),
        id.replace("pvelxc", "pvevm"),
        theirs,
    ] {
        assert_never_given_out(&stage, &made_up, &kept);
    }
    assert_never_given_out(&staging, &id, &kept);
}

/// Where it was born is a hint: PVE says where it is.
#[test]
fn another_node_in_an_id_is_no_other_sandbox() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    for hint in ["", "-pve9"] {
        let answer = stage.ask(Ask::one(&id.replace("-pve1", hint)));
        assert_eq!((answer.status, answer.id()), (200, id.clone()), "{answer:?}");
    }
}

/// A kept snapshot's name is proved as an id is: of this sandbox, and no other's.
#[test]
fn made_up_names_of_kept_snapshots_are_404_and_pve_is_not_asked() {
    let stage = Stage::new();
    let (id, other) = (stage.ask(Ask::create()).id(), stage.ask(Ask::create()).id());
    let (kept, others) = (keep(&stage, &id), keep(&stage, &other));
    let code = kept.chars().next_back().map_or("b", |it| if it == 'a' { "b" } else { "a" });
    for made_up in [others, format!("{}{code}", &kept[..kept.len() - 1])] {
        for ask in [
            Ask::delete(format!("/api/sandboxes/{id}/snapshots/{made_up}")),
            Ask::act(&id, "rollback", json!({"snapshot": made_up})),
        ] {
            let (answer, requests) = stage.counted(ask);
            assert_eq!((answer.status, &*answer.code(), requests), (404, "not-found", 0), "{answer:?}");
        }
    }
    let back = stage.act(&id, "rollback", json!({"snapshot": kept}));
    assert!(matches!(back.status, 200 | 202), "{back:?}\n{}", stage.told());
}

/// `creating` is said of a guest that is not there only where the id proves that it may come.
#[test]
fn what_is_not_there_yet_is_creating_for_the_id_that_was_given_out() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let gone = Stage::on(plain_sim(stage.world.sim().setup().clone()));
    let shown = gone.ask(Ask::one(&id));
    assert_eq!(shown.shows(), "200 creating", "{shown:?}");
    assert_eq!(gone.ask(Ask::one(&misspelled(&id)[20])).status, 404);
    assert_eq!(gone.ask(Ask::one(&old_id(200_000))).status, 404);
}

/// Settings change; what was given out before stays.
#[test]
fn another_range_of_vmids_takes_nobodys_sandbox_away() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let moved = stage.beside("", &[("PVE_VMID_RANGE", "300-400")]);
    assert_eq!(moved.ask(Ask::one(&id)).status, 200);
    assert_eq!(moved.ask(Ask::end(&id)).status, 204);
}

fn usable(stage: &Stage, id: &str) {
    let fine = |answer: Answer| assert_eq!(answer.status, 200, "{answer:?}\n{}", stage.told());
    fine(stage.ask(Ask::one(id)));
    fine(stage.ask(Ask::exec(id, "true")));
    fine(stage.ask(Ask::extend(id, 600)));
}

#[test]
fn a_rotation_locks_nobody_out_and_health_counts_what_it_still_proves() {
    let stage = Stage::on(plain_sim(Default::default()));
    let old = stage.ask(Ask::create()).id();
    let own = snapshot(&stage, &old);
    let both = stage.beside("new", &[("EDGE_SECRET", &format!("{NEW} {SECRET}"))]);
    usable(&both, &old);
    let from = both.ask(Ask::sandbox(json!({"snapshotId": own})));
    assert_eq!(from.status, 201, "{from:?}\n{}", stage.told());
    usable(&both, &from.id());
    let (told, requests) = both.counted(Ask::get("/api/health/sandbox"));
    let counted = |sandboxes: u32, snapshots: u32, told: &Value| {
        let [one] = told["olderSecrets"].as_array().map_or(&[][..], Vec::as_slice) else { panic!("{told}") };
        assert_eq!((&one["sandboxes"], &one["snapshots"]), (&sandboxes.into(), &snapshots.into()), "{told}");
        assert_eq!(told["warnings"], json!([]), "{told}");
    };
    counted(1, 1, &told.json());
    assert_eq!(requests, stage.counted(Ask::get("/api/health/sandbox")).1);
    assert_eq!(health(&stage)["olderSecrets"], json!([]));
    assert_eq!(both.ask(Ask::end(&from.id())).status, 204);
    assert_eq!(both.ask(Ask::delete(format!("/api/snapshots/{own}"))).status, 204);
    assert_eq!(both.ask(Ask::end(&old)).status, 204);
    stage.world.advance(Duration::seconds(20));
    counted(0, 0, &health(&both));
}

/// A secret that was removed too early: nobody gets in, health says so, and nothing is leaked.
#[test]
fn a_removed_secret_locks_out_is_told_and_its_sandboxes_still_expire() {
    let stage = Stage::of(World::new(plain_sim(Default::default()), 7), &[]);
    let id = stage.ask(Ask::create()).id();
    let own = snapshot(&stage, &id);
    let removed = stage.beside("new", &[("EDGE_SECRET", NEW)]);
    for id in [&id, &own] {
        assert_never_given_out(&removed, id, "keptabtwk2lnkrifgvbzq5c2n7ye");
    }
    let told = health(&removed);
    assert_eq!(told["status"], "healthy", "{told}");
    let warning = told["warnings"][0]["detail"].as_str().unwrap_or_default();
    assert!(warning.contains("1 sandboxes and 1 snapshots"), "{told}");
    let listed = removed.ask(Ask::get("/api/sandboxes")).json();
    assert_eq!(listed["items"][0]["state"], "error", "{listed}");
    assert!(listed["items"][0]["problem"].as_str().is_some_and(|it| it.contains("EDGE_SECRET")), "{listed}");
    stage.world.advance(Duration::hours(2));
    for _ in 0..2 {
        assert_eq!(removed.ask(Ask::gc()).status, 200);
        stage.world.advance(Duration::minutes(2));
    }
    assert!(stage.world.sim().guest(vmid_of(&id)).is_none(), "{}", stage.told());
}

/// `EDGE_SECRET` is put right again; nothing was known against the sandbox.
#[test]
fn a_wrong_secret_marks_nobody() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.sim_mut().setup_mut().boot = Duration::seconds(30);
        stage.world.sim_mut().setup_mut().vm_boot = Duration::seconds(30);
        let create = Ask::sandbox(json!({"env": {"A": "1"}})).wait(6);
        let made = stage.ask(create);
        assert_eq!(made.shows(), "202 creating", "{made:?}");
        let id = made.id();
        let wrong = stage.beside("wrong", &[("EDGE_SECRET", "another-secret-of-the-tests-0123456789")]);
        stage.world.advance(Duration::minutes(1));
        let shown = wrong.ask(Ask::one(&id));
        assert_eq!(shown.refusal(), "404 not-found", "{shown:?}");
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 running", "{shown:?}");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    }
}
