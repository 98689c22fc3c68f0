//! Waiting in virtual time.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use time::OffsetDateTime;

use super::{Due, Inner};

/// Ready at a point in time; forgotten by the agenda when dropped.
pub(crate) struct Timer {
    inner: Rc<RefCell<Inner>>,
    at: OffsetDateTime,
    key: Option<(OffsetDateTime, u64)>,
}

impl Timer {
    pub(crate) fn new(inner: Rc<RefCell<Inner>>, at: OffsetDateTime) -> Self {
        Self { inner, at, key: None }
    }

    fn forget(&mut self) {
        if let (Some(key), Ok(mut inner)) = (self.key.take(), self.inner.try_borrow_mut()) {
            inner.agenda.remove(&key);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.forget();
        let (at, inner) = (self.at, self.inner.clone());
        let mut inner = inner.borrow_mut();
        if inner.sim.now() >= at {
            return Poll::Ready(());
        }
        self.key = Some(inner.due(at, Due::Wake(context.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}
