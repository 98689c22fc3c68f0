//! Problem documents, and the answers that have them.

use std::{borrow::Cow, collections::BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{header, schemas::Schemas};
use crate::{
    error::Code,
    tunnel::{Connector, Row},
};

/// A problem (RFC 9457). Later versions may add codes and members.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is written as `Error::problem` has it")]
struct Problem {
    /// URN of the kind of problem.
    #[schemars(regex(pattern = "^urn:pve-edge:problem:"))]
    r#type: String,
    /// The kind of problem, for people.
    title: String,
    /// Status of the answer.
    status: u32,
    /// What happened and what to do.
    detail: String,
    /// Kind of the problem.
    code: Code,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// As X-Request-Id; empty where a request was not read to its end, and in events.
    request_id: String,
    /// Fields of the request that are wrong.
    #[schemars(skip_serializing_if = "absent")]
    errors: Vec<WrongField>,
    /// 405: as Allow.
    #[schemars(skip_serializing_if = "absent")]
    allow: String,
    /// 412: the ETag that it has now.
    #[schemars(skip_serializing_if = "absent")]
    etag: String,
    /// 409 `guest-locked`, 503 `template-locked`: PVE's lock.
    #[schemars(skip_serializing_if = "absent")]
    lock: String,
    /// 429: of the quota.
    #[schemars(skip_serializing_if = "absent")]
    used: u64,
    /// 429: the quota; 413: bytes that a file may have; 406: bytes that an answer may have.
    #[schemars(skip_serializing_if = "absent")]
    limit: u64,
    /// 429: of the platform's own limiter, which tells no counts.
    #[schemars(skip_serializing_if = "absent")]
    period_seconds: u64,
    /// 416, and 413 of a file that is read: bytes that the file has.
    #[schemars(skip_serializing_if = "absent")]
    size: u64,
    /// 502 `pve-bad-answer`: the status of what answered in PVE's place.
    #[schemars(skip_serializing_if = "absent")]
    answered_status: u64,
    /// 502 `pve-bad-answer`: the `Server` of what answered in PVE's place.
    #[schemars(skip_serializing_if = "absent")]
    answered_by: String,
    /// 409 `stdin-offset`: how many bytes were taken.
    #[schemars(skip_serializing_if = "absent")]
    at: u64,
    /// Of the sandbox that a failed creation leaves.
    #[schemars(skip_serializing_if = "absent")]
    sandbox_id: String,
    /// What became of a failed creation.
    #[schemars(skip_serializing_if = "absent")]
    undo: String,
    /// 409 `tunnel-conflict` and `certificate-depth`, 412 `plan-changed`: what is wanted beside what is there.
    #[schemars(skip_serializing_if = "absent")]
    rows: Vec<Row>,
    /// The same: hash of that, for `force`.
    #[schemars(skip_serializing_if = "absent")]
    plan: String,
    /// 409 `tunnel-connected`: each cloudflared that is connected.
    #[schemars(skip_serializing_if = "absent")]
    connectors: Vec<Connector>,
    /// 502 `cloudflare-forbidden`: what the token of Cloudflare's API lacks.
    #[schemars(skip_serializing_if = "absent")]
    permission: String,
}

/// A field of the request that is wrong.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is written as `Error::problem` has it")]
struct WrongField {
    /// Path of the field.
    field: String,
    /// What is wrong with it.
    detail: String,
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = |codes: &mut dyn Iterator<Item = &Code>| {
            let mut seen = BTreeSet::new();
            codes.map(|it| it.row().0).filter(|it| seen.insert(*it)).collect::<Vec<_>>()
        };
        json_schema!({
            "type": "string",
            "description": "Kinds of problems; a response has those of its status, `x-retryable` those where asking \
                again can help",
            "enum": names(&mut Self::ALL.iter()),
            "x-retryable": names(&mut Self::ALL.iter().filter(|it| it.row().3)),
        })
    }
}

/// The answers with a problem, by name: one for each status.
pub(super) fn responses(schemas: &mut Schemas) -> Value {
    let problem = schemas.written::<Problem>();
    let statuses: BTreeSet<u16> = told().map(|(_, status)| status).collect();
    statuses
        .into_iter()
        .map(|status| (name(status), response(status, &problem)))
        .collect::<Map<_, _>>()
        .into()
}

/// Name and status of each problem that the API tells.
fn told() -> impl Iterator<Item = (&'static str, u16)> {
    let codes = Code::ALL.iter().filter(|it| !Code::OF_VISITORS.contains(it));
    codes.map(|it| (it.row().0, it.row().1))
}

/// A reference to the answer with a problem of this status.
pub(super) fn reference(status: u16) -> Value {
    json!({"$ref": format!("#/components/responses/{}", name(status))})
}

fn name(status: u16) -> String {
    format!("E{status}")
}

fn response(status: u16, problem: &Value) -> Value {
    let codes: Vec<&str> = told().filter(|it| it.1 == status).map(|it| it.0).collect();
    let mut schema = problem.clone();
    super::put(&mut schema, "properties", json!({"status": {"const": status}, "code": {"enum": codes}}));
    let mut headers = Map::from_iter([("X-Request-Id".to_owned(), header("RequestId"))]);
    headers.extend(extra_headers(status).into_iter().map(|(name, it)| (name.to_owned(), it)));
    json!({
        "description": description(status),
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema}},
    })
}

fn extra_headers(status: u16) -> Vec<(&'static str, Value)> {
    let told = |description: &str, schema: Value| json!({"description": description, "schema": schema});
    match status {
        401 => vec![("WWW-Authenticate", header("Authenticate"))],
        405 => vec![("Allow", header("Allow"))],
        409 | 429 | 502 | 503 | 504 => vec![("Retry-After", header("RetryAfter"))],
        416 => {
            let size = json!({"type": "string", "pattern": r"^bytes \*/[0-9]+$"});
            vec![("Content-Range", told("Size of the file", size))]
        }
        415 => {
            let taken = json!({"type": "string", "enum": ["identity"]});
            vec![("Accept-Encoding", told("What is taken", taken))]
        }
        426 => vec![
            ("Upgrade", told("What is taken", json!({"type": "string", "enum": ["websocket"]}))),
            ("Sec-WebSocket-Version", told("The version", json!({"type": "string", "enum": ["13"]}))),
        ],
        _ => Vec::new(),
    }
}

fn description(status: u16) -> &'static str {
    match status {
        400 => "Not valid",
        401 => "No valid API key",
        403 => "Not with this key",
        404 => "No such sandbox or snapshot, or not the caller's",
        405 => "The path does not take this method: the answer to any that is not in this document",
        406 => "This deployment cannot stream: ask for application/json, or for a part of the file",
        409 => {
            "Its state does not allow that, or not yet; or it is not known whether PVE got it, and `detail` says \
             what was answered"
        }
        410 => "Its time was over before it came up; what was made is removed",
        412 => "It has changed since: read it again",
        413 => {
            "The body is larger than 1 MiB; a file or an archive, than the platform or a container's console takes (`limit`)"
        }
        416 => "The range begins behind the end of the file, which has `size` bytes",
        415 => "The body is not application/json, or has a Content-Encoding",
        422 => "That cannot be made",
        426 => "No websocket was asked for",
        429 => "A quota of the team is used up",
        500 => "A defect",
        501 => "AWS Lambda opens no websockets, or there is no gateway that a link could lead to",
        502 => {
            "PVE, Morph, Cloudflare or the exec daemon failed, or something else answered in PVE's place \
             (`pve-bad-answer`); with 3xx or 4xx PVE got nothing"
        }
        503 => "Not now, or wrongly set up",
        504 => "PVE did not answer in time",
        507 => "A storage is full; `detail` has PVE's words",
        _ => "A problem",
    }
}
