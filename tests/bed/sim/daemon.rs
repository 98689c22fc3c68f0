//! A stand-in of the project's own daemon in a guest: it proves calls as the product does, and keeps a few files.

mod process;
mod ran;
mod terminal;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use pve_edge_guest_protocol::{
    CALL, ENTRY, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code, Done, Health, Hello, Refusal},
    call::{Body, Call, CallError, Operation},
    file::{Entry, Kind, Range, Read, Remove, Write},
    identity::HardwareAddress,
    keys::{KeyFile, KeyLine},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use self::ran::Ran;
use super::{
    Guest, Sim,
    execd::{Admitted, Piece, Streamed},
};

/// File of keys.
const KEYS: &str = "/etc/pve-edge/keys";

/// What the daemon has in the guest's memory: a snapshot with memory has it too.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Name of the run.
    pub boot: Unique,
    /// The one session.
    pub session: Unique,
    /// Calls that were taken in it.
    taken: BTreeSet<Unique>,
    /// Processes of this boot, and of the memory that it is a copy of.
    processes: BTreeMap<Unique, Ran>,
}

impl Memory {
    /// As it begins in the memory of this number.
    pub(crate) fn new(number: u64) -> Self {
        let drawn = |what: &str| unique(format!("{what} {number}").as_bytes());
        Self {
            boot: drawn("boot"),
            session: drawn("session"),
            taken: BTreeSet::new(),
            processes: BTreeMap::new(),
        }
    }
}

fn unique(text: &[u8]) -> Unique {
    let hash = <[u8; 32]>::from(Sha256::digest(text));
    Unique(hash[..16].try_into().expect("a hash has more bytes"))
}

/// Answers calls of a guest in the daemon's place, those that it likes to.
pub type Impostor = Arc<dyn Fn(u32, &Operation) -> Option<Streamed> + Send + Sync>;

/// What a call is answered with.
type Reply = Result<Streamed, Refusal>;

impl Sim {
    /// Asks the daemon in a guest that runs.
    pub(crate) fn ask_daemon(&mut self, vmid: u32, request: &Request<Vec<u8>>) -> Admitted {
        if request.uri().path() == HEALTH_PATH && request.method() == Method::GET {
            return Admitted::Answered(told(&self.guests[&vmid].health()));
        }
        let name = request.headers().get(CALL).and_then(|it| it.to_str().ok()).and_then(Call::name_in);
        let reply = self.take(vmid, request).and_then(|call| match call.operation {
            Operation::Terminal(terminal) => self.open_terminal(vmid, terminal, request),
            _ => self.execute(vmid, call, request.body()),
        });
        let mut answer = reply.unwrap_or_else(|refusal| {
            let json = serde_json::to_value(&refusal).expect("refusals are JSON");
            Streamed::json(refusal.code.status(), &json)
        });
        let name = name.and_then(|it| HeaderValue::try_from(it.to_string()).ok());
        if let Some(name) = name.filter(|_| !answer.headers.contains_key(CALL)) {
            answer.headers.insert(HeaderName::from_static(CALL), name);
        }
        Admitted::Answered(answer)
    }

    /// Proves a call, and takes it once.
    fn take(&mut self, vmid: u32, request: &Request<Vec<u8>>) -> Result<Call, Refusal> {
        let refuse = |code| Refusal::new(code, format!("{code:?}"));
        let header = |name| request.headers().get(name).and_then(|it| it.to_str().ok());
        let (Some(call), Some(signature)) = (header(CALL), header(SIGNATURE)) else {
            return Err(refuse(Code::Unauthorized));
        };
        let guest = self.guests.get_mut(&vmid).expect("it is asked");
        let keys = guest.key_file();
        let (call, by) = Call::verify(call, signature, &keys.lines).map_err(|error| match error {
            CallError::Malformed(_) => refuse(Code::BadCall),
            _ => refuse(Code::Unauthorized),
        })?;
        if !guest.is_meant(&call, &by) {
            return Err(refuse(Code::NotHere));
        }
        if call.body.is_some_and(|it| it != Body::of(request.body())) {
            return Err(refuse(Code::WrongBody));
        }
        let memory = &mut guest.run.as_mut().expect("it runs").daemon;
        if call.session != memory.session {
            let (session, boot) = (Some(memory.session), Some(memory.boot));
            return Err(Refusal { session, boot, ..refuse(Code::Session) });
        }
        if memory.taken.insert(call.call) { Ok(call) } else { Err(refuse(Code::Seen)) }
    }

    fn execute(&mut self, vmid: u32, call: Call, body: &[u8]) -> Reply {
        if let Some(answer) = self.impostor.as_ref().and_then(|it| it(vmid, &call.operation)) {
            return Ok(answer);
        }
        let guest = self.guests.get_mut(&vmid).expect("it is asked");
        match call.operation {
            Operation::Hello {} => {
                let (Health { version, boot, .. }, keys) = (guest.health(), guest.keys.clone());
                Ok(told(&Hello { version, boot, keys: keys.unwrap_or_default() }))
            }
            Operation::Renew {} => {
                let memory = &mut guest.run.as_mut().expect("it runs").daemon;
                let drawn = |of: Unique| unique(&[of.0, call.call.0].concat());
                (memory.boot, memory.session) = (drawn(memory.boot), drawn(memory.session));
                memory.taken.clear();
                Ok(told(&guest.health()))
            }
            Operation::Read(it) => guest.read(&it),
            Operation::Write(it) => {
                self.mirror(vmid, &it.path, body);
                self.guests.get_mut(&vmid).expect("it is asked").write(&it, body)
            }
            Operation::Remove(it) => guest.remove(&it),
            other => self
                .about_processes(vmid, &other, body)
                .unwrap_or_else(|| Err(Refusal::new(Code::Unsupported, "the stand-in does not do that"))),
        }
    }
}

/// An administrator's hand on a guest's disk.
impl Sim {
    /// Writes the file of keys.
    pub fn set_keys(&mut self, vmid: u32, keys: &str) {
        self.put_file(vmid, KEYS, keys);
    }

    /// Has calls answered by this closure, whose owner is root in the guest; those of which it says nothing by the daemon.
    pub fn set_impostor(
        &mut self,
        answer: impl Fn(u32, &Operation) -> Option<Streamed> + Send + Sync + 'static,
    ) {
        self.impostor = Some(Arc::new(answer));
    }

    /// Has the daemon draw another session, as it does every few minutes.
    pub fn draw_session(&mut self, vmid: u32) {
        let Some(run) = self.guests.get_mut(&vmid).and_then(|it| it.run.as_mut()) else { return };
        run.daemon.session = unique(&run.daemon.session.0);
        run.daemon.taken.clear();
    }

    /// Writes a file.
    pub fn put_file(&mut self, vmid: u32, path: &str, content: &str) {
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        if path == KEYS {
            guest.keys = Some(content.into());
        } else {
            guest.files.insert(path.into(), content.into());
        }
    }
}

impl Guest {
    fn key_file(&self) -> KeyFile {
        KeyFile::parse(self.keys.as_deref().unwrap_or_default())
    }

    fn health(&self) -> Health {
        let keys = self.key_file().lines.iter().map(|it| it.id.to_string()).collect();
        let memory = &self.run.as_ref().expect("it runs").daemon;
        Health { version: "0".into(), keys, boot: memory.boot, session: memory.session }
    }

    /// Whether a call is for this guest, as its network card tells.
    fn is_meant(&self, call: &Call, by: &[&KeyLine]) -> bool {
        let net0 = self.config.get("net0").unwrap_or_default();
        let mut cards = net0.split([',', '=']).filter_map(|it| it.parse::<HardwareAddress>().ok());
        cards.any(|card| by.iter().any(|line| HardwareAddress::of(&line.deployment, &call.to) == card))
    }

    /// A file of the guest.
    pub fn file(&self, path: &str) -> Option<&str> {
        if path == KEYS { self.keys.as_deref() } else { self.files.get(path).map(String::as_str) }
    }

    fn entry(&self, path: &str) -> Result<Entry, Refusal> {
        let content = self.file(path).ok_or_else(|| Refusal::new(Code::NoSuchFile, "nothing is there"))?;
        Ok(Entry {
            path: path.to_owned(),
            kind: Kind::File,
            size: content.len() as u64,
            mode: 0o600,
            uid: 0,
            gid: 0,
            owner: None,
            group: None,
            modified_ns: 0,
            etag: unique(content.as_bytes()).to_string(),
            target: None,
        })
    }

    fn read(&self, read: &Read) -> Reply {
        let entry = self.entry(&read.path)?;
        let content = self.file(&read.path).unwrap_or_default().as_bytes();
        let most = match read.range {
            Some(Range::From { first: 0, last: Some(last) }) => usize::try_from(last).unwrap_or(0) + 1,
            _ => content.len(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ENTRY, HeaderValue::try_from(entry.to_header()).expect("base64"));
        let bytes = content[..most.min(content.len())].to_vec();
        Ok(Streamed { status: 200, headers, pieces: vec![Piece::Bytes(bytes)] })
    }

    fn write(&mut self, write: &Write, body: &[u8]) -> Reply {
        self.matches(&write.path, write.placing.if_match.as_ref(), write.placing.if_none)?;
        let content = String::from_utf8_lossy(body).into_owned();
        if write.path == KEYS {
            self.keys = Some(content);
        } else {
            self.files.insert(write.path.clone(), content);
        }
        Ok(told(&self.entry(&write.path)?))
    }

    fn remove(&mut self, remove: &Remove) -> Reply {
        self.entry(&remove.path)?;
        self.matches(&remove.path, remove.if_match.as_ref(), false)?;
        self.files.remove(&remove.path);
        Ok(told(&Done {}))
    }

    fn matches(&self, path: &str, wanted: Option<&String>, none: bool) -> Result<(), Refusal> {
        let there = self.entry(path).ok();
        if none && there.is_some() {
            return Err(Refusal::new(Code::Exists, "something is there"));
        }
        match wanted {
            Some(wanted) if there.is_none_or(|it| it.etag != *wanted) => {
                Err(Refusal::new(Code::Changed, "it is another file"))
            }
            _ => Ok(()),
        }
    }
}

fn told(value: &impl Serialize) -> Streamed {
    Streamed::json(200, &serde_json::to_value(value).expect("answers are JSON"))
}
