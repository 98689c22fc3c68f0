//! The trait that adapters implement, on a world.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    Inner,
    flight::{self, Landed},
    timer::Timer,
};
use crate::sim::execd::Piece;
use futures_util::Stream;
use http::Request;
use pve_edge_core::io::{
    Answer, Failure, Io, NetError, RequestBody, Sent, WithDigest, collect,
    digest::{Digested, NoDigest, hashing},
};
use time::OffsetDateTime;

/// An adapter's view of a [`super::World`].
#[derive(Clone)]
pub struct WorldIo {
    pub(crate) inner: Rc<RefCell<Inner>>,
    pub(crate) name: Rc<str>,
}

/// Body of an answer, which arrives in virtual time.
pub struct WorldBody {
    pieces: Pieces,
    deadline: Timer,
}

/// Body of a client's request, which arrives in virtual time.
pub struct WorldUpload {
    bytes: Pin<Box<dyn Stream<Item = Result<Vec<u8>, NetError>>>>,
    is_empty: bool,
}

/// Pieces of a body, as time passes.
struct Pieces {
    inner: Rc<RefCell<Inner>>,
    left: VecDeque<Piece>,
    pause: Option<Timer>,
}

impl WorldIo {
    /// Body of a client's request that arrives in these pieces.
    pub fn upload(&self, pieces: impl IntoIterator<Item = Piece>) -> WorldUpload {
        let pieces: VecDeque<_> = pieces.into_iter().collect();
        let is_empty = pieces.is_empty();
        WorldUpload { bytes: Box::pin(self.pieces(pieces)), is_empty }
    }

    /// Body of a client's request that arrives at once.
    pub fn uploaded(&self, bytes: Vec<u8>) -> WorldUpload {
        self.upload([Piece::Bytes(bytes)])
    }

    fn pieces(&self, left: VecDeque<Piece>) -> Pieces {
        Pieces { inner: self.inner.clone(), left, pause: None }
    }
}

impl Io for WorldIo {
    type Body = WorldBody;
    type Upload = WorldUpload;
    type Link = pve_edge_core::io::NoLink;

    /// A client's body is sent when all of it has come; one that breaks off is never executed.
    async fn open(
        &self,
        request: Request<RequestBody<WorldUpload>>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<WorldBody>, NetError> {
        let (parts, body) = request.into_parts();
        let body = match body {
            RequestBody::Whole(bytes) => bytes,
            RequestBody::Streamed(upload) => collect(upload, usize::MAX).await?,
        };
        let flight = flight::send(&self.inner, Request::from_parts(parts, body), &self.name);
        let deadline = deadline - self.inner.borrow().ahead;
        let mut late = pin!(Timer::new(self.inner.clone(), deadline));
        let landed = poll_fn(|context| match flight.poll(context.waker()) {
            Some(answer) => Poll::Ready(answer),
            None => late.as_mut().poll(context).map(|()| Err(timeout())),
        });
        let Landed { status, reason, headers, pieces } = landed.await?;
        let pieces = self.pieces(pieces.into());
        let body = WorldBody { pieces, deadline: Timer::new(self.inner.clone(), deadline) };
        Ok(Answer { status, reason, headers, body })
    }

    async fn sleep(&self, duration: Duration) {
        let at = self.inner.borrow().sim.now() + duration;
        Timer::new(self.inner.clone(), at).await;
    }

    fn now(&self) -> OffsetDateTime {
        let inner = self.inner.borrow();
        inner.sim.now() + inner.ahead
    }

    async fn admits(&self, key: String) -> bool {
        self.inner.borrow_mut().limiter.as_mut().is_none_or(|admits| admits(&key))
    }
}

impl Stream for WorldBody {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.pieces).poll_next(context);
        if next.is_pending() && Pin::new(&mut self.deadline).poll(context).is_ready() {
            self.pieces.end();
            return Poll::Ready(Some(Err(timeout())));
        }
        next
    }
}

impl Stream for WorldUpload {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bytes.as_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(0).filter(|_| self.is_empty))
    }
}

impl WithDigest for WorldUpload {
    fn with_digest(self) -> (Self, impl Future<Output = Result<Digested, NoDigest>>) {
        let (hashing, digest) = hashing(self.bytes);
        (Self { bytes: Box::pin(hashing), is_empty: false }, digest)
    }
}

impl Stream for Pieces {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(Pin::new(pause).poll(context));
                self.pause = None;
            }
            match self.left.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Piece::Wait(wait)) => {
                    let at = self.inner.borrow().sim.now() + wait;
                    self.pause = Some(Timer::new(self.inner.clone(), at));
                }
                Some(Piece::Cut) => {
                    self.end();
                    let detail = "the body broke off".into();
                    return Poll::Ready(Some(Err(NetError {
                        sent: Sent::Maybe,
                        failure: Failure::Cut,
                        detail,
                    })));
                }
            }
        }
    }
}

impl Pieces {
    fn end(&mut self) {
        self.left.clear();
        self.pause = None;
    }
}

fn timeout() -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Timeout, detail: "the deadline passed".into() }
}
