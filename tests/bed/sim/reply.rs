//! Answers and PVE's envelopes around them.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc2822};

use super::{Sim, qemu::agent::SILENT, setup::Version, wire::Call};

/// An answer on the wire.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 200, or one of PVE's others, 595-599 among them.
    pub status: u16,
    /// The reason phrase: where old versions put the error text.
    pub reason: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// How long PVE takes to give it.
    pub delay: Duration,
}

impl Reply {
    /// What a proxy before PVE answers in its place.
    pub(crate) fn page(status: u16) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::SERVER, HeaderValue::from_static("nginx/1.26"));
        if status == 429 {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("7"));
        }
        let body = b"<html>secret-of-the-page</html>".to_vec();
        Self { status, reason: String::new(), headers, body, delay: Duration::ZERO }
    }

    /// With the time at which pveproxy answers.
    pub(crate) fn dated(mut self, now: OffsetDateTime) -> Self {
        let text = now.format(&Rfc2822).unwrap_or_default().replace("+0000", "GMT");
        self.headers.extend(HeaderValue::from_str(&text).ok().map(|it| (http::header::DATE, it)));
        self
    }
}

/// How long an ordinary answer takes.
pub(crate) const ANSWER: Duration = Duration::milliseconds(5);

/// Why a call did not succeed.
#[derive(Clone, Debug)]
pub(crate) enum Fail {
    /// Status and text; with 400 also what is wrong with which parameter.
    Said { status: u16, message: String, errors: BTreeMap<String, String> },
    /// The owner node cannot be reached: a pseudo status and an empty body.
    Unreachable,
    /// The node's pvedaemon has not answered in time: a pseudo status and an empty body.
    Late,
    /// Waiting for a file lock.
    Locked,
}

/// How a handler ends.
pub(crate) type Answer = Result<Value, Fail>;

impl Fail {
    /// What a worker's exit status says of it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Said { message, .. } => message.clone(),
            Self::Unreachable | Self::Late | Self::Locked => "got timeout".into(),
        }
    }

    /// `die` in a handler: always 500.
    pub(crate) fn die(message: impl Into<String>) -> Self {
        Self::Said { status: 500, message: message.into(), errors: BTreeMap::new() }
    }

    /// Missing privileges of which PVE does not say which.
    pub(crate) fn refused() -> Self {
        Self::Said { status: 403, message: "Permission check failed".into(), errors: BTreeMap::new() }
    }

    /// A missing privilege.
    pub(crate) fn permission(what: impl std::fmt::Display) -> Self {
        let message = format!("Permission check failed ({what})");
        Self::Said { status: 403, message, errors: BTreeMap::new() }
    }

    /// One bad parameter.
    pub(crate) fn parameter(name: &str, text: impl Into<String>) -> Self {
        Self::parameters(BTreeMap::from([(name.to_owned(), text.into())]))
    }

    /// Bad parameters.
    pub(crate) fn parameters(errors: BTreeMap<String, String>) -> Self {
        Self::Said { status: 400, message: "Parameter verification failed.".into(), errors }
    }

    /// A property string that is not there, read as if it were.
    pub(crate) fn format_of_nothing(property: &str) -> Self {
        let missing = |name: &str| (name.to_owned(), "property is missing and it is not optional".to_owned());
        let names = if property.starts_with("mp") { vec!["mp", "volume"] } else { vec!["volume"] };
        let errors = names.into_iter().map(missing).collect();
        Self::Said { status: 500, message: "format error".into(), errors }
    }

    /// No such path, or not with that method.
    pub(crate) fn not_implemented(method: &str, path: &str) -> Self {
        let message = format!("Method '{method} {path}' not implemented");
        Self::Said { status: 501, message, errors: BTreeMap::new() }
    }
}

/// Puts the envelope around what a handler said.
pub(crate) fn envelope(version: Version, call: &Call, answer: Answer) -> Reply {
    match answer {
        Ok(data) if call.extjs => json_reply(200, "OK", &json!({"success": 1, "data": data})),
        Ok(data) => json_reply(200, "OK", &json!({ "data": data })),
        Err(Fail::Late) => plain(596, "Connection timed out", "", version),
        Err(Fail::Unreachable | Fail::Locked) => plain(595, "No route to host", "", version),
        Err(Fail::Said { status, message, errors }) => {
            let reply = failure(version, call.extjs, status, &message, &errors);
            // A ping of 3 s comes first; and whoever is not let in waits as long.
            let is_late = message == SILENT || status == 401;
            if is_late { Reply { delay: Duration::seconds(3), ..reply } } else { reply }
        }
    }
}

impl Sim {
    /// How PVE words a refusal of this request: for faults.
    pub fn refusal(&self, request: &http::Request<Vec<u8>>, status: u16, message: &str) -> Reply {
        match status {
            401 => unauthorized(message),
            595..=599 => plain(status, message, "", self.setup.version),
            _ => {
                let extjs = request.uri().path().starts_with("/api2/extjs/");
                failure(self.setup.version, extjs, status, message, &BTreeMap::new())
            }
        }
    }
}

fn failure(
    version: Version,
    extjs: bool,
    status: u16,
    message: &str,
    errors: &BTreeMap<String, String>,
) -> Reply {
    let mut body = json!({ "data": null });
    if extjs {
        body["success"] = json!(0);
        body["status"] = if is_exception(status) { json!(status.to_string()) } else { json!(status) };
    }
    if extjs || version >= Version::V8 {
        let newline = if status == 501 { "" } else { "\n" };
        body["message"] = json!(format!("{message}{newline}"));
    }
    if !errors.is_empty() {
        body["errors"] = json!(errors);
    }
    let reason = message.lines().next().unwrap_or("");
    if extjs { json_reply(200, "OK", &body) } else { json_reply(status, reason, &body) }
}

/// Whether PVE throws an exception object for it: looking at its code as text makes text of it
/// for good [pve-http-server `HTTPServer.pm`].
fn is_exception(status: u16) -> bool {
    matches!(status, 400 | 401 | 403)
}

/// An answer from before or beside the handlers: text as body since 5.2.0 of
/// pve-http-server, nothing before.
pub(crate) fn plain(status: u16, reason: &str, body: &str, version: Version) -> Reply {
    let body = if version >= Version::V8 { body.as_bytes().to_vec() } else { Vec::new() };
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    Reply { status, reason: reason.into(), headers, body, delay: Duration::ZERO }
}

/// 401 comes late, empty and with the connection closed [pve-http-server `AnyEvent.pm`].
pub(crate) fn unauthorized(reason: &str) -> Reply {
    let reply = plain(401, reason, "", Version::V9);
    Reply { delay: Duration::seconds(3), ..reply }
}

fn json_reply(status: u16, reason: &str, body: &Value) -> Reply {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json;charset=UTF-8");
    headers.insert(http::header::CONTENT_TYPE, json);
    Reply { status, reason: reason.into(), headers, body: body.to_string().into_bytes(), delay: ANSWER }
}
