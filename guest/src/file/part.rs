//! The part `file`: a process that becomes a user, and does one thing with files.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    call::Operation,
};
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, getuid, setrlimit, umask},
};

use super::{
    channel::{Channel, Request},
    list, mkdir, pack, place, read, remove, rename, stat, watch,
};
use crate::users::{Names, User};

/// Open files that the process allows itself: one for each level of nested folders.
const OPEN_FILES: u64 = 4096;

/// Does what is asked on standard input, which is a socket, and answers there.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        // The answer is cut by it, and so its reader knows.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why something is not done, or not to its end.
pub(super) enum Stop {
    /// It is refused.
    Refused(Refusal),
    /// Content could not be read or sent to its end.
    Cut,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Cut
    }
}

/// User whose files they are.
pub(super) struct Actor {
    /// User that this process has become.
    pub(super) user: User,
    /// Folder that stands for [`OWN_FOLDER`](crate::layout::OWN_FOLDER).
    pub(super) own: Option<PathBuf>,
    /// Names of users and groups.
    pub(super) names: Names,
}

fn obey() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut channel = Channel::new(socket);
    let Some(request) = channel.line::<Request>()? else { return Ok(()) };
    umask(Mode::empty());
    allow_open_files();
    let done = Actor::become_user(&request)
        .map_err(Stop::from)
        .and_then(|actor| perform(request.operation, &actor, &mut channel));
    match done {
        Ok(()) => Ok(()),
        Err(Stop::Refused(refusal)) => channel.refuse(refusal),
        Err(Stop::Cut) => Err(io::ErrorKind::Other.into()),
    }
}

fn perform(operation: Operation, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    match operation {
        Operation::Stat(args) => Ok(channel.json(&stat::stat(&args, actor)?)?),
        Operation::List(args) => list::list(&args, actor, channel),
        Operation::Read(args) => read::read(&args, actor, channel),
        Operation::Write(args) => place::write(&args, actor, channel),
        Operation::Stage(args) => place::stage(&args, actor, channel),
        Operation::Pack(args) => pack::pack(&args, actor, channel),
        Operation::Mkdir(args) => Ok(channel.json(&mkdir::mkdir(&args, actor)?)?),
        Operation::Move(args) => Ok(channel.json(&rename::rename(&args, actor)?)?),
        Operation::Remove(args) => Ok(channel.json(&remove::remove(&args, actor)?)?),
        Operation::Watch(args) => watch::watch(&args, actor, channel),
        _ => Err(Refusal::new(Code::BadCall, "nothing is done with files by this").into()),
    }
}

impl Actor {
    fn become_user(request: &Request) -> Result<Self, Refusal> {
        let wanted = user(&request.operation);
        let mut user = User::find(&request.etc, wanted)?;
        let own = getuid().as_raw();
        if let Some(home) = request.home.clone().filter(|_| user.uid == own) {
            user.home = home;
        }
        user.assume().map_err(|error| {
            let detail = format!("the daemon is user {own} and cannot be {:?}: {error}", user.name);
            Refusal::new(Code::NotPermitted, detail)
        })?;
        Ok(Self { user, own: request.own.clone(), names: Names::read(&request.etc) })
    }
}

/// The user that a call names.
pub(super) fn user(operation: &Operation) -> Option<&str> {
    match operation {
        Operation::Stat(it) => it.user.as_deref(),
        Operation::List(it) => it.user.as_deref(),
        Operation::Read(it) => it.user.as_deref(),
        Operation::Write(it) => it.user.as_deref(),
        Operation::Stage(it) => it.user.as_deref(),
        Operation::Pack(it) => it.user.as_deref(),
        Operation::Mkdir(it) => it.user.as_deref(),
        Operation::Move(it) => it.user.as_deref(),
        Operation::Remove(it) => it.user.as_deref(),
        Operation::Watch(it) => it.user.as_deref(),
        _ => None,
    }
}

fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |it| it.min(OPEN_FILES));
    if limit.current.is_some_and(|it| it < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}
