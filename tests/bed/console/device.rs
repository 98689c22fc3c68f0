//! What a session keeps: a terminal with a shell on it, or with a getty.

use std::{future::pending, io};

use rustix::process::Pid;

use super::{getty::Getty, pty::Pty};

/// A terminal and what is on it.
pub(super) enum Device {
    /// A shell of this system.
    Shell(Box<Pty>),
    /// A getty, which is none.
    Getty(Getty),
}

impl Device {
    /// The process that leads it.
    pub(super) fn leader(&self) -> Option<Pid> {
        match self {
            Self::Shell(pty) => pty.leader(),
            Self::Getty(_) => None,
        }
    }

    /// Waits for output; none, or an error, is the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Shell(pty) => pty.read(buffer).await,
            Self::Getty(getty) => match getty.read(buffer) {
                // What is typed comes in between.
                0 => pending().await,
                length => Ok(length),
            },
        }
    }

    /// Types.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Shell(pty) => pty.write(bytes).await,
            Self::Getty(getty) => {
                getty.typed(bytes);
                Ok(())
            }
        }
    }

    /// Gives it a size.
    pub(super) fn resize(&self, cols: u16, rows: u16) {
        if let Self::Shell(pty) = self {
            pty.resize(cols, rows);
        }
    }
}
