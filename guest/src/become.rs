//! Part `become`: the stage of a process before its program.
//!
//! Its keeper starts it with the process's own standard output and error, and hands it the rest over a socket, which is
//! its standard input at first. It has one thread, so what it does to itself is done to the process.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, ExitCode},
};

use rustix::{
    cmsg_space,
    fs::{Gid, Mode, Uid, fchown},
    io::fcntl_dupfd_cloexec,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Resource, Rlimit, chdir, getrlimit, ioctl_tiocsctty, setrlimit, setsid, umask},
    stdio::{dup2_stdin, stderr, stdin, stdout},
};
use serde::{Deserialize, Serialize};

use crate::process::launch::Launch;

/// Exit code where the program was not found.
const NOT_FOUND: u8 = 127;

/// Exit code where it could not be run for another reason.
const NOT_RUN: u8 = 126;

/// Why the program could not be run. A keeper that reads none knows that it runs, or that the stage was killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: String,
}

/// Plays the part: becomes the program that the keeper tells; returns only if that fails.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    let Ok(channel) = fcntl_dupfd_cloexec(stdin(), 3) else { return ExitCode::from(NOT_RUN) };
    let mut channel = UnixStream::from(channel);
    let failure = match receive(&channel) {
        Ok((launch, input)) => run(&launch, input),
        Err(error) => Failure::new(NOT_RUN, "the stage before the program", &error),
    };
    // A keeper that is gone reads nothing.
    let _ = serde_json::to_vec(&failure).map(|json| channel.write_all(&json));
    ExitCode::from(failure.code)
}

impl Failure {
    fn new(code: u8, what: &str, error: &io::Error) -> Self {
        Self { code, error: format!("{what}: {error}") }
    }
}

/// Receives what to run, and the standard input if it is a pipe: one byte with the pipe, and a line of JSON.
fn receive(channel: &UnixStream) -> io::Result<(Launch, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut received, RecvFlags::CMSG_CLOEXEC)?;
    let input = received.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut line = Vec::new();
    BufReader::new(channel).read_until(b'\n', &mut line)?;
    Ok((serde_json::from_slice(&line)?, input))
}

fn run(launch: &Launch, input: Option<OwnedFd>) -> Failure {
    if let Err(error) = prepare(launch, input) {
        return Failure::new(NOT_RUN, "the stage before the program", &error);
    }
    if let Err(error) = launch.user.assume() {
        return Failure::new(NOT_RUN, &format!("to be the user {:?}", launch.user.name), &error);
    }
    if let Err(error) = chdir(&launch.cwd) {
        return Failure::new(NOT_RUN, &format!("the working directory {:?}", launch.cwd), &error.into());
    }
    let Some((program, arguments)) = launch.argv.split_first() else {
        return Failure::new(NOT_RUN, "the program", &io::ErrorKind::InvalidInput.into());
    };
    let error = Command::new(program).args(arguments).env_clear().envs(&launch.env).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    Failure::new(code, program, &error)
}

/// Gives the process its session, its terminal, its standard input, its control group and its limit of open files.
fn prepare(launch: &Launch, input: Option<OwnedFd>) -> io::Result<()> {
    setsid()?;
    match input {
        _ if launch.pty.is_some() => {
            ioctl_tiocsctty(stdout())?;
            dup2_stdin(stdout())?;
        }
        Some(pipe) => {
            own(pipe.as_fd(), launch);
            dup2_stdin(pipe)?;
        }
        None => dup2_stdin(File::open("/dev/null")?)?,
    }
    own(stdout(), launch);
    own(stderr(), launch);
    if let Some(cgroup) = &launch.cgroup {
        // Without it, the process is killed as those are for which there is no group.
        let _ = std::fs::write(cgroup.join("cgroup.procs"), "0");
    }
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: launch.open_files, ..files })?;
    umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Makes a stream the user's, so that the user can open it again by a path such as `/dev/stderr`.
fn own(stream: BorrowedFd<'_>, launch: &Launch) {
    let (uid, gid) = (Uid::from_raw(launch.user.uid), Gid::from_raw(launch.user.gid));
    // An ordinary user's daemon owns it already.
    let _ = fchown(stream, Some(uid), Some(gid));
}
