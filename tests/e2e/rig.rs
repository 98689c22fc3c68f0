//! One PVE, its guests, and the API before it: all that a run of scenarios needs.

use std::{io, net::Ipv4Addr, path::Path, time::Duration};

use super::{
    client::{Client, Heard},
    cluster::{Cluster, Speed, VMIDS, random},
    distance::Distance,
    log::Log,
    network::Network,
    target::{Running, Target},
    world::World,
};
use pve_edge_bed::guests::{Daemon, Guests};
use pve_edge_core::{access::secret::Keyring, api::Pairs};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Which PVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pve {
    /// The one of this crate.
    Simulator,
    /// The one of others.
    Fakepve,
}

/// Everything of one combination, until it is dropped.
pub struct Rig {
    pub(super) cluster: Cluster,
    pub(super) log: Log,
    pub(super) heard: Heard,
    pub(super) world: World,
    edge_secret: String,
    secrets: Vec<String>,
    guests: Guests,
    _network: Network,
    _distance: Option<Distance>,
    _apis: [Running; 3],
    _folder: TempDir,
}

/// Long enough that clones meet each other's locks, short enough for a quick test.
const SIMULATED: Speed = Speed { clone: 0.1, start: 0.1, destroy: 0.1 };
const FAKE: Speed = Speed { clone: 0.3, start: 0.15, destroy: 0.3 };

impl Pve {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulator => "simulator",
            Self::Fakepve => "fakepve",
        }
    }

    /// The daemon in containers' templates: the other PVE's have cmux-execd.
    fn daemon(self, program: &Path, keys: &Keys) -> Result<Option<Daemon>, String> {
        match self {
            Self::Simulator => Ok(Some(Daemon::new(program.to_owned(), &keys.secret, DEPLOYMENT)?)),
            Self::Fakepve => Ok(None),
        }
    }

    pub(super) async fn start(self, folder: &Path, log: &Log) -> Result<Cluster, String> {
        match self {
            Self::Simulator => Cluster::simulated(SIMULATED, &[]).await,
            Self::Fakepve => Cluster::fakepve(folder, &log.file("fakepve"), FAKE, 0).await,
        }
    }
}

/// What installs packages in containers: it notes which.
const APT_GET: &str = r#"#!/bin/sh
case " $* " in *" install "*) ;; *) exit 0;; esac
for it; do
    case $it in -* | install) ;; *) set -- "$@" "$it";; esac
    shift
done
echo "$*" >/opt/installed
"#;

impl Rig {
    /// Starts all of it. `program` plays the daemon in the guests of the simulator.
    pub async fn start(pve: Pve, target: Target, program: &Path) -> Result<Self, String> {
        Self::start_in(pve, target, program, (24, Duration::ZERO)).await
    }

    /// The same, with a pool of addresses of this prefix, and a round trip to PVE, and to the proxy beside it, of this time.
    pub async fn start_in(
        pve: Pve,
        target: Target,
        program: &Path,
        (pool, round_trip): (u8, Duration),
    ) -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        let folder = tempfile::Builder::new().prefix("pve-edge-e2e-").tempdir().map_err(failed)?;
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).map_err(failed)?;
        let log = Log::new(&logs);
        let cluster = pve.start(folder.path(), &log).await?;
        let mut network = Network::reserve(pool).await.map_err(failed)?;
        let keys = Keys::new()?;
        let guests = Guests::new(cluster.inventory.clone(), pve.daemon(program, &keys)?);
        guests.admit(&keys.secret, DEPLOYMENT)?;
        network.serve(&guests);
        cluster.host(&guests);
        if let Some((shell, program)) = target.shell() {
            let shells = folder.path().join("shells");
            std::fs::create_dir(&shells).map_err(failed)?;
            std::os::unix::fs::symlink(program, shells.join("sh")).map_err(failed)?;
            cluster.set_shell(shell, &shells);
        }
        // What is installed in a template is asked of nobody, and its daemon listens for nobody.
        guests.add_program("/usr/local/sbin/apt-get", APT_GET);
        guests.cut_off();
        let mut good = settings(&cluster, &keys, &network);
        let mut far = None;
        if let Some(authority) = cluster.url.strip_prefix("http://").filter(|_| !round_trip.is_zero()) {
            let way = Distance::to(authority, round_trip).await.map_err(failed)?;
            good = with(&good, "PVE_API_URL", &format!("http://{}", way.authority));
            far = Some(way);
        }
        let unreachable = with(&good, "PVE_API_URL", &nobody().await.map_err(failed)?);
        let wrong = random()?;
        let unauthorized = with(&good, "PVE_API_TOKEN", &format!("edge@pve!edge={wrong}"));
        let certificate = cluster.certificate.as_deref();
        let start = |settings, name| target.start(settings, certificate, &guests, (&log, name), round_trip);
        // One after the other: the emulator compiles, and two of three would only wait.
        let apis = [
            start(&good, "api").await?,
            start(&unreachable, "unreachable").await?,
            start(&unauthorized, "unauthorized").await?,
        ];
        let heard = Heard::default();
        let [anyone, unreachable, unauthorized] =
            apis.each_ref().map(|api| Client::new(&api.url, heard.clone()));
        let anyone = anyone?;
        let secrets = Keyring::parse(&keys.secret)?;
        let proxy_key = secrets.oldest().proxy_key(DEPLOYMENT);
        let world = World {
            target,
            behind: pve,
            blue: anyone.with_key(&keys.blue),
            red: anyone.with_key(&keys.red),
            admin: anyone.with_key(&keys.admin),
            anyone,
            guests: guests.clone(),
            pve: cluster.reader.clone(),
            proxy_key,
            unreachable: unreachable?.with_key(&keys.blue),
            unauthorized: unauthorized?.with_key(&keys.blue),
        };
        let api_secret = cluster.token.rsplit('=').next().unwrap_or_default().to_owned();
        let edge_secret = keys.secret.clone();
        let secrets = vec![api_secret, wrong, keys.secret, keys.blue, keys.red, keys.admin];
        Ok(Self {
            cluster,
            log,
            heard,
            world,
            edge_secret,
            secrets,
            guests,
            _network: network,
            _distance: far,
            _apis: apis,
            _folder: folder,
        })
    }

    /// A client of a team.
    pub fn client(&self) -> &Client {
        &self.world.blue
    }

    /// A client of the admin.
    pub fn admin(&self) -> &Client {
        &self.world.admin
    }

    /// Its PVE.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// `EDGE_SECRET` of the API.
    pub fn edge_secret(&self) -> &str {
        &self.edge_secret
    }

    /// What must be in no answer and in no log.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.secrets.iter().cloned().chain(self.cluster.exec_tokens()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.guests.close();
    }
}

/// Name of the deployment.
pub const DEPLOYMENT: &str = "e2e";

/// The origin whose pages may use the API.
pub(super) const PAGE: &str = "https://app.example.com";

/// API keys of two teams and an admin of a third, and `EDGE_SECRET`.
pub struct Keys {
    /// Of a team.
    pub blue: String,
    /// Of another.
    pub red: String,
    /// Of an admin.
    pub admin: String,
    /// `EDGE_SECRET`.
    pub secret: String,
}

impl Keys {
    /// Fresh ones.
    pub fn new() -> Result<Self, String> {
        Ok(Self {
            blue: format!("blue-{}", random()?),
            red: format!("red-{}", random()?),
            admin: format!("admin-{}", random()?),
            secret: format!("{}{}", random()?, random()?),
        })
    }

    pub(super) fn setting(&self) -> String {
        let hash = |key: &str| hex::encode(Sha256::digest(key));
        format!("blue:{} red:{} ops:{}:admin", hash(&self.blue), hash(&self.red), hash(&self.admin))
    }
}

/// The settings of an API in front of `cluster`, whose sandboxes are in `network`.
pub fn settings(cluster: &Cluster, keys: &Keys, network: &Network) -> Pairs {
    let (first, last) = VMIDS;
    [
        ("PVE_API_URL", cluster.url.clone()),
        ("PVE_API_TOKEN", cluster.token.clone()),
        ("PVE_VMID_RANGE", format!("{first}-{last}")),
        ("PVE_IP_POOL_CIDR", network.cidr()),
        ("EDGE_API_KEYS", keys.setting()),
        ("EDGE_SECRET", keys.secret.clone()),
        ("EDGE_DEPLOYMENT", DEPLOYMENT.to_owned()),
        ("EDGE_CORS_ORIGINS", PAGE.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn with(settings: &Pairs, name: &str, value: &str) -> Pairs {
    let mut changed = settings.clone();
    changed.retain(|(set, _)| set != name);
    changed.push((name.to_owned(), value.to_owned()));
    changed
}

/// A URL at which nobody listens.
async fn nobody() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(format!("http://{}", listener.local_addr()?))
}
