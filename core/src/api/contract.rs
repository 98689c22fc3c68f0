//! The contract, `openapi.json`: made of the table of routes, the comments and the types that serve them.
//!
//! Nothing of it is in a deployment: the file is, and a test fails when it differs.

mod files;
mod operations;
mod page;
mod problem;
mod processes;
mod queries;
mod rules;
mod schemas;
mod services;
mod text;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::{
    operations::Answer,
    schemas::{Schemas, extend, prose},
};
use super::{action::Action, routes::ROUTES};
use crate::sandbox::{
    id::{KeptId, OwnSnapshotId, SandboxId},
    process::ProcessId,
    service::ServiceName,
};

/// Examples: of schemas by their name, and of requests by the operation.
const EXAMPLES: &str = include_str!("contract/examples.json");

/// The text of `openapi.json`, or why there is none.
pub fn text() -> Result<String, String> {
    Ok(text::text(&document()?))
}

fn document() -> Result<Value, String> {
    let mut schemas = Schemas::new();
    let mut examples: Map<String, Value> =
        serde_json::from_str(EXAMPLES).map_err(|error| error.to_string())?;
    let paths = paths(&mut schemas, &mut taken(&mut examples, "requests")?)?;
    let responses = problem::responses(&mut schemas);
    let parameters = parameters(&mut schemas);
    let mut schemas = schemas.finish()?;
    extend(&mut schemas, "Powered", "Sandbox");
    rules::complete(&mut schemas)?;
    let mut of_schemas = taken(&mut examples, "schemas")?;
    for (name, schema) in &mut schemas {
        if let Some(examples) = of_schemas.remove(name) {
            put(schema, "examples", examples);
        }
    }
    if let Some(name) = of_schemas.keys().next() {
        return Err(format!("an example is of {name}, which no schema is called"));
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": info(),
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [
            {"name": "sandboxes", "description": "A machine with an expiry"},
            {"name": "services", "description": "Ports that visitors reach through the gateway"},
            {"name": "processes", "description": "Commands, and what runs in the background"},
            {"name": "snapshots", "description": "What sandboxes can be made from"},
            {"name": "files", "description": "Files of a sandbox; it needs pve-edge-guest in it"},
            {"name": "power", "description": "Idempotent: the answer's `did` says what was done"},
            {"name": "deployment", "description": "What it is and how it is"},
            {"name": "maintenance", "description": "For admins"},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of the deployment"},
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "The same, where there is no Authorization header",
                },
            },
            "parameters": parameters,
            "headers": headers(),
            "schemas": schemas,
            "responses": responses,
        },
    }))
}

fn info() -> Value {
    json!({
        "title": "pve-edge",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Sandboxes for coding agents on Proxmox VE",
        "description": prose(include_str!("contract/about.md")),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    })
}

/// The operations by path and method, with the examples of their requests.
fn paths(schemas: &mut Schemas, examples: &mut Map<String, Value>) -> Result<Value, String> {
    let actions = Schemas::variants::<Action>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (method, path, action) in ROUTES {
        let (id, comment) = actions.get(action as usize).ok_or("an action has no comment")?;
        let operation = operation(path, action, schemas, examples.remove(id));
        let item = paths.entry(path).or_default();
        item.insert(method.to_lowercase(), introduced(id, comment, operation));
        let in_path: Vec<Value> = path.split('/').filter_map(|it| path_parameter(path, it)).collect();
        if !in_path.is_empty() {
            item.insert("parameters".into(), in_path.into());
        }
    }
    match examples.keys().next() {
        Some(id) => Err(format!("an example is of a request of {id}, which takes none")),
        None => Ok(json!(paths)),
    }
}

/// An operation with its name and its comment: a summary, and what a client has to know besides.
fn introduced(id: &str, comment: &str, mut operation: Value) -> Value {
    let (summary, description) = comment.split_once("\n\n").unwrap_or((comment, ""));
    put(&mut operation, "operationId", id.into());
    put(&mut operation, "summary", prose(summary).trim_end_matches('.').into());
    put(&mut operation, "description", prose(description).into());
    operation
}

fn operation(path: &str, action: Action, schemas: &mut Schemas, examples: Option<Value>) -> Value {
    let mut operation = json!({"tags": [operations::tag(action)]});
    if operations::is_public(action) {
        put(&mut operation, "security", json!([]));
    }
    if operations::is_public_at_first(action) {
        put(&mut operation, "security", json!([{}, {"bearer": []}, {"apiKey": []}]));
    }
    let mut parameters = operations::parameters(action, schemas);
    parameters.extend(action.waits().then(|| parameter("Prefer")));
    let body = operations::body(action, schemas);
    let problems = problems(path, action, body.is_some(), &parameters).into_iter();
    let problems = problems.map(|status| (status.to_string(), problem::reference(status)));
    // Of health, 503 is an answer too.
    let answers = operations::answers(action, schemas).into_iter().map(answer);
    put(&mut operation, "responses", problems.chain(answers).collect::<Map<String, Value>>().into());
    if !parameters.is_empty() {
        put(&mut operation, "parameters", parameters.into());
    }
    if let Some(body) = body {
        let mut media = json!({"schema": body.schema});
        if let Some(examples) = examples {
            put(&mut media, "examples", examples);
        }
        let body = json!({"required": body.is_required, "content": {body.media: media}});
        put(&mut operation, "requestBody", body);
    }
    operation
}

/// Statuses of the problems that an operation answers with.
fn problems(path: &str, action: Action, has_body: bool, parameters: &[Value]) -> Vec<u16> {
    let mut statuses = vec![413];
    // These lead out of wrong settings.
    statuses.extend((!matches!(action, Action::GetFrontPage | Action::GetSetupScript)).then_some(503));
    if !operations::is_public(action) {
        statuses.extend([400, 401, 500]);
        // What health finds of PVE is in its report; the set-up asks nothing of it.
        if !matches!(action, Action::GetSandboxHealth | Action::GetSetupScript | Action::GetProxyScript) {
            statuses.extend([502, 504]);
        }
    }
    if path.contains("{id}") {
        statuses.extend([404, 409, 507]);
    }
    statuses.extend(has_body.then_some(415));
    statuses.extend(parameters.contains(&parameter("IfMatch")).then_some(412));
    statuses.extend(operations::problems(action));
    statuses
}

fn answer(answer: Answer) -> (String, Value) {
    let mut headers = Map::from_iter([("X-Request-Id".to_owned(), header("RequestId"))]);
    headers.extend(answer.headers.iter().map(|(name, it)| ((*name).to_owned(), it.clone())));
    let mut shown = json!({"description": answer.description, "headers": headers});
    if !answer.content.is_empty() {
        put(&mut shown, "content", answer.content.into());
    }
    (answer.status.to_string(), shown)
}

fn path_parameter(path: &str, segment: &str) -> Option<Value> {
    match segment {
        "{id}" if path.starts_with("/api/sandboxes") => Some(parameter("Sandbox")),
        "{id}" => Some(parameter("Snapshot")),
        "{snapshot}" => Some(parameter("Kept")),
        "{version}" => Some(in_path("version", json!({"type": "string"}), "0.1.0-0123456789ab")),
        "{arch}" => Some(in_path("arch", queries::arch(), "x86_64")),
        "{process}" => Some(parameter("Process")),
        "{name}" => Some(parameter("Service")),
        _ => None,
    }
}

fn in_path(name: &str, schema: Value, example: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": schema, "example": example})
}

fn parameters(schemas: &mut Schemas) -> Value {
    json!({
        "Sandbox": in_path(
            "id", schemas.read::<SandboxId>(), "pvelxc-200017-abtwk2lnkrifgvbzq5c2n7ye-pve1",
        ),
        "Snapshot": in_path(
            "id", schemas.read::<OwnSnapshotId>(), "pvelxc-100017-abtwk2lnkrifgvbzq5c2n7ye-pve1",
        ),
        "Kept": in_path("snapshot", schemas.read::<KeptId>(), "keptabtwk2lnkrifgvbzq5c2n7ye"),
        "Service": in_path("name", schemas.read::<ServiceName>(), "web"),
        "Process": in_path("process", schemas.read::<ProcessId>(), "8f14e45fceea167a5a36dedd4bea2543"),
        "Prefer": {
            "name": "Prefer",
            "in": "header",
            "description": "`wait=N`: how many seconds the answer may take (RFC 7240); more than 25 are taken as \
                25, and a platform may give less. `respond-async` is `wait=0`. What cannot be read is ignored; \
                `Preference-Applied` of the answer says what was taken",
            "schema": {"type": "string"},
            "example": "wait=20",
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "One sandbox for one key, for as long as that sandbox lives; another body with the same \
                key is 409 `idempotency-conflict`",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
            "example": "task-1234",
        },
        "ProcessKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "One process for one key in this sandbox: the same request with the same key tells of the same \
                process, and another body is 409 `idempotency-conflict`. After a restart of the sandbox the process is \
                `lost`, and is not started again. 422 `unsupported` without pve-edge-guest in the sandbox",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
            "example": "step-7",
        },
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "description": "The ETag of what is to be changed or deleted; 412 when it has changed since, and \
                nothing is done",
            "schema": {"type": "string"},
            "example": "\"mfrggzdfmztwq2lk\"",
        },
    })
}

fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "The request in the deployment's logs",
            "schema": {"type": "string", "pattern": "^[a-z2-7]{16}$"},
            "example": "mfrggzdfmztwq2lk",
        },
        "ETag": {
            "description": "Of what the owner can change, for If-Match; absent while PVE shows nothing yet",
            "schema": {"type": "string", "pattern": "^\"[a-z2-7]{16}\"$"},
            "example": "\"mfrggzdfmztwq2lk\"",
        },
        "Location": {
            "description": "Path of what was made",
            "required": true,
            "schema": {"type": "string", "pattern": "^(/[^/]+)*/api/(sandboxes|snapshots|templates)/"},
            "example": "/api/sandboxes/pvelxc-200017-abtwk2lnkrifgvbzq5c2n7ye-pve1",
        },
        "RetryAfter": {
            "description": "Seconds after which to ask again",
            "schema": {"type": "integer", "minimum": 1},
            "example": 2,
        },
        "Allow": {
            "description": "The methods of the path",
            "required": true,
            "schema": {"type": "string"},
            "example": "POST, GET, HEAD",
        },
        "Authenticate": {"required": true, "schema": {"type": "string", "enum": ["Bearer"]}},
    })
}

/// A reference to a parameter.
fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// A reference to a header.
fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn taken(examples: &mut Map<String, Value>, part: &str) -> Result<Map<String, Value>, String> {
    match examples.remove(part) {
        Some(Value::Object(examples)) => Ok(examples),
        _ => Err(format!("the examples have no part called {part}")),
    }
}
