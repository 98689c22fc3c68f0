//! The first contact with the daemon of our own after a start of its guest: it proves that it is this sandbox's, gets
//! the deployment's keys, and the sandbox's environment (rules S2.13, S7.8).

use http::HeaderMap;
use pve_edge_guest_protocol::{
    ENTRY,
    answer::{Code as Refused, Done, Hello},
    call::Operation,
    file::{At, Entry, Placing, Range, Read, Remove, Write},
    keys::{KeyFile, KeyLine},
};
use time::OffsetDateTime;

use super::{Located, probe::Probe};
use crate::{
    daemon::{CallFailure, Daemon},
    error::Error,
    io::{Io, collect},
    pve::{
        cluster::Cluster,
        marks::{Mark, What},
    },
    sandbox::{
        channel::Channel,
        environment::{self, Env},
        power::Keeps,
    },
};

/// File of keys in a guest.
pub const KEYS: &str = "/etc/pve-edge/keys";

/// Why a daemon that obeys none of the deployment's keys is no use, and what to do.
pub const NO_KEY: &str = "its daemon (pve-edge-guest) obeys none of the keys that EDGE_SECRET gives: was the secret removed \
    that was set when the daemon was installed? Start the template's container or VM anew, run in it `curl -fsSL \
    EDGE/guest/install.sh | sh`, where EDGE is the address of this API, and make the template again";

/// Bytes of a file's first line that tell whose it is.
const FIRST_LINE: u64 = 128;

/// The names of the keys that a guest of the deployment obeys after its first contact.
pub fn key_names<I: Io>(cluster: &Cluster<'_, I>) -> Vec<String> {
    lines(cluster).into_iter().map(|line| line.id.to_string()).collect()
}

fn lines<I: Io>(cluster: &Cluster<'_, I>) -> Vec<KeyLine> {
    let deployment = &cluster.settings.deployment;
    cluster.settings.secrets.all().map(|it| it.guest_key(deployment).line(deployment)).collect()
}

/// Whether memory has come back with the guest, in which sessions and calls of before are.
pub fn has_old_memory(mark: &Mark) -> bool {
    mark.keeps == Some(Keeps::Memory)
        || mark.doing.as_ref().is_some_and(|it| it.what == What::Start && it.memory)
}

/// Makes the first contact: each request ends at `deadline`.
pub(super) async fn probe<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    daemon: &mut Daemon<'_, I>,
    deadline: impl Fn() -> OffsetDateTime,
) -> Result<Probe, Error> {
    let env =
        found.mark.env.as_ref().map(|_| found.mark.environment(&cluster.settings.secrets)).transpose()?;
    match contact(cluster, found, daemon, env.as_ref(), deadline).await {
        Ok(probe) => Ok(probe),
        Err(CallFailure::NoKey) => Ok(Probe::NoKey),
        Err(CallFailure::Refused(refusal)) => Ok(match refusal.code {
            Refused::NotHere => Probe::Elsewhere,
            Refused::Unauthorized => Probe::NoKey,
            _ => Probe::NotYet(refusal.detail),
        }),
        Err(failure) => Ok(Probe::NotYet(failure.to_string())),
    }
}

async fn contact<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    daemon: &mut Daemon<'_, I>,
    env: Option<&Env>,
    deadline: impl Fn() -> OffsetDateTime,
) -> Result<Probe, CallFailure> {
    match daemon.unsigned(deadline()).await? {
        401 => {}
        200 => return Ok(Probe::Open),
        status => return Ok(Probe::NotYet(format!("status {status} came instead of 401"))),
    }
    if has_old_memory(&found.mark) {
        daemon.renew(deadline()).await?;
    }
    let hello: Hello = daemon.ask(&Operation::Hello {}, &[], deadline()).await?;
    let known = KeyFile::parse(&hello.keys);
    let wanted = known.with(&cluster.settings.deployment, lines(cluster));
    let written = write_keys(daemon, (&known, &wanted), &deadline).await;
    let env = match (written, env) {
        (Ok(()), Some(env)) => write_env(daemon, &found.mark, env, &deadline).await,
        (written, _) => written,
    };
    match env {
        Ok(()) => Ok(Probe::Ready(Channel::Guest)),
        // Its disk is full or read-only, say.
        Err(CallFailure::Refused(refusal)) if refusal.code != Refused::Busy => Ok(Probe::Unable),
        Err(failure) => Err(failure),
    }
}

/// Writes the file of keys where it is not exactly the deployment's list; lines of other deployments stay.
async fn write_keys<I: Io>(
    daemon: &mut Daemon<'_, I>,
    (known, wanted): (&KeyFile, &KeyFile),
    deadline: &impl Fn() -> OffsetDateTime,
) -> Result<(), CallFailure> {
    if known == wanted {
        return Ok(());
    }
    let placing = Placing { mode: Some(0o600), ..Placing::default() };
    let write = Write { path: KEYS.into(), user: None, mkdirs: true, placing };
    daemon.ask::<Entry>(&Operation::Write(write), wanted.to_string().as_bytes(), deadline()).await.map(|_| ())
}

/// Writes the file of the environment, once: later changes of its owner stay. A guest that is made of a snapshot has the
/// former sandbox's file on its disk, which is replaced, or removed where nothing takes its place.
async fn write_env<I: Io>(
    daemon: &mut Daemon<'_, I>,
    mark: &Mark,
    env: &Env,
    deadline: &impl Fn() -> OffsetDateTime,
) -> Result<(), CallFailure> {
    let there = first_line(daemon, deadline).await?;
    let nonce = mark.nonce.to_string();
    let etag = match &there {
        Some((line, _)) if *line == environment::header(&nonce) => return Ok(()),
        Some((line, _)) if env.is_empty() && !environment::is_header(line) => return Ok(()),
        None if env.is_empty() => return Ok(()),
        there => there.as_ref().map(|(_, etag)| etag.clone()),
    };
    let path = environment::FILE.to_owned();
    if env.is_empty() {
        let remove = Remove { path, user: None, recursive: false, if_match: etag };
        return daemon.ask::<Done>(&Operation::Remove(remove), &[], deadline()).await.map(|_| ());
    }
    let placing = Placing { mode: Some(0o600), if_none: etag.is_none(), if_match: etag };
    let write = Write { path, user: None, mkdirs: true, placing };
    let content = env.file(&nonce);
    daemon.ask::<Entry>(&Operation::Write(write), content.as_bytes(), deadline()).await.map(|_| ())
}

/// The first line of the file of the environment, and its ETag; `None` where there is no such file.
async fn first_line<I: Io>(
    daemon: &mut Daemon<'_, I>,
    deadline: &impl Fn() -> OffsetDateTime,
) -> Result<Option<(String, String)>, CallFailure> {
    let range = Some(Range::From { first: 0, last: Some(FIRST_LINE - 1) });
    let path = environment::FILE.to_owned();
    let read = Operation::Read(Read { path: path.clone(), user: None, range, if_match: None });
    let answer = match daemon.open(&read, &[], deadline()).await {
        Ok(answer) => answer,
        Err(CallFailure::Refused(refusal)) if refusal.code == Refused::NoSuchFile => return Ok(None),
        // An empty file has no first byte.
        Err(CallFailure::Refused(refusal)) if refusal.code == Refused::RangeNotSatisfiable => {
            let entry: Entry = daemon.ask(&Operation::Stat(At { path, user: None }), &[], deadline()).await?;
            return Ok(Some((String::new(), entry.etag)));
        }
        Err(failure) => return Err(failure),
    };
    let entry = entry(&answer.headers).ok_or(CallFailure::Foreign { status: answer.status })?;
    let bytes = collect(answer.body, FIRST_LINE as usize).await.map_err(CallFailure::Unanswered)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some((text.lines().next().unwrap_or_default().to_owned(), entry.etag)))
}

fn entry(headers: &HeaderMap) -> Option<Entry> {
    Entry::from_header(headers.get(ENTRY)?.as_bytes())
}
