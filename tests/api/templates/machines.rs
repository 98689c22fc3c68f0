//! VMs in which templates are built, behind their guest agents: what the scripts of a build come to, without a shell.
//! That a shell makes the same of them, core's own tests of the scripts and the scenarios show.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use pve_edge_bed::sim::{Sim, agent::Output, execd::Program};
use sha2::{Digest, Sha256};

/// What the work of a build comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    /// It ends well, after it was looked for so often.
    #[default]
    Ends,
    /// The user's script ends with this code.
    Fails(i32),
    /// It goes on.
    RunsOn,
    /// It ends without a word, as where the disk is full.
    Vanishes,
    /// It is gone with a restart of the VM.
    Restarts,
    /// It cannot be begun: there is no room for a folder.
    NoRoom,
}

/// One VM.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// How often packages and script were begun.
    pub(super) begun: u32,
    /// Looks until the work ends.
    looks: u32,
    /// The folder of a build that is there.
    pub(super) folder: Option<String>,
    code: Option<i32>,
    pushed: Vec<u8>,
    /// What was installed.
    pub(super) installed: Vec<u8>,
    /// Whether what is one machine's own was removed since the last start, with all else done before it.
    pub(super) cleaned: bool,
    /// How often it was removed.
    pub(super) cleanings: u32,
    /// Whether the build is over, until the VM stops.
    over: bool,
}

/// All VMs, and what happens in them.
#[derive(Clone, Default)]
pub(super) struct Machines(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    all: BTreeMap<u32, Machine>,
    work: Work,
    /// Bytes of the program that its disk has room for; all, where none are said.
    room: Option<usize>,
    /// Folder that the template has from which they are copied.
    left: Option<String>,
    /// Number of times that what a build has left cannot be removed.
    busy: u32,
}

impl Machines {
    /// VMs of this simulator, in which the work comes to this.
    pub(super) fn of(sim: &mut Sim, work: Work) -> Self {
        let machines = Self::default();
        machines.inner().work = work;
        let kept = machines.clone();
        sim.set_agent_host(Arc::new(move |vmid, program| {
            let output = OnceLock::new();
            let (code, said) = kept.inner().run(vmid, &program);
            let _ = output.set(Output { out: said.into_bytes(), code, ..Output::default() });
            Arc::new(output)
        }));
        machines
    }

    /// Their disks have room for so many bytes of the program.
    pub(super) fn set_room(&self, bytes: usize) {
        self.inner().room = Some(bytes);
    }

    /// The template from which they are copied has the folder of an earlier build, which ended well.
    pub(super) fn leave(&self, folder: &str) {
        self.inner().left = Some(folder.into());
    }

    /// So many times what a build has left cannot be removed.
    pub(super) fn set_busy(&self, times: u32) {
        self.inner().busy = times;
    }

    /// A VM has started: it has a machine's own again.
    pub(super) fn boot(&self, vmid: u32) {
        let mut inner = self.inner();
        let machine = inner.all.entry(vmid).or_default();
        (machine.cleaned, machine.over) = (false, false);
    }

    /// This VM as it is now.
    pub(super) fn machine(&self, vmid: u32) -> Machine {
        self.inner().all.get(&vmid).cloned().unwrap_or_default()
    }

    /// How often work was begun in all VMs.
    pub(super) fn begun(&self) -> u32 {
        self.inner().all.values().map(|it| it.begun).sum()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Exit code and output of a program.
    fn run(&mut self, vmid: u32, program: &Program) -> (i32, String) {
        let [_, _, script] = &program.arguments[..] else { return (127, String::new()) };
        let input = URL_SAFE.decode(program.input.as_deref().unwrap_or_default()).expect("base64");
        let (work, room) = (self.work, self.room.unwrap_or(usize::MAX));
        let left = &self.left;
        let earlier = || Machine { folder: left.clone(), code: Some(0), ..Machine::default() };
        let machine = self.all.entry(vmid).or_insert_with(earlier);
        if script.contains("pve-edge-work") {
            return machine.begin(&folder(script), work);
        }
        if script.contains("tail -c") {
            return (0, machine.look(&folder(script), work));
        }
        if script.contains("dd of=program") {
            let number = |name: &str| {
                let rest = script.split_once(name).expect("a number").1;
                rest.split(' ').next().and_then(|it| it.parse::<usize>().ok()).expect("a number")
            };
            return machine.write(number(" bs=") * number(" seek="), &input, room);
        }
        if script.contains("install.log") {
            return machine.install(script, &input);
        }
        if script.contains("/etc/machine-id") {
            machine.cleaned = machine.code == Some(0);
            machine.cleanings += 1;
            if self.busy > 0 {
                self.busy -= 1;
                return (75, "rm: it is in use\n".into());
            }
            (machine.folder, machine.over) = (None, true);
            return (0, String::new());
        }
        assert!(!script.contains("/var/lib/pve-edge-build"), "what is this? {script}");
        (0, format!("{script}\n"))
    }
}

/// The folder that a script names.
fn folder(script: &str) -> String {
    let path = script.split("/var/lib/pve-edge-build").nth(1).unwrap_or_default();
    let end = path.find(|it: char| !it.is_ascii_alphanumeric() && it != '/').unwrap_or(path.len());
    format!("/var/lib/pve-edge-build{}", &path[..end])
}

impl Machine {
    fn begin(&mut self, folder: &str, work: Work) -> (i32, String) {
        match work {
            Work::NoRoom => (1, "it could not be begun: is the disk full?\n".into()),
            _ if self.is(folder) || self.over => (0, String::new()),
            _ => {
                (self.folder, self.begun) = (Some(folder.to_owned()), self.begun + 1);
                self.code = None;
                (0, String::new())
            }
        }
    }

    fn is(&self, folder: &str) -> bool {
        self.folder.as_deref() == Some(folder)
    }

    fn look(&mut self, folder: &str, work: Work) -> String {
        let is_there = self.is(folder);
        if is_there && self.code.is_none() {
            self.looks += 1;
        }
        let is_over = self.looks > 3;
        self.code = match work {
            _ if !is_there => None,
            Work::Ends if is_over => Some(0),
            Work::Fails(code) if is_over => Some(code),
            _ => None,
        };
        let state = match (is_there, work, is_over) {
            (false, ..) => "none",
            (true, Work::Vanishes, true) => "exited",
            (true, Work::Restarts, true) => "lost",
            (true, ..) if self.code.is_some() => "exited",
            _ => "running",
        };
        let step = if !is_there {
            "-"
        } else if self.looks > 1 {
            "running"
        } else {
            "packages"
        };
        let code = self.code.map_or("-".into(), |it| it.to_string());
        let sum = |bytes: &[u8]| {
            if bytes.is_empty() { "-".into() } else { hex::encode(Sha256::digest(bytes)) }
        };
        let (pushed, installed) = (self.pushed.len(), sum(&self.installed));
        format!(
            "{state}\n{step} {code} {pushed} {installed} {installed} x86_64\nit works\nline {}\n",
            self.looks
        )
    }

    fn write(&mut self, at: usize, bytes: &[u8], room: usize) -> (i32, String) {
        if self.folder.is_none() || at + bytes.len() > room {
            return (1, String::new());
        }
        self.pushed.resize(self.pushed.len().max(at + bytes.len()), 0);
        self.pushed[at..at + bytes.len()].copy_from_slice(bytes);
        (0, String::new())
    }

    fn install(&mut self, script: &str, installer: &[u8]) -> (i32, String) {
        assert!(String::from_utf8_lossy(installer).contains("main"), "no installer");
        let is = |bytes: &[u8]| script.contains(&hex::encode(Sha256::digest(bytes)));
        if !is(&self.installed) {
            let pushed = std::mem::take(&mut self.pushed);
            if !is(&pushed) {
                return (3, String::new());
            }
            self.installed = pushed;
        }
        (0, "it listens\n".into())
    }
}
