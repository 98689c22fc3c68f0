//! A terminal that all clients share, with the model of a hub in it, in a time of its own.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{Stream, stream::Empty};
use time::OffsetDateTime;

use super::super::hub::version;
use crate::io::{Answer, Failure, Io, Link, NetError, RequestBody, Sent};

/// Time that 8 bytes take to the terminal.
const PACKET: Duration = Duration::from_micros(40);
/// Time that the hub takes for a request.
const SERVICE: Duration = Duration::from_millis(25);

/// What goes wrong beside the requests that meet each other.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// How many of the first pieces do not come to the hub.
    pub(super) lost_puts: u32,
    /// Time between two replies to somebody else.
    pub(super) chatter: Option<Duration>,
}

/// The terminal.
#[derive(Clone)]
pub(super) struct Bus(Arc<Mutex<State>>);

struct State {
    now: Duration,
    timers: BTreeSet<Duration>,
    /// What happens when.
    events: BTreeMap<(Duration, usize), Event>,
    /// Requests on their way: when each is there, and whether it is spoilt.
    sending: Vec<(Duration, bool)>,
    busy: Duration,
    inboxes: Vec<VecDeque<Vec<u8>>>,
    started: BTreeSet<String>,
    faults: Faults,
}

enum Event {
    /// All of a request is there: which, and what it says.
    Sent(usize, String),
    Reply(String),
    Chatter,
}

/// One client's connection.
pub(super) struct Client(Bus, usize);

impl Bus {
    pub(super) fn new(faults: Faults) -> Self {
        let mut state = State {
            now: Duration::ZERO,
            timers: BTreeSet::new(),
            events: BTreeMap::new(),
            sending: Vec::new(),
            busy: Duration::ZERO,
            inboxes: Vec::new(),
            started: BTreeSet::new(),
            faults,
        };
        if faults.chatter.is_some() {
            state.later(Duration::ZERO, Event::Chatter);
        }
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn client(&self) -> Client {
        let mut state = self.0.lock().expect("one at a time");
        state.inboxes.push(VecDeque::new());
        Client(self.clone(), state.inboxes.len() - 1)
    }

    /// Runs to the end; time passes while all wait.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
            self.0.lock().expect("one at a time").pass();
        }
    }
}

impl State {
    fn later(&mut self, at: Duration, event: Event) {
        let number = self.events.len() + self.sending.len() * 1000;
        let mut key = (at, number);
        while self.events.contains_key(&key) {
            key.1 += 1;
        }
        self.events.insert(key, event);
    }

    /// Passes to the next thing that happens.
    fn pass(&mut self) {
        let timer = self.timers.first().copied();
        let next = self.events.first_key_value().map(|(key, _)| key.0);
        match (next, timer) {
            (Some(at), timer) if timer.is_none_or(|it| at <= it) => {
                self.now = self.now.max(at);
                if let Some((_, event)) = self.events.pop_first() {
                    self.happen(event);
                }
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                self.timers.remove(&at);
            }
            _ => panic!("nothing will ever happen"),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Sent(number, line) => {
                let is_spoilt = self.sending[number].1;
                if !is_spoilt && let Some(reply) = self.reply(&line) {
                    self.busy = self.busy.max(self.now) + SERVICE;
                    self.later(self.busy, Event::Reply(reply));
                }
            }
            Event::Reply(reply) => {
                let line = format!("@{reply} . {reply}\r\n").into_bytes();
                self.inboxes.iter_mut().for_each(|it| it.push_back(line.clone()));
            }
            Event::Chatter => {
                let other = "0f".repeat(16);
                self.happen(Event::Reply(format!("{other} put c 0")));
                let pause = self.faults.chatter.unwrap_or_default();
                self.later(self.now + pause, Event::Chatter);
            }
        }
    }

    /// What the hub says to a request.
    fn reply(&mut self, line: &str) -> Option<String> {
        let words: Vec<_> = line.trim().strip_prefix('#')?.split(' ').collect();
        match words[..] {
            [name, "hi", ..] => Some(format!("{name} hi {} {}", version(), "01".repeat(16))),
            [_, "put", ..] if self.faults.lost_puts > 0 => {
                self.faults.lost_puts -= 1;
                None
            }
            [name, "put", file, number, ..] => Some(format!("{name} put {file} {number}")),
            [name, "run", ..] => {
                let is_new = self.started.insert(name.to_owned());
                Some(format!("{name} run {}", if is_new { "new" } else { "old" }))
            }
            _ => None,
        }
    }
}

impl Link for Client {
    fn send(&mut self, message: Vec<u8>) -> Result<(), NetError> {
        let text = String::from_utf8(message).expect("text");
        let Some((_, line)) = text.strip_prefix("0:").and_then(|it| it.split_once(':')) else {
            return Ok(());
        };
        let mut state = self.0.0.lock().expect("one at a time");
        let now = state.now;
        let before = state.sending.iter().map(|it| it.0).filter(|it| *it > now).count();
        let end = now + PACKET * u32::try_from(line.len().div_ceil(8)).expect("a short line");
        for other in state.sending.iter_mut().filter(|it| it.0 > now) {
            other.1 = true;
        }
        state.sending.push((end, before > 0));
        let number = state.sending.len() - 1;
        state.later(end, Event::Sent(number, line.to_owned()));
        Ok(())
    }
}

impl Stream for Client {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.0.lock().expect("one at a time").inboxes[self.1].pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None => Poll::Pending,
        }
    }
}

impl Io for Bus {
    type Body = Empty<Result<Vec<u8>, NetError>>;
    type Upload = Self::Body;
    type Link = Client;

    async fn open(
        &self,
        _: http::Request<RequestBody<Self::Upload>>,
        _: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        Err(NetError { sent: Sent::Never, failure: Failure::Timeout, detail: "nothing is there".into() })
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let (state, at) = (self.0.clone(), self.0.lock().expect("one at a time").now + duration);
        poll_fn(move |_| {
            let mut state = state.lock().expect("one at a time");
            if state.now >= at {
                return Poll::Ready(());
            }
            state.timers.insert(at);
            Poll::Pending
        })
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + self.0.lock().expect("one at a time").now
    }
}
