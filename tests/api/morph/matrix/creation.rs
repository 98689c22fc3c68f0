//! The flows that make a sandbox.

use expect_test::expect;

use super::{Scene, none, quiet, run};
use crate::{
    morph::{assert_runs, ours},
    stage::{client, prelude::*},
};

#[test]
fn create_with_a_key() {
    run(
        none,
        |_| Ask::create_keyed("k1"),
        expect![[r#"
            GET instance by deployment
            GET snapshot by deployment
            POST instance
            GET instance by key
            GET instance/ID ×2
            POST instance/ID/exec/sse
            POST instance/ID/http ×6
            GET instance/ID
            POST instance/ID/metadata"#]],
        |scene| {
            let Scene { stage, told, .. } = scene;
            let answer = stage.world.run(client::create((*stage).clone(), Ask::create_keyed("k1")));
            quiet(stage);
            // Once more, when all that was late has happened: the same one, running.
            let again = stage.world.run(client::create((*stage).clone(), Ask::create_keyed("k1")));
            assert_eq!(again.id(), answer.id(), "{told}\n{}", stage.told());
            assert_runs(stage, &answer.id());
            swept(stage);
            assert_eq!(ours(stage), [answer.id()], "{told}\n{}", stage.told());
        },
    );
}

/// Two runs of the sweep, when all that is half made is old enough.
fn swept(stage: &Stage) {
    stage.world.advance(Duration::minutes(11));
    for _ in 0..2 {
        stage.ask(Ask::gc());
        stage.world.advance(Duration::seconds(61));
    }
    stage.ask(Ask::gc());
}

/// Without a key nobody asks again: what nobody was told of is swept away.
#[test]
fn create_without_a_key() {
    run(
        none,
        |_| Ask::create(),
        expect![[r#"
            GET instance by deployment
            GET snapshot by deployment
            POST instance
            GET instance/ID ×3
            POST instance/ID/exec/sse
            POST instance/ID/http ×6
            GET instance/ID
            POST instance/ID/metadata"#]],
        |scene| {
            let Scene { stage, told, first, .. } = scene;
            let mut kept = Vec::new();
            if let Some(answer) = first.filter(|it| matches!(it.status, 201 | 202)) {
                let polled = stage.world.run(client::poll((*stage).clone(), answer.id()));
                assert_eq!(polled.state(), "running", "{told}: {polled:?}\n{}", stage.told());
                kept.push(answer.id());
            }
            stage.world.settle();
            swept(stage);
            let left = ours(stage);
            let finished = |id: &String| {
                let account = stage.account();
                account.instances.get(id).is_some_and(|it| it.metadata.contains_key("edge.phase"))
            };
            // One that was finished and whose answer was lost is in the list, and has its expiry.
            assert!(left.len() <= 1 && left.iter().all(finished), "{told}: {left:?}\n{}", stage.told());
            assert!(kept.iter().all(|it| left.contains(it)), "{told}\n{}", stage.told());
        },
    );
}

#[test]
fn get_of_a_half_made_one() {
    run(
        |stage| {
            let answer = stage.ask(Ask::create_keyed("half").wait(0));
            assert_eq!(answer.shows(), "202 creating");
            stage.world.advance(Duration::seconds(10));
            answer.id()
        },
        |id| Ask::one(id).wait(20),
        expect![[r#"
            GET instance/ID
            GET instance by key
            POST instance/ID/exec/sse
            POST instance/ID/http ×6
            GET instance/ID
            POST instance/ID/metadata"#]],
        |scene| {
            let Scene { stage, told, id, .. } = scene;
            let answer = stage.world.run(client::poll((*stage).clone(), (*id).to_owned()));
            assert_eq!(answer.state(), "running", "{told}: {answer:?}\n{}", stage.told());
            assert_runs(stage, id);
            swept(stage);
            assert_eq!(ours(stage), [*id], "{told}");
        },
    );
}
