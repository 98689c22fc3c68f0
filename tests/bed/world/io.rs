//! The trait that adapters implement, on a world.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Inner,
    flight::{self, Landed},
    timer::Timer,
};
use crate::sim::execd::Piece;
use futures_util::Stream;
use http::{HeaderMap, Request};
use pve_edge_core::io::{Answer, Failure, Io, NetError, Sent, headers::READ};
use time::OffsetDateTime;

/// What an adapter hands over that leaves out all that core does not read.
pub fn those_read(headers: &HeaderMap) -> HeaderMap {
    let mut read = HeaderMap::new();
    for name in READ {
        for value in headers.get_all(&name) {
            read.append(name.clone(), value.clone());
        }
    }
    read
}

/// An adapter's view of a [`super::World`].
#[derive(Clone)]
pub struct WorldIo {
    pub(crate) inner: Rc<RefCell<Inner>>,
    pub(crate) name: Rc<str>,
}

/// A body that arrives in virtual time.
pub struct WorldBody {
    inner: Rc<RefCell<Inner>>,
    pieces: VecDeque<Piece>,
    pause: Option<Timer>,
    deadline: Timer,
    over: bool,
}

impl Io for WorldIo {
    type Body = WorldBody;

    async fn open(
        &self,
        request: Request<Vec<u8>>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<WorldBody>, NetError> {
        let flight = flight::send(&self.inner, request, &self.name);
        let deadline = deadline - self.inner.borrow().ahead;
        let mut late = pin!(Timer::new(self.inner.clone(), deadline));
        let landed = poll_fn(|context| match flight.poll(context.waker()) {
            Some(answer) => Poll::Ready(answer),
            None => late.as_mut().poll(context).map(|()| Err(timeout())),
        });
        let Landed { status, reason, headers, pieces } = landed.await?;
        let body = WorldBody {
            inner: self.inner.clone(),
            pieces: pieces.into(),
            pause: None,
            deadline: Timer::new(self.inner.clone(), deadline),
            over: false,
        };
        Ok(Answer { status, reason, headers: those_read(&headers), body })
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
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            if let Some(pause) = &mut self.pause {
                if Pin::new(pause).poll(context).is_pending() {
                    if Pin::new(&mut self.deadline).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.over = true;
                    return Poll::Ready(Some(Err(timeout())));
                }
                self.pause = None;
            }
            match self.pieces.pop_front() {
                None => self.over = true,
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Piece::Wait(wait)) => {
                    let at = self.inner.borrow().sim.now() + wait;
                    self.pause = Some(Timer::new(self.inner.clone(), at));
                }
                Some(Piece::Cut) => {
                    self.over = true;
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

fn timeout() -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Timeout, detail: "the deadline passed".into() }
}
