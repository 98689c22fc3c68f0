//! The invocation that calls of a daemon are part of.

use std::{ops::Deref, sync::Arc};

use crate::io::{Io, invocation::Invocation};

/// Invocation of a request that is being handled, or of an answer that streams on.
pub(super) enum Held<'i, I> {
    /// Of the request.
    Borrowed(&'i Invocation<I>),
    /// Of the answer.
    Shared(Arc<Invocation<I>>),
}

impl<I: Io> Held<'_, I> {
    /// The invocation of an answer that streams on.
    pub(super) fn detached(self) -> Held<'static, I> {
        Held::Shared(match self {
            Self::Borrowed(it) => Arc::new(it.detached()),
            Self::Shared(it) => it,
        })
    }
}

impl<I> Clone for Held<'_, I> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(it) => Self::Borrowed(it),
            Self::Shared(it) => Self::Shared(it.clone()),
        }
    }
}

impl<I> Deref for Held<'_, I> {
    type Target = Invocation<I>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Borrowed(it) => it,
            Self::Shared(it) => it,
        }
    }
}
