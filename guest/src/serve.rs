//! Part `serve`: answers HTTP on the listening socket that is its standard input.

mod call;
mod cmux;
mod connections;
mod operations;
mod stream;
mod terminal;

use std::{
    fs::File,
    io,
    net::TcpListener,
    os::fd::AsFd,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use pve_edge_guest_protocol::Unique;
use rustix::{
    process::{Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit},
    stdio::{dup2_stdin, stdin},
    time::{ClockId, clock_gettime},
};
use tokio::{runtime, sync::Semaphore};

use crate::{
    arguments::Options,
    boot::Boot,
    file::Files,
    log::log,
    process::Processes,
    serve::{cmux::Cmux, operations::Daemon},
    trust::{ClockAndDice, Identity, Keys, Trust},
};

/// KiB of bodies that are in memory at a time.
const BODIES_KIB: usize = 16 << 10;

/// Plays the part.
pub fn main(options: Options) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(error);
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> io::Result<()> {
    end_with(options.parent)?;
    allow_files();
    let listener = listener()?;
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let daemon = daemon(options)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        connections::accept(listener, Arc::new(daemon)).await;
        Ok(())
    })
}

/// Ends this process when `run` ends, however that is: another `run` would not get the port else.
fn end_with(parent: Option<u32>) -> io::Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let present = getppid().map(|it| it.as_raw_nonzero().get().unsigned_abs());
    if present == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this is gone"))
    }
}

/// Allows as many open files as there may be: all connections and what they follow need more than is common. Commands
/// get back what the daemon was given.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Takes the listening socket from standard input, so that no process that is started gets it.
fn listener() -> io::Result<TcpListener> {
    let socket = stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn daemon(options: Options) -> io::Result<Daemon> {
    let identity = Identity { cards: options.cards.unwrap_or_else(|| "/sys/class/net".into()) };
    let layout = Arc::new(options.layout);
    let boot = Arc::new(Boot::open(&layout)?);
    let world = ClockAndDice { clock: Arc::new(uptime), dice: Arc::new(draw) };
    let trust = Trust::new(Keys::new(layout.keys.clone()), identity, world);
    let client_ms = options.limits.client_ms;
    let processes = Arc::new(Processes::new(layout.clone(), boot.clone(), options.limits)?);
    Ok(Daemon {
        trust: Mutex::new(trust),
        cmux: Cmux { token_file: options.token_file, processes: processes.clone() },
        processes,
        files: Files::new(layout),
        boot,
        client_ms,
        bodies: Arc::new(Semaphore::new(BODIES_KIB)),
    })
}

/// Time since the kernel's start, in which the guest slept too.
fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

/// Draws what occurs once, from the kernel. Without randomness nothing can be proved, so the daemon ends.
pub(crate) fn draw() -> Unique {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        log(format_args!("the kernel gives no random numbers: {error}"));
        std::process::exit(1);
    }
    Unique(bytes)
}
