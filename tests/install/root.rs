//! A root file system, in which commands run as in a guest.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::Check;

/// What changes by itself.
const LIVING: [&str; 9] = [
    "proc",
    "sys",
    "dev",
    "tmp",
    "run/agetty.reload",
    "run/log",
    "run/openrc",
    "run/systemd",
    "var/lib/systemd",
];

/// Longest time for a step.
const PATIENCE: Duration = Duration::from_secs(120);

/// What starts services in a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// systemd, in a system that does not run.
    Image,
    /// systemd, which runs.
    Systemd,
    /// OpenRC, which runs.
    Openrc,
    /// A script, `/etc/rc.local`.
    Hook,
    /// Nothing.
    Neither,
}

impl Init {
    /// Reads a name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "image" => Some(Self::Image),
            "systemd" => Some(Self::Systemd),
            "openrc" => Some(Self::Openrc),
            "hook" => Some(Self::Hook),
            "neither" => Some(Self::Neither),
            _ => None,
        }
    }

    /// What the script says of it.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Image => "systemd will start it.",
            Self::Systemd => "It runs under systemd.",
            Self::Openrc => "It runs under OpenRC.",
            Self::Hook => "It runs, and /etc/rc.local starts it",
            Self::Neither => "Nothing starts it when this guest starts",
        }
    }
}

/// A root file system.
pub(crate) struct Root {
    path: PathBuf,
}

/// A process of the daemon.
pub(crate) struct Part {
    /// Whether its program is no longer the file that it was started from.
    pub(crate) is_replaced: bool,
}

impl Root {
    /// The root at a path, on which all file systems are mounted.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where a path of it is for this process.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.path.join(inside)
    }

    /// Runs a line in it, which must succeed and print a text.
    pub(crate) fn expect(&self, step: &str, line: &str, text: &str) -> Check {
        self.expect_of(step, line, b"", text)
    }

    /// The same, with this standard input.
    pub(crate) fn expect_of(&self, step: &str, line: &str, input: &[u8], text: &str) -> Check {
        let output = self.run(line, input)?;
        let printed = printed(&output);
        let ok = output.status.success() && printed.contains(text);
        if ok { Ok(()) } else { Err(format!("{step}: {}: {printed}", output.status)) }
    }

    /// Runs a line in it, which must fail and print a text.
    pub(crate) fn expect_failure(&self, step: &str, line: &str, text: &str) -> Check {
        let output = self.run(line, b"")?;
        let printed = printed(&output);
        let ok = !output.status.success() && printed.contains(text);
        if ok { Ok(()) } else { Err(format!("{step}: {}: {printed}", output.status)) }
    }

    /// Runs a line in it, and ends all of it as a terminal does, once it has come so far.
    pub(crate) async fn cut_off(&self, line: &str, so_far: impl Future<Output = ()>) -> Check {
        let mut command = tokio::process::Command::from(self.command(line));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().map_err(|error| error.to_string())?;
        let group = child.id().ok_or("it has ended")?;
        tokio::time::timeout(PATIENCE, so_far).await.map_err(|_| "the program was not asked for")?;
        let group = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw).ok_or("no number")?;
        rustix::process::kill_process_group(group, rustix::process::Signal::TERM)
            .map_err(|error| error.to_string())?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.map_err(|_| "it does not end")?;
        // The shell that the pipe is of may be gone before the script has undone what it did.
        for _ in 0..100 {
            if !self.runs("sh") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ended.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Everything in it, less what systems write while they run: path, permissions, owner and size.
    pub(crate) fn list(&self) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
                let path = entry.path();
                let inside = path.strip_prefix(&self.path).unwrap_or(&path).to_path_buf();
                if LIVING.iter().any(|it| inside == Path::new(it)) {
                    continue;
                }
                let Ok(status) = fs::symlink_metadata(&path) else { continue };
                let size = if status.is_file() { status.len() } else { 0 };
                found.push(format!("{} {:o} {} {size}", inside.display(), status.mode(), status.uid()));
                if status.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Whether the list is the same as before.
    pub(crate) fn is_as_before(&self, before: &[String]) -> Check {
        let now = self.list()?;
        if now == before {
            return Ok(());
        }
        let (now, before): (BTreeSet<_>, BTreeSet<_>) = (now.iter().collect(), before.iter().collect());
        let (more, less): (Vec<_>, Vec<_>) =
            (now.difference(&before).collect(), before.difference(&now).collect());
        Err(format!("it is not as before: more {more:?}, less {less:?}"))
    }

    /// Processes of the daemon that play a part.
    pub(crate) fn running(&self, part: &str) -> Result<Vec<Part>, String> {
        let program = self.path("usr/local/bin/pve-edge-guest").display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten() {
            let Ok(exe) = fs::read_link(entry.path().join("exe")) else { continue };
            let exe = exe.display().to_string();
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let played = words.split(|it| *it == 0).nth(1) == Some(part.as_bytes());
            if exe.starts_with(&program) && played {
                found.push(Part { is_replaced: exe != program });
            }
        }
        Ok(found)
    }

    /// Whether a command line runs here.
    pub(crate) fn runs(&self, line: &str) -> bool {
        let wanted: Vec<u8> = line.bytes().map(|it| if it == b' ' { 0 } else { it }).chain([0]).collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.map(|it| it.path().join("cmdline")).any(|it| fs::read(it).is_ok_and(|it| it == wanted))
    }

    /// Whether systemd accepts the unit.
    pub(crate) fn unit_is_valid(&self) -> Check {
        let Ok(output) = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--root"])
            .arg(&self.path)
            .arg("pve-edge-guest.service")
            .output()
        else {
            println!("the unit: not verified, systemd-analyze is not here");
            return Ok(());
        };
        let printed = printed(&output);
        let ours: Vec<_> = printed.lines().filter(|it| it.contains("pve-edge-guest")).collect();
        if ours.is_empty() { Ok(()) } else { Err(format!("systemd-analyze: {ours:?}")) }
    }

    fn run(&self, line: &str, input: &[u8]) -> Result<Output, String> {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().ok_or("no input")?;
        let input = input.to_vec();
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().map_err(|error| error.to_string());
        let _ = writer.join();
        output
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.path).args(["/bin/sh", "-c", line]).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// Runs `ip`.
pub(crate) fn ip(words: &[&str]) -> Check {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("ip {words:?}: {}", printed(&output))) }
}

fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned()).concat()
}
