//! Steps that many tests take, and looks past the API at what the cluster holds.

use std::cell::Cell;

use pve_edge_bed::{sim::Guest, world::Moment};
use serde_json::Value;
use time::Duration;

use super::{Answer, Ask, Stage, vmid_of};

impl Stage {
    /// Creates a sandbox that runs, and tells its id.
    pub(crate) fn created(&self, body: Value) -> String {
        let answer = self.ask(Ask::sandbox(body));
        assert_eq!(answer.shows(), "201 running", "{answer:?}\n{}", self.told());
        answer.id()
    }

    /// Claims a sandbox and leaves it alone: nothing of it is committed.
    pub(crate) fn half_made(&self, body: Value) -> String {
        let answer = self.ask(Ask::sandbox(body).wait(0));
        assert_eq!(answer.shows(), "202 creating", "{answer:?}");
        self.world.settle();
        answer.id()
    }

    /// POSTs to a sandbox: `stop`, `snapshots`, and so on.
    pub(crate) fn act(&self, id: &str, verb: &str, body: Value) -> Answer {
        self.ask(Ask::act(id, verb, body))
    }

    /// Sweeps once.
    pub(crate) fn sweep(&self) -> Answer {
        let answer = self.ask(Ask::gc());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// What one sweep did.
    pub(crate) fn swept(&self) -> Value {
        self.sweep().json()["actions"].clone()
    }

    /// Sweeps as a schedule does, for five minutes.
    pub(crate) fn sweeps(&self) {
        for _ in 0..4 {
            self.sweep();
            self.world.advance(Duration::seconds(75));
        }
        self.world.settle();
    }

    /// Ids of the sandboxes in the list.
    pub(crate) fn listed(&self) -> Vec<String> {
        let page = self.ask(Ask::get("/api/sandboxes")).json();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)).collect()
    }

    /// Asks for a snapshot until it is ready.
    pub(crate) fn ready(&self, snapshot: &str) -> Answer {
        for _ in 0..60 {
            let answer = self.ask(Ask::snapshot(snapshot));
            if answer.json()["status"] == "ready" {
                return answer;
            }
            assert_eq!(answer.status, 200, "{answer:?}\n{}", self.told());
            self.world.advance(Duration::seconds(2));
        }
        panic!("never ready\n{}", self.told());
    }

    /// The guest of a sandbox or a snapshot.
    pub(crate) fn guest(&self, id: &str) -> Option<Guest> {
        self.world.sim().guest(vmid_of(id)).cloned()
    }

    pub(crate) fn exists(&self, id: &str) -> bool {
        self.guest(id).is_some()
    }

    pub(crate) fn runs(&self, id: &str) -> bool {
        self.guest(id).is_some_and(|it| it.run.is_some())
    }

    /// The value of a key of the guest's config, or nothing.
    pub(crate) fn config(&self, id: &str, key: &str) -> String {
        let value = self.guest(id).and_then(|it| it.config.get(key).map(str::to_owned));
        value.unwrap_or_default()
    }

    /// The number of the memory that runs.
    pub(crate) fn memory(&self, id: &str) -> Option<u64> {
        self.guest(id)?.run.map(|run| run.memory)
    }

    /// Moves a guest right after each listing, as long as there are `nodes`.
    pub(crate) fn move_after_listing(&self, id: &str, nodes: &'static [&'static str]) {
        let (vmid, next) = (vmid_of(id), Cell::new(0));
        self.world.hook(move |sim, moment, seen| {
            if moment == Moment::After && seen.path.contains("/cluster/resources") {
                if let Some(node) = nodes.get(next.get()) {
                    sim.migrate(vmid, node);
                }
                next.set(next.get() + 1);
            }
        });
    }
}
