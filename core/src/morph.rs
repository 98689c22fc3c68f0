//! Sandboxes that are instances of Morph Cloud, by its public API.
//!
//! The metadata of an instance keeps all that is known of its sandbox, and the expiry is Morph's own. A call of Morph
//! that changes something replaces the former value and names no version: of two calls at once the later one wins, and
//! a call that is executed late undoes the changes since it was sent.

pub mod change;
pub mod config;
pub mod create;
pub mod exec;
mod finish;
pub mod health;
pub mod instance;
mod operations;
pub mod power;
mod processes;
pub mod read;
pub mod record;
pub mod refusal;
pub mod remove;
pub mod snapshot;
mod source;
pub mod sweep;
mod visit;

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

/// Client of Morph's API, with a method for each endpoint that is used.
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

/// Morph Cloud, as one request works with it.
pub struct Cloud<'a, I> {
    invocation: Invocation<I>,
    /// Settings of the deployment.
    pub settings: &'a Settings,
    /// Client of Morph's API.
    pub morph: &'a Morph,
}

impl<'a, I> Deref for Cloud<'a, I> {
    type Target = Invocation<I>;

    fn deref(&self) -> &Self::Target {
        &self.invocation
    }
}

impl<'a, I: Io> Cloud<'a, I> {
    /// Morph Cloud for the request of this invocation.
    pub fn new(invocation: Invocation<I>, settings: &'a Settings, morph: &'a Morph) -> Self {
        Self { invocation, settings, morph }
    }

    /// Sends a call. A read that was not answered is sent once more, a write never.
    pub async fn send(&self, call: Call<Value>) -> Result<Value, MorphError> {
        let is_read = call.is_read();
        refusal::decode(&self.exchange(call.request, call.template, is_read).await?)
    }
}

impl Morph {
    /// The client for an API at `base`, which has no slash at its end; `None` when the key cannot be a header's value.
    pub fn new(base: &str, key: &Secret) -> Option<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self { base: base.to_owned(), authorization })
    }

    /// `GET /instance`: lists the instances whose metadata has all these entries of ours.
    pub fn instances(&self, filters: &[(&str, &str)]) -> Call<Value> {
        self.list_by_metadata("instance", filters)
    }

    /// `GET /snapshot`: lists the snapshots whose metadata has all these entries of ours.
    pub fn snapshots(&self, filters: &[(&str, &str)]) -> Call<Value> {
        self.list_by_metadata("snapshot", filters)
    }

    fn list_by_metadata(&self, kind: &'static str, filters: &[(&str, &str)]) -> Call<Value> {
        let named: Vec<_> =
            filters.iter().map(|(name, value)| (format!("metadata[{RESERVED}{name}]"), *value)).collect();
        let query: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.call(Method::GET, kind, &[&kind], &query, None)
    }

    /// `GET /instance/{id}`: reads an instance.
    pub fn instance(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::GET, "instance/{id}", &[&"instance", id], &[], None)
    }

    /// `GET /snapshot/{id}`: reads a snapshot.
    pub fn snapshot(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::GET, "snapshot/{id}", &[&"snapshot", id], &[], None)
    }

    /// `POST /instance?snapshot_id=`: makes an instance that goes on where the snapshot was taken. Each call makes another
    /// instance.
    pub fn start(&self, snapshot: &MorphId, body: &Value) -> Call<Value> {
        let id = snapshot.to_string();
        self.call(Method::POST, "instance", &[&"instance"], &[("snapshot_id", &id)], Some(body))
    }

    /// `POST /snapshot/{id}/boot`: makes an instance with sizes of its own, which boots from the snapshot's disk. Each call
    /// makes another instance.
    pub fn boot(&self, snapshot: &MorphId, body: &Value) -> Call<Value> {
        let path: [&dyn fmt::Display; 3] = [&"snapshot", snapshot, &"boot"];
        self.call(Method::POST, "snapshot/{id}/boot", &path, &[], Some(body))
    }

    /// `DELETE /instance/{id}`: deletes an instance, which Morph calls stop. Nothing of it is left.
    pub fn stop(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::DELETE, "instance/{id}", &[&"instance", id], &[], None)
    }

    /// `DELETE /snapshot/{id}`: deletes a snapshot.
    pub fn remove_snapshot(&self, id: &MorphId) -> Call<Value> {
        self.call(Method::DELETE, "snapshot/{id}", &[&"snapshot", id], &[], None)
    }

    /// `POST /instance/{id}/{action}`: pauses, resumes or reboots an instance.
    pub fn power(&self, id: &MorphId, action: &'static str) -> Call<Value> {
        self.call(Method::POST, action, &[&"instance", id, &action], &[], None)
    }

    /// `POST /instance/{id}/metadata`: replaces all metadata of an instance.
    pub fn set_metadata(&self, id: &MorphId, record: &Record) -> Call<Value> {
        self.replace_metadata("instance", id, record)
    }

    /// `POST /snapshot/{id}/metadata`: replaces all metadata of a snapshot.
    pub fn set_snapshot_metadata(&self, id: &MorphId, record: &Record) -> Call<Value> {
        self.replace_metadata("snapshot", id, record)
    }

    fn replace_metadata(&self, kind: &'static str, id: &MorphId, record: &Record) -> Call<Value> {
        let path: [&dyn fmt::Display; 3] = [&kind, id, &"metadata"];
        self.call(Method::POST, "metadata", &path, &[], Some(&record.json()))
    }

    /// `POST /instance/{id}/ttl`: sets the seconds from now after which Morph pauses or deletes an instance; `None`: never.
    pub fn set_ttl(&self, id: &MorphId, seconds: Option<i64>, action: &str) -> Call<Value> {
        let body = json!({"ttl_seconds": seconds, "ttl_action": action});
        self.call(Method::POST, "ttl", &[&"instance", id, &"ttl"], &[], Some(&body))
    }

    /// `POST /instance/{id}/http`: gives a port of an instance a public name.
    pub fn expose(&self, id: &MorphId, port: u16) -> Call<Value> {
        let body = json!({"name": format!("port-{port}"), "port": port});
        self.call(Method::POST, "http", &[&"instance", id, &"http"], &[], Some(&body))
    }

    /// `POST /instance/{id}/snapshot`: takes a snapshot of a running instance, with its memory. Each call takes another
    /// snapshot.
    pub fn take_snapshot(&self, id: &MorphId, record: &Record) -> Call<Value> {
        let body = json!({"metadata": record.json()});
        self.call(Method::POST, "instance/{id}/snapshot", &[&"instance", id, &"snapshot"], &[], Some(&body))
    }

    /// `POST /instance/{id}/exec/sse`: runs a line in a shell. A list of one element is such a line to Morph.
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
