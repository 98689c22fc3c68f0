//! The floor: a client that knows how all stands without asking.

use std::{cell::Cell, future::Future, pin::Pin, rc::Rc};

use super::TEMPLATE;
use crate::{
    sim::{Sim, TOKEN},
    world::{API, World},
};
use http::Request;
use pve_edge_core::io::{Io, RequestBody};
use time::Duration;

/// The VMID of its first sandbox.
const FIRST: u32 = 200_000;
/// How often it looks at what it knows.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(1);

/// The client, and the world that it sees all of.
#[derive(Clone)]
pub(super) struct Floor {
    pub(super) world: World,
    /// How many clones of the template were made: whose turn it is.
    cloned: Rc<Cell<u32>>,
}

type Step = Pin<Box<dyn Future<Output = ()>>>;

impl Floor {
    /// In a world of its own.
    pub(super) fn new(world: World) -> Self {
        Self { world, cloned: Rc::default() }
    }

    /// Seconds until all of them are done.
    pub(super) fn timed(&self, steps: impl IntoIterator<Item = Step>) -> f64 {
        let began = self.world.now();
        self.world.run_all(steps);
        (self.world.now() - began).as_seconds_f64()
    }

    /// A clone when it is this one's turn, its settings, and its start.
    pub(super) fn create(&self, nth: u32) -> Step {
        let (floor, vmid) = (self.clone(), FIRST + nth);
        Box::pin(async move {
            let cloned = floor.cloned.clone();
            floor.until(move |sim| cloned.get() == nth && is_free(sim, TEMPLATE)).await;
            floor.ask("POST", &format!("{TEMPLATE}/clone"), &format!("newid={vmid}&full=0")).await;
            floor.cloned.set(nth + 1);
            floor.until(move |sim| is_free(sim, vmid)).await;
            floor.ask("PUT", &format!("{vmid}/config"), "tags=floor&cores=1&memory=1024").await;
            floor.started(vmid).await;
        })
    }

    /// The first one's graceful end.
    pub(super) fn stop(&self) -> Step {
        let floor = self.clone();
        Box::pin(async move {
            floor.ask("POST", &format!("{FIRST}/status/shutdown"), "").await;
            floor.until(|sim| sim.guest(FIRST).is_some_and(|it| it.run.is_none())).await;
        })
    }

    /// The first one's start.
    pub(super) fn start(&self) -> Step {
        let floor = self.clone();
        Box::pin(async move { floor.started(FIRST).await })
    }

    /// The first one's end, while it runs.
    pub(super) fn delete(&self) -> Step {
        let floor = self.clone();
        Box::pin(async move {
            floor.ask("DELETE", &format!("{FIRST}?force=1&purge=1"), "").await;
            floor.until(|sim| sim.guest(FIRST).is_none()).await;
        })
    }

    async fn started(&self, vmid: u32) {
        self.ask("POST", &format!("{vmid}/status/start"), "").await;
        self.until(move |sim| {
            let run = sim.guest(vmid).and_then(|it| it.run.as_ref());
            run.is_some_and(|run| run.ready <= sim.now())
        })
        .await;
    }

    async fn until(&self, holds: impl Fn(&Sim) -> bool) {
        let io = self.world.io();
        while !holds(&self.world.sim()) {
            io.sleep(MOMENT).await;
        }
    }

    async fn ask(&self, method: &str, path: &str, form: &str) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{API}/api2/json/nodes/pve1/lxc/{path}"))
            .header("authorization", format!("PVEAPIToken={TOKEN}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.as_bytes().to_vec())
            .expect("a request");
        let deadline = self.world.now() + Duration::minutes(1);
        let answer =
            self.world.io().open(request.map(RequestBody::Whole), deadline).await.expect("an answer");
        assert_eq!(answer.status, 200, "{method} {path}: {}", self.world.transcript());
    }
}

/// Whether a guest is there, and nothing has locked it.
fn is_free(sim: &Sim, vmid: u32) -> bool {
    sim.guest(vmid).is_some_and(|it| it.config.lock().is_none() && it.config.get("rootfs").is_some())
}
