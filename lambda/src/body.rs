//! Bodies on their way: a client's to an upstream, and an upstream's to a client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::net::{failed, late};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Body as HttpBody, Frame},
    upgrade::{self, OnUpgrade},
};
use pve_edge_core::io::{
    Failure, NetError, Sent, WithDigest,
    digest::{Digested, NoDigest, hashing},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Body of a client's request, which core reads or the network sends on.
#[derive(Debug)]
pub struct Upload(BoxBody<Bytes, Broken>);

/// Why a client's body did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the client's body broke off: {0}")]
struct Broken(Box<dyn std::error::Error + Send + Sync>);

impl Upload {
    /// A body as it comes.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Sync
            + 'static,
    {
        Self(body.map_err(|error| Broken(error.into())).boxed())
    }
}

impl From<Vec<u8>> for Upload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Full::from(bytes))
    }
}

impl From<Upload> for reqwest::Body {
    fn from(upload: Upload) -> Self {
        Self::wrap(upload.0)
    }
}

impl Stream for Upload {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_data(&mut self.0, context).map_err(|error| NetError::new(Sent::Never, Failure::Cut, error))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(0).filter(|_| self.0.is_end_stream()))
    }
}

impl WithDigest for Upload {
    /// The body has no length any more: it is read until it says that it has ended.
    fn with_digest(self) -> (Self, impl Future<Output = Result<Digested, NoDigest>>) {
        let (hashing, digest) = hashing(self);
        (Self::new(StreamBody::new(hashing.map_ok(|bytes| Frame::data(bytes.into())))), digest)
    }
}

/// Body of an upstream's answer. Dropped, it ends its connection.
#[derive(Debug)]
pub struct Body {
    response: http::Response<reqwest::Body>,
    /// When reading it is over; `None` once it is.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body {
    pub(crate) fn new(response: http::Response<reqwest::Body>, deadline: Instant) -> Self {
        Self { response, deadline: Some(Box::pin(sleep_until(deadline))) }
    }

    /// The body itself, to be handed on; it has no deadline.
    pub(crate) fn into_inner(self) -> reqwest::Body {
        self.response.into_body()
    }

    /// The connection, once it speaks another protocol.
    pub fn into_upgrade(self) -> OnUpgrade {
        upgrade::on(self.response)
    }
}

impl Stream for Body {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.deadline.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready()) {
            self.deadline = None;
            *self.response.body_mut() = reqwest::Body::default();
            return Poll::Ready(Some(Err(late())));
        }
        poll_data(self.response.body_mut(), context).map_err(failed)
    }
}

/// The next bytes of a body, without what else HTTP may put into one.
fn poll_data<B>(body: &mut B, context: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, B::Error>>>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    body.into_data_stream().poll_next_unpin(context).map_ok(Into::into)
}
