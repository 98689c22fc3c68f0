//! What waits for one client of a session, as in the socket between `dtach` and that client.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Bytes from which on the socket takes no more.
const CAPACITY: usize = 208 << 10;

/// Output for one client.
pub(super) struct Outlet {
    state: Mutex<State>,
    filled: Notify,
    /// Told when there is room again, or nobody reads any more.
    stirred: Arc<Notify>,
}

struct State {
    bytes: VecDeque<u8>,
    is_over: bool,
}

impl Outlet {
    /// One that has this to say first.
    pub(super) fn new(first: &[u8], stirred: Arc<Notify>) -> Self {
        let state = State { bytes: first.to_vec().into(), is_over: false };
        Self { state: Mutex::new(state), filled: Notify::new(), stirred }
    }

    /// Whether it takes another block.
    pub(super) fn has_room(&self) -> bool {
        self.state().bytes.len() < CAPACITY
    }

    /// Whether nothing comes after what is in it.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Puts a block into it, which is lost where there is no room.
    pub(super) fn push(&self, block: &[u8]) {
        let mut state = self.state();
        if !state.is_over && state.bytes.len() < CAPACITY {
            state.bytes.extend(block);
        }
        self.filled.notify_one();
    }

    /// Says the last words.
    pub(super) fn end(&self, words: &[u8]) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_over, true) {
            state.bytes.extend(words);
        }
        self.filled.notify_one();
        self.stirred.notify_one();
    }

    /// At most so many bytes, once there are any; `None` after the last ones.
    pub(super) async fn take(&self, most: usize) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.state();
                let length = state.bytes.len().min(most);
                if length > 0 {
                    self.stirred.notify_one();
                    return Some(state.bytes.drain(..length).collect());
                }
                if state.is_over {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
