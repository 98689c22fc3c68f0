//! From HTTP to a call: what pveproxy refuses before any handler sees it.

use std::collections::BTreeMap;

use http::{HeaderMap, Request, header};
use percent_encoding::percent_decode_str;

use super::{
    Kind, Sim,
    reply::{self, Fail, Reply},
    setup::Version,
    table::{self, Endpoint},
};

/// A request that has passed pveproxy.
pub(crate) struct Call {
    pub(crate) method: String,
    /// Without `/api2/json`, as sent.
    pub(crate) path: String,
    pub(crate) extjs: bool,
    pub(crate) token: String,
    pub(crate) endpoint: Option<&'static Endpoint>,
    /// Segments that stand for a name in the template.
    pub(crate) uri: BTreeMap<String, String>,
    /// Query and body, decoded.
    pub(crate) form: BTreeMap<String, String>,
    /// Names given twice, in path and form, with different values.
    pub(crate) conflicts: Vec<String>,
}

impl Call {
    /// The path with its names in place of values; for counting.
    pub(crate) fn template(&self) -> String {
        self.endpoint.map_or_else(|| self.path.clone(), |endpoint| endpoint.path.to_owned())
    }

    /// A parameter, of path or form.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.uri.get(name).or_else(|| self.form.get(name)).map(String::as_str)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true" | "yes" | "on"))
    }

    pub(crate) fn vmid(&self) -> u32 {
        self.number("vmid").unwrap_or(0)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// Which of the two trees the path is in.
    pub(crate) fn kind(&self) -> Kind {
        let qemu = self.endpoint.is_some_and(|endpoint| endpoint.path.starts_with("/nodes/{node}/qemu"));
        if qemu { Kind::Qemu } else { Kind::Lxc }
    }

    /// `{node}`, with `localhost` resolved.
    pub(crate) fn node(&self) -> &str {
        self.get("node").unwrap_or("")
    }
}

/// Reads a request, or says what pveproxy answers at once.
pub(crate) fn read(sim: &Sim, request: &Request<Vec<u8>>) -> Result<Call, Box<Reply>> {
    let version = sim.setup.version;
    let method = request.method().as_str();
    frame(version, method, request)?;
    let path = request.uri().path();
    let rest = path.strip_prefix("/api2/").ok_or_else(|| said(501, "no such uri", version))?;
    let (format, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(format, "json" | "extjs") {
        return Err(said(501, &format!("no formatter for uri /{rest}, {format}"), version));
    }
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = sim.authenticate(authorization).map_err(|reason| Box::new(reply::unauthorized(&reason)))?;
    let mut form = parse_form(request.uri().query().unwrap_or(""));
    form.extend(body(version, request)?);
    let path = format!("/{rest}");
    let found = table::find(method, &path, version);
    let (endpoint, mut uri) = found.map_or((None, BTreeMap::new()), |(e, uri)| (Some(e), uri));
    if let Some(node) = uri.get_mut("node").filter(|node| *node == "localhost") {
        node.clone_from(&sim.setup.nodes[0].name);
    }
    let conflicts =
        form.iter().filter(|(k, v)| uri.get(*k).is_some_and(|u| u != *v)).map(|(k, _)| k.clone()).collect();
    Ok(Call { method: method.into(), path, extjs: format == "extjs", token, endpoint, uri, form, conflicts })
}

/// Limits of `AnyEvent.pm`.
fn frame(version: Version, method: &str, request: &Request<Vec<u8>>) -> Result<(), Box<Reply>> {
    if !matches!(method, "GET" | "POST" | "PUT" | "DELETE") {
        return Err(Box::new(reply::plain(501, &format!("method '{method}' not available"), "", version)));
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(said(501, "chunked transfer encoding not supported", version));
    }
    if matches!(method, "GET" | "DELETE") && !request.body().is_empty() {
        return Err(said(501, &format!("Unexpected content for method '{method}'"), version));
    }
    let limit = if version >= Version::V8 { 512 } else { 64 } << 10;
    if request.body().len() > limit {
        return Err(said(501, "for data too large", version));
    }
    if headers_too_large(request.headers()) {
        return Err(said(400, "header too large", version));
    }
    Ok(())
}

/// Fewer than 64 lines, less than 8 KiB.
fn headers_too_large(headers: &HeaderMap) -> bool {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    headers.len() >= 64 || size >= 8 << 10
}

fn body(version: Version, request: &Request<Vec<u8>>) -> Result<BTreeMap<String, String>, Box<Reply>> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let text = String::from_utf8_lossy(request.body());
    match kind.split(';').next().unwrap_or("").trim() {
        _ if text.is_empty() => Ok(BTreeMap::new()),
        "" | "application/x-www-form-urlencoded" => Ok(parse_form(&text)),
        "application/json" => json_form(version, &text),
        other => Err(said(506, &format!("upload without content-type {other}"), version)),
    }
}

/// Splits on `&` and on `;`, and a second raw `=` ends the value.
fn parse_form(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let mut form = BTreeMap::<String, String>::new();
    for pair in text.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let mut parts = pair.split('=');
        let key = decode(parts.next().unwrap_or(""));
        let value = decode(parts.next().unwrap_or(""));
        // A repeated key is a list; lists of strings travel NUL-separated.
        form.entry(key).and_modify(|v| *v = format!("{v}\0{value}")).or_insert(value);
    }
    form
}

/// Booleans and arrays only since 8.
fn json_form(version: Version, text: &str) -> Result<BTreeMap<String, String>, Box<Reply>> {
    use serde_json::Value;
    let malformed = || said(if version >= Version::V8 { 500 } else { 501 }, "malformed JSON string", version);
    let Ok(Value::Object(map)) = serde_json::from_str(text) else { return Err(malformed()) };
    let mut form = BTreeMap::new();
    for (key, value) in map {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(on) if version >= Version::V8 => u8::from(on).to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(items) if version >= Version::V8 => items
                .iter()
                .map(|v| v.as_str().map_or(v.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join("\0"),
            other => other.to_string(),
        };
        form.insert(key, text);
    }
    Ok(form)
}

fn said(status: u16, text: &str, version: Version) -> Box<Reply> {
    Box::new(reply::plain(status, text, text, version))
}

impl Sim {
    /// Calls about a node or guest end at that node; pveproxy forwards them.
    pub(crate) fn forward(&self, call: &Call) -> Result<(), Fail> {
        let Some(name) = call.uri.get("node") else { return Ok(()) };
        match self.setup.nodes.iter().find(|node| node.name == *name) {
            Some(node) if node.online => Ok(()),
            Some(_) => Err(Fail::Unreachable),
            None => Err(Fail::die(format!(
                "hostname lookup '{name}' failed - failed to get address info for: {name}: Temporary failure in name resolution"
            ))),
        }
    }
}
