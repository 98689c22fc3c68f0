//! A body as the platform has it.

use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use worker::{ByteStream, Result, web_sys::ReadableStream};

/// A body. Its bytes come into the Worker's memory only when core reads them; once it is read, it cannot be
/// handed on.
#[derive(Debug)]
pub(crate) enum Body {
    /// As it came; `None` has no bytes.
    Unread(Option<ReadableStream>),
    /// Being read.
    Reading(ByteStream),
}

impl Body {
    /// The next bytes.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>>>> {
        if let Self::Unread(stream) = self {
            let Some(stream) = stream.take() else { return Poll::Ready(None) };
            *self = Self::Reading(stream.into());
        }
        let Self::Reading(stream) = self else { return Poll::Ready(None) };
        let next = ready!(stream.poll_next_unpin(context));
        if !matches!(next, Some(Ok(_))) {
            *self = Self::Unread(None);
        }
        Poll::Ready(next)
    }
}
