//! The digest of a client's body that is sent on: it is computed while the body passes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_channel::oneshot;
use futures_util::Stream;
use sha2::{Digest, Sha256};

use super::NetError;

/// Length and SHA-256 of a body that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Bytes.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

/// Reason why a body has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDigest {
    /// The client's body broke off.
    Broken,
    /// Nobody has read the body to its end.
    Unread,
}

/// Body whose digest an adapter computes while it sends the body on.
pub trait WithDigest: Sized {
    /// The body, which is to be sent on, and its digest. The two are polled at the same time: the digest comes when the
    /// body has been sent to its end.
    fn with_digest(self) -> (Self, impl Future<Output = Result<Digested, NoDigest>>);
}

/// Stream of a body's bytes, which hashes what it passes on.
#[derive(Debug)]
pub struct Hashing<S> {
    body: S,
    hash: Sha256,
    length: u64,
    done: Option<oneshot::Sender<Result<Digested, NoDigest>>>,
}

/// Hashes a body while it is read.
pub fn hashing<S>(body: S) -> (Hashing<S>, impl Future<Output = Result<Digested, NoDigest>> + Send) {
    let (done, digest) = oneshot::channel();
    let hashing = Hashing { body, hash: Sha256::new(), length: 0, done: Some(done) };
    (hashing, async move { digest.await.unwrap_or(Err(NoDigest::Unread)) })
}

impl<S: Stream<Item = Result<Vec<u8>, NetError>> + Unpin> Stream for Hashing<S> {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.body).poll_next(context));
        let done = match &next {
            Some(Ok(bytes)) => {
                self.hash.update(bytes);
                self.length += bytes.len() as u64;
                return Poll::Ready(next);
            }
            Some(Err(_)) => Err(NoDigest::Broken),
            None => Ok(Digested { length: self.length, sha256: self.hash.finalize_reset().into() }),
        };
        if let Some(tell) = self.done.take() {
            // Nobody may wait for the digest any more.
            let _ = tell.send(done);
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;

    use super::*;
    use crate::io::{Failure, Sent};

    /// What is passed on of a body in these pieces, and its digest.
    fn pass(
        pieces: Vec<Result<Vec<u8>, NetError>>,
        read: usize,
    ) -> (Vec<u8>, Option<Result<Digested, NoDigest>>) {
        let (hashing, digest) = hashing(stream::iter(pieces));
        let passed: Vec<_> = hashing.take(read).collect().now_or_never().unwrap();
        let passed = passed.into_iter().filter_map(Result::ok).flatten().collect();
        (passed, digest.now_or_never())
    }

    proptest! {
        #[test]
        fn the_digest_is_that_of_what_passed(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let whole = pieces.concat();
            let (passed, digest) = pass(pieces.into_iter().map(Ok).collect(), usize::MAX);
            let wanted = Digested { length: whole.len() as u64, sha256: Sha256::digest(&whole).into() };
            prop_assert_eq!(&passed, &whole);
            prop_assert_eq!(digest, Some(Ok(wanted)));
        }
    }

    #[test]
    fn a_body_that_breaks_off_or_is_dropped_has_no_digest() {
        let cut = NetError { sent: Sent::Never, failure: Failure::Cut, detail: "gone".into() };
        let broken = pass(vec![Ok(vec![1]), Err(cut), Ok(vec![2])], 2);
        assert_eq!(broken, (vec![1], Some(Err(NoDigest::Broken))));
        assert_eq!(pass(vec![Ok(vec![1]), Ok(vec![2])], 1), (vec![1], Some(Err(NoDigest::Unread))));
    }
}
