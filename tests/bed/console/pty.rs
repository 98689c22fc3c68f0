//! A shell on a pseudo-terminal of its own.

use std::{ffi::OsString, io, os::fd::OwnedFd, path::PathBuf, process::Stdio};

use rustix::{
    io::ioctl_fionbio,
    process::Pid,
    pty::{OpenptFlags, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    process::{Child, Command},
};

/// What a session starts.
pub(crate) struct Shell {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Where it starts.
    pub(crate) folder: PathBuf,
}

/// The terminal, seen from outside, and the shell on it, which ends with it.
pub(super) struct Pty {
    master: OwnedFd,
    output: Receiver,
    input: Sender,
    child: Child,
}

impl Pty {
    /// Starts a shell whose controlling terminal it is. Needs `setsid`.
    pub(super) fn start(shell: &Shell) -> io::Result<Self> {
        let (master, terminal) = pair()?;
        ioctl_fionbio(&master, true)?;
        let child = Command::new("setsid")
            .arg("-c")
            .args(&shell.command)
            .env_clear()
            .envs(shell.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&shell.folder)
            .stdin(Stdio::from(terminal.try_clone()?))
            .stdout(Stdio::from(terminal.try_clone()?))
            .stderr(Stdio::from(terminal))
            .kill_on_drop(true)
            .spawn()?;
        // It is no pipe, but read and written as one.
        let output = Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let input = Sender::from_owned_fd_unchecked(master.try_clone()?)?;
        Ok(Self { master, output, input, child })
    }

    /// The shell, which leads its session and process group.
    pub(super) fn leader(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Reads what is written on it; fails when nobody has it open any more.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer).await
    }

    /// Types all of it, and waits while the terminal takes no more.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.write_all(bytes).await
    }

    /// Gives it a size, unless that is none.
    pub(super) fn resize(&self, cols: u16, rows: u16) {
        if cols > 0 && rows > 0 {
            let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(&self.master, size);
        }
    }
}

/// Both ends of a new terminal: the outer and the inner one.
#[cfg(target_os = "linux")]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, terminal))
}

#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    unlockpt(&master)?;
    Err(io::ErrorKind::Unsupported.into())
}
