//! A client of the API, which remembers all that it was told.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Request, request::Builder};
use pve_edge_core::io::{Answer as Head, Io, NetError, RequestBody, Whole, fetch};
use pve_edge_lambda::net::{Net, Transport};
use serde_json::Value;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Larger than any answer may be.
const LARGEST: usize = 64 << 20;

/// One caller of an API.
#[derive(Clone, Debug)]
pub struct Client {
    net: Net,
    url: String,
    key: Option<String>,
    heard: Heard,
}

/// Every answer, to search for what must not be in any.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

/// An answer that is being read.
pub type Body = Pin<Box<dyn Stream<Item = Result<Vec<u8>, NetError>> + Send>>;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client without a key.
    pub fn new(url: &str, heard: Heard) -> Result<Self, String> {
        let transport = Transport::new(true).map_err(|error| error.to_string())?;
        let net = transport.net().map_err(|error| error.to_string())?;
        Ok(Self { net, url: url.to_owned(), key: None, heard })
    }

    /// The same API, with this key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The key, if it has one.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// A request to `path`, with the key.
    pub fn request(&self, method: &str, path: &str) -> Builder {
        let builder = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.key {
            Some(key) => builder.header("authorization", format!("Bearer {key}")),
            None => builder,
        }
    }

    /// Asks, with a JSON body unless it is null.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask_with(method, path, body, &[]).await
    }

    /// As [`Client::ask`], with more headers.
    pub async fn ask_with(&self, method: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut builder = self.request(method, path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.send(with_json(builder, body)).await
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null).await
    }

    /// Its connections, for what is not the API.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Sends anything.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        let asked = format!("{} {}", request.method(), request.uri().path());
        let answer = fetch(&self.net, request, self.net.now() + PATIENCE, LARGEST).await;
        let Whole { status, headers, body, .. } = answer.unwrap_or_else(|error| panic!("{asked}: {error}"));
        self.heard.hear(&headers, &body);
        Answer { asked, status, headers, body }
    }

    /// Sends anything, and returns as soon as the answer's headers are in.
    pub async fn open(&self, request: Request<Vec<u8>>) -> Head<Body> {
        let answer = self
            .net
            .open(request.map(RequestBody::Whole), self.net.now() + PATIENCE)
            .await
            .expect("an answer");
        self.heard.hear(&answer.headers, &[]);
        let heard = self.heard.clone();
        let body = answer.body.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                heard.hear(&HeaderMap::new(), chunk);
            }
        });
        Head { status: answer.status, reason: answer.reason, headers: answer.headers, body: Box::pin(body) }
    }
}

/// A request with a JSON body, unless it is null.
pub fn with_json(builder: Builder, body: &Value) -> Request<Vec<u8>> {
    let request = match body {
        Value::Null => builder.body(Vec::new()),
        body => builder.header("content-type", "application/json").body(body.to_string().into_bytes()),
    };
    request.expect("a request")
}

impl Heard {
    /// Whether any answer had it.
    pub fn has(&self, text: &str) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contains(&heard, text.as_bytes())
    }

    /// Keeps what an answer says.
    pub fn hear(&self, headers: &HeaderMap, body: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in headers {
            heard.extend_from_slice(name.as_str().as_bytes());
            heard.push(b' ');
            heard.extend_from_slice(value.as_bytes());
            heard.push(b'\n');
        }
        heard.extend_from_slice(body);
    }
}

/// Whether `text` has `part` in it.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(part) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

impl Answer {
    /// Its JSON, when it has this status; anything else fails the scenario.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        let kind = self.header("content-type");
        assert_eq!(kind, "application/json", "{}", self.asked);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.asked))
    }

    /// Its problem document, when it has this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.asked);
        let problem: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert!(problem["retryable"].is_boolean(), "{problem}");
        let id = problem["requestId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && id == self.header("x-request-id"), "{problem}");
        problem
    }

    /// Fails the scenario unless it has this status and no body.
    #[track_caller]
    pub fn empty(&self, status: u16) {
        assert_eq!((self.status, self.text().as_str()), (status, ""), "{}", self.asked);
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Its body, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
