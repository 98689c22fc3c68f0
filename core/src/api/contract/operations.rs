//! What each operation takes and answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::{
    header, parameter,
    schemas::{Schemas, reference},
};
use crate::{
    api::{
        native::{deployment::Alive, power::Answer as Powered},
        request::{ExtendBody, SweepBody},
        routes::Action,
    },
    sandbox::{
        Sandbox, State,
        command::{
            ExecBody, Outcome,
            events::{Exit, Failed, Written},
        },
        creation::CreateRequest,
        health::Report as Health,
        listing::Page,
        offer::Offer,
        patch::Patch,
        power::{PauseBody, RollbackBody, StartBody, StopBody},
        removal::{DeletingKept, DeletingSandbox, DeletingSnapshot, DeletingTemplate},
        snapshot::{All, KeptSnapshot, Snapshot, SnapshotRequest},
        sweep::Report as Sweep,
        template::{Confirmation, Template, TemplateRequest},
    },
};

/// An operation, without what follows from its route.
pub(super) struct Operation {
    pub(super) tag: &'static str,
    /// Whether it needs no key.
    pub(super) is_public: bool,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    /// Statuses of problems beside those of all operations of its kind.
    pub(super) problems: &'static [u16],
    /// Those of its kind that it never answers with.
    pub(super) never: &'static [u16],
}

pub(super) struct Body {
    pub(super) schema: Value,
    pub(super) is_required: bool,
}

/// An answer that is no problem.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) headers: Vec<(&'static str, Value)>,
    /// By media type.
    pub(super) content: Map<String, Value>,
}

impl Operation {
    /// What the action takes and answers; what it refers to is added to `schemas`.
    pub(super) fn of(action: Action, schemas: &mut Schemas) -> Self {
        match action {
            Action::GetDescription => {
                let document = json!({
                    "type": "object",
                    "required": ["openapi", "paths"],
                    "properties": {"openapi": {"type": "string"}, "paths": {"type": "object"}},
                });
                tagged("deployment").public().answer(Answer::new(200, "OpenAPI 3.1").json(document))
            }
            Action::GetHealth => {
                let alive = schemas.written::<Alive>();
                tagged("deployment").public().answer(Answer::new(200, "It is").json(alive))
            }
            Action::GetSandboxHealth => sandbox_health(schemas),
            Action::GetConfig => tagged("deployment").answer(
                Answer::new(200, "Provider, capabilities, presets with all versions, services")
                    .json(schemas.written::<Offer>()),
            ),
            Action::ListSandboxes => list(schemas),
            Action::CreateSandbox => create(schemas),
            Action::GetSandbox => {
                let sandbox = Answer::new(200, "As PVE knows it now").json(schemas.written::<Sandbox>());
                tagged("sandboxes").answer(sandbox.etag())
            }
            Action::PatchSandbox => tagged("sandboxes")
                .if_match()
                .body::<Patch>(schemas, false)
                .problems(&[422])
                .answer(Answer::new(200, "Changed").json(schemas.written::<Sandbox>()).etag()),
            Action::DeleteSandbox => tagged("sandboxes")
                .if_match()
                .deletes("PVE is still destroying it", schemas.written::<DeletingSandbox>()),
            Action::ExtendSandbox => {
                tagged("sandboxes").if_match().body::<ExtendBody>(schemas, false).answer(
                    Answer::new(200, "Its expiry counts from now").json(schemas.written::<Sandbox>()).etag(),
                )
            }
            Action::ExecSandbox => exec(schemas),
            Action::StartSandbox | Action::ResumeSandbox => {
                tagged("power").body::<StartBody>(schemas, false).powers("Done; `did` says what", schemas)
            }
            Action::StopSandbox => tagged("power")
                .body::<StopBody>(schemas, false)
                .problems(&[422])
                .powers("Done; `did` says what", schemas),
            Action::RebootSandbox => {
                tagged("power").body::<StopBody>(schemas, false).powers("Done; `did` says what", schemas)
            }
            Action::PauseSandbox => tagged("power")
                .body::<PauseBody>(schemas, false)
                .problems(&[422])
                .powers("Done; `did` says what", schemas),
            Action::RollbackSandbox => tagged("snapshots")
                .body::<RollbackBody>(schemas, true)
                .problems(&[422])
                .powers("Done", schemas),
            Action::TakeSnapshot => take(schemas),
            Action::ListKeptSnapshots => tagged("snapshots")
                .answer(Answer::new(200, "The oldest first").json(schemas.written::<All<KeptSnapshot>>())),
            Action::DeleteKeptSnapshot => {
                tagged("snapshots").deletes("PVE is still deleting it", schemas.written::<DeletingKept>())
            }
            Action::ListSnapshots => tagged("snapshots").answer(
                Answer::new(200, "What sandboxes can be made from").json(schemas.written::<All<Snapshot>>()),
            ),
            Action::GetSnapshot => tagged("snapshots")
                .problems(&[403])
                .answer(Answer::new(200, "As PVE knows it now").json(schemas.written::<Snapshot>()).etag()),
            Action::PatchSnapshot => {
                let mut operation = tagged("snapshots").if_match().body::<Patch>(schemas, false);
                operation.body = Some(Body { schema: reference(PATCH_SNAPSHOT), is_required: false });
                let changed = Answer::new(200, "Changed").json(schemas.written::<Snapshot>());
                operation.problems(&[403]).answer(changed.etag())
            }
            Action::DeleteSnapshot => tagged("snapshots")
                .if_match()
                .problems(&[403])
                .deletes("PVE is still destroying it", schemas.written::<DeletingSnapshot>()),
            Action::BuildTemplate => build_template(schemas),
            Action::GetTemplate => tagged("maintenance")
                .problems(&[403])
                .answer(Answer::new(200, "As PVE knows it now").json(schemas.written::<Template>())),
            Action::ConfirmTemplate => tagged("maintenance")
                .body::<Confirmation>(schemas, true)
                .problems(&[403])
                .answer(Answer::new(200, "It goes on").json(schemas.written::<Template>())),
            Action::DeleteTemplate => tagged("maintenance")
                .problems(&[403])
                .deletes("PVE is still destroying it", schemas.written::<DeletingTemplate>()),
            Action::Sweep => tagged("maintenance")
                .body::<SweepBody>(schemas, false)
                .problems(&[403])
                .answer(Answer::new(200, "What was done, or would be").json(schemas.written::<Sweep>())),
        }
    }

    fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    fn body<T: JsonSchema>(mut self, schemas: &mut Schemas, is_required: bool) -> Self {
        self.body = Some(Body { schema: schemas.read::<T>(), is_required });
        self
    }

    fn if_match(mut self) -> Self {
        self.parameters.push(parameter("IfMatch"));
        self
    }

    fn problems(mut self, statuses: &'static [u16]) -> Self {
        self.problems = statuses;
        self
    }

    fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// A deletion, which PVE may still be working on.
    fn deletes(self, working: &'static str, schema: Value) -> Self {
        self.answer(Answer::new(202, working).json(schema)).answer(Answer::new(204, "It is gone"))
    }

    /// A power action, which PVE may still be working on.
    fn powers(self, done: &'static str, schemas: &mut Schemas) -> Self {
        let mut powered = |status, description| {
            Answer::new(status, description).json(schemas.written::<Powered<'_>>()).etag()
        };
        let (done, working) = (powered(200, done), powered(202, "PVE is still at it"));
        self.answer(done).answer(working)
    }
}

impl Answer {
    fn new(status: u16, description: &'static str) -> Self {
        Self { status, description, headers: Vec::new(), content: Map::new() }
    }

    fn json(mut self, schema: Value) -> Self {
        self.content.insert("application/json".into(), json!({"schema": schema}));
        self
    }

    fn etag(mut self) -> Self {
        self.headers.push(("ETag", header("ETag")));
        self
    }

    fn location(mut self) -> Self {
        self.headers.push(("Location", header("Location")));
        self
    }
}

fn tagged(tag: &'static str) -> Operation {
    Operation {
        tag,
        is_public: false,
        parameters: Vec::new(),
        body: None,
        answers: Vec::new(),
        problems: &[],
        never: &[],
    }
}

fn sandbox_health(schemas: &mut Schemas) -> Operation {
    let report = schemas.written::<Health>();
    let mut unhealthy = Answer::new(
        503,
        "Sandboxes cannot be made: `reasons` says why and how to fix it; or a problem of the deployment",
    )
    .json(report.clone());
    unhealthy.content.insert("application/problem+json".into(), json!({"schema": reference("Problem")}));
    unhealthy.headers.push(("Retry-After", header("RetryAfter")));
    let mut operation =
        tagged("deployment").answer(Answer::new(200, "They can").json(report)).answer(unhealthy);
    operation.never = &[502, 504];
    operation
}

fn list(schemas: &mut Schemas) -> Operation {
    let page = Answer::new(200, "A page, by VMID; of Morph by id").json(schemas.written::<Page>());
    let mut operation = tagged("sandboxes").answer(page);
    operation.parameters = vec![
        json!({
            "name": "state",
            "in": "query",
            "description": "Only those in this state",
            "schema": schemas.written::<State>(),
        }),
        json!({
            "name": "limit",
            "in": "query",
            "description": "Length of a page",
            "schema": {"type": "integer", "minimum": 1, "maximum": 5000, "default": 100},
        }),
        json!({
            "name": "cursor",
            "in": "query",
            "description": "`nextCursor` of the page before",
            "schema": {"type": "string", "pattern": "^([1-9][0-9]{2,8}|morphvm_[0-9A-Za-z_-]{1,64})$"},
            "example": "200017",
        }),
        json!({
            "name": "metadata",
            "in": "query",
            "description": "Entries, each as `KEY=VALUE`: only those whose metadata has all of them. \
                `metadata.KEY=VALUE` is the same, and the spelling for a KEY with `=` in it",
            "schema": {"type": "array", "uniqueItems": true, "items": {"type": "string", "pattern": "="}},
            "example": ["task=1234", "step=2"],
        }),
    ];
    operation
}

fn create(schemas: &mut Schemas) -> Operation {
    let mut operation =
        tagged("sandboxes").body::<CreateRequest>(schemas, false).problems(&[404, 409, 410, 422, 429, 507]);
    operation.parameters.push(parameter("IdempotencyKey"));
    for (status, description) in [
        (200, "The sandbox that this Idempotency-Key made before"),
        (201, "It is ready"),
        (
            202,
            "It is claimed and still coming up: ask for it until its state is another; each GET carries it on",
        ),
    ] {
        let answer = Answer::new(status, description).json(schemas.written::<Sandbox>());
        operation = operation.answer(answer.etag().location());
    }
    operation
}

fn exec(schemas: &mut Schemas) -> Operation {
    let mut outcome =
        Answer::new(200, "It ended; its exit code tells how").json(schemas.written::<Outcome>());
    schemas.add(EXEC_EVENT, exec_event);
    let events = json!({
        "schema": {
            "type": "string",
            "description": "Events, each with one line of JSON as its data. Lines that begin with `:` keep the \
                connection open.",
            "contentMediaType": "text/event-stream",
            "contentSchema": reference(EXEC_EVENT),
        },
        "example": "event: stdout\ndata: {\"data\":\"ok\\n\"}\n\nevent: exit\ndata: {\"exitCode\":0,\"timedOut\":false}\n\n",
    });
    outcome.content.insert("text/event-stream".into(), events);
    tagged("sandboxes").body::<ExecBody>(schemas, true).problems(&[406]).answer(outcome)
}

fn take(schemas: &mut Schemas) -> Operation {
    let mut operation =
        tagged("snapshots").body::<SnapshotRequest>(schemas, false).problems(&[403, 422, 429]);
    schemas.add(TAKEN, |it| json!({"anyOf": [it.written::<Snapshot>(), it.written::<KeptSnapshot>()]}));
    for (status, description) in [
        (201, "Sandboxes can be made from it, or rolled back to it"),
        (202, "PVE is copying: ask for it until its status is another; each GET carries it on"),
    ] {
        operation = operation.answer(Answer::new(status, description).json(reference(TAKEN)).location());
    }
    operation
}

fn build_template(schemas: &mut Schemas) -> Operation {
    let mut operation = tagged("maintenance")
        .body::<TemplateRequest>(schemas, true)
        .problems(&[403, 404, 409, 422, 429, 507]);
    operation.parameters.push(parameter("IdempotencyKey"));
    let mut built =
        |status, description| Answer::new(status, description).json(schemas.written::<Template>());
    let (before, ready) = (
        built(200, "The one that this `Idempotency-Key` began; it is ready"),
        built(201, "Sandboxes can be made from it"),
    );
    let mut working = built(202, "Its status says what it waits for");
    let claimed = json!({
        "description": "Of what was claimed",
        "schema": {"type": "string", "format": "uri-reference"},
    });
    working.headers.push(("Location", claimed));
    operation.answer(before.location()).answer(ready.location()).answer(working)
}

/// Name of the schema of the events of a command's output.
const EXEC_EVENT: &str = "ExecEvent";

fn exec_event(schemas: &mut Schemas) -> Value {
    let event = |names: &[&str], data: Value| {
        let event = json!({"type": "string", "enum": names});
        json!({"type": "object", "required": ["event", "data"], "properties": {"event": event, "data": data}})
    };
    json!({
        "description": "`stdout` and `stderr`; `error`, a Problem when the output was cut, and then no `exit` follows; \
            and last `exit`",
        "oneOf": [
            event(&["stdout", "stderr"], schemas.written::<Written>()),
            event(&["error"], json!({"anyOf": [schemas.written::<Failed<'_>>(), reference("Problem")]})),
            event(&["exit"], schemas.written::<Exit>()),
        ],
    })
}

/// Name of the schema of a snapshot that was taken.
const TAKEN: &str = "Taken";

/// Name of the schema of a patch without what only a sandbox has.
const PATCH_SNAPSHOT: &str = "PatchSnapshot";

/// Adds what the types do not say: which members are needed, which exclude or need each other, and what a snapshot's
/// patch may say.
pub(super) fn complete(schemas: &mut BTreeMap<String, Value>) -> Result<(), String> {
    let mut snapshot = schemas.get("Patch").cloned().ok_or("there is no Patch")?;
    if let Some(members) = snapshot.pointer_mut("/properties").and_then(Value::as_object_mut) {
        members.retain(|name, _| name != "ttlSeconds" && name != "onExpiry");
    }
    super::put(&mut snapshot, "description", "A JSON merge patch (RFC 7396) of a snapshot.".into());
    schemas.insert(PATCH_SNAPSHOT.into(), snapshot);

    for (name, needed) in
        [("RollbackBody", "snapshot"), ("TemplateRequest", "preset"), ("Confirmation", "execd")]
    {
        let schema = schemas.get_mut(name).ok_or_else(|| format!("there is no {name}"))?;
        super::put(schema, "required", json!([needed]));
    }
    let sources = ["appliance", "url", "image"];
    for (name, wrong) in [
        (
            "CreateRequest",
            vec![
                all(&["snapshotId", "preset"]),
                all(&["snapshotId", "templateVmid"]),
                all(&["preset", "templateVmid"]),
            ],
        ),
        ("ExecBody", vec![none(&["command", "argv"]), all(&["command", "argv"])]),
        (
            "TemplateRequest",
            vec![
                none(&sources),
                all(&["appliance", "url"]),
                all(&["appliance", "image"]),
                all(&["url", "image"]),
                one_without("checksum", "checksumAlgorithm"),
                one_without("checksumAlgorithm", "checksum"),
                one_without("checksum", "url"),
            ],
        ),
        (
            "SnapshotRequest",
            vec![json!({
                "required": ["keep", "promote"],
                "properties": {"keep": {"const": true}, "promote": {"type": "object"}},
            })],
        ),
    ] {
        let schema = schemas.get_mut(name).ok_or_else(|| format!("there is no {name}"))?;
        super::put(schema, "not", json!({"anyOf": wrong}));
    }
    Ok(())
}

/// Values that have all of these members, and not as null.
fn all(names: &[&str]) -> Value {
    json!({"required": names, "properties": members(names, &not_null())})
}

/// Values that have none of these members, or as null.
fn none(names: &[&str]) -> Value {
    json!({"properties": members(names, &nothing())})
}

fn one_without(one: &str, other: &str) -> Value {
    json!({"required": [one], "properties": {one: not_null(), other: nothing()}})
}

fn members(names: &[&str], schema: &Value) -> Map<String, Value> {
    names.iter().map(|it| ((*it).to_owned(), schema.clone())).collect()
}

fn nothing() -> Value {
    json!({"type": "null"})
}

fn not_null() -> Value {
    json!({"not": nothing()})
}
