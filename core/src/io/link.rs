//! Links: websockets that core opens itself, as the platform has them.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};

use super::{Answer, Failure, NetError, Sent, Whole, from_the_way};

/// Bytes that a message to the other side may have: pveproxy ends a connection over 128 KiB.
pub const LARGEST_SENT: usize = 64 << 10;
/// Bytes up to which a message of the other side is read; a larger one is [`Failure::TooLarge`].
pub const LARGEST_HEARD: usize = 1 << 20;
/// Bytes up to which the answer of a server is read that opens no websocket; what is beyond them is left out.
pub const REFUSAL_CAP: usize = 64 << 10;

/// Websocket that is open. Its messages are a stream of bytes, whatever their opcode. The stream ends at a close frame,
/// at the end of TCP, and where neither was told (1006) alike: the end says nothing. Dropping it closes the connection.
///
/// Waiting for the next message loses none when the wait is given up.
pub trait Link: Stream<Item = Result<Vec<u8>, NetError>> + Unpin + 'static {
    /// Queues one binary message of at most [`LARGEST_SENT`] bytes. The platform has no back pressure: whoever sends
    /// bounds what is on the way.
    fn send(&mut self, message: Vec<u8>) -> Result<(), NetError>;
}

/// What came of a websocket that was asked for.
#[derive(Debug)]
pub enum Linked<L> {
    /// It is open.
    Open(L),
    /// Any answer but 101.
    Refused(Whole),
}

/// Reads the answer of a server that opens no websocket; what Cloudflare's edge says when it gets no answer is an
/// error, as for [`super::fetch`].
pub async fn refused<L, B>(answer: Answer<B>) -> Result<Linked<L>, NetError>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let Answer { status, reason, headers, body: mut rest } = answer;
    from_the_way(status)?;
    let mut body = Vec::new();
    while body.len() < REFUSAL_CAP
        && let Some(chunk) = rest.next().await
    {
        body.extend_from_slice(&chunk?);
    }
    body.truncate(REFUSAL_CAP);
    Ok(Linked::Refused(Whole { status, reason, headers, body }))
}

/// Link of a world that has none.
#[derive(Clone, Copy, Debug)]
pub struct NoLink(Infallible);

impl Stream for NoLink {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0 {}
    }
}

impl Link for NoLink {
    fn send(&mut self, _: Vec<u8>) -> Result<(), NetError> {
        match self.0 {}
    }
}

/// The error of a world that has no links.
pub(super) fn unlinked() -> NetError {
    NetError { sent: Sent::Never, failure: Failure::Unknown, detail: "there are no websockets here".into() }
}
