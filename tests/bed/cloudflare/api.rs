//! Envelope, authentication, permissions, limits and paging.

use http::{HeaderValue, Request, header};
use serde_json::{Map, Value, json};

use super::{ACCOUNT, Cloudflare, Permission, TOKEN, ZONE};
use crate::sim::execd::Streamed;

/// What was asked and answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path below the API, ids replaced: `/accounts/{a}/cfd_tunnel/{t}/token`.
    pub path: String,
    /// Query.
    pub query: Vec<(String, String)>,
    /// Body; null without one.
    pub body: Value,
    /// Status of the answer.
    pub status: u16,
    /// The answer.
    pub answer: Value,
}

/// How a handler ends.
pub(super) enum End {
    /// A result.
    One(Value),
    /// Rows, of which a page is answered.
    Rows(Vec<Value>),
    /// Refused: status, code, words.
    Refused(u16, u32, String),
}

pub(super) type Handled = Result<End, End>;

/// A request, taken apart.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Value,
}

pub(super) fn refused(status: u16, code: u32, text: impl Into<String>) -> End {
    End::Refused(status, code, text.into())
}

impl Call<'_> {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Refuses parameters and members of the body that the vendor's client does not have.
    pub(super) fn only(&self, parameters: &[&str], members: &[&str]) -> Result<(), End> {
        let unknown =
            self.query.iter().find(|(name, _)| !parameters.contains(&&**name)).map(|(name, _)| name);
        let body = self.body.as_object().into_iter().flatten();
        let unknown =
            unknown.or_else(|| body.map(|(name, _)| name).find(|name| !members.contains(&&***name)));
        match unknown {
            Some(name) => Err(refused(400, 1001, format!("unknown: {name}"))),
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, End> {
        self.body[name].as_str().ok_or_else(|| refused(400, 1001, format!("missing: {name}")))
    }
}

impl Cloudflare {
    pub(super) fn api(&mut self, request: &Request<Vec<u8>>) -> Streamed {
        if !self.admits() {
            return self.busy(request);
        }
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let handled = match &*segments {
            ["client", "v4", rest @ ..] => read(request).and_then(|call| {
                authenticate(request)?;
                let end = self.route(&call, rest)?;
                Ok((call, end))
            }),
            _ => Err(refused(404, 7000, "No route for that URI")),
        };
        let (status, answer) = match handled {
            Ok((call, End::Rows(rows))) => (200, self.paged(&call, rows)),
            Ok((_, End::One(result))) => (200, envelope(result)),
            Ok((_, End::Refused(status, code, text))) | Err(End::Refused(status, code, text)) => {
                (status, failure(code, &text))
            }
            Err(_) => (500, failure(10001, "internal")),
        };
        self.note(request, status, &answer);
        Streamed::json(status, &answer)
    }

    fn route(&mut self, call: &Call<'_>, path: &[&str]) -> Handled {
        use Permission::*;
        let (needed, is_ours) = match path {
            ["zones", zone] => (Zone, *zone == ZONE),
            ["zones", zone, "dns_records", ..] => (Dns, *zone == ZONE),
            ["accounts", account, "cfd_tunnel", ..] => (Tunnel, *account == ACCOUNT),
            ["accounts", account, "connectivity", "directory", "services", ..] => {
                (Connectivity, *account == ACCOUNT)
            }
            _ => return Err(refused(404, 7000, "No route for that URI")),
        };
        if !is_ours {
            return Err(refused(
                404,
                7003,
                "Could not route to this path, perhaps your object identifier is invalid?",
            ));
        }
        if !self.permissions.contains(&needed) {
            return Err(match needed {
                Zone => refused(403, 9109, "Unauthorized to access requested resource"),
                _ => refused(403, 10000, "Authentication error"),
            });
        }
        match (path, needed) {
            ([_, _, rest @ ..], Zone) if rest.is_empty() && call.method == "GET" => {
                Ok(End::One(self.shown_zone()))
            }
            ([_, _, _, rest @ ..], Dns) => self.dns(call, rest),
            ([_, _, _, rest @ ..], Tunnel) => self.cfd_tunnel(call, rest),
            ([_, _, _, _, _, rest @ ..], Connectivity) => self.directory(call, rest),
            _ => Err(refused(405, 10405, "Method not allowed")),
        }
    }

    fn shown_zone(&self) -> Value {
        json!({
            "id": ZONE, "name": self.zone, "status": "active", "paused": false, "type": "full",
            "account": {"id": ACCOUNT, "name": "the tests"}, "name_servers": ["a.ns.cloudflare.com"],
        })
    }

    /// A page of rows, and which one it is.
    fn paged(&self, call: &Call<'_>, rows: Vec<Value>) -> Value {
        let number = |name: &str, otherwise: usize| {
            call.parameter(name).and_then(|it| it.parse().ok()).unwrap_or(otherwise).max(1)
        };
        let (page, size) = (number("page", 1), number("per_page", 100).min(self.page));
        let (total, pages) = (rows.len(), rows.len().div_ceil(size));
        let rows: Vec<Value> = rows.into_iter().skip((page - 1) * size).take(size).collect();
        let info = json!({
            "page": page, "per_page": size, "count": rows.len(), "total_count": total, "total_pages": pages,
        });
        let mut answer = envelope(Value::Array(rows));
        answer["result_info"] = info;
        answer
    }

    /// The limiter stands before the API, and blocks everything.
    fn busy(&mut self, request: &Request<Vec<u8>>) -> Streamed {
        let answer = failure(10429, "Rate limited. Please wait and consider throttling your request speed");
        self.note(request, 429, &answer);
        let mut streamed = Streamed::json(429, &answer);
        let left = self.blocked.map_or(1, |until| (until - self.now).whole_seconds().max(1));
        streamed.headers.insert(header::RETRY_AFTER, HeaderValue::from(left));
        streamed
    }

    fn note(&mut self, request: &Request<Vec<u8>>, status: u16, answer: &Value) {
        let path = request.uri().path().trim_start_matches("/client/v4");
        let is_id = |it: &str| it.len() >= 32 && it.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
        let plain = path.split('/').map(|it| if is_id(it) { "{id}" } else { it }).collect::<Vec<_>>();
        self.exchanges.push(Exchange {
            method: request.method().to_string(),
            path: plain.join("/"),
            query: query(request),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
            status,
            answer: answer.clone(),
        });
    }
}

fn query(request: &Request<Vec<u8>>) -> Vec<(String, String)> {
    form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect()
}

fn read(request: &Request<Vec<u8>>) -> Result<Call<'_>, End> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let body = match request.body() {
        body if body.is_empty() => Value::Null,
        _ if !kind.starts_with("application/json") => return Err(refused(415, 10415, "not JSON")),
        body => serde_json::from_slice(body).map_err(|_| refused(400, 9207, "Request body is invalid."))?,
    };
    let method = request.method().as_str();
    if matches!(method, "GET" | "DELETE") != body.is_null() {
        return Err(refused(400, 9207, "Request body is invalid."));
    }
    Ok(Call { method, query: query(request), body })
}

fn authenticate(request: &Request<Vec<u8>>) -> Result<(), End> {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    match value.and_then(|it| it.strip_prefix("Bearer ")) {
        None => Err(refused(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")),
        Some(it) if it == TOKEN => Ok(()),
        Some(_) => Err(refused(401, 1000, "Invalid API Token")),
    }
}

fn envelope(result: Value) -> Value {
    json!({"success": true, "errors": [], "messages": [], "result": result})
}

fn failure(code: u32, text: &str) -> Value {
    let mut answer = Map::new();
    answer.insert("success".into(), json!(false));
    answer.insert("errors".into(), json!([{"code": code, "message": text}]));
    answer.insert("messages".into(), json!([]));
    answer.insert("result".into(), Value::Null);
    Value::Object(answer)
}
