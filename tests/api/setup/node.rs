//! A node of PVE as the set-up script meets it: stand-ins of `pveum` and `pvesh`, which keep what they are told.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use pve_edge_bed::sim::Version;
use tempfile::TempDir;

/// Programs that the script and the stand-ins may use. Each notes how it is called, as a list of processes shows it.
const TOOLS: [&str; 9] = ["sed", "grep", "tr", "uname", "paste", "wc", "cat", "mv", "rm"];

/// Privileges that every version here knows.
const KNOWN: &str = "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit Pool.Audit \
    Sys.Audit Sys.Modify VM.Allocate VM.Audit VM.Clone VM.Config.CPU VM.Config.Disk VM.Config.Memory \
    VM.Config.Network VM.Config.Options VM.Console VM.PowerMgmt VM.Snapshot VM.Snapshot.Rollback";

/// Shells that the script is run by, as far as they are here.
pub(crate) fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["sh"], vec!["dash"], vec!["busybox", "sh"], vec!["bash"]];
    let shells: Vec<_> = all.into_iter().filter(|it| found(it[0]).is_some()).collect();
    assert!(!shells.is_empty(), "there is no shell");
    shells
}

fn found(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|it| Path::new(it).join(program)).find(|it| it.exists())
}

/// A node with two storages, one bridge and one vnet.
pub(crate) struct Node {
    folder: TempDir,
}

/// What a run of the script has said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) succeeds: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    pub(crate) fn new(version: Version) -> Self {
        let node = Self { folder: tempfile::tempdir().expect("a folder") };
        for folder in ["bin", "state/roles", "state/users", "state/tokens"] {
            fs::create_dir_all(node.folder.path().join(folder)).expect("a folder");
        }
        for program in ["pveum", "pvesh"] {
            node.program(program, include_str!("standin.sh"));
        }
        for tool in TOOLS {
            let path = found(tool).unwrap_or_else(|| panic!("{tool} is not here"));
            let noted = "printf '%s\\n' \"$0 $*\" >>\"$PVE_STATE/processes\"";
            node.program(tool, &format!("#!/bin/sh\n{noted}\nexec {} \"$@\"\n", path.display()));
        }
        let newer = match version {
            Version::V7_4 => "VM.Monitor",
            Version::V8 => "VM.Monitor SDN.Use Sys.AccessNetwork",
            Version::V9 => "VM.GuestAgent.Audit VM.GuestAgent.Unrestricted SDN.Use Sys.AccessNetwork",
        };
        node.put("known", &format!("{KNOWN} {newer}\n").replace(' ', "\n"));
        node.put("acl", "");
        node.put("calls", "");
        node.put("processes", "");
        node.put("storages", include_str!("storages.json"));
        node.put("bridges", "{\"active\":1,\"iface\":\"vmbr0\",\"type\":\"bridge\"}\n");
        node.put("vnets", "[{\"type\":\"vnet\",\"vnet\":\"blue\",\"zone\":\"evpn\"}]\n");
        node
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::write(&path, text).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }

    /// Puts something into the node's state.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join("state").join(name), text).expect("a file");
    }

    pub(crate) fn state(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("state").join(name)).unwrap_or_default()
    }

    /// Runs the script where there is no terminal.
    pub(crate) fn run(&self, shell: &[&str], script: &str, words: &[&str]) -> Run {
        self.run_where(shell, script, words, "")
    }

    /// Runs it where calls fail that begin so.
    pub(crate) fn run_where(&self, shell: &[&str], script: &str, words: &[&str], fails: &str) -> Run {
        let mut command = self.command(shell, script, words);
        run(command.env("PVE_FAILS", fails).stdin(Stdio::null()))
    }

    /// Runs it on a terminal where somebody types this.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_typing(&self, shell: &[&str], script: &str, typed: &str) -> Run {
        use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).expect("a terminal");
        unlockpt(&terminal).expect("it is unlocked");
        let end = ioctl_tiocgptpeer(&terminal, flags).expect("its other end");
        let mut terminal = fs::File::from(terminal);
        std::io::Write::write_all(&mut terminal, typed.as_bytes()).expect("it is typed");
        run(self.command(shell, script, &[]).stdin(Stdio::from(end)))
    }

    fn command(&self, shell: &[&str], script: &str, words: &[&str]) -> Command {
        let path = self.folder.path().join("pve.sh");
        fs::write(&path, script).expect("the script");
        let program = found(shell[0]).expect("a shell");
        // In a session of its own it has no terminal but the one that it is given.
        let mut command = match found("setsid") {
            Some(setsid) => Command::new(setsid),
            None => Command::new("/usr/bin/env"),
        };
        command.arg(program).args(&shell[1..]).arg(path).args(words);
        command.env_clear().env("PATH", self.folder.path().join("bin"));
        command.env("PVE_STATE", self.folder.path().join("state"));
        command
    }

    /// Calls that change something, since they were asked for last.
    pub(crate) fn changes(&self) -> Vec<String> {
        let calls = self.state("calls");
        self.put("calls", "");
        calls.lines().filter(|it| it.starts_with("pveum ")).map(str::to_owned).collect()
    }

    /// What is granted to whom and where, in one order.
    pub(crate) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.state("acl").lines().map(str::to_owned).collect();
        rows.sort();
        rows
    }

    /// Everything that a list of processes has shown.
    pub(crate) fn processes(&self) -> String {
        self.state("processes") + &self.state("calls")
    }

    /// Privileges of a role.
    pub(crate) fn role(&self, name: &str) -> Vec<String> {
        self.state(&format!("roles/{name}")).lines().map(str::to_owned).collect()
    }

    /// What the user, or the token, has, by path.
    pub(crate) fn grants(&self, who: &str) -> Vec<(String, Vec<String>)> {
        let acl = self.state("acl");
        let rows = acl.lines().map(|it| it.split('|').collect::<Vec<_>>());
        let own = rows.filter(|it| it[4] == who);
        own.map(|it| (it[0].to_owned(), self.role(it[2]))).collect()
    }

    /// Whether the token is one with privilege separation; `None` when there is none.
    pub(crate) fn separates(&self, token: &str) -> Option<bool> {
        let text = fs::read_to_string(self.folder.path().join("state/tokens").join(token)).ok()?;
        Some(text.lines().next() == Some("1"))
    }
}

fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().expect("a shell");
    let text = |it: Vec<u8>| String::from_utf8(it).expect("UTF-8");
    Run { succeeds: status.success(), stdout: text(stdout), stderr: text(stderr) }
}
