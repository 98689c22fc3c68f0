//! Waiting for a template: PVE makes one clone of a container at a time (rule S2.9).

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    error::{Code, Error},
    io::{Io, pace},
    pve::{cluster::Cluster, inventory::Template},
};

/// A lock that lasts this long is looked into.
const SUSPICIOUS: Duration = Duration::from_secs(5);

/// PVE's lock on the source of a clone.
const CLONING: &str = "disk";

/// Waiting for a template that others clone.
pub(super) struct Queue<'a> {
    sources: Vec<&'a Template>,
    since: OffsetDateTime,
    /// How often a template was looked at.
    looks: usize,
    /// When the lock was first seen without a break.
    locked_since: Option<OffsetDateTime>,
    idle_at: Option<OffsetDateTime>,
    stale: Option<Error>,
    /// The refusal where something else than a clone works on a source, if that was seen last.
    other: Option<Error>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(sources: &'a [Template], now: OffsetDateTime) -> Self {
        let sources = sources.iter().collect();
        Self { sources, since: now, looks: 0, locked_since: None, idle_at: None, stale: None, other: None }
    }

    pub(super) fn source(&self) -> Result<&'a Template, Error> {
        let stale = || self.stale.clone();
        self.sources.first().copied().ok_or_else(|| {
            stale().unwrap_or_else(|| Error::new(Code::TemplateNotFound, "no template is left to try"))
        })
    }

    /// The source is locked: the next one may be free, and a lock that nobody
    /// works under will never go away.
    pub(super) async fn locked<I: Io>(&mut self, cluster: &Cluster<'_, I>, lock: &str) -> Result<(), Error> {
        let now = cluster.now();
        let since = *self.locked_since.get_or_insert(now);
        let source = self.source()?;
        self.other = other(source, lock);
        if self.sources.len() > 1 && self.idle_at.is_none() && now - since < SUSPICIOUS {
            self.sources.rotate_left(1);
        }
        let due = self.idle_at.map_or(now - since >= SUSPICIOUS, |at| now - at >= SUSPICIOUS);
        // A backup's lock, say, is no crashed clone's.
        if !due || lock != CLONING {
            return Ok(());
        }
        // A list that cannot be read proves nothing.
        let clones = cluster.send(cluster.pve.active_clones(&source.node, source.vmid)).await;
        if !clones.is_ok_and(|it| it.is_empty()) {
            self.idle_at = None;
            self.locked_since = Some(now);
        } else if self.idle_at.is_none() {
            self.idle_at = Some(now);
        } else {
            self.without(source, stale(source, lock))?;
        }
        Ok(())
    }

    /// This source will not serve; without any other that is the answer.
    pub(super) fn without(&mut self, source: &Template, why: Error) -> Result<(), Error> {
        self.stale = Some(why);
        self.sources.retain(|it| it.vmid != source.vmid);
        (self.locked_since, self.idle_at) = (None, None);
        self.source().map(|_| ())
    }

    /// A clone found the source locked again: somebody was faster.
    pub(super) fn busy(&mut self, source: &Template, lock: Option<&str>) {
        self.locked_since = None;
        self.idle_at = None;
        self.other = lock.and_then(|it| other(source, it));
    }

    /// How long to the next look.
    pub(super) fn patience<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Duration {
        let waited = (cluster.now() - self.since).as_seconds_f64();
        self.looks += 1;
        pace::queue_delay(self.looks == 1, waited, chance(cluster, self.looks))
    }

    pub(super) fn gave_up<I: Io>(&self, cluster: &Cluster<'_, I>) -> Error {
        if let Some(error) = &self.other {
            return error.clone();
        }
        let names: Vec<String> = self.sources.iter().map(|it| it.vmid.to_string()).collect();
        let seconds = 1 + u32::from(cluster.seed.first().copied().unwrap_or(0)) % 3;
        Error::new(
            Code::TemplateBusy,
            format!(
                "template {} was being cloned by others all the time, and PVE makes one clone of a container \
                 at a time; nothing was made, ask again",
                names.join(", ")
            ),
        )
        .retry_after(seconds)
    }
}

/// A share of chance between 0 and 1, another one each time.
pub(super) fn chance<I: Io>(cluster: &Cluster<'_, I>, nth: usize) -> f64 {
    f64::from(cluster.seed.get(nth % cluster.seed.len()).copied().unwrap_or(0)) / 255.0
}

/// The refusal of a template that something else than a clone works on: a backup, a migration, a snapshot.
fn other(source: &Template, lock: &str) -> Option<Error> {
    let text = format!(
        "template {} is locked ({lock}): PVE works on it, and clones it when that is over; nothing was made, ask \
         again",
        source.vmid
    );
    let error = || Error::new(Code::TemplateLocked, text).member("lock", lock).retry_after(10);
    (lock != CLONING).then(error)
}

fn stale(source: &Template, lock: &str) -> Error {
    let Template { vmid, node, .. } = source;
    Error::new(
        Code::TemplateLockStale,
        format!(
            "template {vmid} is locked ({lock}) and no clone of it runs: one has crashed. No API token can \
             clear that; on node {node} run: pct unlock {vmid}"
        ),
    )
    .retry_after(30)
}
