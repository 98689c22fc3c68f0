//! The memory of an isolate: which sandbox has which VMID, for some seconds. It holds values and times alone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;

use super::door::Door;
use crate::{
    sandbox::{nonce::Nonce, visit::Identity, vmid::Vmid},
    settings::Settings,
};

/// Seconds for which PVE's word on a sandbox counts: in that time a revocation, a deletion or another visibility may not be
/// known yet.
const COUNTS_SECONDS: i64 = 10;

/// Seconds for which it is known that a VMID is nobody's.
const ABSENT_SECONDS: i64 = 5;

/// Seconds for which whoever was let in goes on while PVE is silent.
const SILENT_SECONDS: i64 = 60;

/// Number of VMIDs that are remembered.
const MOST: usize = 256;

/// Addresses below which a VMID may be another guest's within seconds: PVE is asked each time then.
const LARGE_POOL: u32 = 1000;

/// What is remembered of VMIDs, by the names that were asked for: whoever asks for an earlier guest's name does not have the
/// present one forgotten.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<Name, Remembered>>);

/// VMID and nonce of a name.
type Name = (Vmid, Option<Nonce>);

#[derive(Clone, Debug)]
struct Remembered {
    identity: Option<Identity>,
    at: OffsetDateTime,
    /// Seconds for which it counts.
    counts: i64,
}

/// What is known of a VMID now.
#[derive(Debug)]
pub(super) enum Known {
    Here(Identity),
    Absent,
    Nothing,
}

impl Memory {
    pub(super) fn get(&self, door: &Door, now: OffsetDateTime) -> Known {
        match self.lock().get(&(door.vmid, door.nonce)).filter(|it| it.age(now) < it.counts) {
            Some(Remembered { identity: Some(identity), .. }) => Known::Here(identity.clone()),
            Some(_) => Known::Absent,
            None => Known::Nothing,
        }
    }

    /// What was known a minute ago or less.
    pub(super) fn before(&self, door: &Door, now: OffsetDateTime) -> Option<Identity> {
        self.lock().get(&(door.vmid, door.nonce)).filter(|it| it.age(now) < SILENT_SECONDS)?.identity.clone()
    }

    /// The node on which the sandbox was last, however long ago: PVE is asked there first.
    pub(super) fn node(&self, door: &Door) -> Option<String> {
        let known = self.lock().get(&(door.vmid, door.nonce))?.identity.clone()?;
        Some(known.id.node).filter(|it| !it.is_empty())
    }

    /// Remembers what PVE has told, or that there is nobody.
    pub(super) fn put(
        &self,
        door: &Door,
        identity: Option<Identity>,
        at: OffsetDateTime,
        settings: &Settings,
    ) {
        let counts = match &identity {
            None => ABSENT_SECONDS,
            Some(_) if settings.ip_pool.as_ref().is_some_and(|it| it.size() < LARGE_POOL) => 0,
            Some(_) => COUNTS_SECONDS,
        };
        let (mut all, name) = (self.lock(), (door.vmid, door.nonce));
        if all.len() >= MOST && !all.contains_key(&name) {
            let oldest = all.iter().min_by_key(|(_, it)| it.at).map(|(name, _)| *name);
            oldest.map(|it| all.remove(&it));
        }
        all.insert(name, Remembered { identity, at, counts });
    }

    /// Forgets what was known, which has just been changed.
    pub(super) fn forget(&self, vmid: Vmid) {
        self.lock().retain(|(known, _), _| *known != vmid);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn age(&self, now: OffsetDateTime) -> i64 {
        (now - self.at).whole_seconds()
    }
}
