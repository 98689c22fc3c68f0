//! A world that only has a time.

use std::{
    cell::Cell,
    future::{Future, pending},
    rc::Rc,
    time::Duration,
};

use futures_util::stream::Empty;
use time::OffsetDateTime;

use crate::io::{
    Answer, Failure, Io, NetError, RequestBody, Sent, WithDigest,
    digest::{Digested, NoDigest},
};

/// Nothing passes in it by itself.
#[derive(Clone, Default)]
pub(super) struct Clock(Rc<Cell<i64>>, Rc<Cell<usize>>);

impl Clock {
    pub(super) fn advance(&self, seconds: i64) {
        self.0.set(self.0.get() + seconds);
    }

    /// How often somebody began to wait.
    pub(super) fn sleeps(&self) -> usize {
        self.1.get()
    }

    /// What a connection says whose time is over.
    pub(super) fn late() -> NetError {
        NetError { sent: Sent::Maybe, failure: Failure::Timeout, detail: "no answer in time".into() }
    }
}

impl WithDigest for Empty<Result<Vec<u8>, NetError>> {
    fn with_digest(self) -> (Self, impl Future<Output = Result<Digested, NoDigest>>) {
        (self, pending())
    }
}

impl Io for Clock {
    type Body = Empty<Result<Vec<u8>, NetError>>;
    type Upload = Self::Body;
    type Link = crate::io::NoLink;

    async fn open(
        &self,
        _: http::Request<RequestBody<Self::Upload>>,
        _: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        Err(Self::late())
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> {
        self.1.set(self.1.get() + 1);
        pending()
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(self.0.get())
    }
}
