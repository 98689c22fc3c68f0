//! A daemon that is a model, and a network in which calls and answers get lost.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, Empty},
};
use http::{HeaderMap, HeaderValue, Request};
use pve_edge_guest_protocol::{
    CALL, SIGNATURE, Unique,
    answer::{Code, Done, Health, Refusal},
    call::{Call, Digest256, Operation},
    keys::KeyLine,
    process::{After, Bytes, Event, Exit, Line, Process, State, StdinTaken, Stream},
};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    access::secret::Keyring,
    daemon::Daemon,
    io::{Answer, Failure, Io, NetError, Platform, RequestBody, Sent, invocation::Invocation},
    sandbox::place::Place,
};

/// Sandbox that the daemon is of.
pub(super) const GUEST: &str = "pvelxc-200001-n";

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not arrive.
    Lost,
    /// It is executed, and its answer does not arrive.
    Unanswered,
    /// Its answer breaks off after so many bytes.
    Cut(usize),
    /// It is executed, its answer does not arrive, and the guest is restarted.
    Restarted,
}

/// What is in the guest.
pub(super) struct World {
    pub(super) boot: u8,
    pub(super) processes: BTreeMap<[u8; 16], Kept>,
    /// Processes that were noted on the disk, which outlives a restart.
    pub(super) noted: BTreeMap<[u8; 16], Digest256>,
    /// Number of processes that were really started.
    pub(super) runs: usize,
    /// What happens to the next calls; none: nothing.
    pub(super) faults: VecDeque<Option<Fault>>,
    /// Bytes of standard input that are taken at once.
    pub(super) room: usize,
    /// What each new process writes, and its end if it has one.
    pub(super) output: Vec<(Stream, Vec<u8>)>,
    pub(super) exit: Option<Exit>,
    /// What the daemon answers instead of lines, if anything.
    pub(super) instead: Option<String>,
    pub(super) calls: Vec<&'static str>,
    seconds: i64,
    keys: Vec<KeyLine>,
}

/// A process of the model.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) stdin: Vec<u8>,
    pub(super) closed: bool,
    keyed: Option<Digest256>,
}

/// The network before the guest.
#[derive(Clone)]
pub(super) struct Guest(Arc<Mutex<World>>);

impl Guest {
    pub(super) fn new(secrets: &Keyring) -> Self {
        let keys = secrets.all().map(|it| it.guest_key("home").line("home")).collect();
        Self(Arc::new(Mutex::new(World {
            boot: 1,
            processes: BTreeMap::new(),
            noted: BTreeMap::new(),
            runs: 0,
            faults: VecDeque::new(),
            room: usize::MAX,
            output: Vec::new(),
            exit: Some(Exit::default()),
            instead: None,
            calls: Vec::new(),
            seconds: 0,
            keys,
        })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// A client of the daemon.
    pub(super) fn daemon(&self, secrets: &Keyring) -> Daemon<'static, Self> {
        let platform = Platform {
            name: "test",
            max_wait: Duration::from_secs(20),
            requests: 10_000,
            answer_bytes: 1 << 20,
            request_bytes: None,
            streams: true,
            upgrades: false,
            private_network: true,
            in_guest_network: true,
            unverified_tls: false,
        };
        let invocation = Invocation::new(self.clone(), "guest", platform, [3; 32]);
        let place = Place::direct([10, 0, 0, 7].into(), 39375);
        Daemon::new(&invocation, vec![place], GUEST.into(), secrets, "home").detached()
    }
}

type Body = BoxStream<'static, Result<Vec<u8>, NetError>>;

fn error(sent: Sent, failure: Failure) -> NetError {
    NetError { sent, failure, detail: "a fault of the test".into() }
}

impl Io for Guest {
    type Body = Body;
    type Upload = NoBody;
    type Link = crate::io::NoLink;

    async fn open(
        &self,
        request: Request<RequestBody<NoBody>>,
        _: OffsetDateTime,
    ) -> Result<Answer<Body>, NetError> {
        let mut world = self.world();
        if request.uri().path() == "/healthz" {
            let answer = world.health();
            return Ok(whole(200, &answer, HeaderMap::new()));
        }
        let fault = world.faults.pop_front().flatten();
        if fault == Some(Fault::Lost) {
            return Err(error(Sent::Never, Failure::Connect));
        }
        let answer = world.obey(&request);
        match fault {
            Some(Fault::Unanswered) => Err(error(Sent::Maybe, Failure::Cut)),
            Some(Fault::Restarted) => {
                world.boot += 1;
                world.processes.clear();
                Err(error(Sent::Maybe, Failure::Cut))
            }
            Some(Fault::Cut(bytes)) => Ok(cut(answer, bytes)),
            _ => Ok(answer),
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let world = self.0.clone();
        async move { world.lock().unwrap().seconds += duration.as_secs() as i64 + 1 }
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(self.world().seconds)
    }
}

/// Body of a client that sends none.
type NoBody = Empty<Result<Vec<u8>, NetError>>;

impl World {
    fn health(&self) -> Health {
        let keys = self.keys.iter().map(|it| it.id.to_string()).collect();
        Health { version: "1".into(), keys, boot: Unique([self.boot; 16]), session: Unique([self.boot; 16]) }
    }

    fn obey(&mut self, request: &Request<RequestBody<NoBody>>) -> Answer<Body> {
        let header = |name| request.headers().get(name).unwrap().to_str().unwrap();
        let (call, _) = Call::verify(header(CALL), header(SIGNATURE), &self.keys).expect("a proved call");
        assert_eq!(call.to, GUEST);
        let mut headers = HeaderMap::new();
        headers.insert(CALL, HeaderValue::from_str(&call.call.to_string()).unwrap());
        self.calls.push(call.operation.name());
        if call.session != Unique([self.boot; 16]) {
            let session = Some(Unique([self.boot; 16]));
            let refusal = Refusal { session, boot: session, ..Refusal::new(Code::Session, "over") };
            return whole(409, &refusal, headers);
        }
        let RequestBody::Whole(body) = request.body() else { panic!("a body of core's") };
        let refused = |code: Code| whole(code.status(), &Refusal::new(code, "refused"), headers.clone());
        match call.operation {
            Operation::Start(start) => {
                let name = start.process.0;
                match (self.processes.get(&name), self.noted.get(&name)) {
                    (Some(kept), _) if kept.keyed != start.keyed => return refused(Code::OtherRequest),
                    (None, Some(_)) => return whole(200, &self.told(name, State::Lost), headers),
                    (Some(_), _) => {}
                    (None, None) => {
                        self.runs += 1;
                        self.noted.extend(start.keyed.map(|it| (name, it)));
                        self.processes.insert(name, Kept { keyed: start.keyed, ..Kept::default() });
                    }
                }
                whole(200, &self.told(name, State::Running), headers)
            }
            Operation::Process(named) if self.noted.contains_key(&named.process.0) => {
                whole(200, &self.told(named.process.0, State::Running), headers)
            }
            Operation::Follow(follow) if self.processes.contains_key(&follow.process.0) => {
                let lines = self.instead.clone().unwrap_or_else(|| self.lines(follow.after));
                let chunks = lines.into_bytes().chunks(50).map(|it| Ok(it.to_vec())).collect::<Vec<_>>();
                answer(200, headers, stream::iter(chunks).boxed())
            }
            Operation::Stdin(stdin) => {
                let room = self.room;
                let Some(kept) = self.processes.get_mut(&stdin.process.0) else {
                    return refused(Code::NoSuchProcess);
                };
                if kept.closed {
                    return refused(Code::StdinClosed);
                }
                let passed = kept.stdin.len().checked_sub(stdin.at as usize).expect("nothing is left out");
                let new = body.get(passed..).unwrap_or_default();
                let taken = &new[..new.len().min(room)];
                kept.stdin.extend_from_slice(taken);
                kept.closed = stdin.end && taken.len() == new.len();
                let taken = StdinTaken { at: kept.stdin.len() as u64, closed: kept.closed };
                whole(200, &taken, headers)
            }
            Operation::Forget(named) => match self.processes.remove(&named.process.0) {
                Some(_) => whole(200, &Done {}, headers),
                None => refused(Code::NoSuchProcess),
            },
            _ => refused(Code::NoSuchProcess),
        }
    }

    fn told(&self, name: [u8; 16], state: State) -> Process {
        let json =
            serde_json::json!({"process": Unique(name), "state": state, "boot": Unique([self.boot; 16])});
        serde_json::from_value(json).unwrap()
    }

    /// The lines of the daemon behind some place.
    fn lines(&self, after: After) -> String {
        let all: u64 = self.output.iter().map(|it| it.1.len() as u64).sum();
        let from = match after {
            After::Start => 0,
            After::End => all,
            After::Cursor(place) => place,
        };
        let mut lines = vec![Line { cursor: from, event: Event::Started { pid: 7 } }];
        let mut place = 0;
        for (stream, data) in &self.output {
            let skip = (from.saturating_sub(place) as usize).min(data.len());
            place += data.len() as u64;
            if skip < data.len() {
                let data = Bytes(data[skip..].to_vec());
                lines.push(Line { cursor: place, event: Event::Out { stream: *stream, data } });
            }
        }
        lines.extend(self.exit.clone().map(|exit| Line { cursor: all, event: Event::Exit(exit) }));
        lines.iter().map(|it| serde_json::to_string(it).unwrap() + "\n").collect()
    }
}

fn answer(status: u16, headers: HeaderMap, body: Body) -> Answer<Body> {
    Answer { status, reason: String::new(), headers, body }
}

fn whole(status: u16, value: &impl Serialize, headers: HeaderMap) -> Answer<Body> {
    let bytes = serde_json::to_vec(value).unwrap();
    answer(status, headers, stream::iter([Ok(bytes)]).boxed())
}

/// The answer, which breaks off after so many bytes.
fn cut(whole: Answer<Body>, bytes: usize) -> Answer<Body> {
    let mut left = bytes;
    let body = whole.body.flat_map(|it| stream::iter(it.unwrap())).take_while(move |_| {
        left = left.saturating_sub(1);
        std::future::ready(left > 0)
    });
    let pieces = body.ready_chunks(30).map(Ok).chain(stream::iter([Err(error(Sent::Maybe, Failure::Cut))]));
    Answer { body: pieces.boxed(), ..whole }
}
