//! What leads the owner of a deployment through its set-up: the front page, the script that prepares PVE, and the script
//! that sets up the proxy on its host. Once all is set, the front page is that for people.
//!
//! While settings are missing or wrong the first two are answered without a key, and they hold names alone: no value of a
//! setting but the names of PVE's own things in the script. Nothing here asks PVE anything.

mod commands;
mod page;
mod script;

use http::{Request, Response, header};

pub(super) use self::script::script;

pub(super) use self::page::{Block, Page};
use super::{
    Service,
    action::Action,
    answer::{guarded, respond, with},
    native::caller_by_key,
    page as people,
    request::{Query, accepts},
    routes::Route,
};
use crate::error::Error;

/// Headers that an answer may depend on: which of its two forms is wanted, and where it was asked for.
const VARY: &str = "Accept, Host, X-Forwarded-Proto";

/// Answers what the set-up asks for; `None` when the route asks for something else.
pub(super) fn answer(
    service: &Service,
    platform: &str,
    route: &Result<Route, Vec<&'static str>>,
    request: &Request<Vec<u8>>,
    origin: Option<&str>,
) -> Result<Option<Response<Vec<u8>>>, Error> {
    match route.as_ref().map(|it| it.action) {
        Ok(Action::GetFrontPage) => {
            let answer = match service.settings() {
                Some(settings) if accepts(request.headers(), "text/html") => {
                    people::document(settings, origin)
                }
                Some(_) => ready(origin),
                None => unready(service, platform, origin).answer(request.headers()),
            };
            Ok(Some(with(answer, header::VARY, VARY)))
        }
        Ok(Action::GetSetupScript) => {
            if let Some(settings) = service.settings() {
                let caller = caller_by_key(settings, request.headers())?;
                caller.ensure_admin("the script makes the API token of the deployment")?;
            }
            Query::of(request).only(&[])?;
            let text = service.setup_script();
            let answer = respond(200, "text/x-shellscript", text.into_bytes());
            Ok(Some(with(answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff")))
        }
        Ok(Action::GetProxyScript) => match service.settings() {
            Some(settings) => {
                let caller = caller_by_key(settings, request.headers())?;
                caller.ensure_admin("the script holds the keys of the deployment's proxy")?;
                Query::of(request).only(&[])?;
                let answer = respond(200, "text/x-shellscript", service.proxy_script()?.into_bytes());
                let answer = with(answer, header::CACHE_CONTROL, "no-store");
                Ok(Some(with(answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff")))
            }
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// What a deployment that works tells a program: one line.
fn ready(origin: Option<&str>) -> Response<Vec<u8>> {
    let links = ["/openapi.json", "/api/health", "/api/health/sandbox"].map(|path| located(origin, path));
    let line = format!("pve-edge: {}\n", links.join(" "));
    guarded(respond(200, "text/plain; charset=utf-8", line.into_bytes()), "default-src 'none'")
}

/// The page of a deployment whose settings are missing or wrong.
fn unready(service: &Service, platform: &str, origin: Option<&str>) -> Page {
    let problems = service.misconfigured();
    let mut blocks = vec![
        Block::Says(
            "It is deployed, and answers everything else with 503 until its settings are right.".into(),
        ),
        Block::Heading("Missing or wrong"),
        Block::List(problems.iter().map(ToString::to_string).collect()),
    ];
    if !service.apart.is_on_morph {
        blocks.extend([
            Block::Heading("On a node of PVE, as root"),
            Block::Says("The script makes a user, its API token and the roles that both need. It prints what it will do, asks \
                 before it does that, may be run again, and prints the token's secret once.".into()),
            Block::Commands(commands::for_pve(&located(origin, "/api/setup/pve.sh"))),
        ]);
    }
    blocks.extend([
        Block::Heading(match platform {
            "workers" => "On Cloudflare Workers",
            "lambda" => "On AWS Lambda",
            _ => "On this machine",
        }),
        Block::Says("In a clone of pve-edge's repository:".into()),
        Block::Commands(commands::for_platform(platform, problems)),
        Block::Heading("Then"),
        Block::Says(
            "Load this page again. When nothing is wrong any more, health tells what PVE still lacks:".into(),
        ),
        Block::Commands(commands::for_health(&located(origin, "/api/health/sandbox"))),
    ]);
    Page { title: "pve-edge: set-up", blocks }
}

/// URL of a path of this API. A request that does not tell under which name it came is told where the name belongs.
pub(super) fn located(origin: Option<&str>, path: &str) -> String {
    format!("{}{path}", origin.unwrap_or("https://YOUR-DEPLOYMENT"))
}
