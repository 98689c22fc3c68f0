//! Every request of every operation meets every fault; then the client asks
//! again, at once or when all is quiet, and what must be true is looked at.

mod creation;

use expect_test::{Expect, expect};
use pve_edge_bed::morph::Instance;

use super::{assert_runs, assert_untouched, crowd, made, ours, stage};
use crate::{
    matrix::{Case, meet_each_fault},
    stage::{client, prelude::*},
};

/// After one fault in one operation.
struct Scene<'a> {
    stage: &'a Stage,
    /// The sandbox that the operation is about.
    id: &'a str,
    /// `None` when the operation died.
    first: Option<&'a Answer>,
    told: &'a str,
}

type Prepare = fn(&Stage) -> String;
type Operation = fn(&str) -> Ask;

/// Others' instances are there too, and stay as they are.
fn run(prepare: Prepare, operation: Operation, reached: Expect, case: fn(&Scene<'_>)) {
    let stage = stage();
    let others = crowd(&stage);
    let id = prepare(&stage);
    let sent =
        meet_each_fault(&stage, &operation(&id), shape, &|stage, Case { at_once, told, .. }, first| {
            if !at_once {
                quiet(stage);
            }
            case(&Scene { stage, id: &id, first, told });
            quiet(stage);
            assert_untouched(stage, &others, told);
        });
    reached.assert_eq(&sent);
}

/// Whatever was not answered is not executed any more.
fn quiet(stage: &Stage) {
    stage.world.settle();
    stage.world.advance(Duration::seconds(60));
}

fn shape(seen: &Seen) -> String {
    let path = seen.path.split('?').next().unwrap_or_default().trim_start_matches("/api/");
    let segments = path.split('/').map(|it| match it.split_once('_') {
        Some(_) => "ID",
        None => it,
    });
    let filter = seen.path.rsplit("edge.").next().and_then(|it| it.split_once("%5D")).map(|it| it.0);
    let filter = filter.map_or(String::new(), |it| format!(" by {it}"));
    format!("{} {}{filter}", seen.method, segments.collect::<Vec<_>>().join("/"))
}

/// A sandbox half an hour old.
fn running(stage: &Stage) -> String {
    let id = made(stage, json!({"ttlSeconds": 36_000, "metadata": {"kept": "1"}})).id();
    stage.world.advance(Duration::minutes(30));
    id
}

fn paused(stage: &Stage) -> String {
    let id = running(stage);
    let answer = stage.act(&id, "pause", json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    id
}

fn none(_: &Stage) -> String {
    String::new()
}

impl Scene<'_> {
    fn instance(&self) -> Instance {
        let found = self.stage.account().instances.get(self.id).cloned();
        found.unwrap_or_else(|| panic!("{}: it is gone\n{}", self.told, self.stage.told()))
    }

    fn until(&self, ask: Ask, status: u16) -> Answer {
        self.stage.world.run(client::repeat(self.stage.clone(), ask, move |it| it.status == status))
    }

    /// A success before must have been true when it was given.
    fn told_before(&self, status: u16, true_of: impl Fn(&Instance) -> bool) {
        if self.first.is_some_and(|it| it.status == status) {
            assert!(true_of(&self.instance()), "{}: told and not so\n{}", self.told, self.stage.told());
        }
    }
}

#[test]
fn reboot() {
    run(
        running,
        |id| Ask::act(id, "reboot", json!({})),
        expect![[r#"
            GET instance/ID
            POST instance/ID/reboot
            GET instance/ID ×3
            POST instance/ID/exec/sse"#]],
        |scene| {
            scene.told_before(200, |it| it.status == "ready");
            quiet(scene.stage);
            assert_runs(scene.stage, scene.id);
        },
    );
}

#[test]
fn patch() {
    run(
        running,
        |id| Ask::change(id, json!({"metadata": {"pr": "7"}, "ttlSeconds": 7200})),
        expect![[r#"
            GET instance/ID
            POST instance/ID/metadata
            POST instance/ID/ttl
            GET instance/ID"#]],
        |scene| {
            let is = |it: &Instance| {
                it.metadata.get("pr").is_some_and(|it| it == "7") && it.ttl_seconds == Some(7200)
            };
            scene.told_before(200, is);
            let body = json!({"metadata": {"pr": "7"}, "ttlSeconds": 7200});
            scene.until(Ask::patch(format!("/api/sandboxes/{}", scene.id), body), 200);
            quiet(scene.stage);
            let instance = scene.instance();
            assert!(is(&instance) && instance.metadata.contains_key("kept"), "{}", scene.told);
            assert_runs(scene.stage, scene.id);
        },
    );
}

#[test]
fn extend() {
    run(
        running,
        |id| Ask::extend(id, 72_000),
        expect![[r#"
            GET instance/ID
            POST instance/ID/metadata
            POST instance/ID/ttl
            GET instance/ID"#]],
        |scene| {
            scene.told_before(200, |it| it.ttl_seconds == Some(72_000));
            let asked = scene.stage.world.now().unix_timestamp();
            scene.until(Ask::extend(scene.id, 72_000), 200);
            quiet(scene.stage);
            let expires = scene.instance().ttl_expire_at.unwrap_or_default();
            assert!(expires >= asked + 72_000, "{}", scene.told);
            assert_runs(scene.stage, scene.id);
        },
    );
}

#[test]
fn delete() {
    run(
        running,
        Ask::end,
        expect![[r#"
        GET instance/ID
        DELETE instance/ID"#]],
        |scene| {
            let Scene { stage, id, told, first } = scene;
            if first.is_some_and(|it| it.status == 204) {
                assert_eq!(ours(stage), [] as [String; 0], "{told}: 204 and still there");
            }
            stage.world.run(client::delete((*stage).clone(), (*id).to_owned()));
            assert_eq!(ours(stage), [] as [String; 0], "{told}");
            assert_eq!(stage.ask(Ask::one(id)).status, 404, "{told}");
        },
    );
}

#[test]
fn exec() {
    const COMMAND: &str = "deploy --once";
    fn count(stage: &Stage) -> u32 {
        let account = stage.account();
        let runs = account.executions().iter().filter(|((_, it), _)| it.contains(COMMAND));
        runs.map(|(_, many)| *many).sum()
    }
    run(
        running,
        |id| Ask::exec(id, COMMAND),
        expect![[r#"
            GET instance/ID
            POST instance/ID/exec/sse"#]],
        |scene| {
            let Scene { stage, id, told, first } = scene;
            let known = count(stage);
            quiet(stage);
            let code = first.map(Answer::code).unwrap_or_default();
            match first.map(|it| it.status) {
                Some(200) => assert_eq!((known, count(stage)), (1, 1), "{told}\n{}", stage.told()),
                // It may or may not have been run.
                None | Some(502) if code.is_empty() || code == "exec-cut" => {
                    assert!(count(stage) <= 1, "{told}\n{}", stage.told());
                }
                _ => {
                    assert_eq!(count(stage), 0, "{told}: {first:?}\n{}", stage.told());
                    let again = stage.ask(Ask::exec(id, COMMAND));
                    assert_eq!((again.status, count(stage)), (200, 1), "{told}: {again:?}");
                }
            }
            assert_runs(stage, id);
        },
    );
}

#[test]
fn pause() {
    run(
        running,
        |id| Ask::act(id, "pause", json!({})),
        expect![[r#"
            GET instance/ID
            POST instance/ID/metadata
            POST instance/ID/ttl
            POST instance/ID/pause
            GET instance/ID ×3"#]],
        |scene| {
            scene.told_before(200, |it| it.status == "paused");
            scene.until(Ask::post(format!("/api/sandboxes/{}/pause", scene.id), json!({})), 200);
            assert_eq!(scene.instance().status, "paused", "{}", scene.told);
            // However late: it is kept for as long as is set.
            scene.stage.world.advance(Duration::days(6));
            assert_eq!(scene.instance().status, "paused", "{}", scene.told);
        },
    );
}

#[test]
fn resume() {
    run(
        paused,
        |id| Ask::act(id, "resume", json!({"ttlSeconds": 72_000})),
        expect![[r#"
            GET instance/ID
            POST instance/ID/metadata
            POST instance/ID/ttl
            POST instance/ID/resume
            GET instance/ID ×3"#]],
        |scene| {
            scene.told_before(200, |it| it.status == "ready" && it.ttl_seconds == Some(72_000));
            let body = json!({"ttlSeconds": 72_000});
            scene.until(Ask::post(format!("/api/sandboxes/{}/resume", scene.id), body), 200);
            quiet(scene.stage);
            assert_eq!(scene.instance().ttl_seconds, Some(72_000), "{}", scene.told);
            assert_runs(scene.stage, scene.id);
        },
    );
}

#[test]
fn snapshot() {
    fn taken(stage: &Stage) -> usize {
        stage.account().snapshots.values().filter(|it| it.metadata.contains_key("edge.of")).count()
    }
    run(
        running,
        |id| Ask::act(id, "snapshots", json!({"name": "s"})),
        expect![[r#"
            GET instance/ID
            POST instance/ID/snapshot
            GET snapshot/ID ×3"#]],
        |scene| {
            let Scene { stage, told, first, .. } = scene;
            if first.is_some_and(|it| matches!(it.status, 201 | 202)) {
                assert_eq!(taken(stage), 1, "{told}: told and not so");
            }
            quiet(stage);
            // Not answered, it may be taken; twice it never is, and its team sees it.
            let list = stage.ask(Ask::get("/api/snapshots")).json();
            let own = |it: &&Value| it["name"] == "s";
            let listed = list["items"].as_array().into_iter().flatten().filter(own).count();
            assert!(taken(stage) <= 1 && listed == taken(stage), "{told}\n{}", stage.told());
            assert_runs(stage, scene.id);
        },
    );
}
