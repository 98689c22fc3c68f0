//! One suite for all providers: the same scenarios of the API, each before its stand-in. What a provider
//! cannot do is told by its `capabilities`, and refused by that.

mod teams;

use std::sync::Arc;

use pve_edge_bed::sim::execd::ExecLine;

use crate::{morph, stage::prelude::*};

/// A deployment of a provider.
struct Provider {
    name: &'static str,
    /// Of the ids of its sandboxes.
    prefix: &'static str,
    stage: Stage,
}

/// One of each, with these settings.
fn all(changes: &[(&str, &str)]) -> [Provider; 3] {
    let on_pve = |kind| Stage::of_kind(kind, World::new(sim_of(kind, Setup::default()), 7), changes);
    [
        Provider { name: "pve-lxc", prefix: "pvelxc-", stage: on_pve(Kind::Lxc) },
        Provider { name: "pve-vm", prefix: "pvevm-", stage: on_pve(Kind::Qemu) },
        Provider { name: "morph", prefix: "morphvm_", stage: morph::stage_of(7, changes) },
    ]
}

fn each(scenario: impl Fn(&Provider, &Stage)) {
    for provider in all(&[]) {
        println!("on {}", provider.name);
        scenario(&provider, &provider.stage);
    }
}

impl Provider {
    /// Whether its sandboxes can do this.
    fn can(&self, what: &str) -> bool {
        let config = self.stage.ask(Ask::get("/api/config/sandbox")).json();
        assert_eq!(config["provider"], self.name);
        config["capabilities"][what].as_bool().unwrap_or_else(|| panic!("{what}: {config}"))
    }

    /// Has every command do this.
    fn commands(&self, lines: Vec<ExecLine>) {
        match self.name {
            "morph" => self.stage.account().set_runner(Arc::new(move |_, _| lines.clone())),
            _ => self.stage.world.sim_mut().set_runner(move |_, _| lines.clone()),
        }
    }

    /// Sandboxes of ours that its stand-in has.
    fn count(&self) -> usize {
        match self.name {
            "morph" => morph::ours(&self.stage).len(),
            _ => self.stage.world.sim().guests().filter(|it| !it.config.is("template")).count(),
        }
    }
}

fn assert_unsupported(stage: &Stage, ask: Ask) {
    let answer = stage.ask(ask.clone());
    assert_eq!(answer.refusal(), "422 unsupported", "{ask:?}: {answer:?}");
}

#[test]
fn it_is_created_shown_listed_and_deleted() {
    each(|provider, stage| {
        let body = json!({"name": "n", "metadata": {"task": "7"}, "ttlSeconds": 600, "onExpiry": "pause"});
        let made = stage.ask(Ask::sandbox(body));
        assert_eq!(made.shows(), "201 running", "{made:?}");
        let (id, shown) = (made.id(), made.json());
        assert_eq!(made.header("location"), format!("/api/sandboxes/{id}"));
        assert!(id.starts_with(provider.prefix), "{id}");
        for (field, value) in [
            ("provider", json!(provider.name)),
            ("name", json!("n")),
            ("team", json!("blue")),
            ("metadata", json!({"task": "7"})),
            ("onExpiry", json!("pause")),
            ("cpu", json!(1)),
            ("memory", json!(1024)),
            ("disk", json!(8)),
        ] {
            assert_eq!(shown[field], value, "{field}: {shown}");
        }
        assert_eq!(stage.ask(Ask::one(&id)).json()["id"], *id);
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.listed(), [&*id]);
        assert_eq!(stage.ask(Ask::end(&id).wait(25)).status, 204);
        assert_eq!((stage.ask(Ask::one(&id)).status, stage.ask(Ask::end(&id)).status), (404, 404));
        assert_eq!((stage.listed().len(), provider.count()), (0, 0));
    });
}

#[test]
fn a_list_is_selected_by_metadata_and_comes_in_pages() {
    each(|_, stage| {
        let mut ids: Vec<String> =
            (0..5).map(|n| stage.created(json!({"metadata": {"n": n.to_string()}}))).collect();
        stage.world.advance(Duration::minutes(1));
        let selected = stage.ask(Ask::get("/api/sandboxes?metadata.n=3")).json();
        assert_eq!((&selected["items"][0]["id"], &selected["items"][1]), (&json!(ids[3]), &Value::Null));
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for _ in 0..3 {
            let page = stage.ask(Ask::get(format!("/api/sandboxes?limit=2{cursor}"))).json();
            let items = page["items"].as_array().into_iter().flatten();
            seen.extend(items.filter_map(|it| it["id"].as_str()).map(str::to_owned));
            cursor = format!("&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
        }
        assert_eq!(cursor, "&cursor=", "the third page is the last");
        ids.sort();
        assert_eq!(seen, ids);
        assert_eq!(stage.ask(Ask::get("/api/sandboxes?cursor=§")).code(), "invalid-request");
    });
}

#[test]
fn a_change_needs_the_version_that_it_names() {
    each(|_, stage| {
        let id = stage.created(json!({"metadata": {"a": "1", "b": "2"}}));
        let etag = stage.ask(Ask::one(&id)).header("etag").to_owned();
        let changes = json!({"name": "new", "metadata": {"a": null, "c": "3"}, "onExpiry": "pause"});
        let change = || Ask::change(&id, changes.clone()).header("if-match", &*etag);
        let changed = stage.ask(change());
        assert_eq!(changed.status, 200, "{changed:?}");
        let shown = changed.json();
        assert_eq!((&shown["name"], &shown["onExpiry"]), (&json!("new"), &json!("pause")));
        assert_eq!(shown["metadata"], json!({"b": "2", "c": "3"}));
        assert_eq!(stage.ask(change()).status, 412);
        let found =
            |query: &str| stage.ask(Ask::get(format!("/api/sandboxes?{query}"))).json()["items"].clone();
        assert_eq!((&found("metadata.c=3")[0]["id"], found("metadata.a=1")), (&json!(id), json!([])));
        assert_ne!(stage.ask(Ask::one(&id)).header("etag"), etag);
    });
}

#[test]
fn a_key_makes_one_sandbox() {
    each(|_, stage| {
        let first = stage.ask(Ask::create_keyed("k"));
        let again = stage.beside("b", &[]).ask(Ask::create_keyed("k"));
        assert_eq!((again.status, again.id()), (200, first.id()));
        let of_red = stage.ask(Ask::create_keyed("k").by("red"));
        assert_ne!((of_red.status, of_red.id()), (200, first.id()));
        assert_eq!(stage.ask(Ask::end(&first.id()).wait(25)).status, 204);
        let next = stage.ask(Ask::create_keyed("k"));
        assert_eq!(next.status, 201, "{next:?}");
        assert_ne!(next.id(), first.id());
        let at_once = (0..3).map(|_| stage.pending(Ask::create_keyed("at once")));
        let ids = stage.world.run_all(at_once).into_iter().flatten().map(|it| it.id());
        let mut ids: Vec<String> = ids.collect();
        ids.dedup();
        assert_eq!((ids.len(), stage.listed().len()), (1, 2), "{}", stage.told());
    });
}

#[test]
fn who_is_in_a_hurry_asks_until_it_runs() {
    each(|_, stage| {
        let made = stage.ask(Ask::create().wait(0));
        assert_eq!(made.shows(), "202 creating", "{made:?}");
        assert_eq!(made.header("location"), format!("/api/sandboxes/{}", made.id()));
        stage.world.advance(Duration::seconds(10));
        let shown = stage.ask(Ask::one(&made.id()).wait(20));
        assert_eq!(shown.shows(), "200 running", "{shown:?}");
    });
}

#[test]
fn its_time_ends_unless_it_is_given_more() {
    each(|provider, stage| {
        let (short, long) =
            (stage.created(json!({"ttlSeconds": 60})), stage.created(json!({"ttlSeconds": 60})));
        let forever = stage.created(json!({"ttlSeconds": null}));
        assert_eq!(stage.ask(Ask::one(&forever)).json()["expiresAt"], Value::Null);
        assert_eq!(stage.ask(Ask::extend(&long, 7200)).status, 200);
        stage.world.advance(Duration::seconds(62));
        for ask in [Ask::one(&short), Ask::exec(&short, "true"), Ask::change(&short, json!({"name": "x"}))] {
            assert_eq!(stage.ask(ask).status, 404);
        }
        assert!(!stage.listed().contains(&short));
        for id in [&long, &forever] {
            assert_eq!(stage.ask(Ask::one(id)).state(), "running");
        }
        stage.sweeps();
        assert_eq!(provider.count(), 2, "{}", stage.told());
    });
}

#[test]
fn a_pause_takes_none_of_its_time() {
    each(|provider, stage| {
        let id = stage.created(json!({"ttlSeconds": 600}));
        let paused = stage.act(&id, "pause", json!({}));
        assert_eq!(paused.outcome(), "200 paused paused", "{paused:?}");
        let keeps = if provider.can("hibernate") { "memory" } else { "disk" };
        assert_eq!(paused.json()["keeps"], keeps);
        assert_eq!(stage.act(&id, "pause", json!({})).outcome(), "200 nothing paused");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).refusal(), "409 not-running");
        assert_eq!(stage.act(&id, "reboot", json!({})).status, 409);
        stage.world.advance(Duration::hours(2));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
        let resumed = stage.act(&id, "resume", json!({"ttlSeconds": 900}));
        let did = if provider.can("hibernate") { "resumed" } else { "started" };
        assert_eq!(resumed.outcome(), format!("200 {did} running"), "{resumed:?}");
        assert_eq!(stage.act(&id, "resume", json!({})).outcome(), "200 nothing running");
        assert_eq!(stage.act(&id, "reboot", json!({"force": true})).outcome(), "200 rebooted running");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        stage.world.advance(Duration::seconds(901));
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
    });
}

#[test]
fn what_it_cannot_do_is_refused_and_changes_nothing() {
    each(|provider, stage| {
        let id = stage.created(json!({}));
        if !provider.can("hibernate") {
            assert_unsupported(stage, Ask::act(&id, "pause", json!({"keeps": "memory"})));
        }
        if !provider.can("rollback") {
            assert_unsupported(stage, Ask::rollback(&id, "kept"));
            assert_unsupported(stage, Ask::act(&id, "snapshots", json!({"keep": true})));
        }
        if provider.name == "morph" {
            assert_unsupported(stage, Ask::act(&id, "stop", json!({})));
            assert_unsupported(stage, Ask::act(&id, "pause", json!({"keeps": "disk"})));
            assert_unsupported(stage, Ask::change(&id, json!({"onExpiry": "stop"})));
            assert_unsupported(stage, Ask::sandbox(json!({"onExpiry": "stop"})));
        } else {
            assert_eq!(stage.act(&id, "stop", json!({})).outcome(), "200 stopped stopped");
            assert_eq!(stage.act(&id, "start", json!({})).outcome(), "200 started running");
        }
        for every in ["exec", "metadata", "ttl", "snapshots"] {
            assert!(provider.can(every), "{every}");
        }
        assert!(!provider.can("gpu"));
        assert_eq!((stage.ask(Ask::one(&id)).state(), provider.count()), ("running".into(), 1));
    });
}

#[test]
fn it_goes_back_to_a_snapshot_that_stays_on_it() {
    each(|provider, stage| {
        if !provider.can("rollback") {
            return;
        }
        let id = stage.created(json!({}));
        let kept = stage.act(&id, "snapshots", json!({"keep": true, "name": "before"}));
        assert_eq!(kept.status, 201, "{kept:?}");
        let list = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots"))).json();
        assert_eq!(list["items"][0]["name"], "before");
        assert_eq!(stage.ask(Ask::change(&id, json!({"name": "later"}))).status, 200);
        let back = stage.ask(Ask::rollback(&id, &kept.snapshot_id()).wait(25));
        assert_eq!(back.json()["did"], "rolled-back", "{back:?}");
        stage.world.advance(Duration::minutes(1));
        let shown = stage.ask(Ask::one(&id).wait(25));
        assert_eq!((shown.shows(), &shown.json()["name"]), ("200 running".into(), &json!("later")));
    });
}

#[test]
fn a_snapshot_makes_sandboxes_and_outlives_its_own() {
    each(|_, stage| {
        let id = stage.created(json!({}));
        let body = json!({"name": "deps", "metadata": {"repo": "app"}});
        let taken = stage.act(&id, "snapshots", body);
        assert!(matches!(taken.status, 201 | 202), "{taken:?}");
        let snapshot = taken.snapshot_id();
        let shown = stage.ready(&snapshot).json();
        assert_eq!((&shown["name"], &shown["metadata"]), (&json!("deps"), &json!({"repo": "app"})));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "it went on");
        assert!(stage.ask(Ask::get("/api/snapshots")).body.contains(&snapshot));
        assert_eq!(stage.ask(Ask::end(&id).wait(25)).status, 204);
        let made = stage.created(json!({"snapshotId": snapshot}));
        assert_eq!(stage.ask(Ask::one(&made)).json()["snapshotId"], *snapshot);
        assert_eq!(stage.ask(Ask::end(&made).wait(25)).status, 204);
        stage.world.settle();
        let path = format!("/api/snapshots/{snapshot}");
        assert!(matches!(stage.ask(Ask::delete(&*path).wait(25)).status, 202 | 204));
        stage.world.settle();
        assert_eq!(stage.ask(Ask::snapshot(&snapshot)).status, 404);
        let gone = stage.ask(Ask::sandbox(json!({"snapshotId": snapshot})));
        assert_eq!(gone.code(), "template-not-found", "{gone:?}");
    });
}

#[test]
fn a_command_has_its_output_its_exit_code_and_its_time() {
    each(|provider, stage| {
        let id = stage.created(json!({}));
        let lines = [ExecLine::Stdout("grün".into()), ExecLine::Stderr("rot".into()), ExecLine::Exit(3)];
        provider.commands(lines.to_vec());
        let told = stage.ask(Ask::exec(&id, "x")).json();
        let text = |name: &str| told[name].as_str().unwrap_or_default().trim_end().to_owned();
        assert_eq!((text("stdout"), text("stderr")), ("grün".into(), "rot".into()), "{told}");
        assert_eq!((&told["exitCode"], &told["timedOut"]), (&json!(3), &json!(false)));
        let events = stage.ask(Ask::exec(&id, "x").header("accept", "text/event-stream"));
        assert_eq!(events.header("content-type"), "text/event-stream");
        for event in ["event: stdout", "event: stderr", "event: exit\ndata: {\"exitCode\":3"] {
            assert!(events.body.contains(event), "{events:?}");
        }
        for body in [json!({}), json!({"command": ""}), json!({"command": "x", "argv": ["x"]})] {
            assert_eq!(stage.act(&id, "exec", body).status, 400);
        }
    });
}

#[test]
fn variables_are_in_no_answer_and_a_key_tells_others() {
    each(|_, stage| {
        let create = |value: &str| Ask::create_keyed("k").json(json!({"env": {"NAME_OF_IT": value}}));
        let made = stage.ask(create("s3cr3t"));
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(stage.ask(create("s3cr3t")).id(), made.id());
        assert_eq!(stage.ask(create("another")).code(), "idempotency-conflict");
        assert_eq!(stage.ask(Ask::exec(&made.id(), "true")).status, 200);
        for answer in [&made, &stage.ask(Ask::one(&made.id())), &stage.ask(Ask::get("/api/sandboxes"))] {
            assert!(!answer.body.contains("s3cr3t") && !answer.body.contains("NAME_OF_IT"), "{answer:?}");
        }
        let refused = stage.ask(Ask::sandbox(json!({"env": {"UID": "0"}})));
        assert_eq!(refused.status, 400, "{refused:?}");
    });
}
