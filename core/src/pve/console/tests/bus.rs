//! A terminal that all clients share, which loses bytes, in a time of its own.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{Stream, stream};
use http::HeaderMap;
use time::OffsetDateTime;

use super::guest::{Guest, Told};
use crate::io::{Answer, Io, Link, Linked, NetError, RequestBody};

/// Time that 8 bytes take to the terminal.
const PACKET: Duration = Duration::from_micros(40);
/// Time that output takes to the clients.
const WAY: Duration = Duration::from_millis(2);
/// Time that PVE takes to open a console, by chance up to twice that.
const OPENING: Duration = Duration::from_millis(150);

/// What goes wrong beside the requests that meet each other.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// How many of the first pieces do not come to the hub.
    pub(super) lost_puts: u32,
    /// Time between two replies to somebody else.
    pub(super) chatter: Option<Duration>,
    /// One packet of input in so many loses a byte.
    pub(super) lost_input: Option<u64>,
    /// One line of output in so many loses a byte.
    pub(super) lost_output: Option<u64>,
    /// Whether a shell is in the terminal, and no hub yet.
    pub(super) is_shell: bool,
    /// The user and the hardware address of what somebody has left in the terminal.
    pub(super) stands_in: Option<(u32, &'static str)>,
    /// Time that commands take.
    pub(super) lasts: Option<Duration>,
    /// Whether the guest promises output that never comes.
    pub(super) promises: bool,
    /// Whether the guest lacks a program, and tells that it is ready nevertheless.
    pub(super) lacks: bool,
    /// Whether the guest has no room.
    pub(super) is_full: bool,
    /// Whether PVE opens the terminal and does not get to the ticket.
    pub(super) is_silent: bool,
    /// Of the dice.
    pub(super) seed: u64,
}

/// The terminal.
#[derive(Clone)]
pub(super) struct Bus(Arc<Mutex<State>>);

struct State {
    now: Duration,
    timers: BTreeSet<Duration>,
    /// What happens when.
    events: BTreeMap<(Duration, usize), Event>,
    numbered: usize,
    /// What each client has typed, and is not there yet.
    typed: Vec<VecDeque<u8>>,
    /// Whose packet comes next.
    turn: usize,
    inboxes: Vec<VecDeque<Vec<u8>>>,
    guest: Guest,
    /// Tags of the container.
    tags: String,
    faults: Faults,
    dice: u64,
}

enum Event {
    Packet,
    /// The guest has something to do.
    Guest,
    Shown(Vec<u8>),
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
            numbered: 0,
            typed: Vec::new(),
            turn: 0,
            inboxes: Vec::new(),
            guest: Guest::new(faults),
            tags: String::new(),
            faults,
            dice: faults.seed,
        };
        if faults.chatter.is_some() {
            state.later(Duration::ZERO, Event::Chatter);
        }
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn client(&self) -> Client {
        let mut state = self.state();
        state.inboxes.push(VecDeque::new());
        state.typed.push(VecDeque::new());
        Client(self.clone(), state.inboxes.len() - 1)
    }

    /// Runs to the end; time passes while all wait.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
            while !self.state().pass() {}
        }
    }

    /// Gives the container these tags.
    pub(super) fn tag(&self, tags: String) {
        self.state().tags = tags;
    }

    /// Number of connections that were made.
    pub(super) fn connections(&self) -> usize {
        self.state().inboxes.len()
    }

    /// Of the dice.
    pub(super) fn seed(&self) -> u64 {
        self.state().faults.seed
    }

    /// What the guest has done.
    pub(super) fn guest<T>(&self, look: impl FnOnce(&Guest) -> T) -> T {
        look(&self.state().guest)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one at a time")
    }
}

impl State {
    fn later(&mut self, at: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), event);
    }

    /// One of so many numbers.
    fn below(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Bytes of which one may be lost.
    fn lossy(&mut self, mut bytes: Vec<u8>, one_in: Option<u64>) -> Vec<u8> {
        if one_in.is_some_and(|it| self.below(it) == 0) && !bytes.is_empty() {
            let at = self.below(bytes.len() as u64) as usize;
            bytes.remove(at);
        }
        bytes
    }

    /// Passes to the next thing that happens; whether a client may notice it.
    fn pass(&mut self) -> bool {
        let timer = self.timers.first().copied();
        let next = self.events.first_key_value().map(|(key, _)| key.0);
        match (next, timer) {
            (Some(at), timer) if timer.is_none_or(|it| at <= it) => {
                self.now = self.now.max(at);
                let (_, event) = self.events.pop_first().expect("it is there");
                self.happen(event)
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                self.timers.remove(&at);
                true
            }
            _ => panic!("nothing will ever happen"),
        }
    }

    fn happen(&mut self, event: Event) -> bool {
        match event {
            Event::Packet => self.packet(),
            Event::Guest => self.guest(|guest, now| guest.turn(now)),
            Event::Shown(bytes) => {
                self.inboxes.iter_mut().for_each(|it| it.push_back(bytes.clone()));
                return true;
            }
            Event::Chatter => {
                let other = format!("{} put c 0", "0f".repeat(16));
                self.later(self.now, Event::Shown(format!("@{other} . {other}\r\n").into_bytes()));
                let pause = self.faults.chatter.unwrap_or_default();
                self.later(self.now + pause, Event::Chatter);
            }
        }
        false
    }

    /// The next 8 bytes of the next client come.
    fn packet(&mut self) {
        let count = self.typed.len();
        let waiting = (0..count).map(|it| (self.turn + it) % count).find(|it| !self.typed[*it].is_empty());
        let Some(whose) = waiting else { return };
        self.turn = whose + 1;
        let length = self.typed[whose].len().min(8);
        let packet: Vec<u8> = self.typed[whose].drain(..length).collect();
        let packet = self.lossy(packet, self.faults.lost_input);
        self.guest(|guest, now| guest.typed(&packet, now));
        if self.typed.iter().any(|it| !it.is_empty()) {
            self.later(self.now + PACKET, Event::Packet);
        }
    }

    /// Has the guest do something, which it tells, and has something to do later.
    fn guest(&mut self, act: impl FnOnce(&mut Guest, Duration) -> Told) {
        let told = act(&mut self.guest, self.now);
        for at in told.again {
            self.later(at, Event::Guest);
        }
        for bytes in told.shown {
            let is_line = bytes.starts_with(b"@");
            let bytes = self.lossy(bytes, self.faults.lost_output.filter(|_| is_line));
            self.later(self.now + WAY, Event::Shown(bytes));
        }
    }
}

impl Link for Client {
    fn send(&mut self, message: Vec<u8>) -> Result<(), NetError> {
        let text = String::from_utf8(message).expect("text");
        let mut state = self.0.state();
        if text.starts_with("who:") && !state.faults.is_silent {
            state.inboxes[self.1].push_back(b"OK".to_vec());
        }
        let Some((_, line)) = text.strip_prefix("0:").and_then(|it| it.split_once(':')) else {
            return Ok(());
        };
        if line == "\x1c" {
            return Ok(());
        }
        let is_idle = state.typed.iter().all(VecDeque::is_empty);
        state.typed[self.1].extend(line.bytes());
        if is_idle {
            let at = state.now + PACKET;
            state.later(at, Event::Packet);
        }
        Ok(())
    }
}

impl Stream for Client {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.state().inboxes[self.1].pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None => Poll::Pending,
        }
    }
}

impl Io for Bus {
    type Body = stream::Iter<std::option::IntoIter<Result<Vec<u8>, NetError>>>;
    type Upload = stream::Empty<Result<Vec<u8>, NetError>>;
    type Link = Client;

    async fn open(
        &self,
        request: http::Request<RequestBody<Self::Upload>>,
        _: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        let more = self.state().below(OPENING.as_millis() as u64);
        self.sleep(OPENING + Duration::from_millis(more)).await;
        let data = if request.uri().path().ends_with("/config") {
            serde_json::json!({"tags": self.state().tags, "digest": "d"})
        } else {
            serde_json::json!({"user": "who", "ticket": "t", "port": "5900"})
        };
        let body = serde_json::json!({"data": data}).to_string().into_bytes();
        let body = stream::iter(Some(Ok(body)));
        Ok(Answer { status: 200, reason: String::new(), headers: HeaderMap::new(), body })
    }

    async fn link(&self, _: http::Request<()>, _: OffsetDateTime) -> Result<Linked<Client>, NetError> {
        Ok(Linked::Open(self.client()))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let (state, at) = (self.0.clone(), self.state().now + duration);
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
        OffsetDateTime::UNIX_EPOCH + self.state().now
    }
}
