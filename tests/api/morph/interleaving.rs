//! Several adapters, clients and faults on one account, in an order that a
//! seed decides; what clients were told must stay true.

use std::{cell::RefCell, collections::BTreeMap, pin::Pin, rc::Rc, time::Duration};

use pve_edge_core::io::Io;

use super::{assert_runs, assert_untouched, crowd, ours, stage_of};
use crate::{
    interleaving::{Dice, Tell, seeds},
    stage::{client, prelude::*},
};

const SEEDS: u64 = 50;
const TTL: u64 = 36_000;

/// Every sandbox that somebody was told of.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Somebody was told that it is there, and nobody has asked for its end.
    alive: bool,
    ending: bool,
    powered: bool,
    /// Under which key somebody was told of it.
    key: Option<String>,
}

type Book = Rc<RefCell<BTreeMap<String, Entry>>>;

#[test]
fn whatever_the_order_one_key_has_one_sandbox_and_none_is_lost() {
    seeds(SEEDS).into_iter().for_each(world_of);
}

/// Of instances that were made in one second the id decides which is the oldest,
/// so whoever looks before that second is over may be wrong.
#[test]
fn requests_of_one_moment_and_one_key_answer_one_id() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let stage = stage_of(seed, &[]);
        stage.world.latency(1, 1 + dice.below(250));
        stage.world.advance(time::Duration::milliseconds(dice.below(1000) as i64));
        let _tell = Tell(seed, stage.clone());
        let asked = ["a", "b", "c"].map(|name| {
            let (stage, pause) = (stage.beside(name, &[]), Duration::from_millis(dice.below(300)));
            let wait = ["wait=0", "wait=20"][dice.below(2) as usize];
            Box::pin(async move {
                stage.world.io().sleep(pause).await;
                stage.pending(Ask::create_keyed("k").header("prefer", wait)).await
            }) as Pin<Box<dyn Future<Output = Answer>>>
        });
        let answers: Vec<Answer> = stage.world.run_all(asked).into_iter().flatten().collect();
        let ids: std::collections::BTreeSet<String> = answers.iter().map(Answer::id).collect();
        assert_eq!((answers.len(), ids.len()), (3, 1), "{answers:?}");
        stage.world.settle();
        assert_eq!(ours(&stage), Vec::from_iter(ids));
    }
}

fn world_of(seed: u64) {
    let mut dice = Dice(seed);
    let stage = stage_of(seed, &[]);
    let _tell = Tell(seed, stage.clone());
    let others = crowd(&stage);
    {
        let mut account = stage.account();
        account.setup.start = time::Duration::milliseconds(200 + dice.below(4000) as i64);
        account.setup.pause = time::Duration::milliseconds(200 + dice.below(2000) as i64);
    }
    stage.world.latency(1, 1 + dice.below(700));
    inject(&stage, dice.fork());
    let book = Book::default();
    let actors = (0..2 + dice.below(4)).map(|nth| act(nth, stage.clone(), book.clone(), dice.fork()));
    let ended = stage.world.run_all(actors.map(|it| Box::pin(it) as Pin<Box<dyn Future<Output = ()>>>));
    assert!(ended.iter().all(Option::is_some), "a client is stuck");
    stage.world.clear_faults();
    stage.world.settle();
    stage.world.advance(time::Duration::seconds(100));
    look_back(&stage, &book.borrow());
    assert_untouched(&stage, &others, "in the end");
}

/// Now and then a request meets a fault; an operation dies. Morph's writes name
/// no version, so one that is late undoes what came between: here none is late
/// but creations and deletions.
fn inject(stage: &Stage, mut dice: Dice) {
    let rate = [0, 2, 5, 10][dice.below(4) as usize];
    stage.world.fault_if(move |seen: &Seen| {
        if dice.below(100) >= rate {
            return None;
        }
        let replaces = ["/ttl", "/metadata", "/pause", "/resume"].iter().any(|it| seen.path.ends_with(it));
        Some(match dice.below(8) {
            0 => Fault::Refused(500, "unexpected failure".into()),
            1 => Fault::NeverSent,
            2 => Fault::Unanswered,
            3 if !replaces => Fault::Late(Duration::from_secs(1 + dice.below(40))),
            4 => Fault::Slow(Duration::from_secs(1 + dice.below(8))),
            5 => Fault::CutBody(0),
            6 => Fault::Dies,
            _ => Fault::DiesAfter,
        })
    });
}

/// The answer, or `None` when the operation died: a client gives up after a minute.
async fn ask(stage: &Stage, ask: Ask) -> Option<Answer> {
    let handle = stage.world.spawn(stage.pending(ask));
    for _ in 0..600 {
        if let Some(answer) = handle.take() {
            return Some(answer);
        }
        stage.world.io().sleep(Duration::from_millis(100)).await;
    }
    None
}

async fn act(nth: u64, stage: Stage, book: Book, mut dice: Dice) {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let stage = stage.beside(NAMES[nth as usize % NAMES.len()], &[]);
    for _ in 0..7 {
        stage.world.io().sleep(Duration::from_millis(dice.below(2500))).await;
        let ids: Vec<String> =
            book.borrow().iter().filter(|(_, it)| !it.ending).map(|(id, _)| id.clone()).collect();
        let id = ids.get(dice.below(ids.len().max(1) as u64) as usize).cloned();
        match (dice.below(12), id) {
            (0..=5, _) | (_, None) => create(&stage, &book, &mut dice).await,
            (6 | 7, Some(id)) => {
                let answer = ask(&stage, Ask::one(&id)).await;
                let entry = book.borrow().get(&id).cloned().unwrap_or_default();
                let lost = answer.is_some_and(|it| it.status == 404);
                assert!(!(lost && entry.alive && !entry.ending), "{id} is told to be gone");
            }
            (8, Some(id)) => drop(ask(&stage, Ask::extend(&id, TTL)).await),
            (9, Some(id)) => {
                book.borrow_mut().entry(id.clone()).or_default().powered = true;
                let action = ["pause", "resume"][dice.below(2) as usize];
                let body = if action == "resume" { json!({"ttlSeconds": TTL}) } else { json!({}) };
                ask(&stage, Ask::act(&id, action, body)).await;
            }
            (10, Some(id)) => {
                book.borrow_mut().entry(id.clone()).or_default().ending = true;
                ask(&stage, Ask::end(&id)).await;
            }
            (_, Some(_)) => drop(ask(&stage, Ask::gc()).await),
        }
    }
}

/// Most of them with one of two keys, at the same time as others.
async fn create(stage: &Stage, book: &Book, dice: &mut Dice) {
    let key = (dice.below(5) > 0).then(|| format!("shared-{}", dice.below(2)));
    let mut asked = Ask::sandbox(json!({"ttlSeconds": TTL}));
    if let Some(key) = &key {
        asked = asked.header("idempotency-key", key);
    }
    if dice.below(3) == 0 {
        asked = asked.wait(0);
    }
    let Some(answer) = ask(stage, asked).await.filter(|it| it.status < 300) else { return };
    let id = answer.id();
    let mut book = book.borrow_mut();
    let entry = book.entry(id.clone()).or_default();
    if entry.ending {
        return;
    }
    (entry.alive, entry.key) = (true, key.clone());
    // Whoever else was told of that key was told of this one, or of one whose end was asked for.
    let another = book
        .iter()
        .find(|(other, it)| **other != id && key.is_some() && it.key == key && it.alive && !it.ending);
    assert!(another.is_none(), "{id} and {another:?} have one key");
}

/// When all is quiet: what is alive runs, no key has two, and what nobody was
/// told of goes.
fn look_back(stage: &Stage, book: &BTreeMap<String, Entry>) {
    for (id, entry) in book.iter().filter(|(_, it)| it.alive && !it.ending) {
        if entry.powered {
            let resume = Ask::act(id, "resume", json!({"ttlSeconds": TTL}));
            stage.world.run(client::repeat(stage.clone(), resume, |it| matches!(it.status, 200 | 409)));
        }
        let answer = stage.world.run(client::poll(stage.clone(), id.clone()));
        assert_eq!(answer.shows(), "200 running", "{id}: {answer:?}");
        assert_runs(stage, id);
    }
    stage.world.advance(time::Duration::minutes(11));
    for _ in 0..3 {
        stage.ask(Ask::gc());
        stage.world.advance(time::Duration::seconds(61));
    }
    let left = ours(stage);
    let mut keys = Vec::new();
    let account = stage.account();
    for id in &left {
        let metadata = &account.instances[id].metadata;
        assert!(metadata.contains_key("edge.phase"), "{id} was never finished and is still there");
        let ending = book.get(id).is_some_and(|it| it.ending);
        keys.extend(metadata.get("edge.key").filter(|_| !ending).cloned());
    }
    let many = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), many, "two sandboxes of one key");
    for (id, entry) in book {
        assert!(entry.ending || !entry.alive || left.contains(id), "{id} is lost");
    }
}
