//! Files of a container, by scripts that the hub in its console runs. Whole files go in and come out, up to a limit.

mod said;
mod script;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use pve_edge_guest_protocol::{
    answer::{Code as Refused, Refusal},
    file::{At, Entry as Told, Kind, List, Mkdir, Move, Range, Remove},
};
use sha2::{Digest, Sha256};

use self::script::exit;
use super::{Console, operations::foreign, process::Input, script::as_user};
use crate::{
    daemon::CallFailure,
    error::{Code, Error},
    io::Io,
    sandbox::file::{Archive, Content, Entry, Listing, Reading, Unpacked, Writing, range::Part},
};

/// Bytes of the largest file, part of one, or archive that goes through a console.
pub(in crate::pve) const LIMIT: u64 = 4 << 20;
/// Bytes up to which a file is read as a whole whatever is wanted of it: its size may be a lie, as in `/sys`.
const SMALL: u64 = 64 << 10;
/// Bytes that a listing may have as scripts tell it.
const LISTING: u64 = 3 << 20;
/// Time for as many bytes as the limit is.
const TRANSFER: Duration = Duration::from_secs(600);

impl<I: Io> Console<I> {
    /// Reads a file, or a part of it.
    pub(in crate::pve) async fn read_file(&mut self, reading: &Reading) -> Result<Content<Vec<u8>>, Error> {
        let At { path, user } = &reading.at;
        let mark = self.mark();
        let script = script::read(&mark, reading);
        let said = self.do_as(user.as_deref(), script, Input::None, path).await?;
        let (entry, rest) = said::one(&said, &mark, path).ok_or_else(foreign)?;
        if entry.kind != Kind::File {
            return Err(foreign().into());
        }
        if reading.if_match.as_ref().is_some_and(|it| !it.has(&entry.etag)) {
            return Err(Error::new(Code::PreconditionFailed, "the file is not the one that If-Match names"));
        }
        let is_known = reading.if_none_match.as_ref().is_some_and(|it| it.has(&entry.etag));
        if reading.is_head || is_known {
            let body = (!is_known).then(Vec::new);
            return Ok(Content { entry, part: None, body });
        }
        let is_meant =
            reading.if_range.as_ref().is_none_or(|it| it.single().is_some_and(|it| it == entry.etag));
        let range = reading.range.filter(|_| is_meant);
        sent(entry, range, said::content(rest, &mark).ok_or_else(foreign)?)
    }

    /// Puts bytes into a file.
    pub(in crate::pve) async fn write_file(
        &mut self,
        writing: &Writing,
        content: Vec<u8>,
    ) -> Result<Entry, Error> {
        let Writing { at: At { path, user }, mkdirs, placing } = writing;
        let mark = self.mark();
        let script = script::write(&mark, (leaf(path)?, *mkdirs), placing, &sum(&content));
        let said = self.do_as(user.as_deref(), script, Input::Whole(content), path).await;
        let said = said.map_err(|error| match error.code() {
            // What `If-None-Match: *` asked to be told.
            Code::FileExists if placing.if_none => Error::new(Code::PreconditionFailed, error.detail()),
            _ => error,
        })?;
        shown(&said, &mark, path)
    }

    /// Lists a folder so many levels deep; no level is the file or folder itself.
    pub(in crate::pve) async fn list_files(
        &mut self,
        at: &At,
        depth: u32,
        most: u64,
    ) -> Result<Listing, Error> {
        let (mark, At { path, user }) = (self.mark(), at.clone());
        if depth == 0 {
            let said = self.do_as(user.as_deref(), script::stat(&mark, &path), Input::None, &path).await?;
            return Ok(Listing { items: vec![shown(&said, &mark, &path)?], more: false });
        }
        let list = List { path, user, depth, most };
        let script = script::list(&mark, &list, LISTING);
        let said = self.do_as(list.user.as_deref(), script, Input::None, &list.path).await?;
        let (entries, is_all) = said::all(&said, &mark, &list.path).ok_or_else(foreign)?;
        let (mut listing, mut room) = (Listing { items: Vec::new(), more: !is_all }, self.room());
        for entry in entries.into_iter().map(Entry::from) {
            let length = serde_json::to_vec(&entry).map_or(0, |it| it.len() + 1);
            if length > room || listing.items.len() as u64 >= most {
                listing.more = true;
                break;
            }
            room -= length;
            listing.items.push(entry);
        }
        Ok(listing)
    }

    /// Makes a folder.
    pub(in crate::pve) async fn make_folder(&mut self, mkdir: &Mkdir) -> Result<Entry, Error> {
        let mark = self.mark();
        let (script, path) = (script::mkdir(&mark, mkdir), &mkdir.path);
        let said = self.do_as(mkdir.user.as_deref(), script, Input::None, path).await?;
        shown(&said, &mark, path)
    }

    /// Gives a file or a folder another path.
    pub(in crate::pve) async fn move_file(&mut self, renamed: &Move) -> Result<Entry, Error> {
        let (mark, Move { from, to, user, overwrite }) = (self.mark(), renamed);
        let script = script::rename(&mark, leaf(from)?, leaf(to)?, *overwrite);
        let said = self.do_as(user.as_deref(), script, Input::None, to).await?;
        shown(&said, &mark, to)
    }

    /// Removes a file, or a folder.
    pub(in crate::pve) async fn remove_file(&mut self, remove: &Remove) -> Result<(), Error> {
        let script = script::remove(&self.mark(), leaf(&remove.path)?, remove);
        self.do_as(remove.user.as_deref(), script, Input::None, &remove.path).await?;
        Ok(())
    }

    /// Packs a folder, or a file, into an archive.
    pub(in crate::pve) async fn pack_files(&mut self, at: &At, archive: Archive) -> Result<Vec<u8>, Error> {
        let script = script::pack(&self.mark(), at, archive);
        let packed = self.do_as(at.user.as_deref(), script, Input::None, &at.path).await?;
        if packed.len() as u64 <= LIMIT { Ok(packed) } else { Err(foreign().into()) }
    }

    /// Unpacks an archive into a folder.
    pub(in crate::pve) async fn unpack_files(
        &mut self,
        at: &At,
        mkdirs: bool,
        archive: Archive,
        content: Vec<u8>,
    ) -> Result<Unpacked, Error> {
        let script = script::unpack(&self.mark(), at, mkdirs, archive, &sum(&content));
        let said = self.do_as(at.user.as_deref(), script, Input::Whole(content), &at.path).await?;
        let text = String::from_utf8_lossy(&said);
        let (entries, bytes) = text.trim().split_once(' ').ok_or_else(foreign)?;
        let number = |text: &str| text.parse().map_err(|_| foreign());
        Ok(Unpacked { entries: number(entries)?, bytes: number(bytes)? })
    }

    /// Runs a script as a user, and returns what it says if it has done what it is for.
    async fn do_as(
        &mut self,
        user: Option<&str>,
        body: String,
        input: Input,
        path: &str,
    ) -> Result<Vec<u8>, Error> {
        let until = self.invocation().now() + TRANSFER;
        let said = self.ask(as_user(user, &BTreeMap::new(), &body), input, until).await?;
        if said.code == exit::TOO_LARGE {
            return Err(too_large("the archive", "pack less at a time"));
        }
        match said::refusal(said.code, &said.stdout, path) {
            None => Ok(said.stdout),
            Some(failure) => Err(failure.into()),
        }
    }

    /// A text that occurs in nothing that the guest has.
    fn mark(&self) -> String {
        let drawn: [u8; 16] = self.invocation().draw();
        hex::encode(drawn.first_chunk::<8>().copied().unwrap_or_default())
    }

    fn room(&self) -> usize {
        self.invocation().platform.answer_bytes
    }
}

/// What is answered of a file of which these bytes were sent.
fn sent(mut entry: Told, range: Option<Range>, bytes: &[u8]) -> Result<Content<Vec<u8>>, Error> {
    let is_whole = entry.size <= SMALL;
    let mut bytes = bytes;
    if is_whole {
        let most = if entry.size == 0 { LIMIT } else { SMALL };
        if bytes.len() as u64 > most {
            // It has grown in the meantime: what it was before is answered.
            bytes = usize::try_from(entry.size).ok().and_then(|it| bytes.get(..it)).unwrap_or_default();
            if bytes.is_empty() {
                return Err(too_large("the file", RANGE));
            }
        }
        entry.size = bytes.len() as u64;
    }
    let size = entry.size;
    let part = match range {
        None => None,
        Some(range) => Some(Part::of(range, size).ok_or_else(|| behind(size))?),
    };
    let (first, length) = part.map_or((0, size), |it| (it.first, it.length()));
    if length > LIMIT {
        return Err(too_large("the file", RANGE).member("size", size));
    }
    let (first, length) = (usize::try_from(first).ok(), usize::try_from(length).unwrap_or(usize::MAX));
    let body = if is_whole {
        first.and_then(|first| bytes.get(first..first + length)).ok_or_else(foreign)?
    } else {
        Some(bytes).filter(|it| it.len() == length).ok_or_else(foreign)?
    };
    Ok(Content { entry, part, body: Some(body.to_vec()) })
}

/// What a client does about a file that is too large.
const RANGE: &str = "ask for a Range of at most so many";

/// The error of more bytes than go through a console.
pub(in crate::pve) fn too_large(what: &str, advice: &str) -> Error {
    let text = format!(
        "{what} is too large: {LIMIT} bytes go through a container's console at once; {advice}, or put \
         pve-edge-guest into the template"
    );
    Error::new(Code::TooLarge, text).member("limit", LIMIT)
}

fn behind(size: u64) -> CallFailure {
    let detail = format!("the range begins behind the end; the file has {size} bytes");
    CallFailure::Refused(Refusal { size: Some(size), ..Refusal::new(Refused::RangeNotSatisfiable, detail) })
}

/// A path's folder and the name in it.
fn leaf(path: &str) -> Result<(&str, &str), CallFailure> {
    let words = "a path that ends with a name is needed";
    script::split(path).ok_or_else(|| CallFailure::Refused(said::at(Refused::BadPath, path, words)))
}

/// The script that tells what is at a path.
#[cfg(test)]
pub(super) fn stat_script(path: &str) -> String {
    script::stat("0a1b2c3d4e5f6071", path)
}

/// Digest and length, as scripts compare them.
fn sum(bytes: &[u8]) -> String {
    format!("{}.{}", hex::encode(Sha256::digest(bytes)), bytes.len())
}

/// The one file that a script has told of.
fn shown(said: &[u8], mark: &str, path: &str) -> Result<Entry, Error> {
    let (entry, _) = said::one(said, mark, path).ok_or_else(foreign)?;
    Ok(entry.into())
}
