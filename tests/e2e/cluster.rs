//! A PVE to run against, with the same templates and the same strangers whichever it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use time::{Duration, OffsetDateTime};
use tokio::process::Command;

use super::{
    inventory::{Reader, Remote},
    process::Process,
    simulated::Simulated,
};
use pve_edge_bed::{
    guests::{Guests, Inventory},
    sim::{self, Kind, Setup, Sim, Spec, server::serve},
};

/// The node that has everything.
pub const NODE: &str = "pve1";

/// VMIDs of sandboxes: one for each address of a /24.
pub const VMIDS: (u32, u32) = (200_000, 200_253);

/// The presets, the smallest and so the default first; the last version is the newest.
pub const PRESETS: [(&str, &[u32]); 2] = [("1vcpu_1gb_8gb", &[1, 2]), ("2vcpu_2gb_8gb", &[1])];

/// What is not ours: templates, guests of others, one of them in our range.
pub const STRANGERS: [(&str, u32); 7] = [
    ("lxc", 100_001),
    ("lxc", 100_002),
    ("lxc", 100_003),
    ("qemu", 100_004),
    ("lxc", 101),
    ("qemu", 102),
    ("lxc", STRANGER),
];

/// The running guest of others whose VMID is one of ours.
pub const STRANGER: u32 = 200_010;

/// The template without a mark and without a daemon.
pub const BARE: u32 = 100_009;

/// From here on are the guests that only benchmarks have.
pub const MORE: u32 = 300_000;

/// How long PVE works, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// On a clone.
    pub clone: f64,
    /// On a start.
    pub start: f64,
    /// On a destroy.
    pub destroy: f64,
}

/// A PVE that is being served.
pub struct Cluster {
    /// As `PVE_API_URL` has it.
    pub url: String,
    /// As `PVE_API_TOKEN` has it.
    pub token: String,
    /// What to trust, when it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Who is in it.
    pub inventory: Arc<dyn Inventory>,
    /// Sees all of it.
    pub reader: Reader,
    behind: Behind,
}

/// What serves it.
enum Behind {
    Simulator { seen: Arc<Simulated>, _server: sim::server::Server },
    Fakepve { seen: Arc<Remote>, _process: Process },
}

impl Cluster {
    /// The simulator, in this process; besides the usual guests it has one for each of `tags`.
    pub async fn simulated(speed: Speed, tags: &[String]) -> Result<Self, String> {
        let lvm = sim::Storage::new("local-lvm", sim::StorageKind::LvmThin);
        let mut sim = Sim::new(Setup {
            storages: vec![lvm, sim::Storage::local()],
            clone_secs: Duration::seconds_f64(speed.clone),
            start_secs: Duration::seconds_f64(speed.start),
            destroy_secs: Duration::seconds_f64(speed.destroy),
            stop_secs: Duration::seconds_f64(speed.destroy / 2.0),
            start: OffsetDateTime::now_utc(),
            ..Setup::default().without_mount_protection()
        });
        fill(&mut sim, tags);
        let sim = Arc::new(Mutex::new(sim));
        let server = serve(sim.clone(), 0).await.map_err(|error| error.to_string())?;
        let url = format!("http://{}", server.address);
        let reader = Reader::new(&url, sim::TOKEN)?;
        let inventory = Arc::new(Simulated::new(sim));
        let seen = inventory.clone();
        Ok(Self {
            url,
            token: sim::TOKEN.to_owned(),
            certificate: None,
            inventory,
            reader,
            behind: Behind::Simulator { seen, _server: server },
        })
    }

    /// `fakepve`, from PyPI, in a process of its own.
    pub async fn fakepve(folder: &Path, log: &Path, speed: Speed, others: u32) -> Result<Self, String> {
        let (token, admin) = (api_token("edge@pve!edge")?, api_token("admin@pve!tests")?);
        let (certificate, key) = certify(folder).map_err(|error| format!("a certificate: {error}"))?;
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = tests.join("../.tools/venv/bin/python");
        if !python.exists() {
            return Err("fakepve is not installed: run tests/tools/setup".to_owned());
        }
        let mut command = Command::new(python);
        command.arg(tests.join("tools/fakepve/serve.py"));
        command.arg("--certificate").arg(&certificate).arg("--key").arg(key);
        command.args(["--token", &token, "--admin-token", &admin]);
        for (name, seconds) in
            [("--clone", speed.clone), ("--start", speed.start), ("--destroy", speed.destroy)]
        {
            command.args([name, &seconds.to_string()]);
        }
        command.args(["--others", &others.to_string()]);
        let process = Process::start(command, log).await?;
        let reader = Reader::new(&process.url, &admin)?;
        let vmids = u64::from(VMIDS.0)..=u64::from(VMIDS.1);
        let remote = Arc::new(Remote::follow(reader.clone(), NODE, vmids));
        let seen = remote.clone();
        Ok(Self {
            url: process.url.clone(),
            token,
            certificate: Some(certificate),
            inventory: remote,
            reader,
            behind: Behind::Fakepve { seen, _process: process },
        })
    }

    /// What agents of VMs start runs in these guests, where that PVE runs anything.
    pub fn host(&self, guests: &Guests) {
        if let Behind::Simulator { seen, .. } = &self.behind {
            seen.host(guests);
        }
    }

    /// As [`Simulated::lose_nothing`], where that PVE has consoles.
    pub fn lose_nothing(&self) {
        if let Behind::Simulator { seen, .. } = &self.behind {
            seen.lose_nothing();
        }
    }

    /// As [`Simulated::somebody_types`], where that PVE has consoles.
    pub fn somebody_types(&self, bytes: &[u8]) {
        if let Behind::Simulator { seen, .. } = &self.behind {
            seen.somebody_types(bytes);
        }
    }

    /// As [`Simulated::set_shell`], where that PVE has consoles.
    pub fn set_shell(&self, shell: &[&str], sh: &Path) {
        if let Behind::Simulator { seen, .. } = &self.behind {
            seen.set_shell(shell, sh);
        }
    }

    /// Requests that it has had so far, where it counts them.
    pub fn requests(&self) -> Option<u64> {
        match &self.behind {
            Behind::Simulator { seen, .. } => Some(seen.requests()),
            Behind::Fakepve { .. } => None,
        }
    }

    /// Every exec token that there ever was.
    pub fn exec_tokens(&self) -> Vec<String> {
        match &self.behind {
            Behind::Simulator { seen, .. } => seen.tokens(),
            Behind::Fakepve { seen, .. } => seen.tokens(),
        }
    }

    /// The configs of what is not ours, as text.
    pub async fn strangers(&self) -> Result<Vec<String>, String> {
        if let Behind::Simulator { seen, .. } = &self.behind {
            return Ok(seen.configs(&STRANGERS.map(|(_, vmid)| vmid)));
        }
        let mut configs = Vec::new();
        for (kind, vmid) in STRANGERS {
            let path = format!("/nodes/{NODE}/{kind}/{vmid}/config");
            let config = self.reader.get(&path).await.ok_or_else(|| format!("no answer to {path}"))?;
            configs.push(format!("{kind} {vmid}: {config}"));
        }
        Ok(configs)
    }
}

/// As if it had been got from <https://images.example.com/base.tar.zst>.
const ARCHIVE: &str = "local:vztmpl/edge-p7cw5nhtgkzxsowq-base.tar.zst";

/// What `fakepve/serve.py` puts there, too.
fn fill(sim: &mut Sim, tags: &[String]) {
    for (vmid, tag) in
        [(100_001, "1vcpu_1gb_8gb_v1"), (100_002, "1vcpu_1gb_8gb_v2"), (100_003, "2vcpu_2gb_8gb_v1")]
    {
        let tag = format!("pvelxc_{tag}");
        sim.add(Spec::template(vmid).tags(&tag).description("The template's own notes.").node(NODE));
    }
    sim.add_archive(ARCHIVE);
    sim.add(Spec { is_bare: true, ..Spec::template(BARE).node(NODE) });
    sim.add(Spec::vm_template(100_004).tags("pvevm_1vcpu_1gb_8gb_v1").node(NODE));
    sim.add(Spec::guest(101).tags("prod;db").description("Mine.").set("hostname", "database").running());
    let mark = r#"{"pve-edge":1,"deployment":"other"}"#;
    sim.add(Spec::guest(STRANGER).tags("edge").description(mark).running());
    sim.add(Spec { kind: Kind::Qemu, ..Spec::guest(102).tags("prod").set("name", "windows") });
    for (vmid, tags) in (MORE..).zip(tags) {
        sim.add(Spec::guest(vmid).tags(tags));
    }
}

/// A token with a fresh secret.
fn api_token(name: &str) -> Result<String, String> {
    Ok(format!("{name}={}", random()?))
}

/// 32 fresh hex digits.
pub(super) fn random() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(hex::encode(bytes))
}

fn certify(folder: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate, key))
}
