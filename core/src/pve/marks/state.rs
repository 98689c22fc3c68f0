//! The state of a sandbox, as its mark and PVE's status tell it.

use time::OffsetDateTime;

use super::{Mark, Phase, Want, What};
use crate::sandbox::{FINISH_SECONDS, OnExpiry, State};

/// The state of a committed guest, from its mark and whether PVE says that it runs.
pub fn state(mark: &Mark, running: bool, now: OffsetDateTime) -> State {
    if mark.phase == Phase::Error {
        return State::Error;
    }
    match (mark.want, running) {
        (Want::On, _) if mark.is_doing(What::Rollback) && !mark.is_expired(now) => State::Creating,
        (Want::Paused, false) => State::Paused,
        (Want::Off, false) => State::Stopped,
        (Want::On, false) if is_coming_up(mark, now) => State::Creating,
        // Past its expiry it is what the expiry shall make of it.
        (Want::Paused, _) if mark.is_expired(now) => State::Paused,
        (_, _) if mark.is_expired(now) && mark.on_expiry == OnExpiry::Pause => State::Paused,
        (_, _) if mark.is_expired(now) => State::Stopped,
        (Want::On, true) if is_coming_up(mark, now) => State::Creating,
        (Want::On, _) if never_came_up(mark) => State::Error,
        (_, true) => State::Running,
        (_, false) => State::Stopped,
    }
}

/// Whether it has never answered as a sandbox does that came up.
pub fn never_came_up(mark: &Mark) -> bool {
    matches!(mark.phase, Phase::Claimed | Phase::Committed) && !mark.was_ready
}

/// Whether nobody has seen it answer since it was to come up.
pub fn is_unproved(mark: &Mark, now: OffsetDateTime) -> bool {
    // What a rollback kills does not come up.
    mark.want == Want::On
        && matches!(mark.phase, Phase::Claimed | Phase::Committed)
        && !mark.is_doing(What::Rollback)
        && !mark.is_expired(now)
}

/// Whether somebody still has to bring it up: ten minutes after its creation or its start, stopped is a state
/// and not work to do (rule S2.12).
pub fn is_coming_up(mark: &Mark, now: OffsetDateTime) -> bool {
    is_unproved(mark, now) && mark.settled_for(now) < FINISH_SECONDS
}
