//! What is staged: each by a process that holds it, until it is put in place or too old.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::{Digest256, Operation},
    file::Staged,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::process::{Process, json};
use crate::answer::Reply;

/// Stages that are open at a time.
const MOST: usize = 16;

/// Stages that are put in place and remembered, so that it can be asked again.
const REMEMBERED: usize = 256;

/// Time after which a stage is dropped or forgotten.
const KEPT: Duration = Duration::from_secs(600);

type Table<P> = Mutex<HashMap<Unique, Arc<Slot<P>>>>;

/// Stages, each held by a `P`: the process.
pub(super) struct Stages<P = Process> {
    room: Arc<Semaphore>,
    table: Arc<Table<P>>,
}

struct Slot<P> {
    sha256: Digest256,
    is_archive: bool,
    since: Instant,
    state: tokio::sync::Mutex<State<P>>,
}

enum State<P> {
    Open(P, OwnedSemaphorePermit),
    Settled(Result<Bytes, Refusal>),
}

/// What holds a stage, and puts it in place when it is told to.
pub(super) trait Holder: Send + 'static {
    /// Puts it in place; the answer is the JSON for it.
    fn settle(self, operation: Operation) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}

impl Holder for Process {
    async fn settle(mut self, operation: Operation) -> Result<Bytes, Refusal> {
        self.ask(&operation).await?;
        self.json().await
    }
}

impl<P> Default for Stages<P> {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MOST)), table: Arc::default() }
    }
}

impl<P: Holder> Stages<P> {
    /// Makes room for one more.
    pub(super) fn room(&self, name: Unique) -> Result<OwnedSemaphorePermit, Refusal> {
        if lock(&self.table).contains_key(&name) {
            return Err(taken());
        }
        let room = self.room.clone().try_acquire_owned();
        room.map_err(|_| Refusal::new(Code::Busy, format!("{MOST} files are staged already")))
    }

    /// Keeps what was staged.
    pub(super) fn keep(
        &self,
        name: Unique,
        holder: P,
        staged: Staged,
        is_archive: bool,
        room: OwnedSemaphorePermit,
    ) -> Result<(), Refusal> {
        let mut table = lock(&self.table);
        forget_oldest(&mut table);
        let Entry::Vacant(place) = table.entry(name) else { return Err(taken()) };
        let state = State::Open(holder, room).into();
        let slot = Arc::new(Slot { sha256: staged.sha256, is_archive, since: Instant::now(), state });
        tokio::spawn(drop_later(name, Arc::downgrade(&slot), Arc::downgrade(&self.table)));
        place.insert(slot);
        Ok(())
    }

    /// Puts a stage in place, or says again how that went. It is done to its end even when nobody waits for it.
    pub(super) fn settle(
        &self,
        name: Unique,
        sha256: Digest256,
        operation: Operation,
    ) -> impl Future<Output = Reply> + use<P> {
        let table = self.table.clone();
        async move {
            let slot = lock(&table).get(&name).cloned();
            let slot = slot.ok_or_else(|| {
                Refusal::new(Code::NoSuchStage, "nothing is staged under this name, or not any more")
            })?;
            if slot.is_archive != matches!(operation, Operation::Unpack(_)) {
                return Err(Refusal::new(Code::BadCall, "it was staged to be an archive, or was not"));
            }
            if slot.sha256 != sha256 {
                lock(&table).remove(&name);
                return Err(Refusal::new(Code::OtherBytes, "the staged bytes have another digest"));
            }
            let settled = tokio::spawn(async move { slot.settle(operation).await }).await;
            settled.unwrap_or_else(|error| Err(Refusal::new(Code::Failed, error.to_string()))).map(json)
        }
    }
}

impl<P: Holder> Slot<P> {
    async fn settle(&self, operation: Operation) -> Result<Bytes, Refusal> {
        let mut state = self.state.lock().await;
        let interrupted = || Refusal::new(Code::Failed, "it was interrupted while it was put in place");
        let settled = match std::mem::replace(&mut *state, State::Settled(Err(interrupted()))) {
            State::Open(holder, _room) => holder.settle(operation).await,
            State::Settled(settled) => settled,
        };
        *state = State::Settled(settled.clone());
        settled
    }
}

async fn drop_later<P>(name: Unique, slot: Weak<Slot<P>>, table: Weak<Table<P>>) {
    tokio::time::sleep(KEPT).await;
    let Some(table) = table.upgrade() else { return };
    let mut table = lock(&table);
    if table.get(&name).is_some_and(|it| std::ptr::eq(Arc::as_ptr(it), slot.as_ptr())) {
        table.remove(&name);
    }
}

/// Makes room in the table: what is open is limited by itself.
fn forget_oldest<P>(table: &mut HashMap<Unique, Arc<Slot<P>>>) {
    if table.len() < MOST + REMEMBERED {
        return;
    }
    let is_settled = |slot: &Slot<P>| slot.state.try_lock().is_ok_and(|it| matches!(*it, State::Settled(_)));
    let settled = table.iter().filter(|(_, slot)| is_settled(slot));
    if let Some(name) = settled.min_by_key(|(_, slot)| slot.since).map(|(name, _)| *name) {
        table.remove(&name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken() -> Refusal {
    Refusal::new(Code::Exists, "something is staged under this name")
}
