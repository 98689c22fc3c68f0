//! What the daemon asks a keeper.

use std::time::{Duration, Instant};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::Scope,
};
use rustix::process::{Signal, getpid, kill_process};

use super::{
    Kept,
    child::resize,
    connection::{Connection, Follower, Waiting},
    stdin::closed,
    tree,
};
use crate::process::keeper::{Answer, Request, gone};

/// Time for which bytes for standard input wait for room.
const PATIENCE: Duration = Duration::from_secs(1);

impl Kept {
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.connections.extend(Connection::new(stream));
        }
    }

    /// Serves the connections that have something, and all whose bytes wait for room in standard input.
    pub(super) fn serve(&mut self, ready: &[usize]) {
        for index in ready {
            self.connections.get_mut(*index).into_iter().for_each(Connection::fill);
        }
        for index in 0..self.connections.len() {
            // Its lines need the keeper as a whole.
            let Some(mut connection) = self.take(index) else { continue };
            self.offer_again(&mut connection);
            while !connection.is_over && connection.waiting.is_none() && self.obey(&mut connection) {}
            self.connections.push(connection);
            let last = self.connections.len() - 1;
            self.connections.swap(index, last);
        }
        self.connections.retain(|it| !it.is_over);
    }

    fn take(&mut self, index: usize) -> Option<Connection> {
        (index < self.connections.len()).then(|| self.connections.swap_remove(index))
    }

    /// Obeys one line of a connection; whether there was one.
    fn obey(&mut self, connection: &mut Connection) -> bool {
        if connection.follower.is_some() {
            let read: Option<u64> = connection.line();
            let follower = connection.follower.as_mut();
            for (follower, read) in follower.into_iter().zip(read).filter(|(it, read)| it.read < *read) {
                follower.read = read;
                follower.moved = Instant::now();
            }
            return read.is_some();
        }
        let Some(request) = connection.line() else { return false };
        if let Some(answer) = self.answer(connection, request) {
            connection.send(&answer.unwrap_or_else(Answer::Refused));
        }
        true
    }

    /// The answer to a request, if it has one now.
    fn answer(&mut self, connection: &mut Connection, request: Request) -> Option<Result<Answer, Refusal>> {
        Some(match request {
            Request::Stand => {
                let stdin = self.streams.stdin.as_ref().map(|it| it.state());
                Ok(Answer::Standing { cursor: self.log.cursor(), stdin })
            }
            Request::Follow(read) => {
                connection.follower = Some(Follower { read, moved: Instant::now(), told: None });
                return None;
            }
            Request::Stdin { .. } if self.given.is_some() => Err(closed()),
            Request::Stdin { at, data, end } => {
                let until = Instant::now() + PATIENCE;
                connection.waiting = Some(Waiting { at, typed: 0, data: data.0, end, until });
                self.offer_again(connection);
                return None;
            }
            Request::Signal(number, scope) => self.signal(number, scope),
            Request::Resize(size) => match &self.streams.terminal {
                Some(terminal) => resize(terminal, size).map(|()| Answer::Done).map_err(|_| gone()),
                None => Err(Refusal::new(Code::NoTerminal, "the process has no terminal")),
            },
            Request::Kill => {
                self.kill();
                Ok(Answer::Done)
            }
        })
    }

    /// Offers bytes that wait to standard input, and answers if they are taken, or have waited for long.
    fn offer_again(&mut self, connection: &mut Connection) {
        let Some(mut waiting) = connection.waiting.take() else { return };
        let Some(stdin) = &mut self.streams.stdin else {
            return connection.send(&Answer::Refused(closed()));
        };
        let taken = match waiting.at {
            Some(at) => stdin.take(at, &waiting.data, waiting.end),
            None => stdin.add(waiting.data.get(waiting.typed..).unwrap_or_default()).map(|count| {
                waiting.typed += count;
                waiting.typed == waiting.data.len()
            }),
        };
        match taken {
            Ok(false) if Instant::now() < waiting.until => connection.waiting = Some(waiting),
            Ok(_) if waiting.at.is_none() => connection.send(&Answer::Typed(waiting.typed)),
            Ok(_) => connection.send(&Answer::Taken(stdin.state())),
            Err(refusal) => connection.send(&Answer::Refused(refusal)),
        }
    }

    fn signal(&self, number: i32, scope: Scope) -> Result<Answer, Refusal> {
        let signal = Signal::from_named_raw(number)
            .ok_or_else(|| Refusal::new(Code::NoSuchSignal, "no signal has this number"))?;
        let is_there = match scope {
            Scope::Tree => tree::signal(getpid(), signal),
            // Until its end is taken, the number is the command's.
            Scope::Process => self.ended.is_none() && kill_process(self.child.pid, signal).is_ok(),
        };
        if is_there { Ok(Answer::Done) } else { Err(gone()) }
    }

    /// Tells followers how far the output has come, each when it has read what it was told before.
    pub(super) fn tell(&mut self) {
        let now = (self.log.cursor(), self.ended.is_some());
        for connection in &mut self.connections {
            let Some(follower) = &mut connection.follower else { continue };
            let is_news = follower.told.is_none_or(|told| told != now && follower.read >= told.0);
            if is_news {
                follower.told = Some(now);
                connection.send(&Answer::News { cursor: now.0, ended: now.1 });
            }
        }
    }
}
