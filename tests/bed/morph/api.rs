//! The endpoints.

use http::{Request, header};
use serde_json::{Value, json};

use super::{
    Instance, Morph, Snapshot, Spec,
    machine::{Invalid, missing, seconds, strings},
};
use crate::sim::execd::Streamed;

/// How a handler ends.
enum End {
    Json(Value),
    Said(u16, &'static str, String),
    Streams(Box<Streamed>),
}

impl From<Invalid> for End {
    fn from(Invalid(what): Invalid) -> Self {
        Self::Said(422, "validation_error", what)
    }
}

/// What was asked, taken apart.
struct Call<'a> {
    method: &'a str,
    path: Vec<&'a str>,
    query: Vec<(String, String)>,
    body: Value,
}

impl Morph {
    /// Answers one request.
    pub(crate) fn api(&mut self, request: &Request<Vec<u8>>) -> Streamed {
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let end = match bearer.and_then(|it| it.strip_prefix("Bearer ")) {
            Some(key) if self.is_key(key) => match read(request) {
                Ok(call) => self.handle(&call).unwrap_or_else(|end| end),
                Err(end) => end,
            },
            _ => End::Said(401, "unauthorized", "Invalid API key".into()),
        };
        match end {
            End::Streams(streamed) => *streamed,
            End::Json(value) => Streamed::json(200, &value),
            // FastAPI lists what is wrong with a body.
            End::Said(422, code, text) => {
                Streamed::json(422, &json!({"detail": [{"loc": ["body"], "msg": text}], "error_code": code}))
            }
            End::Said(status, code, text) => {
                Streamed::json(status, &json!({"detail": text, "error_code": code}))
            }
        }
    }

    fn handle(&mut self, call: &Call<'_>) -> Result<End, End> {
        let known = |id: &str| match id.split('_').next() {
            Some("morphvm") => self.instances.contains_key(id),
            _ => self.snapshots.contains_key(id),
        };
        if let [kind @ ("instance" | "snapshot"), id, ..] = &*call.path
            && *id != "list"
            && !known(id)
        {
            return Err(End::Said(404, "not_found", format!("{kind} not found: {id}")));
        }
        match (call.method, &*call.path) {
            ("GET", ["image"]) => Ok(End::Json(json!({"data": [
                {"id": "morphvm-minimal", "object": "image", "name": "minimal", "disk_size": 8192, "created": 1}
            ]}))),
            ("GET", ["instance" | "snapshot"]) => Ok(End::Json(json!({"data": self.listed(call)?}))),
            ("GET", ["instance" | "snapshot", "list"]) => self.page(call),
            ("POST", ["instance"]) => self.start(call),
            ("POST", ["snapshot"]) => self.of_image(call),
            (method, ["instance", id, rest @ ..]) => self.instance(call, method, id, rest),
            (method, ["snapshot", id, rest @ ..]) => self.snapshot(call, method, id, rest),
            _ => Err(End::Said(404, "not_found", "Not Found".into())),
        }
    }

    /// The newest first, those whose metadata has all that is asked for.
    fn listed(&self, call: &Call<'_>) -> Result<Vec<Value>, End> {
        let instances = call.path.first() == Some(&"instance");
        let mut filters = Vec::new();
        for (name, value) in &call.query {
            match name.strip_prefix("metadata[").and_then(|it| it.strip_suffix(']')) {
                Some(key) => filters.push((key, value)),
                None if matches!(name.as_str(), "page" | "limit" | "digest") => {}
                None => return Err(End::Said(422, "validation_error", format!("{name}: no such parameter"))),
            }
        }
        let digest = call.query.iter().find(|(name, _)| name == "digest").map(|(_, value)| json!(value));
        let all: Vec<Value> = match instances {
            true => self.instances.keys().map(|id| self.shown(id)).collect(),
            false => self.snapshots.keys().map(|id| self.shown_snapshot(id)).collect(),
        };
        let mut found: Vec<Value> = all
            .into_iter()
            .filter(|it| filters.iter().all(|(key, value)| it["metadata"][key].as_str() == Some(value)))
            .filter(|it| digest.as_ref().is_none_or(|digest| it["digest"] == *digest))
            .collect();
        found.sort_by_key(|it| std::cmp::Reverse(it["created"].as_i64()));
        Ok(found)
    }

    fn page(&self, call: &Call<'_>) -> Result<End, End> {
        let number = |name: &str, otherwise: usize| {
            let said = call.query.iter().find(|(known, _)| known == name);
            said.and_then(|(_, value)| value.parse().ok()).unwrap_or(otherwise)
        };
        let (page, limit) = (number("page", 1).max(1), number("limit", 50).max(1));
        let all = self.listed(call)?;
        let (total, pages) = (all.len(), all.len().div_ceil(limit));
        let rows: Vec<Value> = all.into_iter().skip((page - 1) * limit).take(limit).collect();
        let kind = if call.path.first() == Some(&"instance") { "instances" } else { "snapshots" };
        Ok(End::Json(json!({
            kind: rows, "total": total, "page": page, "size": limit, "total_pages": pages,
            "has_next": page < pages, "has_prev": page > 1,
        })))
    }

    fn start(&mut self, call: &Call<'_>) -> Result<End, End> {
        call.only(&["metadata", "ttl_seconds", "ttl_action"])?;
        let id = call.query.iter().find(|(name, _)| name == "snapshot_id").map(|(_, value)| value.clone());
        let id = id.ok_or_else(|| missing("snapshot_id"))?;
        let absent = || End::Said(404, "not_found", format!("snapshot not found: {id}"));
        let spec = self.snapshots.get(&id).ok_or_else(absent)?.spec;
        let made = self.make(&id, spec, &call.body)?;
        Ok(End::Json(self.shown(&made)))
    }

    fn of_image(&mut self, call: &Call<'_>) -> Result<End, End> {
        call.only(&[
            "image_id",
            "vcpus",
            "memory",
            "disk_size",
            "digest",
            "metadata",
            "ttl_seconds",
            "readiness_check",
        ])?;
        let digest = call.body["digest"].as_str().map(str::to_owned);
        let known = self.snapshots.iter().find(|(_, it)| digest.is_some() && it.digest == digest);
        if let Some((known, _)) = known {
            return Ok(End::Json(self.shown_snapshot(known)));
        }
        let of = |name: &str, otherwise| call.body[name].as_u64().unwrap_or(otherwise);
        let spec =
            Spec { vcpus: of("vcpus", 1), memory: of("memory", 512), disk_size: of("disk_size", 8192) };
        let (metadata, ttl_seconds) = (strings(&call.body["metadata"])?, seconds(&call.body["ttl_seconds"])?);
        let id = self.id("snapshot");
        let (created, ready) = (self.now.unix_timestamp(), self.now + self.setup.snapshot);
        self.snapshots.insert(id.clone(), Snapshot { created, ready, spec, digest, ttl_seconds, metadata });
        Ok(End::Json(self.shown_snapshot(&id)))
    }

    fn instance(&mut self, call: &Call<'_>, method: &str, id: &str, rest: &[&str]) -> Result<End, End> {
        match (method, rest) {
            ("GET", []) => return Ok(End::Json(self.shown(id))),
            ("DELETE", []) => {
                self.instances.remove(id);
                return Ok(End::Json(Value::Null));
            }
            ("POST", ["metadata"]) => {
                let metadata = strings(&call.body)?;
                self.of(id)?.metadata = metadata;
            }
            ("POST", ["ttl"]) => {
                call.only(&["ttl_seconds", "ttl_action"])?;
                self.set_ttl(id, &call.body)?;
            }
            ("POST", [action @ ("pause" | "resume" | "reboot")]) => {
                call.only(&[])?;
                self.power(id, action).map_err(|why| End::Said(409, "conflict", why.into()))?;
            }
            ("POST", ["http"]) => self.expose(call, id)?,
            ("DELETE", ["http", name]) => {
                self.of(id)?.services.remove(*name);
            }
            ("POST", ["snapshot"]) => {
                call.only(&["metadata", "ttl_seconds"])?;
                self.must_be(id, &["ready", "paused"])?;
                let digest = call.query.iter().find(|(name, _)| name == "digest").map(|(_, it)| it.clone());
                // What the vendor's other SDK sends for none.
                let digest = digest.filter(|it| it != "undefined");
                let taken = self.take_snapshot(id, digest, &call.body)?;
                return Ok(End::Json(self.shown_snapshot(&taken)));
            }
            ("POST", ["exec"]) | ("POST", ["exec", "sse"]) => {
                call.only(&["command"])?;
                let words = call.body["command"].as_array().ok_or_else(|| missing("command"))?;
                let words: Option<Vec<String>> =
                    words.iter().map(|it| it.as_str().map(str::to_owned)).collect();
                let words = words.filter(|it| !it.is_empty()).ok_or_else(|| missing("command"))?;
                self.must_be(id, &["ready", "saving"])?;
                return Ok(End::Streams(Box::new(self.exec(id, &words, rest.len() == 2))));
            }
            _ => return Err(End::Said(404, "not_found", "Not Found".into())),
        }
        Ok(End::Json(self.shown(id)))
    }

    fn of(&mut self, id: &str) -> Result<&mut Instance, Invalid> {
        self.instances.get_mut(id).ok_or_else(|| missing("instance"))
    }

    fn saved(&mut self, id: &str) -> Result<&mut Snapshot, Invalid> {
        self.snapshots.get_mut(id).ok_or_else(|| missing("snapshot"))
    }

    fn must_be(&self, id: &str, statuses: &[&str]) -> Result<(), End> {
        match self.instances.get(id) {
            Some(it) if statuses.contains(&it.status) => Ok(()),
            _ => Err(End::Said(409, "conflict", "Instance is not ready".into())),
        }
    }

    fn expose(&mut self, call: &Call<'_>, id: &str) -> Result<(), End> {
        call.only(&["name", "port", "auth_mode"])?;
        let name = call.body["name"].as_str().ok_or_else(|| missing("name"))?;
        let port = call.body["port"].as_u64().filter(|it| (1..=65535).contains(it));
        let port = port.ok_or_else(|| missing("port"))?;
        let label = format!("{name}-{id}");
        let plain = name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
        if !plain || label.len() > 63 {
            return Err(End::Said(422, "validation_error", "name: no label".into()));
        }
        self.must_be(id, &["ready"])?;
        self.of(id)?.services.insert(name.to_owned(), port);
        Ok(())
    }

    fn snapshot(&mut self, call: &Call<'_>, method: &str, id: &str, rest: &[&str]) -> Result<End, End> {
        match (method, rest) {
            ("GET", []) => {}
            ("DELETE", []) => {
                self.snapshots.remove(id);
                return Ok(End::Json(Value::Null));
            }
            ("POST", ["metadata"]) => {
                self.saved(id)?.metadata = strings(&call.body)?;
            }
            ("POST", ["ttl"]) => {
                self.saved(id)?.ttl_seconds = seconds(&call.body["ttl_seconds"])?;
            }
            ("POST", ["boot"]) => {
                call.only(&["vcpus", "memory", "disk_size", "metadata", "ttl_seconds", "ttl_action"])?;
                let Some(has) = self.snapshots.get(id).map(|it| it.spec) else {
                    return Err(missing("id").into());
                };
                let of = |name: &str, otherwise| call.body[name].as_u64().unwrap_or(otherwise);
                let spec = Spec {
                    vcpus: of("vcpus", has.vcpus),
                    memory: of("memory", has.memory),
                    disk_size: of("disk_size", has.disk_size),
                };
                if spec.disk_size < has.disk_size {
                    return Err(End::Said(422, "validation_error", "disk_size: only grows".into()));
                }
                let made = self.make(id, spec, &call.body)?;
                return Ok(End::Json(self.shown(&made)));
            }
            _ => return Err(End::Said(404, "not_found", "Not Found".into())),
        }
        Ok(End::Json(self.shown_snapshot(id)))
    }
}

impl Call<'_> {
    /// Refuses members of the body that no version of the SDK sends.
    fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.body.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Invalid(format!("{name}: extra fields not permitted"))),
            None => Ok(()),
        }
    }
}

fn read(request: &Request<Vec<u8>>) -> Result<Call<'_>, End> {
    let method = request.method().as_str();
    let bad = |text: &str| End::Said(400, "bad_request", text.to_owned());
    let path = request.uri().path().trim_start_matches("/api").trim_matches('/');
    if !matches!(method, "GET" | "POST" | "DELETE") {
        return Err(End::Said(405, "method_not_allowed", "Method Not Allowed".into()));
    }
    if method != "POST" && !request.body().is_empty() {
        return Err(bad("a body where there is none"));
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("chunked"));
    }
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let body = match request.body() {
        body if body.is_empty() => Value::Null,
        _ if !kind.starts_with("application/json") => return Err(bad("not application/json")),
        body => serde_json::from_slice(body).map_err(|_| bad("not JSON"))?,
    };
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    Ok(Call { method, path: path.split('/').collect(), query: query.into_owned().collect(), body })
}
