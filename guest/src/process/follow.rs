//! Following a process: its output from any place on, and its end.

use std::{io, time::Duration};

use futures_util::{Stream, stream};
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::{After, Bytes, Event, Follow, Line, State},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

use super::{
    PATIENCE, Processes,
    folder::{Ended, Folder},
    keeper::{Answer, Keeper, Request},
    log::{Log, Piece, Reader},
};

/// Bytes of output in a line.
const LONGEST: usize = 32 << 10;

/// Followers at a time: fewer than the connections of a keeper, so that it listens to other calls in any case.
pub(super) const MOST: usize = 448;

/// Silence after which it is told that nothing happens.
const SILENCE: Duration = Duration::from_secs(15);

/// Time that a keeper has to say how far the output has come, however shortly the client waits.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Time after which it is looked again whether a process that is starting has a keeper.
const AGAIN: Duration = Duration::from_millis(10);

impl Processes {
    /// Follows a process. While the lines are taken slowly, the process waits.
    pub async fn follow(
        &self,
        follow: Follow,
    ) -> Result<impl Stream<Item = io::Result<Line>> + Send + use<>, Refusal> {
        let place = self.0.followers.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Refusal::new(Code::Busy, format!("{MOST} followers are told already")))?;
        let over = Instant::now() + PATIENCE;
        let (process, is_measured) = self.0.measure(follow.process, over).await?;
        let folder = self.0.folder(follow.process);
        let log = self.0.log(follow.process, process.boot);
        let cursor = match follow.after {
            After::Start => 0,
            After::End => process.cursor,
            After::Cursor(cursor) if is_measured && cursor > process.cursor => {
                return Err(Refusal::new(Code::BadCall, "the place is behind all output"));
            }
            After::Cursor(cursor) => cursor,
        };
        let follower = Follower {
            _place: place,
            folder,
            keeper: None,
            is_untold: false,
            reader: Reader::new(log.clone(), cursor),
            log,
            known: cursor,
            is_lost: process.state == State::Lost && process.pid.is_none(),
            is_started: false,
            is_over: false,
            has_told: false,
            ended: None,
            left: follow.most.unwrap_or(u64::MAX),
            until: follow.wait_ms.and_then(|it| Instant::now().checked_add(Duration::from_millis(it))),
            first_word: Some(Instant::now() + FIRST_WORD),
            waits: follow.wait_ms.is_some(),
        };
        Ok(stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|line| (line, follower)))
        }))
    }
}

/// Follower of one process.
struct Follower {
    _place: OwnedSemaphorePermit,
    folder: Folder,
    keeper: Option<Keeper>,
    /// Whether the keeper does not know yet how far its output was read.
    is_untold: bool,
    log: Log,
    reader: Reader,
    /// Place up to which the output is known to have come, and is to be told.
    known: u64,
    is_started: bool,
    is_lost: bool,
    is_over: bool,
    /// Whether output was told.
    has_told: bool,
    ended: Option<Ended>,
    /// Bytes that are still to be told.
    left: u64,
    /// Whether it ends as soon as it has told something.
    waits: bool,
    until: Option<Instant>,
    /// When the keeper's first word is waited for no more; `None` once it has come.
    first_word: Option<Instant>,
}

impl Follower {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Line>> {
        while !self.is_over {
            if let Some(line) = self.tell()? {
                return Ok(Some(line));
            }
            if self.is_over || self.waits && (self.has_told || self.is_time_over()) {
                break;
            }
            if !self.news().await {
                return Ok(Some(self.line(Event::Alive)));
            }
        }
        Ok(None)
    }

    fn is_time_over(&self) -> bool {
        self.until().is_some_and(|it| it <= Instant::now())
    }

    /// When it is over, unless something was told.
    fn until(&self) -> Option<Instant> {
        self.until.map(|it| self.first_word.map_or(it, |first| it.max(first)))
    }

    /// What can be told now.
    fn tell(&mut self) -> io::Result<Option<Line>> {
        if !self.is_started
            && let Some(pid) = self.folder.description().and_then(|it| it.pid)
        {
            self.is_started = true;
            return Ok(Some(self.line(Event::Started { pid })));
        }
        if self.left == 0 {
            self.is_over = true;
            return Ok(None);
        }
        let most = usize::try_from(self.left).unwrap_or(LONGEST);
        if let Some(piece) = self.reader.next(self.known, most.min(LONGEST))? {
            self.has_told = true;
            if let Some(keeper) = &self.keeper {
                // One that does not listen now is told before it is waited for, which it does for that.
                self.is_untold = !keeper.try_read_until(self.reader.cursor()).is_ok_and(|it| it);
            }
            let event = match piece {
                Piece::Out(stream, data) => {
                    self.left = self.left.saturating_sub(data.len() as u64);
                    Event::Out { stream, data: Bytes(data) }
                }
                Piece::Gap(bytes) => Event::Gap { bytes },
            };
            return Ok(Some(self.line(event)));
        }
        let last = match self.ended.take() {
            Some(ended) => Event::Exit(ended.exit),
            None if self.is_lost => Event::Lost,
            None => return Ok(None),
        };
        self.is_over = true;
        Ok(Some(self.line(last)))
    }

    fn line(&self, event: Event) -> Line {
        Line { cursor: self.reader.cursor(), event }
    }

    /// Waits for something that can be told, or for the end of the time; `false` after a silence.
    async fn news(&mut self) -> bool {
        let silence = Instant::now() + SILENCE;
        let limit = self.until().map_or(silence, |it| it.min(silence));
        match timeout_at(limit, self.look()).await {
            Ok(()) => true,
            Err(_) => limit < silence,
        }
    }

    /// Waits for the keeper's word, or reads the folder if there is no keeper.
    async fn look(&mut self) {
        let Some(keeper) = &mut self.keeper else { return self.connect().await };
        if self.is_untold {
            let told = keeper.read_until(self.reader.cursor()).await;
            self.is_untold = false;
            if told.is_err() {
                return self.keeper = None;
            }
        }
        match keeper.answer().await {
            Ok(Some(Answer::News { cursor, ended: false })) => {
                self.first_word = None;
                self.known = cursor;
            }
            Ok(Some(Answer::News { cursor, ended: true })) => {
                self.ended = self.folder.ended();
                self.know_end(cursor);
            }
            // It has ended, or waits for this follower no more.
            _ => self.keeper = None,
        }
    }

    /// Connects to the keeper; of a process that has none, the folder tells everything.
    async fn connect(&mut self) {
        let is_kept = self.folder.is_kept();
        if is_kept && let Ok(mut keeper) = Keeper::connect(&self.folder).await {
            if keeper.send(&Request::Follow(self.reader.cursor())).await.is_ok() {
                self.keeper = Some(keeper);
            }
            return;
        }
        self.ended = self.folder.ended();
        match &self.ended {
            Some(ended) => {
                let end = ended.end;
                self.know_end(end);
            }
            None if is_kept => sleep(AGAIN).await,
            None => {
                self.is_lost = true;
                self.known = self.log.end().max(self.reader.cursor());
            }
        }
    }

    /// The process has ended: its output up to then is told, or what has come later if that was told before.
    fn know_end(&mut self, end: u64) {
        let Some(ended) = &self.ended else { return };
        let is_behind = self.reader.cursor() >= ended.cursor;
        self.known = if is_behind { end } else { ended.cursor };
    }
}
