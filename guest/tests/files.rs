//! Files: what is done to them, by the real daemon.

mod archives;
mod content;
mod faults;
mod folders;
mod hostile;
mod large;
mod staging;
mod users;
mod watching;

use std::{fs, path::Path};

use bytes::Bytes;
use http_body_util::BodyExt;
use pve_edge_guest_protocol::{
    ENTRY, Unique,
    answer::{Done, Refusal},
    call::{Digest256, Operation},
    file::{
        At, Commit, Entry, List, ListLine, Mkdir, Move, Pack, Placing, Range, Read, Remove, Stage, Staged,
        Unpack, Unpacked, Write,
    },
};

use crate::daemon::{Daemon, unique};

/// Done by a user, or by the daemon's own.
type As<'a> = Option<&'a str>;

/// Calls of files, as the edge makes them.
impl Daemon {
    async fn stat(&self, path: &str) -> Result<Entry, Refusal> {
        self.stat_as(path, None).await
    }

    async fn stat_as(&self, path: &str, user: As<'_>) -> Result<Entry, Refusal> {
        self.ask(Operation::Stat(At { path: path.into(), user: user.map(Into::into) }), "").await
    }

    async fn content(&self, path: &str) -> Result<String, Refusal> {
        self.content_as(path, None).await
    }

    async fn content_as(&self, path: &str, user: As<'_>) -> Result<String, Refusal> {
        let args = Read { path: path.into(), user: user.map(Into::into), range: None, if_match: None };
        self.read(Operation::Read(args), "").await.map(|it| String::from_utf8(it).unwrap())
    }

    /// Reads a range; the answer is its bytes, the length in the head, and the entry in the head.
    async fn range(&self, path: &str, range: Option<Range>) -> Result<(Vec<u8>, u64, Entry), Refusal> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let args = Read { path: path.into(), user: None, range, if_match: None };
        let answer = self.open(Operation::Read(args), "").await?;
        let length = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let entry = URL_SAFE_NO_PAD.decode(&answer.headers()[ENTRY]).unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        Ok((bytes.to_vec(), length, serde_json::from_slice(&entry).unwrap()))
    }

    async fn write(&self, path: &str, content: impl Into<Bytes>) -> Result<Entry, Refusal> {
        self.write_with(write(path), content).await
    }

    async fn write_with(&self, args: Write, content: impl Into<Bytes>) -> Result<Entry, Refusal> {
        self.ask(Operation::Write(args), content).await
    }

    async fn stage(&self, args: Stage, content: impl Into<Bytes>) -> Result<Staged, Refusal> {
        // A body that may be long is sent when the session is known.
        self.stat(".").await?;
        self.ask(Operation::Stage(args), content).await
    }

    async fn commit(&self, stage: Unique, sha256: Digest256, placing: Placing) -> Result<Entry, Refusal> {
        self.ask(Operation::Commit(Commit { stage, sha256, placing }), "").await
    }

    async fn list(&self, path: &str, depth: u32, most: u64) -> Result<(Vec<Entry>, bool), Refusal> {
        let args = List { path: path.into(), user: None, depth, most };
        let mut lines: Vec<ListLine> = self.lines(Operation::List(args), "").await?;
        let Some(ListLine::Done { more }) = lines.pop() else { panic!("{lines:?}") };
        let entries = lines.into_iter().map(|line| match line {
            ListLine::Entry(entry) => entry,
            done => panic!("{done:?}"),
        });
        Ok((entries.collect(), more))
    }

    async fn mkdir(&self, path: &str, parents: bool) -> Result<Entry, Refusal> {
        let args = Mkdir { path: path.into(), user: None, mode: None, parents };
        self.ask(Operation::Mkdir(args), "").await
    }

    async fn rename(&self, from: &str, to: &str, overwrite: bool) -> Result<Entry, Refusal> {
        let args = Move { from: from.into(), to: to.into(), user: None, overwrite };
        self.ask(Operation::Move(args), "").await
    }

    async fn remove(&self, path: &str, recursive: bool) -> Result<Done, Refusal> {
        self.remove_with(Remove { path: path.into(), user: None, recursive, if_match: None }).await
    }

    async fn remove_with(&self, args: Remove) -> Result<Done, Refusal> {
        self.ask(Operation::Remove(args), "").await
    }

    async fn pack(&self, path: &str, gzip: bool) -> Result<Vec<u8>, Refusal> {
        self.read(Operation::Pack(Pack { path: path.into(), user: None, gzip }), "").await
    }

    /// Stages an archive, and unpacks it into a folder that may be missing.
    async fn unpack(&self, path: &str, archive: Vec<u8>, gzip: bool) -> Result<Unpacked, Refusal> {
        self.unpack_as(path, archive, gzip, None).await
    }

    async fn unpack_as(
        &self,
        path: &str,
        archive: Vec<u8>,
        gzip: bool,
        user: As<'_>,
    ) -> Result<Unpacked, Refusal> {
        let sha256 = Digest256::of(&archive);
        let user = user.map(Into::into);
        let args = Stage { unpack: true, mkdirs: true, user, ..stage(path) };
        let name = args.stage;
        assert_eq!(self.stage(args, archive).await?.sha256, sha256);
        self.ask(Operation::Unpack(Unpack { stage: name, sha256, gzip }), "").await
    }

    /// A path in root's home.
    fn home(&self, path: &str) -> std::path::PathBuf {
        self.path("home").join(path)
    }
}

fn write(path: &str) -> Write {
    Write { path: path.into(), user: None, mkdirs: false, placing: Placing::default() }
}

fn stage(path: &str) -> Stage {
    Stage { stage: unique(), path: path.into(), user: None, mkdirs: false, unpack: false }
}

/// Names in a folder, in order.
fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
