//! The daemon for guests, as a deployment hands it out: the script that installs it, and its programs.
//!
//! Programs and their manifest are files that are deployed with the adapter ([`Way::Assets`]); the script is made here.
//! Everything of it is public: who has it can neither sign nor read anything.

mod manifest;
mod script;

use futures_util::Stream;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, VARY},
};

use self::manifest::{Arch, Manifest, Program};
use super::{
    action::Action,
    answer::{respond, with},
    request::Query,
    routes::Route,
};
use crate::{
    error::{Code, Error, cut},
    io::{Answer, Io, NetError, RequestBody, ResponseBody, Sent, Way, collect},
    provider::Provider,
};

/// Bytes up to which a file is read.
const LARGEST: usize = 8 << 20;

/// Answers what is asked of the daemon; `None` when the route asks nothing of it.
pub(super) async fn answer<I: Io, E: Stream<Item = Result<Vec<u8>, NetError>>>(
    provider: &Provider<'_, I>,
    route: &Route,
    request: &Request<Vec<u8>>,
) -> Result<Option<Response<ResponseBody<E, I::Body>>>, Error> {
    if !matches!(route.action, Action::GetInstallScript | Action::GetGuestProgram) {
        return Ok(None);
    }
    let query = Query::of(request);
    query.only(route.action.parameters())?;
    Ok(Some(match route.action {
        Action::GetInstallScript => install(provider, &query).await?.map(ResponseBody::Whole),
        _ => program(provider, route, request).await?,
    }))
}

/// The script, which fetches the program for the guest that it runs in; with `?arch=`, that program is in it.
async fn install<I: Io>(provider: &Provider<'_, I>, query: &Query) -> Result<Response<Vec<u8>>, Error> {
    let arch = query.get("arch").map(|it| it.parse().map_err(|fix| Error::field("arch", fix))).transpose()?;
    let manifest = manifest(provider).await?;
    let base = provider.asked_at.as_deref();
    let base = base.ok_or_else(|| Error::field("Host", "the name under which this API is asked"))?;
    let inside = match arch {
        Some(arch) => Some((arch, whole(provider, &manifest, arch).await?)),
        None => None,
    };
    let settings = provider.settings();
    let deployment = settings.deployment.as_str();
    let keys = settings.secrets.all().map(|secret| secret.guest_key(deployment).line(deployment));
    let text = script::script(base, deployment, keys, &manifest, inside);
    let answer = respond(200, "text/x-shellscript", text.into_bytes());
    let answer = with(answer, CACHE_CONTROL, "public, max-age=60");
    // It names the origin under which it was asked for.
    Ok(with(answer, VARY, "Host, X-Forwarded-Proto"))
}

/// One program. Its URL never means other bytes.
async fn program<I: Io, E>(
    provider: &Provider<'_, I>,
    route: &Route,
    request: &Request<Vec<u8>>,
) -> Result<Response<ResponseBody<E, I::Body>>, Error> {
    let manifest = manifest(provider).await?;
    let arch = route.part.parse::<Arch>().ok().filter(|_| route.id == manifest.version);
    let arch = arch.ok_or_else(|| {
        let (asked, version) = (cut(&route.id), &manifest.version);
        let text = format!("{asked} has no such program: there are x86_64 and aarch64 of {version}");
        Error::new(Code::UnknownPath, text)
    })?;
    let body = match *request.method() {
        Method::HEAD => ResponseBody::Whole(Vec::new()),
        _ => ResponseBody::Proxied(file(provider, &manifest.path(arch)).await?.body),
    };
    let Program { sha256, bytes } = manifest.program(arch);
    let mut answer = respond(200, "application/octet-stream", Vec::new()).map(|_| body);
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(*bytes));
    let answer = with(answer, ETAG, &format!("\"{sha256}\""));
    Ok(with(answer, CACHE_CONTROL, "public, max-age=31536000, immutable"))
}

async fn manifest<I: Io>(provider: &Provider<'_, I>) -> Result<Manifest, Error> {
    let file = file(provider, manifest::PATH).await?;
    let bytes = collect(file.body, LARGEST).await.map_err(unread)?;
    Manifest::parse(&bytes).map_err(|why| Error::new(Code::Internal, why))
}

/// All bytes of a program, which are those that the manifest names.
async fn whole<I: Io>(provider: &Provider<'_, I>, manifest: &Manifest, arch: Arch) -> Result<Vec<u8>, Error> {
    let file = file(provider, &manifest.path(arch)).await?;
    let bytes = collect(file.body, LARGEST).await.map_err(unread)?;
    let is_it = manifest.program(arch).is(&bytes);
    is_it.then_some(bytes).ok_or_else(|| {
        Error::new(Code::Internal, "the program is another than the manifest's: build and deploy again")
    })
}

/// A file that was deployed with the adapter.
async fn file<I: Io>(provider: &Provider<'_, I>, path: &str) -> Result<Answer<I::Body>, Error> {
    let request = Request::get(format!("http://assets{path}")).extension(Way::Assets);
    let request = request.body(RequestBody::Whole(Vec::new()));
    let request = request.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    if !provider.spend(1) {
        return Err(Error::new(Code::BudgetExhausted, "the platform allows no more requests"));
    }
    match provider.io.open(request, provider.end()).await {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(Answer { status: 404, .. }) | Err(NetError { sent: Sent::Never, .. }) => Err(absent()),
        Ok(answer) => Err(Error::new(Code::Internal, format!("{path} is answered with {}", answer.status))),
        Err(error) => Err(unread(error)),
    }
}

fn absent() -> Error {
    let text = "this deployment was built without the daemon for guests: run guest/build, then build and deploy the \
        adapter again, as its README says";
    Error::new(Code::UnknownPath, text)
}

fn unread(error: NetError) -> Error {
    Error::new(Code::Internal, format!("a file of the deployment cannot be read: {error}"))
}
