//! Sandboxes that are instances of Morph Cloud, by its public API.
//!
//! What is kept about one is in its metadata there, and its expiry is Morph's
//! own. Morph's calls that change something replace what was there and name no
//! version: of two at once the later one wins, and one that is executed late
//! undoes what came between.

pub mod change;
pub mod config;
pub mod create;
pub mod exec;
mod finish;
pub mod health;
pub mod instance;
mod operations;
pub mod power;
pub mod read;
pub mod record;
pub mod refusal;
pub mod remove;
pub mod snapshot;
mod source;
pub mod sweep;

use std::{fmt, ops::Deref};

use http::{HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use self::record::Record;
pub use self::{record::RESERVED, refusal::MorphError};
use crate::{
    access::secret::Secret,
    io::{
        Io, Way,
        call::{Call, uri},
        invocation::Invocation,
    },
    sandbox::id::MorphId,
    settings::Settings,
};

/// Where Morph is and how to speak to it: one method for each endpoint that is used.
#[derive(Clone)]
pub struct Morph {
    base: String,
    authorization: HeaderValue,
}

impl fmt::Debug for Morph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Morph").field("base", &self.base).finish_non_exhaustive()
    }
}

/// An invocation, and the Morph Cloud that it is about.
pub struct Cloud<'a, I> {
    invocation: Invocation<I>,
    /// The deployment's settings.
    pub settings: &'a Settings,
    /// Morph.
    pub morph: &'a Morph,
}

impl<'a, I> Deref for Cloud<'a, I> {
    type Target = Invocation<I>;

    fn deref(&self) -> &Self::Target {
        &self.invocation
    }
}

impl<'a, I: Io> Cloud<'a, I> {
    /// For one request.
    pub fn new(invocation: Invocation<I>, settings: &'a Settings, morph: &'a Morph) -> Self {
        Self { invocation, settings, morph }
    }

    /// Sends one call. A read that was not answered is sent once more; anything else never is.
    pub async fn send(&self, call: Call<Value>) -> Result<Value, MorphError> {
        let is_read = call.is_read();
        refusal::decode(&self.exchange(call.request, call.template, is_read).await?)
    }
}

impl Morph {
    /// `base` has no slash at its end. `None` when the key cannot be a header's value.
    pub fn new(base: &str, key: &Secret) -> Option<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self { base: base.to_owned(), authorization })
    }

    /// `GET /instance`: those whose metadata has all of these.
    pub fn instances(&self, filters: &[(&str, &str)]) -> Call<Value> {
        self.listed("instance", filters)
    }

    /// `GET /snapshot`, likewise.
    pub fn snapshots(&self, filters: &[(&str, &str)]) -> Call<Value> {
        self.listed("snapshot", filters)
    }

    fn listed(&self, kind: &'static str, filters: &[(&str, &str)]) -> Call<Value> {
        let named: Vec<_> =
            filters.iter().map(|(name, value)| (format!("metadata[{RESERVED}{name}]"), *value)).collect();
        let query: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.call(Method::GET, kind, &[&kind], &query, None)
    }

    /// `GET /instance/{id}`
    pub fn instance(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::GET, "instance/{id}", &[&"instance", id], &[], None)
    }

    /// `GET /snapshot/{id}`
    pub fn snapshot(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::GET, "snapshot/{id}", &[&"snapshot", id], &[], None)
    }

    /// `POST /instance?snapshot_id=`: goes on where the snapshot was taken. Each call makes another one.
    pub fn start(&self, snapshot: &MorphId, body: &Value) -> Call<Value> {
        let id = snapshot.to_string();
        self.call(Method::POST, "instance", &[&"instance"], &[("snapshot_id", &id)], Some(body))
    }

    /// `POST /snapshot/{id}/boot`: with sizes of its own, and so from its disk alone.
    pub fn boot(&self, snapshot: &MorphId, body: &Value) -> Call<Value> {
        let path: [&dyn fmt::Display; 3] = [&"snapshot", snapshot, &"boot"];
        self.call(Method::POST, "snapshot/{id}/boot", &path, &[], Some(body))
    }

    /// `DELETE /instance/{id}`: what Morph calls stop. Nothing of it is left.
    pub fn stop(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::DELETE, "instance/{id}", &[&"instance", id], &[], None)
    }

    /// `DELETE /snapshot/{id}`
    pub fn remove_snapshot(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::DELETE, "snapshot/{id}", &[&"snapshot", id], &[], None)
    }

    /// `POST /instance/{id}/{action}`: `pause`, `resume`, `reboot`.
    pub fn power(&self, id: &MorphId, action: &'static str) -> Call<Value> {
        self.call(Method::POST, action, &[&"instance", id, &action], &[], None)
    }

    /// `POST /instance/{id}/metadata`: replaces all of it.
    pub fn set_metadata(&self, id: &MorphId, record: &Record) -> Call<Value> {
        self.metadata("instance", id, record)
    }

    /// `POST /snapshot/{id}/metadata`: replaces all of it.
    pub fn set_snapshot_metadata(&self, id: &MorphId, record: &Record) -> Call<Value> {
        self.metadata("snapshot", id, record)
    }

    fn metadata(&self, kind: &'static str, id: &MorphId, record: &Record) -> Call<Value> {
        let path: [&dyn fmt::Display; 3] = [&kind, id, &"metadata"];
        self.call(Method::POST, "metadata", &path, &[], Some(&record.json()))
    }

    /// `POST /instance/{id}/ttl`: counts from now; `None` = never.
    pub fn set_ttl(&self, id: &MorphId, seconds: Option<i64>, action: &str) -> Call<Value> {
        let body = json!({"ttl_seconds": seconds, "ttl_action": action});
        self.call(Method::POST, "ttl", &[&"instance", id, &"ttl"], &[], Some(&body))
    }

    /// `POST /instance/{id}/http`: a port by a public name.
    pub fn expose(&self, id: &MorphId, port: u16) -> Call<Value> {
        let body = json!({"name": format!("port-{port}"), "port": port});
        self.call(Method::POST, "http", &[&"instance", id, &"http"], &[], Some(&body))
    }

    /// `POST /instance/{id}/snapshot`: of what runs, its memory too. Each call makes another one.
    pub fn take_snapshot(&self, id: &MorphId, record: &Record) -> Call<Value> {
        let body = json!({"metadata": record.json()});
        self.call(Method::POST, "instance/{id}/snapshot", &[&"instance", id, &"snapshot"], &[], Some(&body))
    }

    /// `POST /instance/{id}/exec/sse`: one element is a line for a shell.
    pub fn exec(&self, id: &MorphId, line: &str) -> Request<Vec<u8>> {
        let path: [&dyn fmt::Display; 4] = [&"instance", id, &"exec", &"sse"];
        let mut request =
            self.call(Method::POST, "exec", &path, &[], Some(&json!({"command": [line]}))).request;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        request
    }

    fn call(
        &self,
        method: Method,
        template: &'static str,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Call<Value> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = uri(&self.base, path, query);
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = body.to_string().into_bytes();
        }
        if method == Method::POST {
            let length = HeaderValue::from(request.body().len());
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        *request.method_mut() = method;
        request.extensions_mut().insert(Way::Public);
        Call::new(request, template)
    }
}
