//! Futures that are compiled apart from whoever awaits them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Boxes a future, so that polling it is a function of its own.
///
/// An `async fn` has the code of all that it awaits inlined, down to the last helper, and an engine compiles a function of
/// WebAssembly whole when it is first called: one request then pays for all the others' code.
pub fn apart<F: Future>(future: F) -> Apart<F> {
    Apart(Box::pin(future))
}

/// A future that is compiled apart: [`apart`] makes it.
pub struct Apart<F>(Pin<Box<F>>);

impl<F: Future> Future for Apart<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.get_mut().0.as_mut().poll(context)
    }
}
