//! The product: core, asked as an adapter asks it.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use super::Sample;
use crate::{
    sim::TOKEN,
    world::{API, World},
};
use http::Request;
use pve_edge_core::{
    api::{Service, handle},
    io::{Platform, ResponseBody},
};
use sha2::{Digest, Sha256};

const KEY: &str = "key-of-the-floor";

/// As an adapter that reaches the guests' own addresses.
const PLATFORM: Platform = Platform {
    name: "floor",
    max_wait: Duration::from_secs(25),
    requests: 200,
    answer_bytes: 4 << 20,
    request_bytes: None,
    streams: true,
    upgrades: true,
    private_network: true,
    in_guest_network: false,
    unverified_tls: false,
};

/// Core, before such a PVE.
pub(super) struct Product {
    pub(super) world: World,
    service: Rc<Service>,
    seed: u64,
}

/// What it took.
pub(super) struct Took {
    requests: usize,
    seconds: f64,
    /// Of the last sandbox that was answered with.
    pub(super) id: String,
}

type Asked = Pin<Box<dyn Future<Output = (u16, String)>>>;

impl Product {
    /// A deployment of its own.
    pub(super) fn new(world: World, seed: u64) -> Self {
        let keys = format!("floor:{}", hex::encode(Sha256::digest(KEY)));
        let settings = [
            ("PVE_API_URL", API),
            ("PVE_API_TOKEN", TOKEN),
            ("PVE_IP_POOL_CIDR", "10.50.0.0/16"),
            ("EDGE_API_KEYS", &*keys),
            ("EDGE_SECRET", "edge-secret-of-the-floor-0123456789abcdef"),
            ("EDGE_DEPLOYMENT", "floor"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { world, service: Rc::new(Service::new(&settings, PLATFORM)), seed }
    }

    /// The same of so many clients at once.
    pub(super) fn all(&self, clients: u64, method: &str, path: &str, wanted: u16) -> Result<Took, String> {
        let (began, before) = (self.world.now(), self.requests());
        let asked = (0..clients).map(|nth| self.ask(nth, method, path));
        let answers = self.world.run_all(asked);
        let mut id = String::new();
        for (status, body) in answers.into_iter().flatten() {
            if status != wanted {
                return Err(format!("{method} {path}: {status} {body}\n{}", self.world.transcript()));
            }
            let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            id = body["id"].as_str().unwrap_or_default().to_owned();
        }
        let seconds = (self.world.now() - began).as_seconds_f64();
        Ok(Took { requests: self.requests() - before, seconds, id })
    }

    fn ask(&self, nth: u64, method: &str, path: &str) -> Asked {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json");
        let body = if path == "/api/sandboxes" { b"{}".to_vec() } else { Vec::new() };
        let request = request.body(body).expect("a request");
        let dice = format!("{} {nth} {method} {path} {}", self.seed, self.requests());
        let (io, service) = (self.world.io(), self.service.clone());
        Box::pin(async move {
            let request = request.map(|body| io.uploaded(body));
            let answer = handle(io, &service, PLATFORM, Sha256::digest(dice).into(), request).await;
            let status = answer.status().as_u16();
            let ResponseBody::Whole(body) = answer.into_body() else {
                return (status, String::new());
            };
            (status, String::from_utf8_lossy(&body).into_owned())
        })
    }

    fn requests(&self) -> usize {
        self.world.requests().iter().filter(|it| it.path.starts_with("/api2/")).count()
    }
}

impl Took {
    /// With what the floor took.
    pub(super) fn beside(&self, floor: f64) -> Sample {
        Sample { requests: self.requests, seconds: self.seconds, floor }
    }
}
