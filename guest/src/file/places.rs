//! Places for processes `file`: how many there may be at a time, of all users and of one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places of one kind of calls.
pub(super) const MOST: usize = 128;

/// Places that are taken, by the numbers of users. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<u32, usize>>>);

/// Place of one process, which is free again when this is dropped.
pub(super) struct Place {
    user: u32,
    places: Places,
}

impl Places {
    /// Takes a place for a user, if more are free than that user has: so one user gets half of them, and for another one
    /// there is always one left.
    pub(super) fn take(&self, user: u32) -> Option<Place> {
        let mut taken = self.lock();
        let free = MOST.saturating_sub(taken.values().sum());
        let own = taken.get(&user).copied().unwrap_or(0);
        if own >= free {
            return None;
        }
        taken.insert(user, own + 1);
        Some(Place { user, places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_users_who_take_what_they_get_leave_a_place_for_another_one() {
        let places = Places::default();
        let mut taken: Vec<Place> = Vec::new();
        let counts: Vec<usize> = (1..=6)
            .map(|user| {
                let before = taken.len();
                taken.extend(std::iter::from_fn(|| places.take(user)));
                taken.len() - before
            })
            .collect();
        assert_eq!(counts, [64, 32, 16, 8, 4, 2]);
        let root = places.take(0);
        assert!(root.is_some());
        drop(taken);
        drop(root);
        assert!(places.lock().is_empty());
    }
}
