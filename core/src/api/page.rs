//! The page for people: a document, its script and its style, which use the API as any client does.
//!
//! They are kept as they were written, and compressed by whoever compresses on the way.

use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::answer::{guarded, respond, with};
use crate::{
    sandbox::{address::probe_origin, file::condition::Condition},
    settings::Settings,
    text::html::escaped,
};

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One module, in the order in which its parts are to be read.
const SCRIPT: &str = concat!(
    include_str!("page/ask.js"),
    include_str!("page/draw.js"),
    include_str!("page/list.js"),
    include_str!("page/create.js"),
    include_str!("page/sandbox.js"),
    include_str!("page/command.js"),
    include_str!("page/health.js"),
    include_str!("page/start.js"),
);

/// The document. A browser loads for it what this origin has, runs nothing else, sends nothing elsewhere but the probe of
/// the way to sandboxes, shows it in no frame, and lets no page that it opens reach it.
pub(super) fn document(settings: &Settings, asked_at: Option<&str>) -> Response<Vec<u8>> {
    let probe =
        settings.public_domain.as_ref().map(|it| format!(" {}", probe_origin(it))).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{probe}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    // The path alone: a proxy need not tell under which scheme and name it is asked.
    let mount = asked_at.and_then(|it| it.splitn(4, '/').nth(3)).map(|it| format!("/{it}"));
    let mount = escaped(&mount.unwrap_or_default());
    let text = DOCUMENT.replace("=\"/page.", &format!("=\"{mount}/page."));
    let answer = guarded(respond(200, "text/html; charset=utf-8", text.into_bytes()), &policy);
    with(answer, HeaderName::from_static("cross-origin-opener-policy"), "same-origin")
}

/// The script.
pub(super) fn script(headers: &HeaderMap) -> Response<Vec<u8>> {
    part("text/javascript; charset=utf-8", SCRIPT, headers)
}

/// The style.
pub(super) fn style(headers: &HeaderMap) -> Response<Vec<u8>> {
    part("text/css; charset=utf-8", STYLE, headers)
}

/// A part, or that the one which a browser keeps is still the right one.
fn part(kind: &'static str, text: &'static str, headers: &HeaderMap) -> Response<Vec<u8>> {
    let etag = hex::encode(Sha256::digest(text));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok()).map(Condition::weak);
    let mut answer = match known.is_some_and(|it| it.has(&etag)) {
        true => {
            let mut answer = Response::new(Vec::new());
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        }
        false => respond(200, kind, text.as_bytes().to_vec()),
    };
    answer = with(answer, header::CACHE_CONTROL, "no-cache");
    answer = with(answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    with(answer, header::ETAG, &format!("\"{etag}\""))
}
