//! A guest that keeps files in memory and obeys signed calls about them, or answers what it is told to.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    rc::Rc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use pve_edge_bed::sim::execd::{Piece, Streamed};
use pve_edge_core::access::secret::Keyring;
use pve_edge_guest_protocol::{
    CALL, ENTRY, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code, Done, Health, Refusal},
    call::{Call, Digest256, Operation},
    file::{self, Entry, ListLine, Placing, Range, Staged, Unpacked},
    keys::KeyLine,
};
use serde::Serialize;

use crate::stage::{SECRET, Stage, prelude::*};

const UNIQUE: Unique = Unique([7; 16]);

/// A sandbox whose daemon keeps files in memory.
pub(super) struct Sandbox {
    pub(super) stage: Stage,
    pub(super) id: String,
    guest: Rc<RefCell<Guest>>,
}

#[derive(Default)]
pub(super) struct Guest {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Names of the operations that came.
    pub(super) asked: Vec<&'static str>,
    /// What the next call is answered with, whatever it asks.
    pub(super) next: Option<Streamed>,
    /// Status of all answers of what stands in its place, once it is gone.
    pub(super) gone: Option<u16>,
    staged: BTreeMap<Unique, (String, Vec<u8>)>,
}

type Reply = Result<Streamed, Refusal>;

impl Sandbox {
    pub(super) fn new() -> Self {
        let stage = Stage::with_daemon(Kind::Lxc, Setup::default(), SECRET);
        let id = stage.created(json!({}));
        let guest = Rc::<RefCell<Guest>>::default();
        let (served, to) = (guest.clone(), id.clone());
        let host = format!("port-39375-vm-{}.sandbox.test", vmid_of(&id));
        stage.world.serve(&host, move |request, _| served.borrow_mut().answer(&to, request));
        Self { stage, id, guest }
    }

    pub(super) fn guest(&self) -> RefMut<'_, Guest> {
        self.guest.borrow_mut()
    }

    /// The path of its files, with this query.
    pub(super) fn path(&self, query: &str) -> String {
        format!("/api/sandboxes/{}/files{query}", self.id)
    }

    pub(super) fn get(&self, query: &str) -> Answer {
        self.stage.ask(Ask::get(self.path(query)))
    }

    pub(super) fn put(&self, query: &str, content: impl Into<Vec<u8>>) -> Answer {
        let content = content.into();
        let length = content.len().to_string();
        self.stage.ask(Ask::put(self.path(query)).bytes(content).header("content-length", length))
    }
}

impl Guest {
    fn answer(&mut self, to: &str, request: &Request<Vec<u8>>) -> Streamed {
        let keys: Vec<KeyLine> = Keyring::parse(SECRET)
            .expect("a secret")
            .all()
            .map(|it| it.guest_key("prod").line("prod"))
            .collect();
        if let Some(status) = self.gone {
            return Streamed { status, ..text("nobody is here") };
        }
        if request.uri().path() == HEALTH_PATH {
            let keys = keys.iter().map(|it| it.id.as_str().to_owned()).collect();
            return json(&Health { version: "1".into(), keys, boot: UNIQUE, session: UNIQUE });
        }
        let header = |name: &str| request.headers()[name].to_str().expect("text");
        let (call, _) = Call::verify(header(CALL), header(SIGNATURE), &keys).expect("a signed call");
        assert!(to.starts_with(&call.to) && call.session == UNIQUE, "{call:?}");
        assert!(call.body.is_none_or(|it| it == pve_edge_guest_protocol::call::Body::of(request.body())));
        self.asked.push(call.operation.name());
        let reply = match self.next.take() {
            Some(next) => Ok(next),
            None => self.execute(call.operation, request.body()),
        };
        let mut answer =
            reply.unwrap_or_else(|refusal| Streamed { status: refusal.code.status(), ..json(&refusal) });
        let name = HeaderValue::try_from(call.call.to_string()).expect("a value");
        answer.headers.insert(HeaderName::from_static(CALL), name);
        answer
    }

    fn execute(&mut self, operation: Operation, body: &[u8]) -> Reply {
        match operation {
            Operation::Read(read) => self.read(&read),
            Operation::Stat(at) => Ok(json(&self.entry(&at.path)?)),
            Operation::Write(write) => self.place(write.path, body.to_vec(), &write.placing),
            Operation::Stage(stage) => {
                self.staged.insert(stage.stage, (stage.path, body.to_vec()));
                Ok(json(&Staged { length: body.len() as u64, sha256: Digest256::of(body) }))
            }
            Operation::Commit(commit) => {
                let (path, content) = self.settle(commit.stage, commit.sha256)?;
                self.place(path, content, &commit.placing)
            }
            Operation::Unpack(unpack) => {
                let (_, content) = self.settle(unpack.stage, unpack.sha256)?;
                Ok(json(&Unpacked { entries: 1, bytes: content.len() as u64 }))
            }
            Operation::Pack(pack) => Ok(bytes(self.content(&pack.path)?.clone())),
            Operation::List(list) => {
                let mut lines: Vec<_> =
                    self.files.keys().map(|it| ListLine::Entry(self.entry(it).expect("a file"))).collect();
                let more = lines.len() as u64 > list.most;
                lines.truncate(list.most as usize);
                lines.push(ListLine::Done { more });
                Ok(text(&lines.iter().map(line).collect::<String>()))
            }
            Operation::Mkdir(mkdir) => {
                Ok(json(&Entry { kind: file::Kind::Directory, ..entry(&mkdir.path, b"") }))
            }
            Operation::Move(renamed) => {
                let content = self.content(&renamed.from)?.clone();
                self.files.remove(&renamed.from);
                self.place(renamed.to, content, &Placing::default())
            }
            Operation::Remove(remove) => {
                self.changed(&remove.path, remove.if_match.as_deref())?;
                self.content(&remove.path)?;
                self.files.remove(&remove.path);
                Ok(json(&Done {}))
            }
            other => panic!("{} is nothing of files", other.name()),
        }
    }

    fn content(&self, path: &str) -> Result<&Vec<u8>, Refusal> {
        self.files.get(path).ok_or_else(|| Refusal::new(Code::NoSuchFile, format!("nothing is at {path}")))
    }

    fn entry(&self, path: &str) -> Result<Entry, Refusal> {
        Ok(entry(path, self.content(path)?))
    }

    fn changed(&self, path: &str, wanted: Option<&str>) -> Result<(), Refusal> {
        let there = self.entry(path).ok();
        let is_it = |wanted: &str| there.as_ref().is_some_and(|it| wanted == "*" || it.etag == wanted);
        if wanted.is_none_or(is_it) { Ok(()) } else { Err(Refusal::new(Code::Changed, "it has changed")) }
    }

    fn read(&self, read: &file::Read) -> Reply {
        self.changed(&read.path, read.if_match.as_deref())?;
        let (content, entry) = (self.content(&read.path)?, self.entry(&read.path)?);
        let size = content.len();
        let (first, end) = match read.range {
            None => (0, size),
            Some(Range::From { first, last }) => {
                (first as usize, last.map_or(size, |it| size.min(it as usize + 1)))
            }
            Some(Range::Last { bytes }) => (size - size.min(bytes as usize), size),
        };
        if read.range.is_some() && first >= size {
            let refusal = Refusal::new(Code::RangeNotSatisfiable, "behind the end");
            return Err(Refusal { size: Some(size as u64), ..refusal });
        }
        Ok(described(&entry, content[first..end].to_vec()))
    }

    fn settle(&mut self, stage: Unique, sha256: Digest256) -> Result<(String, Vec<u8>), Refusal> {
        let staged = self.staged.remove(&stage);
        let (path, content) = staged.ok_or_else(|| Refusal::new(Code::NoSuchStage, "no stage"))?;
        if Digest256::of(&content) != sha256 {
            return Err(Refusal::new(Code::OtherBytes, "other bytes"));
        }
        Ok((path, content))
    }

    fn place(&mut self, path: String, content: Vec<u8>, placing: &Placing) -> Reply {
        self.changed(&path, placing.if_match.as_deref())?;
        if placing.if_none && self.files.contains_key(&path) {
            return Err(Refusal::new(Code::Exists, "something is there"));
        }
        let placed = Entry { mode: placing.mode.unwrap_or(0o644), ..entry(&path, &content) };
        self.files.insert(path, content);
        Ok(json(&placed))
    }
}

/// What is told of a file with this content.
pub(super) fn entry(path: &str, content: &[u8]) -> Entry {
    Entry {
        path: path.to_owned(),
        kind: file::Kind::File,
        size: content.len() as u64,
        mode: 0o644,
        uid: 0,
        gid: 0,
        owner: Some("root".into()),
        group: Some("root".into()),
        modified_ns: 784_111_777_500_000_000,
        etag: hex::encode(&Digest256::of(content).0[..8]),
        target: None,
    }
}

/// An answer to `read`.
pub(super) fn described(entry: &Entry, content: Vec<u8>) -> Streamed {
    let told = URL_SAFE_NO_PAD.encode(serde_json::to_vec(entry).expect("JSON"));
    let length = content.len();
    let mut answer = bytes(content);
    answer.headers.insert(HeaderName::from_static(ENTRY), HeaderValue::try_from(told).expect("a value"));
    answer.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

pub(super) fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("JSON") + "\n"
}

pub(super) fn text(text: &str) -> Streamed {
    bytes(text.as_bytes().to_vec())
}

fn json(value: &impl Serialize) -> Streamed {
    bytes(serde_json::to_vec(value).expect("JSON"))
}

fn bytes(content: Vec<u8>) -> Streamed {
    Streamed { status: 200, headers: HeaderMap::new(), pieces: vec![Piece::Bytes(content)] }
}
