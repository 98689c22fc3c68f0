//! The hub: a script in a container that serves processes over the container's console, and its client.
//!
//! The console is one terminal that all who open it share, and what is shown in it may be lost (rule S11.1). So one hub
//! serves all, everything that it tells is in files, and a question is asked again until it is answered. Who has something
//! long to send waits for its turn (rule S11.6).

mod opening;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pve_edge_guest_protocol::Unique;
use time::OffsetDateTime;

pub(super) use self::opening::crowded;
#[cfg(test)]
pub(super) use self::opening::{script, version};
use super::{
    floor::{Floor, PAUSE},
    line::{Replies, Reply, doubled},
    terminal::{Ended, Terminal},
};
use crate::io::{Io, invocation::Invocation};

/// Time after which a question is asked again, at first, beside three times the way there and back, and the longest.
const PATIENCE_AT_FIRST: Duration = Duration::from_millis(400);
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
/// Time that a client is silent for others, at most.
const SILENCE: Duration = Duration::from_secs(2);
/// Replies that are kept.
const REPLIES: usize = 64;

/// Client of the hub of one container.
pub(super) struct Hub<I: Io> {
    invocation: Arc<Invocation<I>>,
    terminal: Terminal<I>,
    replies: Replies,
    /// Replies that have come and were not taken yet.
    waiting: VecDeque<Reply>,
    /// Start of the guest in which it is.
    boot: Unique,
    /// The process that is served now.
    process: Unique,
    floor: Floor,
}

impl<I: Io> Hub<I> {
    /// The start of the guest in which it is.
    pub(super) fn boot(&self) -> Unique {
        self.boot
    }

    /// The time now.
    pub(super) fn now(&self) -> OffsetDateTime {
        self.terminal.now()
    }

    /// Time after which a question is asked again that was not answered so many times: longer each time, and by chance up to
    /// half as long again, since requests of two clients that met in the terminal, and spoiled each other, would meet again.
    pub(super) fn patience(&self, tries: u32) -> Duration {
        let tries = tries.min(8);
        let first = PATIENCE_AT_FIRST + self.terminal.round_trip * 3;
        let grown = (first * 3_u32.pow(tries) / 2_u32.pow(tries)).min(LONGEST_PATIENCE);
        grown + self.by_chance(grown) / 2
    }

    /// Serves a process from now on: replies are those about it.
    pub(super) fn serve(&mut self, process: Unique) {
        self.process = process;
    }

    /// Sends a request, once it is nobody else's turn; a guest that tells of turns without end is not obeyed.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(), Ended> {
        let last = self.now() + SILENCE;
        while let Some(until) = self.taken().filter(|_| self.now() < last) {
            self.read_until(until, |hub| hub.taken().is_none()).await?;
            // Others wait as well.
            self.pause().await?;
        }
        self.terminal.write(request)
    }

    /// Waits for a turn to send so many requests, where others use the console too, or have disturbed the last one; `false`
    /// when there is none until then.
    pub(super) async fn turn(
        &mut self,
        requests: usize,
        is_disturbed: bool,
        until: OffsetDateTime,
    ) -> Result<bool, Ended> {
        if !is_disturbed && !self.is_shared() {
            return Ok(true);
        }
        // Others have heard the same.
        self.pause().await?;
        let ask = doubled(&format!("{} turn {requests}", self.process));
        for tries in 0.. {
            self.send(&ask).await?;
            let wait = (self.now() + self.patience(tries)).min(until);
            self.read_until(wait, |hub| hub.own_turn().is_some()).await?;
            // A guest may tell of turns without end.
            while let Some(from) = self.own_turn().filter(|_| self.now() < until) {
                if from <= self.now() {
                    return Ok(true);
                }
                self.read_until(from.min(until), |hub| hub.own_turn().is_none_or(|it| it < from)).await?;
            }
            if self.now() >= until {
                break;
            }
        }
        Ok(false)
    }

    async fn pause(&mut self) -> Result<(), Ended> {
        let until = self.now() + self.by_chance(PAUSE);
        self.read_until(until, |_| false).await
    }

    /// Whether it serves others too.
    pub(super) fn is_shared(&self) -> bool {
        self.floor.is_shared(self.terminal.now())
    }

    fn own_turn(&mut self) -> Option<OffsetDateTime> {
        self.floor.turn(self.process, self.terminal.now())
    }

    fn taken(&mut self) -> Option<OffsetDateTime> {
        self.floor.taken(self.process, self.terminal.now())
    }

    /// The next reply; `None` when there is none until then.
    pub(super) async fn next(&mut self, until: OffsetDateTime) -> Result<Option<Reply>, Ended> {
        self.read_until(until, |hub| !hub.waiting.is_empty()).await?;
        Ok(self.waiting.pop_front())
    }

    /// Reads replies, until then at most.
    async fn read_until(
        &mut self,
        until: OffsetDateTime,
        mut is_enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), Ended> {
        while !is_enough(self) {
            let Some(bytes) = self.terminal.read(until).await? else { break };
            for reply in self.heard(&bytes) {
                if reply.process() == Some(self.process) && self.waiting.len() < REPLIES {
                    self.waiting.push_back(reply);
                }
            }
        }
        Ok(())
    }

    /// The replies that bytes complete.
    fn heard(&mut self, bytes: &[u8]) -> Vec<Reply> {
        let (now, round_trip) = (self.terminal.now(), self.terminal.round_trip);
        let replies = self.replies.push(bytes);
        for reply in &replies {
            self.floor.hear(reply, self.process, now, round_trip);
        }
        replies
    }

    /// A part of a time, by chance.
    fn by_chance(&self, time: Duration) -> Duration {
        let [chance, ..] = self.invocation.draw();
        time * u32::from(chance) / 255
    }

    /// Six hexadecimal digits that nobody else draws.
    fn draw(&self) -> String {
        let drawn: [u8; 16] = self.invocation.draw();
        hex::encode(drawn.first_chunk::<3>().copied().unwrap_or_default())
    }
}
