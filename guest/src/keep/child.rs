//! The command of a keeper, and its streams.

use std::{
    fs::File,
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
};

use pve_edge_guest_protocol::process::{Exit, Size, Stream};
use rustix::{
    cmsg_space,
    io::ioctl_fionbio,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, WaitStatus},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::stdin::Stdin;
use crate::{
    r#become::Failure,
    metrics::oom_kills,
    process::{launch::Launch, signal},
};

/// A command that was started.
pub(super) struct Child {
    pub(super) pid: Pid,
    /// Where it tells why its program could not be run.
    channel: UnixStream,
    /// Times that the kernel had killed for want of memory when it was started.
    oom_kills: Option<u64>,
}

/// What a keeper has of the streams of its command.
pub(super) struct Streams {
    pub(super) out: Vec<Source>,
    pub(super) stdin: Option<Stdin>,
    pub(super) terminal: Option<OwnedFd>,
}

/// Stream of output that is read.
pub(super) struct Source {
    pub(super) stream: Stream,
    from: File,
    pub(super) is_over: bool,
}

/// The command's ends of the streams.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Starts the stage before a program, and hands it what to become.
pub(super) fn start(launch: &Launch) -> io::Result<(Child, Streams)> {
    let (streams, ends) = match launch.pty {
        Some(size) => terminal(size)?,
        None => pipes(launch.stdin)?,
    };
    let (mut channel, theirs) = UnixStream::pair()?;
    let oom_kills = oom_kills();
    let child = Command::new("/proc/self/exe")
        .arg0("pve-edge-guest")
        .arg("become")
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(ends.stdout)
        .stderr(ends.stderr)
        .spawn()?;
    // A stage that does not read it ends, and how is told as the command's end.
    let _ = hand_over(&mut channel, launch, ends.stdin);
    channel.set_nonblocking(true)?;
    Ok((Child { pid: Pid::from_child(&child), channel, oom_kills }, streams))
}

fn hand_over(channel: &mut UnixStream, launch: &Launch, stdin: Option<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut sent = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = stdin.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        sent.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(&channel, &[IoSlice::new(b" ")], &mut sent, SendFlags::NOSIGNAL)?;
    let mut line = serde_json::to_vec(launch)?;
    line.push(b'\n');
    channel.write_all(&line)
}

fn pipes(has_stdin: bool) -> io::Result<(Streams, Ends)> {
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let out = vec![Source::new(Stream::Stdout, stdout.into())?, Source::new(Stream::Stderr, stderr.into())?];
    let mut streams = Streams { out, stdin: None, terminal: None };
    let mut ends = Ends { stdin: None, stdout: their_stdout.into(), stderr: their_stderr.into() };
    if has_stdin {
        let (theirs, stdin) = io::pipe()?;
        ioctl_fionbio(&stdin, true)?;
        streams.stdin = Some(Stdin::new(stdin.into(), false));
        ends.stdin = Some(theirs.into());
    }
    Ok((streams, ends))
}

fn terminal(size: Size) -> io::Result<(Streams, Ends)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags)?;
    unlockpt(&terminal)?;
    resize(&terminal, size)?;
    let stdout = ioctl_tiocgptpeer(&terminal, flags)?;
    let stderr = stdout.try_clone()?;
    let out = vec![Source::new(Stream::Stdout, terminal.try_clone()?)?];
    let stdin = Some(Stdin::new(terminal.try_clone()?, true));
    Ok((Streams { out, stdin, terminal: Some(terminal) }, Ends { stdin: None, stdout, stderr }))
}

/// Gives a terminal its size, unless that is none.
pub(super) fn resize(terminal: &OwnedFd, size: Size) -> io::Result<()> {
    if size.cols == 0 || size.rows == 0 {
        return Ok(());
    }
    let size = Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

impl Source {
    fn new(stream: Stream, from: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&from, true)?;
        Ok(Self { stream, from: from.into(), is_over: false })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// Reads what is there. A terminal whose command is gone is over, as a pipe is that nobody writes to.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let length = match self.from.read(buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Ok(length) if length > 0 => length,
            _ => {
                self.is_over = true;
                0
            }
        };
        buffer.get(..length).unwrap_or_default()
    }
}

impl Child {
    /// Says how the command has ended. Whether it was for want of memory is not known of one that its keeper ends.
    pub(super) fn exit(&mut self, status: WaitStatus, by_keeper: bool) -> Exit {
        let failure = self.failure();
        let killer = status.terminating_signal();
        let code = status.exit_status().or(killer.map(|it| 128 + it)).unwrap_or(-1);
        let is_killed = code == 128 + rustix::process::Signal::KILL.as_raw();
        Exit {
            exit_code: failure.as_ref().map_or(code, |it| it.code.into()),
            signal: killer.map(signal::name),
            timed_out: false,
            oom_killed: is_killed && !by_keeper && oom_kills() > self.oom_kills,
            error: failure.map(|it| it.error.chars().take(500).collect()),
        }
    }

    /// Reads why the program could not be run.
    fn failure(&mut self) -> Option<Failure> {
        let mut json = Vec::new();
        let _ = self.channel.read_to_end(&mut json);
        serde_json::from_slice(&json).ok()
    }
}
