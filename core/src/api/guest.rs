//! The daemon for guests, as a deployment hands it out: the script that installs it, and its programs.

use futures_util::Stream;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, VARY},
};

use super::{
    action::Action,
    answer::{respond, with},
    request::Query,
    routes::Route,
};
use crate::{
    daemon::program::{Arch, Program, file, manifest, script, whole},
    error::{Code, Error, cut},
    io::{Io, NetError, ResponseBody},
    provider::Provider,
};

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
    let text = script(base, provider.settings(), &manifest, inside);
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
