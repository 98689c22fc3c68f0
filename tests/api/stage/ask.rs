//! A request to the API, and what it answered.

use http::{HeaderMap, Request};
use pve_edge_bed::sim::execd::Piece;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// A request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(super) method: &'static str,
    pub(super) path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<Piece>,
}

/// What the API answered, and when.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) at: OffsetDateTime,
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        let authorization = ("authorization", "Bearer key-blue".to_owned());
        Self { method, path: path.into(), headers: vec![authorization], body: Vec::new() }
    }

    /// Of a visitor, who has no key, at any URL.
    pub(crate) fn visit(url: impl Into<String>) -> Self {
        Self { headers: Vec::new(), ..Self::new("GET", url) }
    }

    /// By another method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// As a browser opens a page.
    pub(crate) fn navigation(self) -> Self {
        let page = self.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        let page = page.header("sec-fetch-user", "?1");
        page.header("sec-fetch-site", "none").header("accept", "text/html,*/*;q=0.8")
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new("HEAD", path)
    }

    pub(crate) fn options(path: impl Into<String>) -> Self {
        Self::new("OPTIONS", path)
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path).json(body)
    }

    pub(crate) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new("PATCH", path).json(body)
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new("PUT", path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// A sandbox of the usual preset.
    pub(crate) fn create() -> Self {
        Self::sandbox(json!({}))
    }

    /// A sandbox that this body describes.
    pub(crate) fn sandbox(body: Value) -> Self {
        Self::post("/api/sandboxes", body)
    }

    /// The same, with an Idempotency-Key.
    pub(crate) fn create_keyed(key: &str) -> Self {
        Self::create().header("idempotency-key", key)
    }

    /// Of the sandbox with this id.
    pub(crate) fn one(id: &str) -> Self {
        Self::get(format!("/api/sandboxes/{id}"))
    }

    /// A POST to the sandbox: `stop`, `snapshots`, and so on.
    pub(crate) fn act(id: &str, verb: &str, body: Value) -> Self {
        Self::post(format!("/api/sandboxes/{id}/{verb}"), body)
    }

    /// A change of its name, metadata or expiry.
    pub(crate) fn change(id: &str, body: Value) -> Self {
        Self::patch(format!("/api/sandboxes/{id}"), body)
    }

    /// The snapshot with this id.
    pub(crate) fn snapshot(id: &str) -> Self {
        Self::get(format!("/api/snapshots/{id}"))
    }

    /// Runs a command there.
    pub(crate) fn exec(id: &str, command: &str) -> Self {
        Self::act(id, "exec", json!({"command": command}))
    }

    /// More time for it.
    pub(crate) fn extend(id: &str, seconds: u64) -> Self {
        Self::act(id, "extend", json!({"ttlSeconds": seconds}))
    }

    /// Back to a snapshot that stays on it.
    pub(crate) fn rollback(id: &str, snapshot: &str) -> Self {
        Self::act(id, "rollback", json!({"snapshot": snapshot}))
    }

    /// A run of the sweep, by an admin.
    pub(crate) fn gc() -> Self {
        Self::post("/api/gc", json!({})).by("ops")
    }

    /// Its end.
    pub(crate) fn end(id: &str) -> Self {
        Self::delete(format!("/api/sandboxes/{id}"))
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.bytes(body.to_string()).header("content-type", "application/json")
    }

    pub(crate) fn bytes(self, body: impl Into<Vec<u8>>) -> Self {
        self.pieces([Piece::Bytes(body.into())])
    }

    /// A body that arrives in these pieces.
    pub(crate) fn pieces(self, body: impl Into<Vec<Piece>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Replaces a header of that name.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// Opens a websocket.
    pub(crate) fn websocket(self) -> Self {
        let asked = self.header("connection", "Upgrade").header("upgrade", "websocket");
        asked.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-version", "13")
    }

    /// The answer may take so many seconds.
    pub(crate) fn wait(self, seconds: u64) -> Self {
        self.header("prefer", format!("wait={seconds}"))
    }

    /// As another caller: `blue`, `red` or `ops`.
    pub(crate) fn by(self, team: &str) -> Self {
        self.header("authorization", format!("Bearer key-{team}"))
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub(super) fn request(self) -> Request<Vec<Piece>> {
        let mut builder = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        builder.body(self.body).expect("tests ask what HTTP can say")
    }
}

impl Answer {
    /// Its JSON; null when it has none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The `id` of the sandbox that it shows.
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    /// The `snapshotId` that it shows.
    pub(crate) fn snapshot_id(&self) -> String {
        self.json()["snapshotId"].as_str().unwrap_or_else(|| panic!("no snapshotId in {self:?}")).to_owned()
    }

    /// Its status, what was done and the state afterwards: `200 started running`.
    pub(crate) fn outcome(&self) -> String {
        format!("{} {} {}", self.status, self.json()["did"].as_str().unwrap_or_default(), self.state())
    }

    /// Its status and the state of the sandbox that it shows: `201 running`.
    pub(crate) fn shows(&self) -> String {
        format!("{} {}", self.status, self.state())
    }

    /// Its status and the `code` of its problem: `409 guest-locked`.
    pub(crate) fn refusal(&self) -> String {
        format!("{} {}", self.status, self.code())
    }

    /// The state of the sandbox that it shows, or nothing.
    pub(crate) fn state(&self) -> String {
        self.json()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The `code` of a problem, or nothing.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `Retry-After`, in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }
}
