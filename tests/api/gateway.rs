//! The gateway: who is let in to which sandbox, and what goes through.

mod doors;
mod passes;
mod relay;
mod siblings;
mod tenants;
mod wake;

use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, Request};
use pve_edge_bed::sim::execd::{Piece, Streamed};

use crate::stage::prelude::*;

/// Requests that a guest has seen.
type Seen = Rc<RefCell<Vec<Request<Vec<u8>>>>>;

/// A deployment with a gateway, and a sandbox that serves port 3000.
struct House {
    stage: Stage,
    id: String,
    vmid: u32,
    seen: Seen,
}

impl House {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With settings beyond the usual ones; a pool that is large enough that VMIDs do not come back at once.
    fn with(changes: &[(&str, &str)]) -> Self {
        Self::of(Stage::of(World::new(plain_sim(Setup::default()), 7), &settings(changes)))
    }

    fn of(stage: Stage) -> Self {
        let made = stage.ask(Ask::create());
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.id();
        let (vmid, seen) = (vmid_of(&id), Seen::default());
        let told = seen.clone();
        stage.world.serve(&format!("{vmid}:3000"), move |request, _| {
            told.borrow_mut().push(request.clone());
            Streamed { status: 200, headers: HeaderMap::new(), pieces: vec![Piece::Bytes(b"hello".to_vec())] }
        });
        let declared =
            stage.ask(Ask::put(format!("/api/sandboxes/{id}/services/web")).json(json!({"port": 3000})));
        assert_eq!(declared.status, 200, "{declared:?}");
        Self { stage, id, vmid, seen }
    }

    /// Declares the service anew.
    fn declare(&self, mut body: Value) {
        body["port"] = json!(3000);
        let declared =
            self.stage.ask(Ask::put(format!("/api/sandboxes/{}/services/web", self.id)).json(body));
        assert_eq!(declared.status, 200, "{declared:?}");
    }

    /// URL of a link to the service.
    fn link(&self, body: Value) -> String {
        let made = self.stage.ask(Ask::act(&self.id, "services/web/link", body));
        assert_eq!(made.status, 200, "{made:?}");
        made.json()["url"].as_str().expect("a URL").to_owned()
    }

    /// URL of the service without a token.
    fn url(&self) -> String {
        self.link(json!({})).split('?').next().expect("a URL").to_owned()
    }

    /// Origin of the service.
    fn origin(&self) -> String {
        self.url().trim_end_matches('/').to_owned()
    }

    /// The cookie of a browser that came by a link.
    fn cookie(&self) -> String {
        self.cookie_of(&self.link(json!({})))
    }

    fn cookie_of(&self, link: &str) -> String {
        let entered = self.stage.ask(Ask::visit(link).navigation());
        assert_eq!(entered.status, 303, "{entered:?}");
        entered.header("set-cookie").split(';').next().expect("a cookie").to_owned()
    }

    /// Asks as a browser does that was let in.
    fn inside(&self, cookie: &str) -> Ask {
        Ask::visit(self.url())
            .header("cookie", cookie)
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
    }

    /// What the guest has seen so far, which is then forgotten.
    fn taken(&self) -> Vec<Request<Vec<u8>>> {
        self.seen.take()
    }

    /// Starts of guests that PVE was asked for so far.
    fn starts(&self) -> usize {
        let is_start =
            |it: &&pve_edge_bed::world::Seen| it.method == "POST" && it.path.ends_with("/status/start");
        self.stage.world.requests().iter().filter(is_start).count()
    }

    /// Writes of guests' configs that PVE has taken so far: of those who read the same, one.
    fn writes(&self) -> usize {
        let is_write = |it: &&pve_edge_bed::world::Seen| it.method == "PUT" && it.path.ends_with("/config");
        let asked = self.stage.world.requests().iter().filter(is_write).count();
        let late = self.stage.world.transcript().matches("detected modified configuration").count();
        asked - late
    }
}

fn settings<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [("PVE_IP_POOL_CIDR", "10.1.0.0/16"), ("PVE_GATEWAY", "10.1.0.1")];
    let kept = usual.into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes.iter().copied()).collect()
}

fn header<'r>(request: &'r Request<Vec<u8>>, name: &str) -> &'r str {
    request.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
}
