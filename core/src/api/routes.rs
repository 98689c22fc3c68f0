//! The table of routes, and the operation behind each.

use http::Method;

use super::action::Action;
use crate::error::cut;

/// Rows of the table: method, template of the path, operation.
pub(super) const ROUTES: [(&str, &str, Action); 61] = [
    ("GET", "/", Action::GetFrontPage),
    ("GET", "/page.js", Action::GetPageScript),
    ("GET", "/page.css", Action::GetPageStyle),
    ("GET", "/openapi.json", Action::GetDescription),
    ("GET", "/guest/install.sh", Action::GetInstallScript),
    ("GET", "/guest/{version}/{arch}", Action::GetGuestProgram),
    ("GET", "/api/setup/pve.sh", Action::GetSetupScript),
    ("GET", "/api/setup/proxy.sh", Action::GetProxyScript),
    ("GET", "/api/health", Action::GetHealth),
    ("GET", "/api/health/sandbox", Action::GetSandboxHealth),
    ("GET", "/api/config/sandbox", Action::GetConfig),
    ("POST", "/api/sandboxes", Action::CreateSandbox),
    ("GET", "/api/sandboxes", Action::ListSandboxes),
    ("GET", "/api/sandboxes/{id}", Action::GetSandbox),
    ("PATCH", "/api/sandboxes/{id}", Action::PatchSandbox),
    ("DELETE", "/api/sandboxes/{id}", Action::DeleteSandbox),
    ("POST", "/api/sandboxes/{id}/extend", Action::ExtendSandbox),
    ("POST", "/api/sandboxes/{id}/exec", Action::ExecSandbox),
    ("GET", "/api/sandboxes/{id}/files", Action::GetFile),
    ("PUT", "/api/sandboxes/{id}/files", Action::PutFile),
    ("DELETE", "/api/sandboxes/{id}/files", Action::DeleteFile),
    ("GET", "/api/sandboxes/{id}/files/list", Action::ListFiles),
    ("POST", "/api/sandboxes/{id}/files/mkdir", Action::MakeFolder),
    ("POST", "/api/sandboxes/{id}/files/move", Action::MoveFile),
    ("GET", "/api/sandboxes/{id}/files/watch", Action::WatchFiles),
    ("POST", "/api/sandboxes/{id}/processes", Action::CreateProcess),
    ("GET", "/api/sandboxes/{id}/processes", Action::ListProcesses),
    ("GET", "/api/sandboxes/{id}/processes/{process}", Action::GetProcess),
    ("DELETE", "/api/sandboxes/{id}/processes/{process}", Action::DeleteProcess),
    ("GET", "/api/sandboxes/{id}/processes/{process}/output", Action::ReadOutput),
    ("POST", "/api/sandboxes/{id}/processes/{process}/stdin", Action::WriteStdin),
    ("POST", "/api/sandboxes/{id}/processes/{process}/signal", Action::SignalProcess),
    ("POST", "/api/sandboxes/{id}/processes/{process}/resize", Action::ResizeProcess),
    ("GET", "/api/sandboxes/{id}/terminal", Action::OpenTerminal),
    ("POST", "/api/sandboxes/{id}/terminal/link", Action::LinkTerminal),
    ("PUT", "/api/sandboxes/{id}/services/{name}", Action::PutService),
    ("GET", "/api/sandboxes/{id}/services/{name}", Action::GetService),
    ("DELETE", "/api/sandboxes/{id}/services/{name}", Action::DeleteService),
    ("POST", "/api/sandboxes/{id}/services/{name}/link", Action::LinkService),
    ("GET", "/api/sandboxes/{id}/metrics", Action::GetMetrics),
    ("POST", "/api/sandboxes/{id}/start", Action::StartSandbox),
    ("POST", "/api/sandboxes/{id}/stop", Action::StopSandbox),
    ("POST", "/api/sandboxes/{id}/reboot", Action::RebootSandbox),
    ("POST", "/api/sandboxes/{id}/pause", Action::PauseSandbox),
    ("POST", "/api/sandboxes/{id}/resume", Action::ResumeSandbox),
    ("POST", "/api/sandboxes/{id}/snapshots", Action::TakeSnapshot),
    ("GET", "/api/sandboxes/{id}/snapshots", Action::ListKeptSnapshots),
    ("DELETE", "/api/sandboxes/{id}/snapshots/{snapshot}", Action::DeleteKeptSnapshot),
    ("POST", "/api/sandboxes/{id}/rollback", Action::RollbackSandbox),
    ("GET", "/api/snapshots", Action::ListSnapshots),
    ("GET", "/api/snapshots/{id}", Action::GetSnapshot),
    ("PATCH", "/api/snapshots/{id}", Action::PatchSnapshot),
    ("DELETE", "/api/snapshots/{id}", Action::DeleteSnapshot),
    ("POST", "/api/templates", Action::BuildTemplate),
    ("GET", "/api/templates/{id}", Action::GetTemplate),
    ("PATCH", "/api/templates/{id}", Action::ConfirmTemplate),
    ("DELETE", "/api/templates/{id}", Action::DeleteTemplate),
    ("POST", "/api/tunnel", Action::MakeTunnel),
    ("GET", "/api/tunnel", Action::GetTunnel),
    ("DELETE", "/api/tunnel", Action::DeleteTunnel),
    ("POST", "/api/gc", Action::Sweep),
];

/// Route of a request: a row of the table, and the ids that the path names.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) action: Action,
    template: &'static str,
    pub(super) id: String,
    /// Second thing that the path names, such as a snapshot or a process of the sandbox.
    pub(super) part: String,
}

impl Route {
    /// Path without its ids, for logs.
    pub(super) fn template(&self) -> &'static str {
        self.template
    }

    /// Whether a link with a token in its query stands for a key.
    pub(super) fn opens_by_link(&self) -> bool {
        self.action == Action::OpenTerminal
    }
}

/// Finds the route of a request, or the methods that its path takes. `HEAD` goes wherever `GET` does.
pub(super) fn find_route(method: &Method, path: &str) -> Result<Route, Vec<&'static str>> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut methods = Vec::new();
    for (verb, template, action) in ROUTES {
        let Some((id, part)) = match_template(template, path) else { continue };
        if verb == wanted.as_str() {
            return Ok(Route { action, template, id, part });
        }
        methods.push(verb);
        methods.extend((verb == "GET").then_some("HEAD"));
    }
    Err(methods)
}

/// Finds the route of a request whose path may begin with `base`, and tells whether it does.
pub(super) fn find_route_below(
    base: &str,
    method: &Method,
    path: &str,
) -> (Result<Route, Vec<&'static str>>, bool) {
    let below = path.strip_prefix(base).filter(|it| !base.is_empty() && it.starts_with('/'));
    match below.map(|inner| find_route(method, inner)) {
        Some(Err(methods)) if methods.is_empty() => {}
        Some(found) => return (found, true),
        None => {}
    }
    (find_route(method, path), false)
}

/// The one or two things that a path names which has the form of a template.
fn match_template(template: &str, path: &str) -> Option<(String, String)> {
    let mut named = Vec::new();
    let mut actual = path.split('/');
    for wanted in template.split('/') {
        let segment = actual.next()?;
        if wanted.starts_with('{') && !segment.is_empty() {
            // No name is as long as a text that `cut` shortens.
            named.push(cut(segment).into_owned());
        } else if wanted != segment {
            return None;
        }
    }
    let mut named = named.into_iter();
    let two = (named.next().unwrap_or_default(), named.next().unwrap_or_default());
    actual.next().is_none().then_some(two)
}
