//! What each operation takes and answers: one function for each of its parts.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::{
    files, header, page, parameter, processes, queries,
    rules::PATCH_SNAPSHOT,
    schemas::{Schemas, reference},
    services,
};
use crate::{
    api::{
        action::Action,
        native::{deployment::Alive, power::Answer as Powered, tunnel::TunnelBody},
        request::{ExtendBody, SweepBody},
    },
    sandbox::{
        Sandbox,
        command::ExecBody,
        creation::CreateRequest,
        health::Report as Health,
        listing::Page,
        offer::Offer,
        patch::Patch,
        power::{PauseBody, RollbackBody, StartBody, StopBody},
        process::{Metrics, ProcessBody, SignalBody, SizeBody},
        removal::{DeletingKept, DeletingSandbox, DeletingSnapshot, DeletingTemplate},
        snapshot::{All, KeptSnapshot, Snapshot, SnapshotRequest},
        sweep::Report as SweepReport,
        template::{Confirmation, Template, TemplateRequest},
    },
    tunnel::{Removed as TunnelRemoved, Tunnel},
};

/// The body of an operation's request.
pub(super) struct Body {
    pub(super) schema: Value,
    pub(super) is_required: bool,
    pub(super) media: &'static str,
}

impl Body {
    pub(super) fn json(schema: Value, is_required: bool) -> Self {
        Self { schema, is_required, media: "application/json" }
    }
}

/// An answer that is no problem.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) headers: Vec<(&'static str, Value)>,
    /// By media type.
    pub(super) content: Map<String, Value>,
}

/// Whether an operation needs no key.
pub(super) fn is_public(action: Action) -> bool {
    matches!(
        action,
        Action::GetFrontPage
            | Action::GetPageScript
            | Action::GetPageStyle
            | Action::GetDescription
            | Action::GetHealth
            | Action::GetInstallScript
            | Action::GetGuestProgram
    )
}

/// Whether an operation needs no key while the deployment's settings are missing or wrong.
pub(super) fn is_public_at_first(action: Action) -> bool {
    action == Action::GetSetupScript
}

/// The part of the API that an operation is of.
pub(super) fn tag(action: Action) -> &'static str {
    use Action::*;
    match action {
        GetFrontPage | GetPageScript | GetPageStyle | GetDescription | GetSetupScript | GetProxyScript
        | GetInstallScript | GetGuestProgram | GetHealth | GetSandboxHealth | GetConfig => "deployment",
        CreateSandbox | ListSandboxes | GetSandbox | PatchSandbox | DeleteSandbox | ExtendSandbox
        | ExecSandbox | GetMetrics => "sandboxes",
        CreateProcess | ListProcesses | GetProcess | DeleteProcess | ReadOutput | WriteStdin
        | SignalProcess | ResizeProcess | OpenTerminal | LinkTerminal => "processes",
        GetFile | PutFile | DeleteFile | ListFiles | MakeFolder | MoveFile | WatchFiles => "files",
        PutService | GetService | DeleteService | LinkService => "services",
        StartSandbox | StopSandbox | RebootSandbox | PauseSandbox | ResumeSandbox => "power",
        TakeSnapshot | ListKeptSnapshots | DeleteKeptSnapshot | RollbackSandbox | ListSnapshots
        | GetSnapshot | PatchSnapshot | DeleteSnapshot => "snapshots",
        BuildTemplate | GetTemplate | ConfirmTemplate | DeleteTemplate | MakeTunnel | GetTunnel
        | DeleteTunnel | Sweep => "maintenance",
    }
}

/// Parameters beside those of the path, and `Prefer`.
pub(super) fn parameters(action: Action, schemas: &mut Schemas) -> Vec<Value> {
    use Action::*;
    match action {
        ListSandboxes => queries::of_lists(schemas),
        GetInstallScript => vec![queries::arch_to_install()],
        GetFile | PutFile | DeleteFile | ListFiles | MakeFolder | MoveFile | WatchFiles => {
            files::parameters(action)
        }
        CreateSandbox | BuildTemplate => vec![parameter("IdempotencyKey")],
        ExecSandbox | CreateProcess => vec![parameter("ProcessKey")],
        ListProcesses | ReadOutput | WriteStdin | OpenTerminal => processes::parameters(action, schemas),
        PatchSandbox | DeleteSandbox | ExtendSandbox | PatchSnapshot | DeleteSnapshot => {
            vec![parameter("IfMatch")]
        }
        GetTunnel => vec![queries::vpc()],
        DeleteTunnel => vec![queries::vpc(), queries::force()],
        GetFrontPage | GetPageScript | GetPageStyle | GetDescription | GetSetupScript | GetProxyScript
        | GetGuestProgram | GetHealth | GetSandboxHealth | GetConfig | GetSandbox | GetMetrics
        | GetProcess | DeleteProcess | SignalProcess | ResizeProcess | LinkTerminal | PutService
        | GetService | DeleteService | LinkService | StartSandbox | StopSandbox | RebootSandbox
        | PauseSandbox | ResumeSandbox | TakeSnapshot | ListKeptSnapshots | DeleteKeptSnapshot
        | RollbackSandbox | ListSnapshots | GetSnapshot | GetTemplate | ConfirmTemplate | DeleteTemplate
        | MakeTunnel | Sweep => Vec::new(),
    }
}

/// The body that a request has, or may have.
pub(super) fn body(action: Action, schemas: &mut Schemas) -> Option<Body> {
    use Action::*;
    let may = |schema| Some(Body::json(schema, false));
    let must = |schema| Some(Body::json(schema, true));
    match action {
        CreateSandbox => may(schemas.read::<CreateRequest>()),
        PatchSandbox => may(schemas.read::<Patch>()),
        ExtendSandbox => may(schemas.read::<ExtendBody>()),
        ExecSandbox => must(schemas.read::<ExecBody>()),
        CreateProcess => must(schemas.read::<ProcessBody>()),
        SignalProcess => must(schemas.read::<SignalBody>()),
        ResizeProcess => must(schemas.read::<SizeBody>()),
        WriteStdin => Some(Body { media: "application/octet-stream", schema: json!({}), is_required: false }),
        PutService | GetService | DeleteService | LinkService => services::body(action, schemas),
        StartSandbox | ResumeSandbox => may(schemas.read::<StartBody>()),
        StopSandbox | RebootSandbox => may(schemas.read::<StopBody>()),
        PauseSandbox => may(schemas.read::<PauseBody>()),
        TakeSnapshot => may(schemas.read::<SnapshotRequest>()),
        RollbackSandbox => must(schemas.read::<RollbackBody>()),
        PatchSnapshot => may(reference(PATCH_SNAPSHOT)),
        BuildTemplate => must(schemas.read::<TemplateRequest>()),
        ConfirmTemplate => must(schemas.read::<Confirmation>()),
        Sweep => may(schemas.read::<SweepBody>()),
        MakeTunnel => may(schemas.read::<TunnelBody>()),
        GetFile | PutFile | DeleteFile | ListFiles | MakeFolder | MoveFile | WatchFiles => {
            files::body(action, schemas)
        }
        GetFrontPage | GetPageScript | GetPageStyle | GetDescription | GetSetupScript | GetProxyScript
        | GetInstallScript | GetGuestProgram | GetHealth | GetSandboxHealth | GetConfig | ListSandboxes
        | GetSandbox | DeleteSandbox | ListProcesses | GetProcess | DeleteProcess | ReadOutput
        | OpenTerminal | LinkTerminal | GetMetrics | ListKeptSnapshots | DeleteKeptSnapshot
        | ListSnapshots | GetSnapshot | DeleteSnapshot | GetTemplate | DeleteTemplate | GetTunnel
        | DeleteTunnel => None,
    }
}

/// Statuses of problems beside those of all operations of its kind.
pub(super) fn problems(action: Action) -> &'static [u16] {
    use Action::*;
    match action {
        CreateSandbox => &[404, 409, 410, 422, 429, 507],
        BuildTemplate => &[403, 404, 409, 422, 429, 507],
        TakeSnapshot => &[403, 422, 429],
        PatchSandbox | StopSandbox | PauseSandbox | RollbackSandbox => &[422],
        ExecSandbox | ReadOutput => &[406, 422],
        CreateProcess | ListProcesses | GetProcess | DeleteProcess | WriteStdin | SignalProcess
        | ResizeProcess | GetMetrics => &[422],
        OpenTerminal => &[422, 426, 501],
        LinkTerminal => &[422, 501],
        PutService => &[422, 429],
        GetService | DeleteService => &[422],
        LinkService => &[403, 422, 501],
        GetInstallScript => &[400, 404, 500],
        GetGuestProgram => &[404, 500],
        GetFile | PutFile | DeleteFile | ListFiles | MakeFolder | MoveFile | WatchFiles => {
            files::problems(action)
        }
        GetSnapshot | PatchSnapshot | DeleteSnapshot | GetTemplate | ConfirmTemplate | DeleteTemplate
        | GetSetupScript | Sweep => &[403],
        GetProxyScript => &[403, 422],
        MakeTunnel => &[403, 409, 412, 422],
        GetTunnel => &[403, 422],
        DeleteTunnel => &[403, 409, 422],
        GetFrontPage | GetPageScript | GetPageStyle | GetDescription | GetHealth | GetSandboxHealth
        | GetConfig | ListSandboxes | GetSandbox | DeleteSandbox | ExtendSandbox | StartSandbox
        | RebootSandbox | ResumeSandbox | ListKeptSnapshots | DeleteKeptSnapshot | ListSnapshots => &[],
    }
}

/// The answers that are no problems.
pub(super) fn answers(action: Action, of: &mut Schemas) -> Vec<Answer> {
    use Action::*;
    let known = "As PVE knows it now";
    match action {
        GetDescription => vec![Answer::new(200, "OpenAPI 3.1").schema(json!({
            "type": "object",
            "required": ["openapi", "paths"],
            "properties": {"openapi": {"type": "string"}, "paths": {"type": "object"}},
        }))],
        GetFrontPage => vec![page::front()],
        GetPageScript => page::part("text/javascript"),
        GetPageStyle => page::part("text/css"),
        GetSetupScript | GetProxyScript => vec![
            Answer::new(200, "The script")
                .media("text/x-shellscript", json!({"type": "string"}))
                .header("X-Content-Type-Options", json!({"schema": {"type": "string", "enum": ["nosniff"]}})),
        ],
        GetInstallScript => {
            vec![Answer::new(200, "The script").media("text/x-shellscript", json!({"type": "string"}))]
        }
        GetGuestProgram => vec![guest_program()],
        GetHealth => vec![Answer::new(200, "It is").json::<Alive>(of)],
        GetSandboxHealth => vec![Answer::new(200, "They can").json::<Health>(of), unhealthy(of)],
        GetConfig => {
            let described = "Provider, capabilities, presets with all versions, services";
            vec![Answer::new(200, described).json::<Offer>(of)]
        }
        CreateSandbox => created(of),
        ListSandboxes => vec![Answer::new(200, "A page, by VMID; of Morph by id").json::<Page>(of)],
        GetSandbox => vec![Answer::new(200, known).json::<Sandbox>(of).etag()],
        PatchSandbox => vec![Answer::new(200, "Changed").json::<Sandbox>(of).etag()],
        DeleteSandbox => deleted::<DeletingSandbox>("PVE is still destroying it", of),
        ExtendSandbox => vec![Answer::new(200, "Its expiry counts from now").json::<Sandbox>(of).etag()],
        ExecSandbox | CreateProcess | ListProcesses | GetProcess | DeleteProcess | ReadOutput
        | WriteStdin | SignalProcess | ResizeProcess | OpenTerminal | LinkTerminal => {
            processes::answers(action, of)
        }
        GetMetrics => vec![Answer::new(200, "As its daemon sees it now").json::<Metrics>(of)],
        GetFile | PutFile | DeleteFile | ListFiles | MakeFolder | MoveFile | WatchFiles => {
            files::answers(action, of)
        }
        PutService | GetService | DeleteService | LinkService => services::answers(action, of),
        StartSandbox | StopSandbox | RebootSandbox | PauseSandbox | ResumeSandbox => {
            powered("Done; `did` says what", of)
        }
        RollbackSandbox => powered("Done", of),
        TakeSnapshot => taken(of),
        ListKeptSnapshots => vec![Answer::new(200, "The oldest first").json::<All<KeptSnapshot>>(of)],
        DeleteKeptSnapshot => deleted::<DeletingKept>("PVE is still deleting it", of),
        ListSnapshots => vec![Answer::new(200, "What sandboxes can be made from").json::<All<Snapshot>>(of)],
        GetSnapshot => vec![Answer::new(200, known).json::<Snapshot>(of).etag()],
        PatchSnapshot => vec![Answer::new(200, "Changed").json::<Snapshot>(of).etag()],
        DeleteSnapshot => deleted::<DeletingSnapshot>("PVE is still destroying it", of),
        BuildTemplate => built(of),
        GetTemplate => vec![Answer::new(200, known).json::<Template>(of)],
        ConfirmTemplate => vec![Answer::new(200, "It goes on").json::<Template>(of)],
        DeleteTemplate => deleted::<DeletingTemplate>("PVE is still destroying it", of),
        MakeTunnel => vec![Answer::new(200, "As it is now, or is planned").json::<Tunnel>(of)],
        GetTunnel => vec![Answer::new(200, "As it is now").json::<Tunnel>(of)],
        DeleteTunnel => vec![Answer::new(200, "Nothing of ours is left").json::<TunnelRemoved>(of)],
        Sweep => vec![Answer::new(200, "What was done, or would be").json::<SweepReport>(of)],
    }
}

impl Answer {
    pub(super) fn new(status: u16, description: &'static str) -> Self {
        Self { status, description, headers: Vec::new(), content: Map::new() }
    }

    pub(super) fn json<T: JsonSchema>(self, schemas: &mut Schemas) -> Self {
        let schema = schemas.written::<T>();
        self.schema(schema)
    }

    pub(super) fn schema(self, schema: Value) -> Self {
        self.media("application/json", schema)
    }

    pub(super) fn media(mut self, media: &str, schema: Value) -> Self {
        self.content.insert(media.into(), json!({"schema": schema}));
        self
    }

    fn etag(mut self) -> Self {
        self.headers.push(("ETag", header("ETag")));
        self
    }

    pub(super) fn header(mut self, name: &'static str, header: Value) -> Self {
        self.headers.push((name, header));
        self
    }

    pub(super) fn location(mut self) -> Self {
        self.headers.push(("Location", header("Location")));
        self
    }
}

fn guest_program() -> Answer {
    let binary = json!({"type": "string", "format": "binary"});
    let mut answer = Answer::new(200, "A static program for Linux").media("application/octet-stream", binary);
    let etag = json!({
        "description": "SHA-256 of the program",
        "schema": {"type": "string", "pattern": "^\"[0-9a-f]{64}\"$"},
    });
    answer.headers.push(("ETag", etag));
    answer
}

/// A deletion, which PVE may still be working on.
fn deleted<T: JsonSchema>(working: &'static str, schemas: &mut Schemas) -> Vec<Answer> {
    vec![Answer::new(202, working).json::<T>(schemas), Answer::new(204, "It is gone")]
}

/// A power action, which PVE may still be working on.
fn powered(done: &'static str, schemas: &mut Schemas) -> Vec<Answer> {
    let answers = [(200, done), (202, "PVE is still at it")].into_iter();
    answers.map(|(status, about)| Answer::new(status, about).json::<Powered<'_>>(schemas).etag()).collect()
}

fn unhealthy(schemas: &mut Schemas) -> Answer {
    let about =
        "Sandboxes cannot be made: `reasons` says why and how to fix it; or a problem of the deployment";
    let mut answer = Answer::new(503, about).json::<Health>(schemas);
    answer.content.insert("application/problem+json".into(), json!({"schema": reference("Problem")}));
    answer.headers.push(("Retry-After", header("RetryAfter")));
    answer
}

fn created(schemas: &mut Schemas) -> Vec<Answer> {
    let answers = [
        (200, "The sandbox that this Idempotency-Key made before"),
        (201, "It is ready"),
        (
            202,
            "It is claimed and still coming up: ask for it until its state is another; each GET carries it on",
        ),
    ];
    let answers = answers.into_iter();
    answers
        .map(|(status, about)| Answer::new(status, about).json::<Sandbox>(schemas).etag().location())
        .collect()
}

fn taken(schemas: &mut Schemas) -> Vec<Answer> {
    const TAKEN: &str = "Taken";
    schemas.add(TAKEN, |it| json!({"anyOf": [it.written::<Snapshot>(), it.written::<KeptSnapshot>()]}));
    let answers = [
        (201, "Sandboxes can be made from it, or rolled back to it"),
        (202, "PVE is copying: ask for it until its status is another; each GET carries it on"),
    ];
    let answers = answers.into_iter();
    answers.map(|(status, about)| Answer::new(status, about).schema(reference(TAKEN)).location()).collect()
}

fn built(schemas: &mut Schemas) -> Vec<Answer> {
    let mut built = |status, about| Answer::new(status, about).json::<Template>(schemas);
    let before = built(200, "The one that this `Idempotency-Key` began; it is ready");
    let ready = built(201, "Sandboxes can be made from it");
    let mut working = built(202, "Its status says what it waits for");
    let claimed = json!({
        "description": "Of what was claimed",
        "schema": {"type": "string", "format": "uri-reference"},
    });
    working.headers.push(("Location", claimed));
    vec![before.location(), ready.location(), working]
}
