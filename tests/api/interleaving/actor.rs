//! A client that does random things and believes what it is told.

use std::{cell::RefCell, rc::Rc, time::Duration};

use pve_edge_bed::sim::execd::asked;
use pve_edge_core::io::Io;

use super::{Dice, book::Book};
use crate::stage::{
    client,
    guests::{assert_honest, mark},
    prelude::*,
};

/// The value of a variable, which PVE never has in clear.
pub(super) const HIDDEN: &str = "s3cr3t-in-a-world";
/// What each sandbox is given, and promised again by an extend.
const TTL: u64 = 36_000;

pub(super) struct Actor {
    nth: u64,
    stage: Stage,
    book: Rc<RefCell<Book>>,
    dice: Dice,
    count: u64,
}

impl Actor {
    pub(super) fn new(nth: u64, stage: &Stage, book: Rc<RefCell<Book>>, dice: Dice) -> Self {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let small = [("PVE_VMID_RANGE", "200000-200011")];
        let stage = stage.beside(NAMES[nth as usize % NAMES.len()], &small);
        Self { nth, stage, book, dice, count: 0 }
    }

    pub(super) async fn act(mut self) {
        for _ in 0..8 {
            let pause = Duration::from_millis(self.dice.below(3000));
            self.stage.world.io().sleep(pause).await;
            match (self.dice.below(18), self.any_id()) {
                (0..=2, _) | (_, None) => self.create().await,
                (3, Some(id)) => self.get(&id).await,
                (4, _) => self.list().await,
                (5, Some(id)) => self.patch(&id).await,
                (6, Some(id)) => self.extend(&id).await,
                (7, Some(id)) => self.exec(&id).await,
                (8 | 9, Some(id)) => self.power(&id).await,
                (10 | 11, Some(id)) => self.delete(&id).await,
                (12, Some(id)) => self.keep(&id).await,
                (13 | 14, Some(id)) => self.roll_back(&id).await,
                (15, Some(id)) => self.snapshot(&id).await,
                (16, _) => self.template().await,
                (_, Some(_)) => drop(self.ask(Ask::gc()).await),
            }
        }
    }

    /// The answer, or `None` when the operation died: a client gives up after a minute.
    async fn ask(&self, ask: Ask) -> Option<Answer> {
        let handle = self.stage.world.spawn(self.stage.pending(ask));
        for _ in 0..600 {
            if let Some(answer) = handle.take() {
                return Some(answer);
            }
            self.stage.world.io().sleep(Duration::from_millis(100)).await;
        }
        None
    }

    fn any_id(&mut self) -> Option<String> {
        let book = self.book.borrow();
        let ids: Vec<&String> = book.entries.iter().filter(|(_, it)| !it.gone).map(|(id, _)| id).collect();
        let at = self.dice.below(ids.len().max(1) as u64) as usize;
        ids.get(at).map(|it| (*it).clone())
    }

    async fn create(&mut self) {
        let keyed = self.dice.below(3) > 0;
        let key = self.dice.below(3);
        // One key, one body.
        let env = if key == 0 { json!({"HIDDEN": HIDDEN}) } else { json!({}) };
        let mut ask = Ask::sandbox(json!({"ttlSeconds": TTL, "env": env}));
        if keyed {
            ask = ask.header("idempotency-key", format!("shared-{key}"));
        }
        for _ in 0..4 {
            let answer = self.ask(ask.clone()).await;
            if let Some(answer) = &answer {
                self.believe(answer);
            }
            let done = answer.as_ref().is_some_and(|it| it.status < 300);
            if done || !keyed {
                return;
            }
            let wait = answer.and_then(|it| it.retry_after()).unwrap_or(1);
            self.stage.world.io().sleep(Duration::from_secs(wait)).await;
        }
    }

    /// A sandbox that is told to run must be there from now on.
    fn believe(&self, answer: &Answer) {
        if answer.status >= 300 {
            return;
        }
        let id = answer.id();
        let mut book = self.book.borrow_mut();
        let entry = book.entry(&id);
        if !entry.ending {
            if answer.state() == "running" {
                // Another may have switched it off since this was said.
                if !entry.powered {
                    assert_honest(&self.stage, answer);
                }
                entry.alive = true;
            }
            // A late start of an earlier guest of the VMID comes before the commit, and with
            // it the token: such a container is stopped, and told as what it was.
            let open = answer.json()["problem"].as_str().is_some_and(|it| it.contains("exec-unprotected"));
            assert!(answer.state() != "error" || open, "{answer:?}");
        }
    }

    async fn get(&mut self, id: &str) {
        let Some(answer) = self.ask(Ask::one(id)).await else { return };
        let entry = self.book.borrow_mut().entry(id).clone();
        if entry.alive && !entry.ending {
            assert!(answer.status != 404, "{id} is told to be gone: {answer:?}");
        }
        self.believe(&answer);
    }

    async fn list(&mut self) {
        let alive: Vec<String> = {
            let book = self.book.borrow();
            book.entries.iter().filter(|(_, it)| it.alive && !it.ending).map(|(id, _)| id.clone()).collect()
        };
        let Some(answer) = self.ask(Ask::get("/api/sandboxes?limit=1000")).await else { return };
        if answer.status != 200 {
            return;
        }
        for id in alive {
            let ending = self.book.borrow_mut().entry(&id).ending;
            assert!(ending || answer.body.contains(&id), "{id} is not listed: {answer:?}");
        }
        let Some(of_red) = self.ask(Ask::get("/api/sandboxes").by("red")).await else { return };
        assert!(of_red.status != 200 || of_red.json()["items"] == json!([]), "{of_red:?}");
    }

    async fn patch(&mut self, id: &str) {
        self.count += 1;
        let (name, count) = (format!("count-{}", self.nth), self.count);
        let body = json!({"metadata": {&name: count.to_string()}});
        let answer = self.ask(Ask::change(id, body)).await;
        if answer.is_some_and(|it| it.status == 200) {
            self.book.borrow_mut().entry(id).counts.insert(name, count);
        }
    }

    async fn extend(&mut self, id: &str) {
        let promised = self.stage.world.now().unix_timestamp() + TTL as i64;
        let answer = self.ask(Ask::extend(id, TTL)).await;
        if answer.is_some_and(|it| it.status == 200) {
            let mut book = self.book.borrow_mut();
            let entry = book.entry(id);
            entry.expires = entry.expires.max(promised);
        }
    }

    /// A command of its own, asked for once, whatever becomes of it.
    async fn exec(&mut self, id: &str) {
        self.count += 1;
        let command = format!("once-{}-{}", self.nth, self.count);
        let answer = self.ask(Ask::exec(id, &command)).await;
        let sim = self.stage.world.sim();
        let ran = sim.executions().keys().filter(|(_, it)| asked(it).0 == command).count();
        let code = answer.as_ref().map(Answer::code).unwrap_or_default();
        match answer.map(|it| it.status) {
            Some(200) => assert_eq!(ran, 1, "{command}"),
            Some(_) if code != "exec-cut" => assert_eq!(ran, 0, "{command}: {code}"),
            _ => {}
        }
    }

    /// Off or on, whatever others do: it is only not lost.
    async fn power(&mut self, id: &str) {
        let action = ["stop", "pause", "pause", "start", "resume", "reboot"][self.dice.below(6) as usize];
        self.book.borrow_mut().entry(id).powered = true;
        let body = if matches!(action, "start" | "resume") { json!({"ttlSeconds": TTL}) } else { json!({}) };
        self.ask(Ask::act(id, action, body)).await;
    }

    /// With a VM's memory, now and then; of a container that is refused.
    async fn keep(&mut self, id: &str) {
        let body = json!({"keep": true, "memory": self.dice.below(2) == 0});
        self.ask(Ask::act(id, "snapshots", body)).await;
    }

    /// A template of it, which whoever hears of it believes to be there.
    async fn snapshot(&mut self, id: &str) {
        let ask = Ask::act(id, "snapshots", json!({}));
        let Some(answer) = self.ask(ask.wait(20)).await else { return };
        if answer.status < 300 {
            let id = answer.snapshot_id();
            self.book.borrow_mut().templates.entry(id).or_default().ready |= answer.status == 201;
        }
    }

    /// One of those is looked at, made use of, or deleted.
    async fn template(&mut self) {
        let id = {
            let book = self.book.borrow();
            let ids: Vec<&String> =
                book.templates.iter().filter(|(_, it)| !it.ending).map(|it| it.0).collect();
            match ids.get(self.dice.below(ids.len().max(1) as u64) as usize) {
                Some(id) => (*id).clone(),
                None => return,
            }
        };
        match self.dice.below(3) {
            0 => {
                let answer = self.ask(Ask::snapshot(&id).wait(5)).await;
                let ready = answer.is_some_and(|it| it.json()["status"] == "ready");
                self.book.borrow_mut().templates.entry(id).or_default().ready |= ready;
            }
            1 => {
                let body = json!({"ttlSeconds": TTL, "snapshotId": id});
                if let Some(answer) = self.ask(Ask::sandbox(body)).await {
                    self.believe(&answer);
                }
            }
            _ => {
                self.book.borrow_mut().templates.entry(id.clone()).or_default().ending = true;
                self.ask(Ask::delete(format!("/api/snapshots/{id}"))).await;
            }
        }
    }

    /// To any that it keeps; its time and its metadata do not go back.
    async fn roll_back(&mut self, id: &str) {
        let Some(all) = self.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots"))).await else { return };
        let all = all.json();
        let many = all["items"].as_array().map_or(0, Vec::len);
        let nth = self.dice.below(many.max(1) as u64) as usize;
        let Some(snapshot) = all["items"][nth]["snapshotId"].as_str() else { return };
        let body = json!({"snapshot": snapshot});
        let answer = self.ask(Ask::act(id, "rollback", body)).await;
        if let Some(answer) = answer.filter(|it| it.status == 200) {
            self.believe(&answer);
        }
    }

    async fn delete(&mut self, id: &str) {
        self.book.borrow_mut().entry(id).ending = true;
        let answer = self.ask(Ask::end(id)).await;
        if answer.is_some_and(|it| it.status == 204) {
            self.book.borrow_mut().entry(id).gone = true;
        }
    }
}

/// Half-made templates are finished or given up, and none of them is nobody's.
fn look_at_templates(stage: &Stage, book: &RefCell<Book>) {
    for _ in 0..9 {
        stage.world.advance(time::Duration::seconds(100));
        let swept = stage.ask(Ask::gc());
        assert_eq!(swept.status, 200, "{swept:?}");
    }
    stage.world.settle();
    let sim = stage.world.sim();
    for guest in sim.guests().filter(|it| (100_000..200_000).contains(&it.vmid)) {
        let told = || guest.config.text();
        assert!(guest.config.is("template") && mark(guest).is_some(), "{}: {}", guest.vmid, told());
        assert!(guest.config.get("env").is_none(), "{}: {}", guest.vmid, told());
    }
    for (id, entry) in &book.borrow().templates {
        let there = sim.guest(crate::stage::vmid_of(id)).and_then(mark);
        let there = there.is_some_and(|it| id.contains(&it.nonce.to_string()));
        assert!(entry.ending || !entry.ready || there, "{id} is lost");
    }
}

/// When all is quiet: everything alive runs, everything gone is 404, and
/// whatever else there is carries our intent.
pub(super) fn look_back(stage: &Stage, book: &RefCell<Book>) {
    let entries = book.borrow().entries.clone();
    for (id, entry) in entries {
        if entry.alive && !entry.ending {
            if entry.powered {
                let start = Ask::act(&id, "start", json!({"ttlSeconds": TTL}));
                stage.world.run(client::repeat(stage.clone(), start, |it| it.status == 200));
            }
            let answer = stage.world.run(client::poll(stage.clone(), id.clone()));
            assert_eq!(answer.shows(), "200 running", "{id}: {answer:?}");
        }
        if entry.gone {
            let answer = stage.ask(Ask::one(&id));
            assert_eq!(answer.status, 404, "{id}: {answer:?}");
        }
    }
    look_at_templates(stage, book);
    let sim = stage.world.sim();
    let ours = sim.guests().filter(|it| (200_000..=200_011).contains(&it.vmid) && it.vmid != 200_001);
    for guest in ours {
        let staging = guest.tags().iter().any(|it| it.starts_with("pe1.staging."));
        assert!(staging || mark(guest).is_some(), "{} is nobody's: {}", guest.vmid, guest.config.text());
    }
}
