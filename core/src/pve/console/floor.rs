//! Whose turn it is to send in a console that many use at once.
//!
//! Two requests that are typed at the same time are mixed in pieces of 8 bytes, and neither is understood. Nobody sees what
//! others type, but all see what the hub tells, in the same order. So long requests go by turns (rule S11.6):
//!
//! 1. Who has one to send, and hears that others are served, asks the hub for a turn by a short request.
//! 2. The hub tells all that he has got one. It keeps no list: who was told of it first goes first.
//! 3. While it is somebody's turn, all others are silent: until the hub has answered his requests, or a moment is over.
//! 4. Before the next turn there is a pause, in which the others send what is short, each at a time that it draws.
//!
//! Whoever has not heard of a turn may disturb it. Then both ask again.

use std::{collections::VecDeque, time::Duration};

use pve_edge_guest_protocol::Unique;
use time::OffsetDateTime;

use super::line::Reply;

/// Time that a turn lasts at most, beside twice the way there and back.
const TURN: Duration = Duration::from_millis(40);
/// Pause between two turns.
pub(super) const PAUSE: Duration = Duration::from_millis(30);
/// Time for which others count as there after they were told something.
const PRESENCE: Duration = Duration::from_secs(2);
/// Number of turns that are remembered, and of requests in one of them.
const TURNS: usize = 64;
const REQUESTS: u32 = 4;

/// What a client has heard of turns.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// The first one has begun, or is about to.
    turns: VecDeque<Turn>,
    /// When another was told something last.
    other: Option<OffsetDateTime>,
}

#[derive(Debug)]
struct Turn {
    process: Unique,
    /// Requests in it that are not answered yet.
    requests: u32,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Floor {
    /// Hears a reply: another's, unless it is about the process `own`.
    pub(super) fn hear(&mut self, reply: &Reply, own: Unique, now: OffsetDateTime, round_trip: Duration) {
        let Some(process) = reply.process() else { return };
        if process != own {
            self.other = Some(now);
        }
        self.pass(now);
        match reply {
            // One that is told again, because its asker has not heard it, stays where it is.
            Reply::Turn(..) if self.turns.iter().any(|it| it.process == process) => {}
            Reply::Turn(_, requests) if self.turns.len() < TURNS => {
                let from = self.turns.back().map_or(now, |it| it.until + PAUSE);
                let until = from + TURN + round_trip * 2;
                self.turns.push_back(Turn { process, requests: (*requests).min(REQUESTS), from, until });
            }
            Reply::Put(..) => {
                if let Some(turn) = self.turns.front_mut().filter(|it| it.process == process) {
                    turn.requests = turn.requests.saturating_sub(1);
                    if turn.requests == 0 {
                        self.end(now);
                    }
                }
            }
            _ => {}
        }
    }

    /// Notices another.
    pub(super) fn meet(&mut self, now: OffsetDateTime) {
        self.other = Some(now);
    }

    /// Whether others use the console too.
    pub(super) fn is_shared(&self, now: OffsetDateTime) -> bool {
        self.other.is_some_and(|it| now < it + PRESENCE)
    }

    /// When the turn of a process begins, if the hub has told of one.
    pub(super) fn turn(&mut self, process: Unique, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.pass(now);
        self.turns.iter().find(|it| it.process == process).map(|it| it.from)
    }

    /// Until when it is the turn of another process.
    pub(super) fn taken(&mut self, own: Unique, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.pass(now);
        let first = self.turns.front().filter(|it| it.process != own && it.from <= now);
        first.map(|it| it.until)
    }

    /// Passes to the turn that it is now.
    fn pass(&mut self, now: OffsetDateTime) {
        while self.turns.front().is_some_and(|it| it.until <= now) {
            self.turns.pop_front();
        }
    }

    /// Ends the first turn; all others come as much earlier.
    fn end(&mut self, now: OffsetDateTime) {
        let Some(ended) = self.turns.pop_front() else { return };
        let earlier = ended.until - now;
        for turn in &mut self.turns {
            turn.from -= earlier;
            turn.until -= earlier;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::File, *};

    const OWN: Unique = Unique([1; 16]);
    const OTHER: Unique = Unique([2; 16]);
    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn heard(replies: &[Reply]) -> Floor {
        let mut floor = Floor::default();
        replies.iter().for_each(|it| floor.hear(it, OWN, START, Duration::ZERO));
        floor
    }

    #[test]
    fn turns_are_taken_as_they_were_told_with_a_pause_between_them() {
        let mut floor = heard(&[Reply::Turn(OTHER, 1), Reply::Turn(OWN, 1)]);
        assert_eq!(floor.taken(OWN, START), Some(START + TURN));
        assert_eq!(floor.turn(OWN, START), Some(START + TURN + PAUSE));
        // In the pause whoever has something short sends it.
        assert_eq!(floor.taken(OWN, START + TURN), None);
        let own = START + TURN + PAUSE;
        assert_eq!(floor.taken(OWN, own), None);
        assert_eq!(floor.taken(OTHER, own), Some(own + TURN));
        assert_eq!(floor.turn(OWN, own + TURN), None);
    }

    #[test]
    fn a_turn_that_is_told_again_stays_where_it_is() {
        let mut floor = heard(&[Reply::Turn(OTHER, 1), Reply::Turn(OWN, 1), Reply::Turn(OWN, 1)]);
        assert_eq!(floor.turn(OWN, START), Some(START + TURN + PAUSE));
        floor.hear(&Reply::Turn(OTHER, 1), OWN, START + TURN / 2, Duration::ZERO);
        assert_eq!(floor.taken(OWN, START), Some(START + TURN));
        assert_eq!(floor.turn(OTHER, START + TURN), None);
    }

    #[test]
    fn a_turn_ends_when_all_of_its_requests_are_answered() {
        let mut floor = heard(&[Reply::Turn(OTHER, 2), Reply::Turn(OWN, 1)]);
        let put = |number| Reply::Put(OTHER, File::Script, number);
        floor.hear(&put(0), OWN, START, Duration::ZERO);
        assert!(floor.taken(OWN, START).is_some());
        floor.hear(&put(1), OWN, START, Duration::ZERO);
        assert_eq!((floor.taken(OWN, START), floor.turn(OWN, START)), (None, Some(START + PAUSE)));
    }

    #[test]
    fn others_are_there_for_a_while_after_they_were_told_something() {
        assert!(!heard(&[Reply::Put(OWN, File::Script, 0)]).is_shared(START));
        let floor = heard(&[Reply::None(OTHER)]);
        assert!(floor.is_shared(START) && !floor.is_shared(START + PRESENCE));
    }
}
