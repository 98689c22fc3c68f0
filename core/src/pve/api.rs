//! One PVE call is a value: the request to send and the type of its answer.
//!
//! Reads go to `/api2/json`. Writes go to `/api2/extjs`, which carries the error text in the body on every
//! version (rule P3.1); before pve-http-server 5.2.0 `/api2/json` has it only in the HTTP/1.1 reason phrase,
//! and that never survives a tunnel (pve-http-server `Formatter/Standard.pm`).

pub mod cluster;
pub mod config;
pub mod console;
pub mod guest;
pub mod node;
pub mod perl;
pub mod refusal;
pub mod task;

use std::fmt;

use http::{HeaderValue, Method, Request, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::refusal::Who;
pub use self::refusal::{PveError, Refusal, Stranger};
pub use crate::io::call::Call;
use crate::{
    access::secret::Secret,
    io::{
        Io, Way, Whole,
        call::{uri, urlencoded},
        headers::{ACCESS_CLIENT_ID, ACCESS_CLIENT_SECRET},
        invocation::Invocation,
    },
    text::json,
};

/// So late PVE may execute a request that was not answered (rule S2.5).
pub const LATE_SECONDS: i64 = 90;

/// Sends one call. A read that was not answered is sent once more; a write never is (rule S10.1).
pub async fn send<I: Io, T: DeserializeOwned>(
    invocation: &Invocation<I>,
    call: Call<T>,
) -> Result<T, PveError> {
    let is_read = call.is_read();
    let whole = invocation.exchange(call.request, call.template, is_read).await?;
    shape(decode(&whole)?)
}

/// PVE's data as what the call answers.
pub fn shape<T: DeserializeOwned>(data: Value) -> Result<T, PveError> {
    json::read(data).map_err(|error| PveError::Shape(error.to_string()))
}

/// Where PVE is and how to speak to it.
#[derive(Clone)]
pub struct Pve {
    base: String,
    authorization: HeaderValue,
    /// The token's name, as its tasks have it: `USER@REALM!TOKENID`.
    user: String,
    access: Option<(HeaderValue, HeaderValue)>,
}

impl fmt::Debug for Pve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pve").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Pve {
    /// `base` is scheme, host and port, without a trailing slash. `None` when
    /// a secret cannot be a header's value.
    pub fn new(base: &str, token: &Secret, access: Option<(&Secret, &Secret)>) -> Option<Self> {
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let access = match access {
            Some((id, secret)) => Some((header(id.expose())?, header(secret.expose())?)),
            None => None,
        };
        Some(Self {
            base: base.to_owned(),
            authorization: header(&format!("PVEAPIToken={}", token.expose()))?,
            user: token.expose().rsplit_once('=').map_or("", |(user, _)| user).to_owned(),
            access,
        })
    }

    fn get<T>(&self, template: &'static str, path: &[&dyn fmt::Display], query: &[(&str, &str)]) -> Call<T> {
        self.call(Method::GET, "json", template, path, query, None)
    }

    fn post<T>(&self, template: &'static str, path: &[&dyn fmt::Display], form: &[(&str, &str)]) -> Call<T> {
        self.call(Method::POST, "extjs", template, path, &[], Some(form))
    }

    fn put<T>(&self, template: &'static str, path: &[&dyn fmt::Display], form: &[(&str, &str)]) -> Call<T> {
        self.call(Method::PUT, "extjs", template, path, &[], Some(form))
    }

    /// PVE refuses a DELETE with a body: its parameters are the query.
    fn delete<T>(
        &self,
        template: &'static str,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
    ) -> Call<T> {
        self.call(Method::DELETE, "extjs", template, path, query, None)
    }

    fn call<T>(
        &self,
        method: Method,
        format: &str,
        template: &'static str,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Call<T> {
        let base = format!("{}/api2/{format}", self.base);
        let body = form.map(urlencoded).unwrap_or_default().into_bytes();
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri(&base, path, query);
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        if let Some((id, secret)) = &self.access {
            headers.insert(ACCESS_CLIENT_ID, id.clone());
            headers.insert(ACCESS_CLIENT_SECRET, secret.clone());
        }
        if form.is_some() {
            headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        *request.body_mut() = body;
        request.extensions_mut().insert(Way::Pve);
        Call::new(request, template)
    }
}

/// Reads an answer: PVE's data, PVE's refusal, or an answer that is not PVE's.
pub fn decode(whole: &Whole) -> Result<Value, PveError> {
    let status = whole.status;
    let mut body = match serde_json::from_slice::<Value>(&whole.body) {
        // All of PVE's answers have `data`, refusals too.
        Ok(Value::Object(body)) if body.contains_key("data") && !(300..400).contains(&status) => body,
        _ if is_bare_refusal(whole) => {
            let message = whole.reason.clone();
            return Err(PveError::Refused(Refusal { status, message, errors: Default::default() }));
        }
        _ => return Err(PveError::NotPve(Stranger::of(whole))),
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let success = body.get("success").is_none_or(perl::truthy);
    let status = match body.get("status") {
        // Text where PVE threw an exception: 400, 401, 403 (pve-http-server `HTTPServer.pm`).
        Some(inner) if !success => {
            perl::integer(inner).and_then(|it| u16::try_from(it).ok()).unwrap_or(status)
        }
        _ => status,
    };
    if success && (200..300).contains(&status) {
        return Ok(body.remove("data").unwrap_or(Value::Null));
    }
    let message = match text(body.get("message")) {
        message if message.is_empty() => whole.reason.clone(),
        message => message,
    };
    let errors = match body.get("errors") {
        Some(Value::Object(errors)) => {
            errors.iter().map(|(name, why)| (name.clone(), text(Some(why)))).collect()
        }
        _ => Default::default(),
    };
    Err(PveError::Refused(Refusal { status, message, errors }))
}

/// Whether it is a refusal that PVE sends without JSON: of a token and of a silent neighbour with
/// no body, of pveproxy's own limits in plain text (pve-http-server `AnyEvent.pm` `error`).
fn is_bare_refusal(whole: &Whole) -> bool {
    let is_page = whole.body.trim_ascii_start().first() == Some(&b'<');
    match whole.status {
        401 => whole.body.is_empty() && Who::of(whole).is_none(),
        595..=599 => whole.body.is_empty(),
        501 | 506 => !is_page,
        _ => false,
    }
}
