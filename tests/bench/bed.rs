//! A PVE with guests, and core in front of it, in this process.

use std::{path::Path, time::Instant};

use crate::tape::{Player, Recorder};
use http::Request;
use pve_edge_bed::{guests::Guests, serve::Api};
use pve_edge_core::{
    access::secret::Keyring,
    api::{Service, handle},
    io::{Io, ResponseBody},
    pve::marks::{self, Mark},
    sandbox::{id::Kind, nonce::Origin},
};
use pve_edge_lambda::{body::Upload, http::seed, net::Transport};
use pve_edge_tests::{
    Cluster, Keys, Network, Pve, Speed,
    cluster::{MORE, NODE},
    settings,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// What the incumbent was measured with: a second for each task.
pub(crate) const SPEED: Speed = Speed { clone: 1.0, start: 1.0, destroy: 1.0 };

/// PVE, guests and core.
pub(crate) struct Bed {
    service: Service,
    transport: Transport,
    key: String,
    guests: Guests,
    _network: Network,
    cluster: Cluster,
}

/// One request, and what it took.
pub(crate) struct Taken {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) requests: u32,
    pub(crate) seconds: f64,
    replay: Replay,
}

/// A request that can be answered again without the world.
struct Replay {
    world: Recorder,
    seed: [u8; 32],
    request: Request<Vec<u8>>,
}

impl Bed {
    /// With this many guests of others; the simulator's are sandboxes.
    pub(crate) async fn new(pve: Pve, folder: &Path, others: u32) -> Result<Self, String> {
        Self::new_in(pve, folder, others, 24).await
    }

    /// The same, in a pool of this prefix.
    pub(crate) async fn new_in(pve: Pve, folder: &Path, others: u32, pool: u8) -> Result<Self, String> {
        let keys = Keys::new()?;
        let cluster = match pve {
            Pve::Simulator => Cluster::simulated(SPEED, &tags(others, &keys.secret)?).await?,
            Pve::Fakepve => Cluster::fakepve(folder, &folder.join("log"), SPEED, others).await?,
        };
        let mut network = Network::reserve(pool).await.map_err(|error| error.to_string())?;
        let guests = Guests::new(cluster.inventory.clone(), None);
        network.serve(&guests);
        let mut pairs = settings(&cluster, &keys, &network);
        pairs.push(("PVE_VERIFY_TLS".to_owned(), "false".to_owned()));
        pairs.push(("PVE_PUBLIC_DOMAIN".to_owned(), "http://sandbox.localhost".to_owned()));
        let service = Service::new(&pairs, Api::PLATFORM);
        let transport = Transport::new(false).map_err(|error| error.to_string())?;
        Ok(Self { service, transport, key: keys.blue, guests, _network: network, cluster })
    }

    /// Its PVE.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// One request, as an adapter hands it to core: with connections of its own.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Taken {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = request.body(body).expect("a request");
        let world = Recorder::new(self.transport.net().expect("a client"));
        let replay = Replay { world, seed: seed(), request };
        let start = Instant::now();
        let (status, body) = self.answer(replay.world.clone(), &replay).await;
        Taken {
            status,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            requests: replay.world.requests(),
            seconds: start.elapsed().as_secs_f64(),
            replay,
        }
    }

    /// Milliseconds of this thread's CPU that core takes for the same again.
    pub(crate) async fn cpu(&self, taken: &Taken, times: u32) -> f64 {
        let players: Vec<Player> = (0..times).map(|_| taken.replay.world.player()).collect();
        let start = cpu_time();
        for player in players {
            let (status, _) = self.answer(player, &taken.replay).await;
            assert_eq!(status, taken.status, "the same answer as before");
        }
        (cpu_time() - start) / f64::from(times) * 1000.0
    }

    async fn answer<I: Io<Upload = Upload>>(&self, io: I, replay: &Replay) -> (u16, Vec<u8>) {
        let request = replay.request.clone().map(Upload::from);
        let answer = handle(io, &self.service, Api::PLATFORM, replay.seed, request).await;
        let status = answer.status().as_u16();
        match answer.into_body() {
            ResponseBody::Whole(body) => (status, body),
            _ => (status, Vec::new()),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.guests.close();
    }
}

/// Tags of this many running sandboxes, with a name and two pieces of metadata.
fn tags(count: u32, secret: &str) -> Result<Vec<String>, String> {
    let secrets = Keyring::parse(secret)?;
    let born = OffsetDateTime::now_utc() - Duration::minutes(20);
    let expires = born.unix_timestamp() + 36_000;
    let tags = (MORE..MORE + count).map(|vmid| {
        let [_, b, c, d] = vmid.to_be_bytes();
        let at = vmid.try_into().expect("a VMID");
        let nonce = Origin::new(born, [b, c, d, 0]).nonce(secrets.newest(), "e2e", Kind::Lxc, at);
        // As the machine line has it, which takes any mark that an older version wrote.
        let mark: Mark = serde_json::from_value(json!({
            "pve-edge": 1, "deployment": "e2e", "vmid": vmid, "nonce": nonce,
            "team": "blue", "node": NODE, "expires": expires, "onExpiry": "delete", "want": "on",
            "phase": "committed", "name": format!("agent-{vmid}"), "template": 100_002,
            "snapshot": "pvelxc_1vcpu_1gb_8gb_v2", "metadata": {"branch": "main", "issue": "12345"},
        }))
        .expect("a mark");
        marks::tags("", &mark, mark.expires, 256, false)
    });
    Ok(tags.collect())
}

/// Seconds that this thread has run.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    nanoseconds.expect("a number") / 1e9
}
