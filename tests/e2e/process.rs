//! A server in a process of its own, which ends with this one.

use std::{
    fs::File,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// The first start of the Lambda emulator may have to compile.
const START: Duration = Duration::from_secs(600);

/// How long an orderly end may take; the emulators end processes of their own.
const END: Duration = Duration::from_secs(15);

/// A program that prints `ready URL` when it answers, and ends when its parent does.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Pid,
    /// Where it answers.
    pub(super) url: String,
}

impl Process {
    /// Starts it and waits until it is ready; what it prints goes to the file `log`.
    pub(super) async fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| format!("{program}: {error}");
        let file = File::create(log).map_err(failed)?;
        // Build scripts look at what cargo sets for what it runs: they would run again, and ring and all above it be compiled.
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in names.filter(|it| it.starts_with("CARGO_PKG_") || it.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or("it is gone")?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        // From here on its end is ours to see to, ready or not.
        let mut process = Self { child, group, url: String::new() };
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(START, lines.next_line()).await.map_err(|_| format!("{program}: not ready"))?;
        match first.map_err(failed)?.as_deref().and_then(|line| line.strip_prefix("ready ")) {
            Some(url) => process.url = url.trim().to_owned(),
            None => {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{program} did not start:\n{said}"));
            }
        }
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            // Gone already is as good.
            let _ = kill_process_group(self.group, signal);
            let patience = Instant::now() + END;
            while Instant::now() < patience {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
