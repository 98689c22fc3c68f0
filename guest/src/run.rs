//! Part `run`: holds the listening socket, so that nobody else gets the port while `serve` is down; starts `serve`,
//! starts it again when it ends, and reaps. As the first process of an image it runs the image's entry point, too.

mod signals;

use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};

use self::signals::Signals;
use crate::{arguments::Options, boot::Boot, log::log, serve::draw};

/// How often the file of keys is looked for, and how soon a `serve` that has ended is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Plays the part.
pub fn main(options: Options) -> ExitCode {
    run(options).map_or_else(
        |error| {
            log(error);
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn run(options: Options) -> io::Result<u8> {
    let signals = Signals::catch()?;
    // What loses its parent becomes a child of this process, and is reaped.
    set_child_subreaper(Some(getpid()))?;
    Boot::begin(&options.layout, options.is_machine(), draw)?;
    let mut guest = Guest { socket: None, entry_point: None, serve: None, started: None, options };
    guest.listen()?;
    if guest.socket.is_none() {
        log(format_args!("waiting for the keys: {} is missing", guest.options.layout.keys.display()));
    }
    guest.enter()?;
    loop {
        guest.listen()?;
        let pause = guest.serve()?;
        signals.wait(pause)?;
        if let Some(code) = guest.reap() {
            guest.end();
            return Ok(code);
        }
        for signal in signals.taken() {
            let Some(entry_point) = guest.entry_point else {
                guest.end();
                return Ok(0);
            };
            let _ = kill_process(entry_point, signal);
        }
    }
}

/// What runs.
struct Guest {
    options: Options,
    socket: Option<TcpListener>,
    entry_point: Option<Pid>,
    serve: Option<Pid>,
    started: Option<Instant>,
}

impl Guest {
    /// Takes the port as soon as there are keys: nobody could prove a call before.
    fn listen(&mut self) -> io::Result<()> {
        if self.socket.is_some() || !self.options.layout.keys.exists() {
            return Ok(());
        }
        self.socket = Some(TcpListener::bind(self.options.listen.as_slice()).map_err(|error| {
            let listen = self.options.listen.first().map(ToString::to_string).unwrap_or_default();
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program listens there: stop it, or use --listen".to_owned()
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("cannot listen on {listen}: {why}"))
        })?);
        Ok(())
    }

    /// Starts the image's own program.
    fn enter(&mut self) -> io::Result<()> {
        let Some((program, arguments)) = self.options.entry_point.split_first() else { return Ok(()) };
        let child = Command::new(program).args(arguments).spawn();
        let child = child.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start the entry point {program:?}: {error}"))
        })?;
        self.entry_point = pid(&child);
        Ok(())
    }

    /// Starts `serve` unless it runs. Returns how long to wait until it is tried again.
    fn serve(&mut self) -> io::Result<Option<Duration>> {
        let Some(socket) = &self.socket else { return Ok(Some(PAUSE)) };
        if self.serve.is_some() {
            return Ok(None);
        }
        let early = self.started.map(|it| PAUSE.saturating_sub(it.elapsed()));
        if let Some(early) = early.filter(|it| !it.is_zero()) {
            return Ok(Some(early));
        }
        let child = Command::new(&self.options.layout.program)
            .arg0("pve-edge-guest")
            .arg("serve")
            .args(&self.options.given)
            .args(["--parent", &getpid().as_raw_nonzero().to_string()])
            .stdin(OwnedFd::from(socket.try_clone()?))
            .stdout(Stdio::null())
            .spawn();
        self.started = Some(Instant::now());
        match child {
            Ok(child) => self.serve = pid(&child),
            Err(error) => log(format_args!("cannot start serve: {error}")),
        }
        Ok(self.serve.is_none().then_some(PAUSE))
    }

    /// Reaps all processes that have ended. Returns the exit code if the entry point is among them.
    fn reap(&mut self) -> Option<u8> {
        let mut code = None;
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if Some(ended) == self.entry_point {
                code = Some(exit_code(status));
            } else if Some(ended) == self.serve {
                log(format_args!("serve has ended with {}, and is started again", exit_code(status)));
                self.serve = None;
            }
        }
        code
    }

    fn end(&self) {
        if let Some(serve) = self.serve {
            let _ = kill_process(serve, Signal::KILL);
        }
    }
}

/// The number of a child, which [`Guest::reap`] waits for.
fn pid(child: &std::process::Child) -> Option<Pid> {
    Pid::from_raw(child.id().cast_signed())
}

/// As a shell tells it.
fn exit_code(status: WaitStatus) -> u8 {
    let by_signal = status.terminating_signal().map(|it| it.saturating_add(128));
    let code = status.exit_status().or(by_signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
