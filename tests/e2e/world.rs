//! What a scenario has to work with.

use pve_edge_bed::guests::Guests;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::{
    client::{Answer, Client},
    inventory::Reader,
    rig::Pve,
    target::Target,
};

/// Callers of one API, and two APIs whose PVE does not answer them.
#[derive(Clone)]
pub(super) struct World {
    pub(super) target: Target,
    /// Which PVE it is.
    pub(super) behind: Pve,
    /// Without a key.
    pub(super) anyone: Client,
    /// A team.
    pub(super) blue: Client,
    /// Another team.
    pub(super) red: Client,
    /// An admin, of a third team.
    pub(super) admin: Client,
    /// Where nobody listens at `PVE_API_URL`.
    pub(super) unreachable: Client,
    /// The guests, for what PVE does not do to them.
    pub(super) guests: Guests,
    /// PVE itself, for what the API does not show.
    pub(super) pve: Reader,
    /// Key of the proxy beside PVE.
    pub(super) proxy_key: String,
    /// Where PVE does not know `PVE_API_TOKEN`.
    pub(super) unauthorized: Client,
}

/// A sandbox that a scenario made.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) client: Client,
    pub(super) shown: Value,
    pub(super) etag: String,
}

impl World {
    /// A sandbox of team blue that has the project's own daemon, if templates of this PVE have it.
    pub(super) async fn sandbox_with_our_daemon(&self) -> Option<Sandbox> {
        let sandbox = self.sandbox(json!({})).await;
        assert_eq!(sandbox.has_our_daemon(), self.behind == Pve::Simulator, "{}", sandbox.shown);
        if sandbox.has_our_daemon() {
            return Some(sandbox);
        }
        sandbox.drop().await;
        None
    }

    /// Whether what a VM's agent is asked to run is run.
    pub(super) fn runs_agents(&self) -> bool {
        self.behind == Pve::Simulator
    }

    /// A sandbox of team blue, ready.
    pub(super) async fn sandbox(&self, request: Value) -> Sandbox {
        let answer = self.blue.ask("POST", "/api/sandboxes", &request).await;
        Sandbox::of(&self.blue, &answer, 201)
    }
}

impl Sandbox {
    /// What an answer with this status shows.
    #[track_caller]
    pub(super) fn of(client: &Client, answer: &Answer, status: u16) -> Self {
        let (shown, etag) = (answer.json(status), answer.header("etag").to_owned());
        Self { client: client.clone(), shown, etag }
    }

    /// Whether the project's own daemon is in it; else a stand-in of cmux-execd is.
    pub(super) fn has_our_daemon(&self) -> bool {
        self.shown["commands"] == "guest"
    }

    pub(super) fn id(&self) -> &str {
        self.shown["id"].as_str().expect("an id")
    }

    /// Its path, or what is below it.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/api/sandboxes/{}{rest}", self.id())
    }

    pub(super) async fn get(&self) -> Answer {
        self.client.get(&self.path("")).await
    }

    /// Runs a command to its end.
    pub(super) async fn exec(&self, request: Value) -> Value {
        self.client.ask("POST", &self.path("/exec"), &request).await.json(200)
    }

    /// What a shell line prints.
    pub(super) async fn shell(&self, line: &str) -> String {
        let outcome = self.exec(json!({"command": line})).await;
        assert_eq!((&outcome["exitCode"], &outcome["stderr"]), (&json!(0), &json!("")), "{outcome}");
        outcome["stdout"].as_str().expect("text").to_owned()
    }

    /// Asks until it runs.
    pub(super) async fn running(&self) -> Value {
        let mut last = Value::Null;
        for _ in 0..150 {
            last = self.get().await.json(200);
            if last["state"] == "running" {
                return last;
            }
            assert_eq!(last["state"], "creating", "{last}");
            sleep(Duration::from_millis(200)).await;
        }
        panic!("it does not come up: {last}");
    }

    /// Deletes it, and does not wait for PVE.
    pub(super) async fn drop(self) {
        let answer =
            self.client.ask_with("DELETE", &self.path(""), &Value::Null, &[("prefer", "wait=0")]).await;
        assert!(matches!(answer.status, 202 | 204), "{}", answer.text());
    }
}
