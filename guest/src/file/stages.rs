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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use pve_edge_guest_protocol::file::{Commit, Placing, Unpack};

    use super::*;

    /// Takes a second to put something in place, and counts how often that was done and how many were dropped.
    #[derive(Clone, Default)]
    struct Counts(Arc<[AtomicUsize; 2]>);

    struct Held(Counts);

    impl Holder for Held {
        async fn settle(self, _operation: Operation) -> Result<Bytes, Refusal> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.0[0].fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_static(b"{}"))
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.0[1].fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counts {
        fn settled(&self) -> usize {
            self.0[0].load(Ordering::Relaxed)
        }

        fn dropped(&self) -> usize {
            self.0[1].load(Ordering::Relaxed)
        }
    }

    fn name(number: usize) -> Unique {
        Unique((number as u128).to_le_bytes())
    }

    const SHA256: Digest256 = Digest256([7; 32]);

    fn keep(stages: &Stages<Held>, number: usize, counts: &Counts) -> Result<(), Refusal> {
        let room = stages.room(name(number))?;
        let staged = Staged { length: 0, sha256: SHA256 };
        stages.keep(name(number), Held(counts.clone()), staged, false, room)
    }

    async fn commit(stages: &Stages<Held>, number: usize, sha256: Digest256) -> Result<Bytes, Code> {
        let stage = name(number);
        let operation = Operation::Commit(Commit { stage, sha256, placing: Placing::default() });
        let response = stages.settle(stage, sha256, operation).await.map_err(|it| it.code)?;
        Ok(response.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_puts_in_place_is_dropped_in_time() {
        let (stages, counts) = (Stages::default(), Counts::default());
        for number in 0..MOST {
            keep(&stages, number, &counts).unwrap();
        }
        assert_eq!(keep(&stages, MOST, &counts).unwrap_err().code, Code::Busy);
        tokio::time::sleep(KEPT - Duration::from_secs(1)).await;
        assert_eq!(counts.dropped(), 0);
        commit(&stages, 0, SHA256).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((counts.settled(), counts.dropped()), (1, MOST));
        assert_eq!(commit(&stages, 1, SHA256).await, Err(Code::NoSuchStage));
        assert_eq!(stages.room.available_permits(), MOST);
        assert!(lock(&stages.table).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_put_in_place_once_however_often_it_is_asked_and_whoever_waits() {
        let (stages, counts) = (Stages::default(), Counts::default());
        keep(&stages, 1, &counts).unwrap();
        let impatient = tokio::time::timeout(Duration::from_millis(1), commit(&stages, 1, SHA256)).await;
        assert!(impatient.is_err());
        let both = tokio::join!(commit(&stages, 1, SHA256), commit(&stages, 1, SHA256));
        assert_eq!(both, (Ok(Bytes::from_static(b"{}")), Ok(Bytes::from_static(b"{}"))));
        assert_eq!((counts.settled(), counts.dropped()), (1, 1));
        assert_eq!(keep(&stages, 1, &counts).unwrap_err().code, Code::Exists);
    }

    #[tokio::test(start_paused = true)]
    async fn other_bytes_or_another_use_are_refused() {
        let (stages, counts) = (Stages::default(), Counts::default());
        keep(&stages, 1, &counts).unwrap();
        let unpack = Operation::Unpack(Unpack { stage: name(1), sha256: SHA256, gzip: false });
        let refusal = stages.settle(name(1), SHA256, unpack).await.unwrap_err();
        assert_eq!((refusal.code, counts.dropped()), (Code::BadCall, 0));
        assert_eq!(commit(&stages, 1, Digest256([8; 32])).await, Err(Code::OtherBytes));
        assert_eq!((counts.settled(), counts.dropped()), (0, 1));
        assert_eq!(commit(&stages, 1, SHA256).await, Err(Code::NoSuchStage));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_in_place_is_remembered_up_to_a_number() {
        let (stages, counts) = (Stages::default(), Counts::default());
        let many = MOST + REMEMBERED + 5;
        for number in 0..many {
            keep(&stages, number, &counts).unwrap();
            commit(&stages, number, SHA256).await.unwrap();
        }
        assert_eq!(lock(&stages.table).len(), MOST + REMEMBERED);
        assert_eq!(commit(&stages, 4, SHA256).await, Err(Code::NoSuchStage));
        assert_eq!(commit(&stages, 5, SHA256).await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(counts.settled(), many);
    }
}
