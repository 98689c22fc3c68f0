//! A stand-in of Cloudflare's API, as far as a tunnel needs it: a pure `http::Request` → answer over what an account and a
//! zone have, in virtual time. It refuses what it does not know.

mod api;
mod records;
mod services;
mod tunnels;

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use http::Request;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

pub use self::api::Exchange;
use crate::sim::execd::Streamed;

/// Several adapters' view of one.
pub type Shared = Rc<RefCell<Cloudflare>>;

/// Host of the API.
pub const HOST: &str = "api.cloudflare.com";
/// The token that it takes.
pub const TOKEN: &str = "cf_token_of_the_tests_0123456789";
/// The account.
pub const ACCOUNT: &str = "699d98642c564d2e855e9661899b7252";
/// The zone.
pub const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// Name of the zone.
pub const DOMAIN: &str = "example.com";
/// In the secret of each tunnel.
pub const TUNNEL_SECRET: &str = "secret-of-the-tunnel";

/// So many calls are taken of a user in [`WINDOW`].
const CALLS: usize = 1200;
/// Time for which calls are counted, and for which a user is blocked.
const WINDOW: Duration = Duration::minutes(5);

/// A permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Reads zones.
    Zone,
    /// Tunnels.
    Tunnel,
    /// Records.
    Dns,
    /// VPC services.
    Connectivity,
}

/// A tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `cloudflare` or `local`.
    pub config_src: &'static str,
    /// Where it was deleted.
    pub deleted: Option<OffsetDateTime>,
    /// Its configuration; null while nobody has set one.
    pub config: Value,
    /// Number of that configuration.
    pub version: u64,
    /// When each connection of its one cloudflared was opened.
    pub connections: Vec<OffsetDateTime>,
    created: OffsetDateTime,
}

/// An account with one zone.
#[derive(Clone, Debug)]
pub struct Cloudflare {
    now: OffsetDateTime,
    /// Name of the zone.
    pub zone: String,
    /// What the token may.
    pub permissions: BTreeSet<Permission>,
    /// All tunnels, the deleted ones too.
    pub tunnels: Vec<Tunnel>,
    /// Records, as they are shown.
    pub records: Vec<Value>,
    /// VPC services, as they are shown.
    pub services: Vec<Value>,
    /// Rows of a page, at most.
    pub page: usize,
    /// Until when all calls are blocked.
    pub blocked: Option<OffsetDateTime>,
    calls: Vec<OffsetDateTime>,
    /// What was asked and answered, with its secrets.
    pub exchanges: Vec<Exchange>,
    count: u64,
}

impl Cloudflare {
    /// An account with an empty zone.
    pub fn new(now: OffsetDateTime) -> Self {
        use Permission::*;
        Self {
            now,
            zone: DOMAIN.to_owned(),
            permissions: [Zone, Tunnel, Dns, Connectivity].into(),
            tunnels: Vec::new(),
            records: Vec::new(),
            services: Vec::new(),
            page: 1000,
            blocked: None,
            calls: Vec::new(),
            exchanges: Vec::new(),
            count: 0,
        }
    }

    /// Answers one request, at this moment.
    pub fn answer(&mut self, request: &Request<Vec<u8>>, now: OffsetDateTime) -> Streamed {
        self.now = self.now.max(now);
        self.api(request)
    }

    /// Calls that have changed something, or tried to.
    pub fn writes(&self) -> usize {
        self.exchanges.iter().filter(|it| it.method != "GET").count()
    }

    /// Tunnels that are there.
    pub fn living(&self) -> Vec<&Tunnel> {
        self.tunnels.iter().filter(|it| it.deleted.is_none()).collect()
    }

    /// A tunnel that somebody made by other ways.
    pub fn add_tunnel(&mut self, name: &str, config_src: &'static str) -> String {
        let id = self.uuid();
        self.tunnels.push(Tunnel {
            id: id.clone(),
            name: name.to_owned(),
            config_src,
            deleted: None,
            config: Value::Null,
            version: 0,
            connections: Vec::new(),
            created: self.now,
        });
        id
    }

    /// A record that somebody made by other ways.
    pub fn add_record(&mut self, kind: &str, name: &str, content: &str, proxied: bool) -> String {
        let record = json!({"type": kind, "name": name, "content": content, "proxied": proxied, "ttl": 1});
        self.put_record(&record)
    }

    /// A cloudflared connects, or all end.
    pub fn connect(&mut self, name: &str, connections: usize) {
        let opened = self.now - Duration::seconds(90);
        for tunnel in self.tunnels.iter_mut().filter(|it| it.name == name && it.deleted.is_none()) {
            tunnel.connections = vec![opened; connections];
        }
    }

    /// Whether the limiter takes another call of the user.
    fn admits(&mut self) -> bool {
        let now = self.now;
        self.blocked = self.blocked.filter(|until| *until > now);
        self.calls.retain(|at| now - *at < WINDOW);
        self.calls.push(now);
        if self.blocked.is_none() && self.calls.len() > CALLS {
            self.blocked = Some(now + WINDOW);
        }
        self.blocked.is_none()
    }

    fn uuid(&mut self) -> String {
        let hex = self.id();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn id(&mut self) -> String {
        self.count += 1;
        let mixed = u128::from(self.count).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        format!("{mixed:032x}")
    }
}
