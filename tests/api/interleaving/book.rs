//! What clients were told, and what must therefore be true at every moment.

use std::collections::{BTreeMap, BTreeSet};

use super::actor::HIDDEN;
use crate::stage::{guests::committed, prelude::*};

/// One sandbox that somebody was told of.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Somebody was told that it runs, and nobody has asked for its end.
    pub(super) alive: bool,
    /// Somebody has asked for its end.
    pub(super) ending: bool,
    /// Somebody has switched it off or on.
    pub(super) powered: bool,
    /// Somebody was told that it is gone.
    pub(super) gone: bool,
    /// The expiry that somebody was promised.
    pub(super) expires: i64,
    /// By client: the last count that was acknowledged.
    pub(super) counts: BTreeMap<String, u64>,
}

/// One snapshot of a sandbox that somebody was told of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Template {
    /// Somebody was told that sandboxes can be made from it.
    pub(super) ready: bool,
    /// Somebody has asked for its end.
    pub(super) ending: bool,
}

/// All that clients were told.
pub(super) struct Book {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) templates: BTreeMap<String, Template>,
    neighbours: BTreeMap<u32, String>,
}

impl Book {
    pub(super) fn new(sim: &Sim) -> Self {
        Self {
            entries: BTreeMap::new(),
            templates: BTreeMap::new(),
            neighbours: snapshot(sim, &sim.guests().map(|it| it.vmid).collect()),
        }
    }

    pub(super) fn entry(&mut self, id: &str) -> &mut Entry {
        self.entries.entry(id.to_owned()).or_default()
    }

    /// Called after every request that anybody has executed.
    pub(super) fn check(&self, sim: &Sim, seen: &Seen) {
        let told = || format!("after {} {}", seen.method, seen.path);
        let known = self.neighbours.keys().copied().collect();
        assert_eq!(snapshot(sim, &known), self.neighbours, "{}", told());
        for (id, entry) in &self.entries {
            let mark =
                sim.guest(vmid_of(id)).and_then(committed).filter(|it| id.contains(&it.nonce.to_string()));
            assert!(!entry.gone || mark.is_none(), "{id} is back {}", told());
            if !entry.alive || entry.ending {
                continue;
            }
            let mark = mark.unwrap_or_else(|| panic!("{id} is lost {}", told()));
            // A resume gives time from its own beginning on.
            let slack = if entry.powered { 60 } else { 0 };
            assert!(
                mark.expires.is_some_and(|it| it >= entry.expires - slack),
                "{id} lost its time {}",
                told()
            );
            for (name, count) in &entry.counts {
                let kept = mark.metadata.get(name).and_then(|it| it.parse::<u64>().ok());
                assert!(kept >= Some(*count), "{id} lost {name}={count} {}", told());
            }
        }
        self.check_keys(sim, &told());
        let shown = sim.guests().find(|it| it.config.text().contains(HIDDEN));
        assert!(
            shown.is_none() && !(seen.path.starts_with("/api2/json") && seen.body.contains(HIDDEN)),
            "{}",
            told()
        );
        let twice =
            sim.executions().iter().find(|((_, command), many)| command.contains("once-") && **many > 1);
        assert_eq!(twice, None, "{}", told());
    }

    /// One key, one sandbox, but for one that somebody has asked to end.
    fn check_keys(&self, sim: &Sim, told: &str) {
        let mut keys = BTreeSet::new();
        for mark in sim.guests().filter_map(committed) {
            let nonce = mark.nonce.to_string();
            let ending = self.entries.iter().any(|(id, it)| it.ending && id.contains(&nonce));
            let Some(key) = mark.key.filter(|_| !ending) else { continue };
            assert!(keys.insert(key.to_string()), "two sandboxes of one key {told}");
        }
    }
}

/// A template's lock comes and goes with every clone.
fn snapshot(sim: &Sim, which: &BTreeSet<u32>) -> BTreeMap<u32, String> {
    let mut all = sim.snapshot_of(|guest| which.contains(&guest.vmid));
    if let Some(text) = all.get_mut(&TEMPLATE) {
        *text = text.lines().filter(|line| *line != "lock: disk").collect::<Vec<_>>().join("\n");
    }
    all
}
