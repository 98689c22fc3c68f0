//! A client's request, as core takes it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::{body::Body, headers, net::failed};
use futures_util::Stream;
use http::{Method, Request};
use pve_edge_core::io::{ClientAddress, NetError};
use worker::web_sys::ReadableStream;

/// Body of a client's request, which core reads or `fetch` sends on.
#[derive(Debug)]
pub struct Upload(Body);

/// The request, its body unread; `None` if it is no HTTP request that core could answer.
pub fn from_platform(request: &worker::Request) -> Option<Request<Upload>> {
    let raw = request.inner();
    let method = Method::from_bytes(raw.method().as_bytes()).ok()?;
    let body = Upload::new(raw.body());
    let mut taken = Request::builder().method(method).uri(raw.url()).body(body).ok()?;
    *taken.headers_mut() = headers::from_platform(request.headers());
    let client = taken.headers().get("cf-connecting-ip").and_then(|it| it.to_str().ok()?.parse().ok());
    if let Some(client) = client {
        taken.extensions_mut().insert(ClientAddress(client));
    }
    Some(taken)
}

impl Upload {
    /// A body that another stream of the platform holds; `None` has no bytes.
    pub(crate) fn new(stream: Option<ReadableStream>) -> Self {
        Self(Body::Unread(stream))
    }

    /// The body itself, to be sent on.
    pub(crate) fn into_inner(self) -> Option<ReadableStream> {
        match self.0 {
            Body::Unread(stream) => stream,
            Body::Reading(_) => None,
        }
    }
}

impl Stream for Upload {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context).map_err(|error| failed(&error.to_string()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(0).filter(|_| matches!(self.0, Body::Unread(None))))
    }
}
