//! Files of a guest, by calls to its daemon.

use std::{pin::pin, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
};
use http::{HeaderMap, header};
use pve_edge_guest_protocol::{
    ENTRY, Unique,
    answer::{Code as Refused, Done},
    call::{Digest256, LARGEST_BODY, Operation},
    file::{
        self as protocol, At, Commit, List, ListLine, Pack, Range, Read, Remove, Stage, Staged, Watch, Write,
    },
};
use serde::de::DeserializeOwned;

use super::{CallFailure, Daemon, decode};
use crate::{
    error::{Code, Error},
    io::{
        Answer, Failure, Io, NetError, Sent, WithDigest, collect,
        digest::{Digested, NoDigest},
    },
    sandbox::command::Lines,
    sandbox::file::{Archive, Content, Entry, Listing, Reading, Unpacked, Writing, range::Part},
};

/// Time for a body of any length, from a client to the guest.
const UPLOAD: Duration = Duration::from_secs(3600);
/// Time for putting a small file in place, once all of it has come.
const PLACING: Duration = Duration::from_secs(30);
/// Time for putting in place what was sent, such as the files of an archive.
const SETTLE: Duration = Duration::from_secs(600);
/// Time for which a folder is watched at most.
const WATCH: Duration = Duration::from_secs(24 * 3600);
/// Time after the daemon's answer for which the end of the body that it answers may still be on its way.
const END: Duration = Duration::from_secs(10);

impl<I: Io> Daemon<'_, I> {
    /// Opens a file, and returns its bytes as they come.
    pub async fn read_file(&mut self, reading: &Reading) -> Result<Content<I::Body>, Error> {
        let Reading { range, if_range, if_match, if_none_match, .. } = reading;
        let one = if_match.as_ref().and_then(|it| it.single()).filter(|it| *it != "*");
        let of = if_range.as_ref().map(|it| it.single());
        let (entry, part, body) = match (range, of) {
            (Some(range), Some(Some(tag))) => match self.open_file(reading, Some(*range), Some(tag)).await {
                Err(CallFailure::Refused(it)) if it.code == Refused::Changed => {
                    self.open_file(reading, None, one).await?
                }
                opened => opened?,
            },
            // A date, or several ETags, name no file that we know.
            (Some(_), Some(None)) => self.open_file(reading, None, one).await?,
            (range, _) => self.open_file(reading, *range, one).await?,
        };
        if if_match.as_ref().is_some_and(|it| !it.has(&entry.etag)) {
            return Err(Error::new(Code::PreconditionFailed, "the file is not the one that If-Match names"));
        }
        let known = if_none_match.as_ref().is_some_and(|it| it.has(&entry.etag));
        Ok(Content { entry, part, body: (!known).then_some(body) })
    }

    /// Opens a file, or a part of it, if it is still the one that `if_match` names.
    async fn open_file(
        &mut self,
        reading: &Reading,
        range: Option<Range>,
        if_match: Option<&str>,
    ) -> Result<(protocol::Entry, Option<Part>, I::Body), CallFailure> {
        let At { path, user } = self.defaults.at(reading.at.clone());
        let read = Read { path, user, range, if_match: if_match.map(str::to_owned) };
        let Answer { status, headers, body, .. } =
            self.open(&Operation::Read(read), &[], self.invocation.end()).await?;
        let described = describe(&headers, range);
        let (entry, part) = described.ok_or(CallFailure::Foreign { status })?;
        Ok((entry, part, body))
    }

    /// Puts a client's body into a file: nothing is in place before all of it has come, and is what the client sent.
    pub async fn write_file(
        &mut self,
        writing: &Writing,
        length: Option<u64>,
        body: I::Upload,
    ) -> Result<Entry, Error> {
        let Writing { at, mkdirs, placing } = writing.clone();
        let At { path, user } = self.defaults.at(at);
        let if_none = placing.if_none;
        let told = move |failure| not_placed(failure, if_none);
        if length.is_some_and(|it| it <= LARGEST_BODY) {
            let content = collect(body, LARGEST_BODY as usize).await.map_err(|_| broke_off())?;
            ensure_whole(length, content.len() as u64)?;
            let write = Operation::Write(Write { path, user, mkdirs, placing });
            // The time of the request may be over: the client was slow.
            let deadline = self.invocation.now() + PLACING;
            let entry = self.ask::<protocol::Entry>(&write, &content, deadline).await;
            return Ok(entry.map_err(told)?.into());
        }
        let stage = Unique(self.invocation.draw());
        let staging = Stage { stage, path, user, mkdirs, unpack: false };
        let sha256 = self.stage(staging, length, body).await?;
        let commit = Operation::Commit(Commit { stage, sha256, placing });
        Ok(self.settle::<protocol::Entry>(&commit).await.map_err(told)?.into())
    }

    /// Unpacks an archive, which is a client's body, into a folder.
    pub async fn unpack_files(
        &mut self,
        at: &At,
        mkdirs: bool,
        archive: Archive,
        length: Option<u64>,
        body: I::Upload,
    ) -> Result<Unpacked, Error> {
        let (At { path, user }, stage) = (self.defaults.at(at.clone()), Unique(self.invocation.draw()));
        let sha256 = self.stage(Stage { stage, path, user, mkdirs, unpack: true }, length, body).await?;
        let unpack = Operation::Unpack(protocol::Unpack { stage, sha256, gzip: archive.gzip });
        let protocol::Unpacked { entries, bytes } = self.settle(&unpack).await?;
        Ok(Unpacked { entries, bytes })
    }

    /// Sends a client's body on, and returns its digest, as it is computed here.
    async fn stage(
        &mut self,
        stage: Stage,
        length: Option<u64>,
        body: I::Upload,
    ) -> Result<Digest256, Error> {
        let io = self.invocation.io.clone();
        let (body, digest) = body.with_digest();
        let operation = Operation::Stage(stage);
        let (mut digest, mut sent) = (pin!(digest), pin!(self.send_aside(&operation, body)));
        let (sent, digested) = match select(sent.as_mut(), digest.as_mut()).await {
            Either::Left((sent, digest)) => {
                let patience = if sent.is_ok() { END } else { Duration::ZERO };
                let late = pin!(io.sleep(patience));
                match select(digest, late).await {
                    Either::Left((digested, _)) => (sent, digested),
                    Either::Right(_) => (sent, Err(NoDigest::Unread)),
                }
            }
            Either::Right((Err(NoDigest::Broken), _)) => return Err(broke_off()),
            Either::Right((digested, sent)) => (sent.await, digested),
        };
        match (sent, digested) {
            (_, Err(NoDigest::Broken)) => Err(broke_off()),
            (Err(failure), _) => Err(failure.into()),
            // It has answered before it had everything.
            (Ok(_), Err(NoDigest::Unread)) => Err(CallFailure::Foreign { status: 200 }.into()),
            (Ok(_), Ok(Digested { length: sent, sha256 })) => {
                ensure_whole(length, sent)?;
                Ok(Digest256(sha256))
            }
        }
    }

    async fn send_aside(&mut self, operation: &Operation, body: I::Upload) -> Result<Staged, CallFailure> {
        let deadline = self.invocation.now() + UPLOAD;
        decode(self.upload(operation, body, deadline).await?).await
    }

    /// Puts in place what was staged. A call that was not answered is sent once more: it is executed once all the same.
    async fn settle<T: DeserializeOwned>(&mut self, operation: &Operation) -> Result<T, CallFailure> {
        let deadline = self.invocation.now() + SETTLE;
        let unanswered = match self.ask(operation, &[], deadline).await {
            Err(failure @ CallFailure::Unanswered(_)) => failure,
            settled => return settled,
        };
        match self.ask(operation, &[], deadline).await {
            // The daemon was restarted meanwhile, or has not looked: whether the first call had its way is not known.
            Err(CallFailure::Refused(refusal))
                if matches!(refusal.code, Refused::NoSuchStage | Refused::Busy | Refused::Session) =>
            {
                Err(unanswered)
            }
            settled @ (Ok(_) | Err(CallFailure::Refused(_))) => settled,
            Err(_) => Err(unanswered),
        }
    }

    /// Packs a folder, or a file, into an archive, and returns its bytes as they come.
    pub async fn pack_files(&mut self, at: &At, archive: Archive) -> Result<I::Body, Error> {
        let At { path, user } = self.defaults.at(at.clone());
        let pack = Operation::Pack(Pack { path, user, gzip: archive.gzip });
        Ok(self.open(&pack, &[], self.invocation.end()).await?.body)
    }

    /// Lists a folder so many levels deep; no level is the file or folder itself.
    pub async fn list_files(&mut self, at: &At, depth: u32, most: u64) -> Result<Listing, Error> {
        let end = self.invocation.end();
        if depth == 0 {
            let entry: protocol::Entry =
                self.ask(&Operation::Stat(self.defaults.at(at.clone())), &[], end).await?;
            return Ok(Listing { items: vec![entry.into()], more: false });
        }
        let At { path, user } = self.defaults.at(at.clone());
        let list = Operation::List(List { path, user, depth, most });
        let answer = self.open(&list, &[], end).await?;
        let status = answer.status;
        let room = self.invocation.platform.answer_bytes;
        let listed = listing(answer.body, most, room).await.map_err(CallFailure::Unanswered)?;
        listed.ok_or_else(|| CallFailure::Foreign { status }.into())
    }

    /// Makes a folder.
    pub async fn make_folder(&mut self, mkdir: protocol::Mkdir) -> Result<Entry, Error> {
        let At { path, user } = self.defaults.at(At { path: mkdir.path, user: mkdir.user });
        self.change(Operation::Mkdir(protocol::Mkdir { path, user, ..mkdir })).await
    }

    /// Renames a file or a folder.
    pub async fn move_file(&mut self, renamed: protocol::Move) -> Result<Entry, Error> {
        let At { path: from, user } = self.defaults.at(At { path: renamed.from, user: renamed.user });
        let to = self.defaults.path(renamed.to);
        self.change(Operation::Move(protocol::Move { from, to, user, ..renamed })).await
    }

    async fn change(&mut self, operation: Operation) -> Result<Entry, Error> {
        let entry: protocol::Entry = self.ask(&operation, &[], self.invocation.end()).await?;
        Ok(entry.into())
    }

    /// Removes a file, or a folder.
    pub async fn remove_file(&mut self, remove: Remove) -> Result<(), Error> {
        let At { path, user } = self.defaults.at(At { path: remove.path, user: remove.user });
        let remove = Remove { path, user, ..remove };
        let Done {} = self.ask(&Operation::Remove(remove), &[], self.invocation.end()).await?;
        Ok(())
    }

    /// Watches a folder, and returns the lines of its changes as they come.
    pub async fn watch_files(&mut self, at: &At, recursive: bool) -> Result<I::Body, Error> {
        let end = self.invocation.end();
        self.health(end).await.map_err(CallFailure::before_a_call)?;
        let At { path, user } = self.defaults.at(at.clone());
        let watch = Operation::Watch(Watch { path, user, recursive });
        let (io, now) = (self.invocation.io.clone(), self.invocation.now());
        let late = pin!(io.sleep((end - now).max(time::Duration::ZERO).unsigned_abs()));
        match select(pin!(self.open(&watch, &[], now + WATCH)), late).await {
            Either::Left((answer, _)) => Ok(answer?.body),
            Either::Right(_) => Err(CallFailure::Unanswered(no_answer()).into()),
        }
    }
}

/// The file that an answer is of, and the part of it; `None` if that cannot be.
fn describe(headers: &HeaderMap, range: Option<Range>) -> Option<(protocol::Entry, Option<Part>)> {
    let text = URL_SAFE_NO_PAD.decode(headers.get(ENTRY)?.as_bytes()).ok()?;
    let entry: protocol::Entry = serde_json::from_slice(&text).ok()?;
    let part = match range {
        Some(range) => Some(Part::of(range, entry.size)?),
        None => None,
    };
    let length = part.map_or(entry.size, Part::length);
    let announced = headers.get(header::CONTENT_LENGTH).map(|it| it.to_str().ok()?.parse::<u64>().ok());
    announced.is_none_or(|it| it == Some(length)).then_some((entry, part))
}

/// The listing in the lines of an answer, without what does not fit into `room` bytes; `None` if it is none.
async fn listing<B>(mut body: B, most: u64, room: usize) -> Result<Option<Listing>, NetError>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let parse = |line: &[u8]| (!line.is_empty()).then(|| serde_json::from_slice(line).ok());
    let mut lines = Lines::<Option<ListLine>>::new(parse, || None);
    let (mut listing, mut used) = (Listing { items: Vec::new(), more: false }, 0);
    while let Some(bytes) = body.next().await {
        for line in lines.push(&bytes?) {
            let entry = match line {
                None => return Ok(None),
                Some(ListLine::Done { more }) => return Ok(Some(Listing { more, ..listing })),
                Some(ListLine::Entry(entry)) => Entry::from(entry),
            };
            used += serde_json::to_vec(&entry).map_or(0, |it| it.len() + 1);
            if used > room || listing.items.len() as u64 >= most {
                return Ok(Some(Listing { more: true, ..listing }));
            }
            listing.items.push(entry);
        }
    }
    Ok(None)
}

fn no_answer() -> NetError {
    let detail = "the daemon did not answer in time".to_owned();
    NetError { sent: Sent::Maybe, failure: Failure::Timeout, detail }
}

/// The error of a file that was not put in place. Something that is there is no conflict, but what `If-None-Match: *` asked
/// to be told.
fn not_placed(failure: CallFailure, if_none: bool) -> Error {
    match failure {
        CallFailure::Refused(refusal) if if_none && refusal.code == Refused::Exists => {
            Error::new(Code::PreconditionFailed, refusal.detail)
        }
        failure => failure.into(),
    }
}

/// Refuses a body that is not as long as its request has announced.
pub fn ensure_whole(announced: Option<u64>, length: u64) -> Result<(), Error> {
    if announced.is_none_or(|it| it == length) { Ok(()) } else { Err(broke_off()) }
}

/// The error of a client's body that has not come to its end.
pub fn broke_off() -> Error {
    Error::new(Code::InvalidRequest, "the request's body broke off; nothing was put in place")
}
