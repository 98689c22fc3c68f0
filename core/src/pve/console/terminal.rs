//! The terminal of a container's console, over PVE's websocket: bytes to it, and bytes from it.

use std::time::Duration;

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use time::OffsetDateTime;

use crate::{
    error::{Code, Error},
    io::{Io, Link, Linked, NetError, Sent, Whole, invocation::Invocation},
    pve::api::{self, PveError, guest::Guest},
};

/// Time that PVE gets to open the console, and its websocket.
const OPENING: Duration = Duration::from_secs(12);
/// Time for `termproxy` to say that it takes the ticket.
const WELCOME: Duration = Duration::from_secs(8);
/// Bytes that go in one message.
const PIECE: usize = 32 << 10;
/// What `termproxy` says when it takes the ticket.
const OK: &[u8] = b"OK";
/// A message without effect. Its TCP packet acknowledges what has come, for which the next small write of `termproxy`
/// waits up to 40 ms else: it sets no TCP_NODELAY.
const NOTHING: &[u8] = b"2";
/// The key that detaches a client of `dtach`, alone in its packet: it goes without a signal then.
const DETACH: &[u8] = b"0:1:\x1c";

/// Terminal of a container, which others may have open too.
pub(super) struct Terminal<I: Io> {
    io: I,
    link: I::Link,
    /// Time that the first question and its answer took.
    pub(super) round_trip: Duration,
}

/// The end of the connection. It says nothing of what runs in the container.
#[derive(Debug)]
pub(super) struct Ended;

impl<I: Io> Terminal<I> {
    /// Opens the console of a container. An error proves that nothing was typed in it.
    pub(super) async fn open(invocation: &Invocation<I>, guest: &Guest<'_>) -> Result<Self, Error> {
        let terminal = api::send(invocation, guest.termproxy()).await?;
        if !invocation.spend(1) {
            return Err(PveError::Budget.into());
        }
        let deadline = (invocation.now() + OPENING).min(invocation.end());
        let link = match invocation.io.link(guest.websocket(&terminal), deadline).await {
            Ok(Linked::Open(link)) => link,
            Ok(Linked::Refused(answer)) => return Err(refused(&answer)),
            Err(error) => return Err(unreachable(&error)),
        };
        let io = invocation.io.clone();
        let mut opened = Self { io, link, round_trip: Duration::ZERO };
        let hello = format!("{}:{}\n", terminal.user, terminal.ticket.expose());
        opened.welcome(hello.into_bytes(), invocation).await?;
        Ok(opened)
    }

    /// Shows the ticket.
    async fn welcome(&mut self, hello: Vec<u8>, invocation: &Invocation<I>) -> Result<(), Error> {
        let began = self.io.now();
        self.link.send(hello).map_err(|error| unreachable(&error))?;
        let until = (began + WELCOME).min(invocation.end());
        let mut heard = Vec::new();
        while heard.len() < OK.len() {
            match self.read(until).await {
                Ok(Some(bytes)) => heard.extend(bytes),
                Err(Ended) => return Err(no_token()),
                Ok(None) => return Err(silent()),
            }
        }
        self.round_trip = Duration::try_from(self.io.now() - began).unwrap_or_default();
        if heard.starts_with(OK) { Ok(()) } else { Err(no_token()) }
    }

    /// Types bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        for piece in bytes.chunks(PIECE) {
            let mut message = format!("0:{}:", piece.len()).into_bytes();
            message.extend_from_slice(piece);
            self.link.send(message).map_err(|_| Ended)?;
        }
        Ok(())
    }

    /// Reads what has come; `None` when nothing does until then.
    pub(super) async fn read(&mut self, until: OffsetDateTime) -> Result<Option<Vec<u8>>, Ended> {
        let left = Duration::try_from(until - self.io.now()).unwrap_or_default();
        // Whoever is never silent does not put it off.
        if left.is_zero() {
            return Ok(None);
        }
        let silence = Box::pin(self.io.sleep(left));
        let heard = match select(self.link.next(), silence).await {
            Either::Left((heard, _)) => heard,
            Either::Right(_) => return Ok(None),
        };
        let bytes = match heard {
            Some(Ok(bytes)) => bytes,
            heard => {
                let cause = heard.and_then(Result::err).map(|error| error.to_string());
                tracing::info!(api = "console", cause, "end");
                return Err(Ended);
            }
        };
        self.link.send(NOTHING.to_vec()).map_err(|_| Ended)?;
        Ok(Some(bytes))
    }

    /// The time now.
    pub(super) fn now(&self) -> OffsetDateTime {
        self.io.now()
    }
}

impl<I: Io> Drop for Terminal<I> {
    fn drop(&mut self) {
        // Whoever goes without a word gets a signal, at which a client of dtach can hang with all others behind it.
        let _ = self.link.send(DETACH.to_vec());
    }
}

/// The error of a console whose websocket PVE refuses.
fn refused(answer: &Whole) -> Error {
    match answer.status {
        401 | 403 => no_token(),
        status => {
            let text = format!("PVE answered {status} instead of opening the console's websocket");
            Error::new(Code::PveError, text)
        }
    }
}

/// The error of a console that PVE has opened and that says nothing yet: it may be asked for the ticket after others.
fn silent() -> Error {
    let text = "PVE opened the container's console, and did not say in time whether the token may use it: the node is busy";
    Error::new(Code::PveTimeout, text).retry_after(3)
}

/// The error of a PVE that lets no API token into a console.
fn no_token() -> Error {
    let text = "PVE has not let the API token into the container's console: a PVE that can has pve-container of \
                April 2026 or later; update it, or put pve-edge-guest into the template";
    Error::new(Code::ConsoleRefused, text)
}

fn unreachable(error: &NetError) -> Error {
    let code = if error.sent == Sent::Never { Code::PveUnreachable } else { Code::PveTimeout };
    Error::new(code, format!("the container's console was not opened: {error}")).retry_after(2)
}
