//! Which node gets the next sandbox: from the listing alone, most free memory first.

use time::OffsetDateTime;

use crate::{
    pve::{
        api::{cluster::Resource, config::Config},
        inventory::{Guest, Inventory},
        marks,
        quota::memory,
    },
    sandbox::vmid::VmidRange,
};

/// A node's memory in a listing is up to so old: what was made since then is not in it yet.
const YOUNG_SECONDS: i64 = 30;
/// Nodes whose sandboxes differ by fewer than so many are equally good.
const NEAR: usize = 4;

/// The room that some nodes have, to choose among them.
pub(crate) struct Room<'a> {
    /// Node, free bytes of memory, and how many of ours.
    loads: Vec<(&'a str, u64, usize)>,
    best: u64,
    least: usize,
    dice: u32,
}

impl<'a> Room<'a> {
    /// The room of these nodes.
    pub(crate) fn of(
        inventory: &'a Inventory,
        sandboxes: &VmidRange,
        nodes: &[&'a str],
        now: OffsetDateTime,
        dice: u32,
    ) -> Self {
        let mut room = Self { loads: Vec::new(), best: 0, least: usize::MAX, dice };
        for node in nodes {
            let (free, ours) = load(inventory, sandboxes, node, now);
            room.best = room.best.max(free);
            room.least = room.least.min(ours);
            room.loads.push((node, free, ours));
        }
        room
    }

    /// The smaller, the better: by free memory, then by how few of ours. Nearly
    /// equal nodes change places by the dice, since creations of one moment all
    /// see the same listing.
    pub(crate) fn rank(&self, node: &str) -> (u64, usize, u32) {
        let known = self.loads.iter().find(|it| it.0 == node);
        let (free, ours) = known.map_or((0, self.least), |it| (it.1, it.2));
        let lacks = if free >= self.best - self.best / 8 { 0 } else { self.best - free };
        (lacks, (ours - self.least) / NEAR, thrown(node, self.dice))
    }

    /// The best of them.
    pub(crate) fn best(&self) -> Option<&'a str> {
        self.loads.iter().map(|it| it.0).min_by_key(|it| self.rank(it))
    }
}

/// Nodes that are online and have all storages of this guest, which others share;
/// none when one of them is the guest's node's own.
pub(crate) fn sharing<'a>(inventory: &'a Inventory, config: &Config) -> Vec<&'a str> {
    let wanted = config.storages();
    let has = |node: &str, storage: &str| {
        inventory.storages(node).any(|it| it.storage.as_deref() == Some(storage) && it.shared == Some(true))
    };
    let serves = |node: &&str| inventory.is_online(node) && wanted.iter().all(|it| has(node, it));
    if wanted.is_empty() {
        return Vec::new();
    }
    inventory.nodes().map(|it| it.node.as_str()).filter(serves).collect()
}

/// Free bytes of memory, 0 where the token may not see them, and how many of ours.
fn load(inventory: &Inventory, sandboxes: &VmidRange, node: &str, now: OffsetDateTime) -> (u64, usize) {
    let free = inventory.nodes().find(|it| it.node == node).map_or(0, free);
    let here = inventory.guests.iter().filter(|it| it.row.node == node && sandboxes.contains(it.vmid));
    let (mut ours, mut coming) = (0, 0);
    for guest in here {
        ours += usize::from(guest.ours.is_some());
        coming += expected(guest, now);
    }
    (free.saturating_sub(coming), ours)
}

fn free(row: &Resource) -> u64 {
    row.maxmem.unwrap_or(0).saturating_sub(row.mem.unwrap_or(0))
}

/// Bytes that a new sandbox, or a clone that may become one, will take of its node's memory.
fn expected(guest: &Guest, now: OffsetDateTime) -> u64 {
    match &guest.ours {
        Some(it) if it.mark.age(now) < YOUNG_SECONDS => memory(guest, &it.mark),
        // Not committed yet: it has its template's tags.
        None if matches!(guest.row.lock.as_deref(), Some("create" | "clone")) => {
            let preset = marks::template(guest.tags()).flatten().and_then(|it| it.preset.sizes());
            preset.map_or(0, |it| u64::from(it.memory_mib) << 20)
        }
        _ => 0,
    }
}

/// The dice of one node (FNV-1a).
fn thrown(node: &str, dice: u32) -> u32 {
    node.bytes().fold(dice, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
