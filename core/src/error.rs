//! The error of every operation, and the table that maps each kind of error to HTTP.

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value, json};

/// Number of characters that an answer repeats of a text that its caller has sent.
const ECHO: usize = 200;

/// Party that an error is the fault of; the level of its log line tells which (rule P7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: the same request will fail again.
    Caller,
    /// PVE, Morph or Cloudflare, the network, or a guest.
    Pve,
    /// The deployment: its settings, its rights, or a defect of pve-edge.
    Us,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $status:literal $fault:ident $retryable:literal $title:literal;)*) => {
        /// Every kind of problem that the API answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* #[doc = $title] $variant,)* }

        impl Code {
            /// All kinds of problems, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// Row of the table: name, HTTP status, party at fault, whether asking again can help, title.
            pub const fn row(self) -> (&'static str, u16, Fault, bool, &'static str) {
                match self { $(Code::$variant => ($name, $status, Fault::$fault, $retryable, $title),)* }
            }
        }
    };
}

codes! {
    InvalidRequest "invalid-request" 400 Caller false "The request is not valid";
    InvalidJson "invalid-json" 400 Caller false "The body is not the JSON that is expected here";
    Unauthorized "unauthorized" 401 Caller false "No valid API key";
    Forbidden "forbidden" 403 Caller false "This key may not do that";
    NotFound "not-found" 404 Caller false "No such sandbox, snapshot or template";
    NoSuchProcess "no-such-process" 404 Caller false "The sandbox has no such process";
    NoSuchFile "no-such-file" 404 Caller false "Nothing is at this path in the sandbox";
    Gone "gone" 404 Caller false "The sandbox of this name is gone";
    UnknownHost "unknown-host" 404 Caller false "This name leads to nothing";
    UnknownPath "unknown-path" 404 Caller false "No such path";
    MethodNotAllowed "method-not-allowed" 405 Caller false "The path does not take this method";
    NotAcceptable "streaming-unavailable" 406 Caller false "This deployment cannot stream";
    IdempotencyConflict "idempotency-conflict" 409 Caller false "The Idempotency-Key was used for another request";
    KeyInUse "key-in-use" 409 Pve true "Another request with this Idempotency-Key makes the sandbox";
    Expired "expired" 409 Caller false "The sandbox of this Idempotency-Key has expired";
    GuestLocked "guest-locked" 409 Pve true "PVE is working on this guest";
    Condemned "condemned" 409 Caller false "The sandbox is being deleted";
    NotRunning "not-running" 409 Caller false "The sandbox is not running";
    StillCreating "still-creating" 409 Pve true "The sandbox is still being created";
    SnapshotInUse "snapshot-in-use" 409 Caller false "Sandboxes are linked to this snapshot";
    SnapshotNotNewest "snapshot-not-newest" 409 Caller false "The storage goes back to the newest snapshot only";
    Suspended "suspended" 409 Caller false "The sandbox is suspended";
    ConsoleInUse "console-in-use" 409 Pve true "Somebody else uses the sandbox's console";
    Conflict "conflict" 409 Pve true "Somebody else keeps changing this guest";
    ProcessGone "process-gone" 409 Caller false "The process has ended";
    ProcessLost "process-lost" 409 Pve false "It is not known how the process has ended";
    StdinClosed "stdin-closed" 409 Caller false "The process takes no more input";
    StdinOffset "stdin-offset" 409 Caller false "Input before these bytes is missing";
    FileExists "file-exists" 409 Caller false "Something is at this path already";
    NotesTooLong "notes-too-long" 409 Caller false "The guest's notes leave no room for its marks";
    Over "expired" 410 Caller false "The time of a creation was over before it came up";
    TunnelConflict "tunnel-conflict" 409 Caller false "Something else is where the tunnel needs its own";
    TunnelConnected "tunnel-connected" 409 Caller false "A cloudflared is connected to the tunnel";
    CertificateDepth "certificate-depth" 409 Caller false "The zone's certificate does not cover the guests' names";
    PlanChanged "plan-changed" 412 Caller false "What the plan was made of has changed since";
    PreconditionFailed "precondition-failed" 412 Caller false "The sandbox or the file has changed since";
    TooLarge "too-large" 413 Caller false "The request is too large";
    UnsupportedMediaType "unsupported-media-type" 415 Caller false "The body is not plain application/json";
    RangeNotSatisfiable "range-not-satisfiable" 416 Caller false "The range begins behind the end of the file";
    TemplateNotFound "template-not-found" 422 Caller false "No such template";
    NotATemplate "not-a-template" 422 Caller false "The source is not a template";
    TemplateElsewhere "template-on-other-node" 422 Pve false "The template cannot be cloned to the node that is set";
    LinkedCloneUnsupported "linked-clone-unsupported" 422 Pve false "The template's storage makes no linked clones";
    Unsupported "unsupported" 422 Caller false "The provider cannot do that";
    NoSuchUser "no-such-user" 422 Caller false "The sandbox has no such user";
    NotAFile "not-a-file" 422 Caller false "What is at this path is not a file, or not a folder";
    FileForbidden "file-forbidden" 422 Caller false "The user may not do that in the sandbox";
    SnapshotUnsupported "snapshot-unsupported" 422 Pve false "The sandbox's storage makes no snapshots";
    QuotaExceeded "quota-exceeded" 429 Caller true "The team's quota is used up";
    TooManyVisits "too-many-visits" 429 Caller true "Too many requests from this address";
    RateLimited "rate-limited" 429 Caller true "Too many creations in a minute";
    Internal "internal" 500 Us false "A defect of pve-edge";
    UpgradeRequired "upgrade-required" 426 Caller false "A websocket is needed here";
    GatewayUnsupported "gateway-unsupported" 501 Caller false "This deployment is no gateway to sandboxes";
    UpgradeUnsupported "upgrade-unsupported" 501 Caller false "This deployment cannot open websockets";
    PveError "pve-error" 502 Pve false "PVE failed";
    PveTls "pve-tls" 502 Us false "The certificate of the PVE API is not trusted";
    PveBadAnswer "pve-bad-answer" 502 Pve true "What answered is not PVE";
    PveAccess "pve-access" 502 Us false "Cloudflare Access does not let the deployment through to PVE";
    PveUnauthorized "pve-unauthorized" 502 Us false "PVE does not accept the API token";
    ConsoleRefused "console-refused" 502 Us false "PVE lets no API token into consoles";
    PveForbidden "pve-forbidden" 502 Us false "The API token lacks a privilege";
    PveNoAudit "pve-no-audit" 502 Us false "The API token sees no guests";
    PveTagsRestricted "pve-tags-restricted" 502 Us false "PVE does not let the API token set tags";
    PveUnsupported "pve-unsupported" 502 Pve false "This PVE version lacks the call";
    CloneFailed "clone-failed" 502 Pve false "PVE could not clone the template";
    StartFailed "start-failed" 502 Pve false "PVE could not start the sandbox";
    TaskFailed "task-failed" 502 Pve false "A PVE task failed";
    PortClosed "port-closed" 502 Pve true "Nothing listens at this port of the sandbox";
    ServiceCut "service-cut" 502 Pve false "The sandbox broke off before it had answered";
    TunnelDown "tunnel-down" 502 Us true "The way from the edge to the sandboxes is down";
    ProxyRefused "proxy-refused" 502 Us false "The proxy beside PVE refuses this deployment";
    NoRoad "no-road" 502 Us false "The deployment knows no way to the sandbox";
    ExecUnreachable "exec-unreachable" 502 Pve true "The exec daemon of the sandbox cannot be reached";
    ExecCut "exec-cut" 502 Pve false "The command's output ended before its exit code";
    ExecUnauthorized "exec-unauthorized" 502 Us false "The exec daemon refuses our token";
    ExecFailed "exec-failed" 502 Pve false "The exec daemon refused the command";
    EnvUnreadable "env-unreadable" 502 Us false "The sandbox's environment cannot be opened";
    ExecUnprotected "exec-unprotected" 502 Us false "The exec daemon lets everyone in";
    ExecTokenNotApplied "exec-token-not-applied" 502 Us false "The exec token did not reach the sandbox";
    GuestKeys "guest-keys" 502 Us false "The daemon in the sandbox obeys none of this deployment's keys";
    GuestIdentity "guest-identity" 502 Pve false "The daemon in the sandbox does not take itself for this sandbox";
    GuestAgentMissing "guest-agent-missing" 502 Us false "The virtual machine has no guest agent";
    MorphError "morph-error" 502 Pve false "Morph failed";
    MorphUnauthorized "morph-unauthorized" 502 Us false "Morph does not accept the API key";
    CloudflareError "cloudflare-error" 502 Pve false "Cloudflare failed";
    CloudflareUnauthorized "cloudflare-unauthorized" 502 Us false "Cloudflare does not accept the API token";
    CloudflareForbidden "cloudflare-forbidden" 502 Us false "The token of Cloudflare's API lacks a permission";
    ClockSkew "clock-skew" 503 Us false "The clocks of PVE and of this deployment differ";
    Misconfigured "misconfigured" 503 Us false "The deployment's settings are wrong";
    PveUnreachable "pve-unreachable" 503 Pve true "PVE cannot be reached";
    MorphUnreachable "morph-unreachable" 503 Pve true "Morph cannot be reached";
    MorphBusy "morph-busy" 503 Pve true "Morph takes no more requests of this account now";
    Asleep "asleep" 503 Caller true "The sandbox is stopped or paused";
    Starting "starting" 503 Pve true "The sandbox is starting";
    CloudflareUnreachable "cloudflare-unreachable" 503 Pve true "Cloudflare's API cannot be reached";
    CloudflareBusy "cloudflare-busy" 503 Pve true "Cloudflare blocks this user's calls for now";
    NodeOffline "node-offline" 503 Pve true "The sandbox's node is offline";
    NoQuorum "pve-no-quorum" 503 Pve true "The cluster has no quorum";
    TemplateBusy "template-busy" 503 Pve true "The template is being cloned by others";
    TemplateLocked "template-locked" 503 Pve true "PVE works on the template";
    TemplateLockStale "template-lock-stale" 503 Pve true "The template is locked and nobody works on it";
    IndexFull "index-full" 503 Pve true "The cluster's guest index is nearly full";
    NoFreeVmid "no-free-vmid" 503 Pve true "No VMID is free";
    TooManyProcesses "too-many-processes" 503 Pve true "The sandbox has no room for another process";
    BudgetExhausted "request-budget" 503 Pve true "The platform allows no more outgoing requests";
    GatewayLoop "gateway-loop" 508 Us false "The gateway has asked itself";
    PveTimeout "pve-timeout" 504 Pve true "PVE did not answer in time";
    MorphTimeout "morph-timeout" 504 Pve true "Morph did not answer in time";
    CloudflareTimeout "cloudflare-timeout" 504 Pve true "Cloudflare's API did not answer in time";
    DiskFull "disk-full" 507 Pve false "The sandbox's disk is full";
    StorageFull "storage-full" 507 Pve false "The storage is full";
}

impl Code {
    /// Problems that visitors of sandboxes alone are told, at names that are none of the API's.
    pub const OF_VISITORS: [Self; 11] = [
        Self::Gone,
        Self::UnknownHost,
        Self::TooManyVisits,
        Self::PortClosed,
        Self::ServiceCut,
        Self::TunnelDown,
        Self::ProxyRefused,
        Self::NoRoad,
        Self::Asleep,
        Self::Starting,
        Self::GatewayLoop,
    ];

    /// Whether something has answered in PVE's place.
    pub fn is_of_a_stranger(self) -> bool {
        matches!(self, Self::PveBadAnswer | Self::PveAccess)
    }
}

/// Error with its [`Code`], a sentence for people, and members for programs.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: String,
    fields: Vec<(String, String)>,
    retry_after: Option<u32>,
    members: Map<String, Value>,
}

impl Error {
    /// An error with a sentence that says what happened and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after: None,
            members: Map::new(),
        }))
    }

    /// An error that names the wrong field of a request, and its fix.
    pub fn field(field: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::fields(vec![(field.into(), fix.into())])
    }

    /// An error that names several wrong fields of a request, each with its fix.
    pub fn fields(fields: Vec<(String, String)>) -> Self {
        let fields: Vec<_> = fields.into_iter().map(|(field, fix)| (cut(&field).into_owned(), fix)).collect();
        let detail =
            fields.iter().map(|(field, fix)| format!("{field}: {fix}")).collect::<Vec<_>>().join("; ");
        let mut error = Self::new(Code::InvalidRequest, detail);
        error.0.fields = fields;
        error
    }

    /// Sets the seconds after which the client may ask again (`Retry-After`).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds an extension member to the problem document.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Value of an extension member, if it is text.
    pub fn text_member(&self, name: &str) -> Option<&str> {
        self.0.members.get(name)?.as_str()
    }

    /// Value of an extension member, if it is a number.
    pub fn number_member(&self, name: &str) -> Option<u64> {
        self.0.members.get(name)?.as_u64()
    }

    /// Kind of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Sentence that says what happened and what to do.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Seconds after which the client may ask again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// Party that it is the fault of.
    pub fn fault(&self) -> Fault {
        self.code().row().2
    }

    /// HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.code().row().1
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.code().row().3
    }

    /// Problem document that answers the request `request_id` (RFC 9457).
    pub fn problem(&self, request_id: &str) -> Value {
        let (name, status, _, retryable, title) = self.code().row();
        let mut document = self.0.members.clone();
        document.insert("type".into(), json!(format!("urn:pve-edge:problem:{name}")));
        document.insert("title".into(), json!(title));
        document.insert("status".into(), json!(status));
        document.insert("detail".into(), json!(self.0.detail));
        document.insert("code".into(), json!(name));
        document.insert("retryable".into(), json!(retryable));
        document.insert("requestId".into(), json!(request_id));
        if !self.0.fields.is_empty() {
            let errors: Vec<Value> = self
                .0
                .fields
                .iter()
                .map(|(field, detail)| json!({"field": field, "detail": detail}))
                .collect();
            document.insert("errors".into(), json!(errors));
        }
        Value::Object(document)
    }
}

/// Shortens a text that a caller has sent, for an answer that repeats it.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(ECHO) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code().row().0, self.0.detail)
    }
}

impl std::error::Error for Error {}
