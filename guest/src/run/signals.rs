//! Signals of the process, which wait until they are looked for.

use std::{
    io::{self, ErrorKind, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use signal_hook::{flag, low_level::pipe};

/// Signals that an entry point gets.
const PASSED: [Signal; 7] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::POWER];

/// Signals that were caught.
pub(super) struct Signals {
    caught: Vec<(Signal, Arc<AtomicBool>)>,
    wake: UnixStream,
}

impl Signals {
    /// Catches the signals that a guest's first process gets, and those of ended children.
    pub(super) fn catch() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut caught = Vec::new();
        for signal in PASSED {
            let flag = Arc::new(AtomicBool::new(false));
            flag::register(signal.as_raw(), flag.clone())?;
            pipe::register(signal.as_raw(), woken.try_clone()?)?;
            caught.push((signal, flag));
        }
        pipe::register(Signal::CHILD.as_raw(), woken)?;
        Ok(Self { caught, wake })
    }

    /// Waits for a signal.
    pub(super) fn wait(&self, most: Option<Duration>) -> io::Result<()> {
        let most = most.map(|it| Timespec {
            tv_sec: it.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: it.subsec_nanos().into(),
        });
        let mut polled = [PollFd::new(&self.wake, PollFlags::IN)];
        match poll(&mut polled, most.as_ref()) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        match (&self.wake).read(&mut [0; 64]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// The signals for the entry point that were caught since this was called last. LXC shuts a container down by
    /// `SIGPWR`, which means `SIGTERM` to a program.
    pub(super) fn taken(&self) -> impl Iterator<Item = Signal> {
        let caught = self.caught.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        caught.map(|(signal, _)| if *signal == Signal::POWER { Signal::TERM } else { *signal })
    }
}
