//! Who is in a PVE that is another process: asked over its API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Request;
use pve_edge_bed::guests::{GuestState, Inventory};
use pve_edge_core::io::{Io, Way, fetch};
use pve_edge_lambda::net::{Net, Transport};
use serde_json::Value;
use tokio::{task::JoinHandle, time::sleep};

/// How often PVE is asked.
const TICK: Duration = Duration::from_millis(40);

/// Variable by which PVE 9.1 and newer hand execd its token.
const VARIABLE: &str = "CMUX_EXECD_AUTH_TOKEN=";

/// Line of the notes by which a hook script does, before.
const LINE: &str = "cmux-execd-auth-token=";

/// Guests as a PVE shows them, a moment ago.
#[derive(Debug)]
pub struct Remote {
    state: Arc<Mutex<State>>,
    poll: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    guests: BTreeMap<u32, GuestState>,
    /// Every exec token that there ever was.
    tokens: BTreeSet<String>,
}

/// Reads a PVE with a token that sees all of it.
#[derive(Clone, Debug)]
pub struct Reader {
    net: Net,
    url: String,
    token: String,
}

impl Remote {
    /// Follows the containers of `vmids` on `node`.
    pub fn follow(reader: Reader, node: &'static str, vmids: RangeInclusive<u64>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let poll = tokio::spawn(async move {
            loop {
                if let Some(rows) = reader.get(&format!("/nodes/{node}/lxc")).await {
                    look(&reader, node, &vmids, &rows, &shared).await;
                }
                sleep(TICK).await;
            }
        });
        Self { state, poll }
    }

    /// Every exec token that there ever was.
    pub fn tokens(&self) -> Vec<String> {
        lock(&self.state).tokens.iter().cloned().collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

impl Inventory for Remote {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        lock(&self.state).guests.get(&vmid).cloned()
    }

    fn at(&self, ip: IpAddr) -> Option<u32> {
        let state = lock(&self.state);
        state.guests.iter().find(|(_, guest)| guest.running && guest.ip == ip).map(|(vmid, _)| *vmid)
    }
}

impl Reader {
    /// Of the PVE at `url`, whatever its certificate.
    pub fn new(url: &str, token: &str) -> Result<Self, String> {
        let transport = Transport::new(false).map_err(|error| error.to_string())?;
        let net = transport.net().map_err(|error| error.to_string())?;
        Ok(Self { net, url: url.to_owned(), token: token.to_owned() })
    }

    /// The `data` of an answer, when there is one.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let mut request = Request::get(format!("{}/api2/json{path}", self.url))
            .header("authorization", format!("PVEAPIToken={}", self.token))
            .body(Vec::new())
            .ok()?;
        request.extensions_mut().insert(Way::Pve);
        let deadline = self.net.now() + Duration::from_secs(5);
        let answer = fetch(&self.net, request, deadline, 16 << 20).await.ok()?;
        let mut body: Value = serde_json::from_slice(&answer.body).ok()?;
        (answer.status == 200).then(|| body["data"].take())
    }
}

async fn look(reader: &Reader, node: &str, vmids: &RangeInclusive<u64>, rows: &Value, state: &Mutex<State>) {
    let mut guests = BTreeMap::new();
    for row in rows.as_array().into_iter().flatten() {
        let vmid = row["vmid"].as_u64().or_else(|| row["vmid"].as_str()?.parse().ok());
        let Some(vmid) = vmid.filter(|vmid| vmids.contains(vmid)) else { continue };
        let Ok(vmid) = u32::try_from(vmid) else { continue };
        let running = row["status"] == "running";
        let known = lock(state).guests.get(&vmid).cloned();
        // A token is read at the start, and holds until the stop.
        let guest = match known.filter(|known| known.running && running) {
            Some(known) => known,
            None => match reader.get(&format!("/nodes/{node}/lxc/{vmid}/config")).await {
                Some(config) => read(vmid, running, &config),
                None => continue,
            },
        };
        guests.insert(vmid, guest);
    }
    let mut state = lock(state);
    let tokens = guests.values().filter_map(|guest| guest.token.clone()).collect::<Vec<_>>();
    state.tokens.extend(tokens);
    state.guests = guests;
}

fn read(vmid: u32, running: bool, config: &Value) -> GuestState {
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let env = text("env").split('\0').find_map(|entry| entry.strip_prefix(VARIABLE));
    let token = env.or_else(|| text("description").lines().find_map(|line| line.strip_prefix(LINE)));
    let address = text("net0").split(',').find_map(|part| part.strip_prefix("ip="));
    let address = address.and_then(|it| it.split('/').next()?.parse::<Ipv4Addr>().ok());
    let [_, b, c, d] = vmid.to_be_bytes();
    let ip = address.unwrap_or(Ipv4Addr::new(10, b, c, d)).into();
    GuestState { running, token: token.map(str::to_owned), ip, card: None, is_bare: false }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
