//! Virtual time, one thread, and a seed: core's operations on a simulator.

mod answer;
mod fault;
mod flight;
mod io;
mod timer;
mod transcript;

use std::{
    cell::{Ref, RefCell, RefMut},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use time::{Duration, OffsetDateTime};

pub use fault::{Fault, Moment, Seen};
pub use io::{WorldBody, WorldIo, WorldUpload};

use crate::sim::{Rng, Sim};
use flight::{Flight, Route};

/// The base URL of the simulated PVE API.
pub const API: &str = "https://pve.test:8006";

/// A simulator, a clock, and operations that run on both.
///
/// Everything that happens follows from the simulator, the seed and the order
/// of calls: a failure is repeated by its seed.
#[derive(Clone)]
pub struct World {
    inner: Rc<RefCell<Inner>>,
    tasks: Rc<RefCell<BTreeMap<usize, Operation>>>,
    ready: Ready,
}

/// The result of an operation that was spawned, once there is one.
pub struct Handle<T> {
    slot: Rc<RefCell<Option<T>>>,
}

type Operation = Pin<Box<dyn Future<Output = ()>>>;
type Ready = Arc<Mutex<BTreeSet<usize>>>;
type Hook = Box<dyn FnMut(&mut Sim, Moment, &Seen)>;
type Limiter = Box<dyn FnMut(&str) -> bool>;
type Faults = Box<dyn FnMut(&Seen) -> Option<Fault>>;

/// What [`WorldIo`] shares with the executor.
pub(crate) struct Inner {
    pub(crate) sim: Sim,
    pub(crate) rng: Rng,
    pub(crate) agenda: BTreeMap<(OffsetDateTime, u64), Due>,
    pub(crate) sequence: u64,
    pub(crate) current: Option<usize>,
    pub(crate) killed: BTreeSet<usize>,
    pub(crate) faults: Vec<Faults>,
    pub(crate) hook: Option<Hook>,
    pub(crate) routes: Vec<(String, Route)>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) lines: Vec<String>,
    pub(crate) latency: (u64, u64),
    /// How far the adapters' clocks are ahead of PVE's.
    pub(crate) ahead: Duration,
    pub(crate) limiter: Option<Limiter>,
}

/// What is due at a point in time.
pub(crate) enum Due {
    Wake(Waker),
    Deliver(Rc<Flight>),
    Arrive(Rc<Flight>),
}

impl World {
    /// A world around this simulator. The seed decides latencies and the
    /// order in which ready operations go on.
    pub fn new(sim: Sim, seed: u64) -> Self {
        let inner = Inner {
            sim,
            rng: Rng::new(seed),
            agenda: BTreeMap::new(),
            sequence: 0,
            current: None,
            killed: BTreeSet::new(),
            faults: Vec::new(),
            hook: None,
            routes: Vec::new(),
            seen: Vec::new(),
            lines: Vec::new(),
            latency: (1, 10),
            ahead: Duration::ZERO,
            limiter: None,
        };
        let inner = Rc::new(RefCell::new(inner));
        Self { inner, tasks: Rc::default(), ready: Ready::default() }
    }

    /// Another world that begins as this one is now, without other hosts: what happens in one is not seen
    /// in the other.
    ///
    /// # Panics
    /// When an operation or a request is on its way.
    pub fn fork(&self) -> Self {
        let inner = self.inner.borrow();
        let idle = self.tasks.borrow().is_empty() && inner.agenda.is_empty();
        let plain = inner.faults.is_empty() && inner.hook.is_none() && inner.limiter.is_none();
        assert!(idle && plain, "only a world at rest can be forked");
        let fork = Self::new(inner.sim.clone(), 0);
        {
            let mut other = fork.inner.borrow_mut();
            other.rng = inner.rng.clone();
            other.sequence = inner.sequence;
            other.seen = inner.seen.clone();
            other.lines = inner.lines.clone();
            (other.latency, other.ahead) = (inner.latency, inner.ahead);
        }
        fork
    }

    /// An adapter's view of the world.
    pub fn io(&self) -> WorldIo {
        self.io_named("")
    }

    /// The same, with a name that faults, hooks and the transcript can tell apart.
    pub fn io_named(&self, name: &str) -> WorldIo {
        WorldIo { inner: self.inner.clone(), name: name.into() }
    }

    /// Runs one operation to its end, and others only as long as that takes.
    ///
    /// # Panics
    /// When it dies or waits for something that never comes.
    pub fn run<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> T {
        let result = self.try_run(operation);
        result.unwrap_or_else(|| panic!("the operation never ended:\n{}", self.transcript()))
    }

    /// As [`World::run`]; `None` when it dies or is stuck.
    pub fn try_run<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> Option<T> {
        let handle = self.spawn(operation);
        self.drive(|| handle.is_done());
        handle.take()
    }

    /// Runs all at once; `None` for those that die.
    pub fn run_all<T: 'static>(
        &self,
        operations: impl IntoIterator<Item = Pin<Box<dyn Future<Output = T>>>>,
    ) -> Vec<Option<T>> {
        let handles: Vec<Handle<T>> = operations.into_iter().map(|operation| self.spawn(operation)).collect();
        self.drive(|| handles.iter().all(Handle::is_done));
        handles.iter().map(Handle::take).collect()
    }

    /// Adds an operation; something else drives it.
    pub fn spawn<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> Handle<T> {
        let slot = Rc::new(RefCell::new(None));
        let result = slot.clone();
        let id = self.inner.borrow_mut().next();
        let task = async move {
            let value = operation.await;
            *result.borrow_mut() = Some(value);
        };
        self.tasks.borrow_mut().insert(id, Box::pin(task));
        wake(&self.ready, id);
        Handle { slot }
    }

    /// Lets this much time pass, and all that is due in it.
    pub fn advance(&self, duration: Duration) {
        let end = self.now() + duration;
        self.drive_until(end);
        self.sim_mut().advance_to(end);
    }

    /// Lets time pass until no operation, request or worker has anything to do.
    pub fn settle(&self) {
        loop {
            self.drive(|| false);
            let Some(at) = self.sim().next_event() else { return };
            self.sim_mut().advance_to(at);
        }
    }

    /// What time it is.
    pub fn now(&self) -> OffsetDateTime {
        self.sim().now()
    }

    /// The platform's clock runs so far ahead of PVE's.
    pub fn set_ahead(&self, by: Duration) {
        self.inner.borrow_mut().ahead = by;
    }

    /// The platform's limiter: whether it admits what is counted under this key.
    pub fn limit(&self, limiter: impl FnMut(&str) -> bool + 'static) {
        self.inner.borrow_mut().limiter = Some(Box::new(limiter));
    }

    /// The simulator.
    pub fn sim(&self) -> Ref<'_, Sim> {
        Ref::map(self.inner.borrow(), |inner| &inner.sim)
    }

    /// The simulator, to change.
    pub fn sim_mut(&self) -> RefMut<'_, Sim> {
        RefMut::map(self.inner.borrow_mut(), |inner| &mut inner.sim)
    }

    fn drive(&self, done: impl Fn() -> bool) {
        while !done() && (self.poll_one() || self.pass(None)) {}
    }

    fn drive_until(&self, end: OffsetDateTime) {
        while self.poll_one() || self.pass(Some(end)) {}
    }

    /// Polls one of the ready operations, whichever the seed says.
    fn poll_one(&self) -> bool {
        let killed = std::mem::take(&mut self.inner.borrow_mut().killed);
        for id in killed {
            // No destructor runs when an isolate or a Lambda is killed.
            if let Some(operation) = self.tasks.borrow_mut().remove(&id) {
                std::mem::forget(operation);
            }
        }
        let id = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            if ready.is_empty() {
                return false;
            }
            let nth = self.inner.borrow_mut().rng.below(ready.len() as u64) as usize;
            let Some(id) = ready.iter().nth(nth).copied() else { return false };
            ready.remove(&id);
            id
        };
        let Some(mut operation) = self.tasks.borrow_mut().remove(&id) else { return true };
        self.inner.borrow_mut().current = Some(id);
        let waker = Waker::from(Arc::new(Alarm { id, ready: self.ready.clone() }));
        let polled = operation.as_mut().poll(&mut Context::from_waker(&waker));
        self.inner.borrow_mut().current = None;
        if polled == Poll::Pending {
            self.tasks.borrow_mut().insert(id, operation);
        }
        true
    }

    /// Moves the clock to what is due next, and does that.
    fn pass(&self, end: Option<OffsetDateTime>) -> bool {
        let due = {
            let mut inner = self.inner.borrow_mut();
            let Some((&key, _)) = inner.agenda.first_key_value() else { return false };
            if end.is_some_and(|end| key.0 > end) {
                return false;
            }
            inner.sim.advance_to(key.0);
            inner.agenda.remove(&key)
        };
        match due {
            Some(Due::Wake(waker)) => waker.wake(),
            Some(Due::Deliver(flight)) => flight::deliver(&self.inner, &flight),
            Some(Due::Arrive(flight)) => flight.arrive(),
            None => {}
        }
        true
    }
}

impl Inner {
    pub(crate) fn next(&mut self) -> usize {
        self.sequence += 1;
        self.sequence as usize
    }

    pub(crate) fn due(&mut self, at: OffsetDateTime, due: Due) -> (OffsetDateTime, u64) {
        self.sequence += 1;
        let key = (at, self.sequence);
        self.agenda.insert(key, due);
        key
    }
}

impl<T> Handle<T> {
    /// Whether there is a result.
    pub fn is_done(&self) -> bool {
        self.slot.borrow().is_some()
    }

    /// The result, once.
    pub fn take(&self) -> Option<T> {
        self.slot.borrow_mut().take()
    }
}

struct Alarm {
    id: usize,
    ready: Ready,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        wake(&self.ready, self.id);
    }
}

fn wake(ready: &Ready, id: usize) {
    ready.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
}
