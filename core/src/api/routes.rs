//! The table of routes, and what each does.

use http::Method;

use crate::error::cut;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The API's description.
    OpenApi,
    /// Alive.
    Health,
    /// ProviderName reachable.
    SandboxHealth,
    /// What a client may ask for.
    Config,
    /// Make one.
    Create,
    /// All of them.
    List,
    /// One of them.
    Get,
    /// Change what is kept about it.
    Patch,
    /// Delete it.
    Delete,
    /// Give it more time.
    Extend,
    /// Run a command in it.
    Exec,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Reboot it.
    Reboot,
    /// Pause it.
    Pause,
    /// Resume it.
    Resume,
    /// Take a snapshot of it.
    TakeSnapshot,
    /// The snapshots that it keeps.
    ListKept,
    /// Delete one of them.
    DeleteKept,
    /// Roll it back to one of them.
    Rollback,
    /// All snapshots and presets.
    ListSnapshots,
    /// One snapshot.
    GetSnapshot,
    /// Change what is kept about it.
    PatchSnapshot,
    /// Delete it.
    DeleteSnapshot,
    /// Make a template from nothing.
    BuildTemplate,
    /// One that is made so.
    GetTemplate,
    /// Say that the exec daemon is in it.
    ConfirmTemplate,
    /// Delete it.
    DeleteTemplate,
    /// Sweep.
    Sweep,
}

/// Method, path template, what it does.
pub(super) const ROUTES: [(&str, &str, Action); 29] = [
    ("GET", "/openapi.json", Action::OpenApi),
    ("GET", "/api/health", Action::Health),
    ("GET", "/api/health/sandbox", Action::SandboxHealth),
    ("GET", "/api/config/sandbox", Action::Config),
    ("POST", "/api/sandboxes", Action::Create),
    ("GET", "/api/sandboxes", Action::List),
    ("GET", "/api/sandboxes/{id}", Action::Get),
    ("PATCH", "/api/sandboxes/{id}", Action::Patch),
    ("DELETE", "/api/sandboxes/{id}", Action::Delete),
    ("POST", "/api/sandboxes/{id}/extend", Action::Extend),
    ("POST", "/api/sandboxes/{id}/exec", Action::Exec),
    ("POST", "/api/sandboxes/{id}/start", Action::Start),
    ("POST", "/api/sandboxes/{id}/stop", Action::Stop),
    ("POST", "/api/sandboxes/{id}/reboot", Action::Reboot),
    ("POST", "/api/sandboxes/{id}/pause", Action::Pause),
    ("POST", "/api/sandboxes/{id}/resume", Action::Resume),
    ("POST", "/api/sandboxes/{id}/snapshots", Action::TakeSnapshot),
    ("GET", "/api/sandboxes/{id}/snapshots", Action::ListKept),
    ("DELETE", "/api/sandboxes/{id}/snapshots/{snapshot}", Action::DeleteKept),
    ("POST", "/api/sandboxes/{id}/rollback", Action::Rollback),
    ("GET", "/api/snapshots", Action::ListSnapshots),
    ("GET", "/api/snapshots/{id}", Action::GetSnapshot),
    ("PATCH", "/api/snapshots/{id}", Action::PatchSnapshot),
    ("DELETE", "/api/snapshots/{id}", Action::DeleteSnapshot),
    ("POST", "/api/templates", Action::BuildTemplate),
    ("GET", "/api/templates/{id}", Action::GetTemplate),
    ("PATCH", "/api/templates/{id}", Action::ConfirmTemplate),
    ("DELETE", "/api/templates/{id}", Action::DeleteTemplate),
    ("POST", "/api/gc", Action::Sweep),
];

/// A row of the table that a request matches.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) action: Action,
    template: &'static str,
    pub(super) id: String,
    /// Of a path that names two things.
    pub(super) snapshot: String,
}

impl Action {
    /// Whether it takes as long as `Prefer` says.
    pub(super) fn waits(self) -> bool {
        match self {
            Self::Create
            | Self::Get
            | Self::Patch
            | Self::Extend
            | Self::Delete
            | Self::Start
            | Self::Stop
            | Self::Reboot
            | Self::Pause
            | Self::Resume
            | Self::Rollback
            | Self::TakeSnapshot
            | Self::DeleteKept
            | Self::GetSnapshot
            | Self::DeleteSnapshot
            | Self::BuildTemplate
            | Self::GetTemplate
            | Self::ConfirmTemplate
            | Self::DeleteTemplate => true,
            Self::OpenApi
            | Self::Health
            | Self::SandboxHealth
            | Self::Config
            | Self::List
            | Self::Exec
            | Self::ListKept
            | Self::ListSnapshots
            | Self::PatchSnapshot
            | Self::Sweep => false,
        }
    }
}

impl Route {
    /// For logs: the path without ids.
    pub(super) fn template(&self) -> &'static str {
        self.template
    }
}

/// The route of a request, or which methods its path takes. `HEAD` goes wherever `GET` does.
pub(super) fn find(method: &Method, path: &str) -> Result<Route, Vec<&'static str>> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut methods = Vec::new();
    for (verb, template, action) in ROUTES {
        let Some((id, snapshot)) = matches(template, path) else { continue };
        if verb == wanted.as_str() {
            return Ok(Route { action, template, id, snapshot });
        }
        methods.push(verb);
        methods.extend((verb == "GET").then_some("HEAD"));
    }
    Err(methods)
}

/// The same where the API's paths may begin with `base`, and whether this one does.
pub(super) fn find_below(
    base: &str,
    method: &Method,
    path: &str,
) -> (Result<Route, Vec<&'static str>>, bool) {
    let below = path.strip_prefix(base).filter(|it| !base.is_empty() && it.starts_with('/'));
    match below.map(|inner| find(method, inner)) {
        Some(Err(methods)) if methods.is_empty() => {}
        Some(found) => return (found, true),
        None => {}
    }
    (find(method, path), false)
}

fn matches(template: &str, path: &str) -> Option<(String, String)> {
    let (mut id, mut snapshot) = (String::new(), String::new());
    let mut actual = path.split('/');
    for wanted in template.split('/') {
        let segment = actual.next()?;
        match wanted {
            // What is cut is nothing's id.
            "{id}" if !segment.is_empty() => id = cut(segment).into_owned(),
            "{snapshot}" if !segment.is_empty() => snapshot = cut(segment).into_owned(),
            _ if wanted == segment => {}
            _ => return None,
        }
    }
    actual.next().is_none().then_some((id, snapshot))
}
