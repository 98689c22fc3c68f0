//! A process `file`, as the daemon sees it.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pve_edge_guest_protocol::{
    ENTRY,
    answer::{Code, Refusal},
    call::Operation,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::UnixStream,
    time::timeout,
};

use super::{
    channel::{FRAME, Head, LENGTH, LONGEST_LINE, Request},
    part,
    places::{MOST, Place, Places},
};
use crate::{
    answer::{Body, Reply, answer, bytes},
    keep::tree::is_stopped,
    layout::Layout,
    users::User,
};

/// Time after which it is looked whether a process is stopped.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of an answer that is JSON.
const LARGEST_JSON: usize = 1 << 20;

/// What starts processes.
pub(super) struct Starter {
    layout: Arc<Layout>,
    places: Places,
    /// Watches last, and so they take no places of others.
    watches: Places,
}

impl Starter {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, places: Places::default(), watches: Places::default() }
    }

    /// Starts a process. It ends when it has answered, or when nobody listens any more.
    pub(super) fn start(&self, operation: &Operation) -> Result<Process, Refusal> {
        let user = User::find(&self.layout.etc, part::user(operation))?;
        let is_watch = matches!(operation, Operation::Watch(_));
        let place = if is_watch { &self.watches } else { &self.places }.take(user.uid);
        let busy = || {
            let what = if is_watch { "watches" } else { "calls of files" };
            let detail =
                format!("{:?} has as many {what} under way as places are left, of {MOST}", user.name);
            Refusal::new(Code::Busy, detail)
        };
        self.spawn(place.ok_or_else(busy)?).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
                Refusal::new(Code::TooManyProcesses, "the guest has no room for another process")
            }
            _ => Refusal::new(Code::Failed, format!("a process could not be started: {error}")),
        })
    }

    fn spawn(&self, place: Place) -> io::Result<Process> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let child = Command::new(&self.layout.program)
            .arg0("pve-edge-guest")
            .arg("file")
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        tokio::spawn(async move {
            let _ = reap(child).await;
            drop(place);
        });
        Ok(Process { socket, buffer: BytesMut::new(), coming: 0, layout: self.layout.clone() })
    }
}

/// Waits until a process has ended. One that is stopped is killed: the user as whom it runs could keep its place with it.
#[allow(
    deprecated,
    reason = "nothing but the owned descriptor is behind it: it is the same until it is dropped"
)]
async fn reap(mut child: Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let ended = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    let ended = AsyncFd::with_interest(ended, Interest::READABLE)?;
    while timeout(LOOK, ended.readable()).await.is_err() {
        if is_stopped(pid) {
            child.kill()?;
        }
    }
    child.wait().map(drop)
}

/// A process that was started.
pub(super) struct Process {
    socket: UnixStream,
    buffer: BytesMut,
    /// Bytes that are still to come of the frame that is read.
    coming: usize,
    layout: Arc<Layout>,
}

impl Process {
    /// Asks for something.
    pub(super) async fn ask(&mut self, operation: &Operation) -> Result<(), Refusal> {
        let (etc, home) = (self.layout.etc.clone(), self.layout.home.clone());
        let request = Request { etc, home, own: self.layout.own_folder(), operation: operation.clone() };
        let mut line = serde_json::to_vec(&request).map_err(|error| lost(&error.into()))?;
        line.push(b'\n');
        self.socket.write_all(&line).await.map_err(|error| lost(&error))
    }

    /// Sends some of the content.
    pub(super) async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let frame = bytes.split_to(bytes.len().min(1 << 20));
            let length = u32::try_from(frame.len()).unwrap_or_default();
            self.socket.write_all_buf(&mut Buf::chain(&length.to_le_bytes()[..], frame)).await?;
        }
        Ok(())
    }

    /// Ends the content.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.socket.write_all(&[0; LENGTH]).await
    }

    /// Waits until the process takes content.
    pub(super) async fn ready(&mut self) -> Result<(), Refusal> {
        match self.head().await? {
            Head::Ready => Ok(()),
            _ => Err(lost(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Reads an answer in JSON.
    pub(super) async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let json = self.json().await?;
        serde_json::from_slice(&json).map_err(|error| lost(&error.into()))
    }

    /// Reads the bytes of an answer in JSON.
    pub(super) async fn json(&mut self) -> Result<Bytes, Refusal> {
        match self.head().await? {
            Head::Json => self.whole().await.map_err(|error| lost(&error)),
            _ => Err(lost(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Hands the answer on. Content follows as it comes; if it is cut, so is the answer.
    pub(super) async fn answer(mut self) -> Reply {
        match self.head().await? {
            Head::Json => Ok(json(self.whole().await.map_err(|error| lost(&error))?)),
            Head::Lines => Ok(answer("application/x-ndjson", self.content())),
            Head::Bytes { length, entry } => {
                let mut response = bytes(self.content());
                let headers = response.headers_mut();
                if let Some(length) = length {
                    headers.insert(CONTENT_LENGTH, length.into());
                }
                let entry = entry.and_then(|it| serde_json::to_vec(&it).ok());
                let entry = entry.and_then(|it| HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(it)).ok());
                if let Some(entry) = entry {
                    headers.insert(ENTRY, entry);
                }
                Ok(response)
            }
            Head::Ready | Head::Refused(_) => Err(lost(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Reads how the answer begins.
    async fn head(&mut self) -> Result<Head, Refusal> {
        loop {
            if let Some(end) = self.buffer.iter().position(|it| *it == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let head = serde_json::from_slice(&line).map_err(|error| lost(&error.into()))?;
                return if let Head::Refused(refusal) = head { Err(refusal) } else { Ok(head) };
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(lost(&io::ErrorKind::InvalidData.into()));
            }
            self.fill().await.map_err(|error| lost(&error))?;
        }
    }

    async fn whole(&mut self) -> io::Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            whole.extend_from_slice(&bytes);
            if whole.len() > LARGEST_JSON {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(whole.freeze())
    }

    fn content(self) -> Body {
        let parts = stream::try_unfold(self, async |mut process| {
            Ok(process.next().await?.map(|bytes| (Frame::data(bytes), process)))
        });
        StreamBody::new(parts).boxed_unsync()
    }

    /// Next bytes of the content; `None` at its end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.coming == 0 {
            if self.buffer.len() < LENGTH {
                self.fill().await?;
                continue;
            }
            self.coming = usize::try_from(self.buffer.get_u32_le()).unwrap_or(usize::MAX);
            if self.coming == 0 {
                return Ok(None);
            }
        }
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let bytes = self.buffer.split_to(self.coming.min(self.buffer.len()));
        self.coming -= bytes.len();
        Ok(Some(bytes.freeze()))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(FRAME);
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// An answer of JSON that is written already.
pub(super) fn json(json: Bytes) -> http::Response<Body> {
    let body = http_body_util::Full::new(json).map_err(|never| match never {});
    answer("application/json", body.boxed_unsync())
}

/// What is said when the process has not answered as it should: it may have been killed, and done it or not.
fn lost(error: &io::Error) -> Refusal {
    Refusal::new(Code::Failed, format!("the process that does it has not answered: {error}"))
}
