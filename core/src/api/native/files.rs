//! Routes about files of a sandbox.

use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use pve_edge_guest_protocol::file::{At, Placing, Remove};

use crate::{
    api::{
        answer::{empty, plain, request_id, tagged, with},
        body::is_plain,
        request::ApiRequest,
    },
    error::{Code, Error},
    io::{Failure, Io, NetError, ResponseBody, collect},
    provider::Provider,
    pve::file::Files,
    sandbox::file::{
        Archive, Bytes, Content, Entry, MkdirBody, MoveBody, Reading, Writing,
        condition::{Condition, quoted},
        modified, parse_mode, parse_path, parse_user, range, watch,
    },
};

/// Levels that a listing may go down.
const DEEPEST: u32 = 64;
/// Files and folders that a listing may have, and has when nobody says.
const LONGEST_LIST: u64 = 10_000;
const USUAL_LIST: u64 = 1000;

type Answer<E, B> = Response<ResponseBody<E, B>>;

pub(super) async fn get<I: Io, E>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Answer<E, I::Body>, Error> {
    let at = at(asked)?;
    if let Some(format) = asked.query.get("pack") {
        let archive = Archive::parse("pack", format)?;
        let body = reached(provider, asked, files(provider, asked).await?.pack(at, archive).await).await?;
        return hand_on(provider, asked, bytes("application/x-tar"), None, body).await;
    }
    let headers = asked.request.headers();
    let reading = Reading {
        at,
        range: one(headers, &header::RANGE)
            .filter(|_| asked.request.method() == Method::GET)
            .and_then(range::parse),
        if_range: one(headers, &header::IF_RANGE).map(Condition::parse),
        if_match: condition(headers, &header::IF_MATCH),
        if_none_match: all(headers, &header::IF_NONE_MATCH).map(|it| Condition::weak(&it)),
        is_head: asked.request.method() == Method::HEAD,
    };
    let read = files(provider, asked).await?.read(reading).await;
    let Content { entry, part, body } = reached(provider, asked, read).await?;
    let mut head = bytes("application/octet-stream");
    head = with(head, header::ACCEPT_RANGES, "bytes");
    if let Some(etag) = quoted(&entry.etag) {
        head = with(head, header::ETAG, &etag);
    }
    if let Some(at) = modified(entry.modified_ns) {
        head = with(head, header::LAST_MODIFIED, &httpdate::fmt_http_date(at.into()));
    }
    let Some(body) = body else {
        *head.status_mut() = StatusCode::NOT_MODIFIED;
        head.headers_mut().remove(header::CONTENT_TYPE);
        return Ok(head.map(|()| ResponseBody::Whole(Vec::new())));
    };
    if let Some(part) = part {
        *head.status_mut() = StatusCode::PARTIAL_CONTENT;
        head = with(head, header::CONTENT_RANGE, &part.to_string());
    }
    hand_on(provider, asked, head, Some(part.map_or(entry.size, range::Part::length)), body).await
}

/// The head of an answer that has a sandbox's bytes: no browser takes them for a page of this origin.
fn bytes(kind: &'static str) -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    head
}

/// Hands bytes on: a daemon's body unread, or in one piece where answers do not stream.
async fn hand_on<I: Io, E>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
    mut head: Response<()>,
    length: Option<u64>,
    body: Bytes<I::Body>,
) -> Result<Answer<E, I::Body>, Error> {
    if let Some(length) = length {
        head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if asked.request.method() == Method::HEAD {
        return Ok(head.map(|()| ResponseBody::Whole(Vec::new())));
    }
    let most = if provider.platform.streams { usize::MAX } else { provider.platform.answer_bytes };
    let body = match body {
        Bytes::Streamed(body) if provider.platform.streams => {
            return Ok(head.map(|()| ResponseBody::Proxied(body)));
        }
        Bytes::Whole(bytes) if bytes.len() > most => return Err(too_long(most)),
        Bytes::Whole(bytes) => return Ok(head.map(|()| ResponseBody::Whole(bytes))),
        Bytes::Streamed(body) => body,
    };
    if length.is_some_and(|it| it > most as u64) {
        return Err(too_long(most));
    }
    let whole = collect(body, most).await.map_err(|error| match error.failure {
        Failure::TooLarge => too_long(most),
        _ => Error::new(Code::ExecCut, format!("{error}; the file was not read to its end")),
    })?;
    if length.is_some_and(|it| it != whole.len() as u64) {
        return Err(Error::new(Code::ExecCut, "the file was not read to its end"));
    }
    Ok(head.map(|()| ResponseBody::Whole(whole)))
}

fn too_long(most: usize) -> Error {
    let text = format!(
        "this Lambda answers in one piece of at most {most} bytes: ask for a Range, or set EDGE_LAMBDA_STREAM=1 and \
         the function URL's invoke mode RESPONSE_STREAM"
    );
    Error::new(Code::NotAcceptable, text).member("limit", most)
}

pub(super) async fn put<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
    body: I::Upload,
) -> Result<Response<Vec<u8>>, Error> {
    let (at, headers) = (at(asked)?, asked.request.headers());
    let mkdirs = asked.query.flag("mkdirs")?;
    let length = length(headers, provider.platform.request_bytes)?;
    if let Some(format) = asked.query.get("unpack") {
        let archive = Archive::parse("unpack", format)?;
        let wrong = [
            ("mode", asked.query.get("mode").is_some()),
            ("If-Match", headers.contains_key(header::IF_MATCH)),
            ("If-None-Match", headers.contains_key(header::IF_NONE_MATCH)),
        ];
        if let Some((field, _)) = wrong.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Error::field(field, "cannot be given with unpack"));
        }
        let unpacked = files(provider, asked).await?.unpack(at, mkdirs, archive, (length, body)).await;
        return Ok(plain(200, &reached(provider, asked, unpacked).await?));
    }
    let placing = Placing {
        mode: asked.query.get("mode").map(parse_mode).transpose()?,
        if_match: one_etag(headers)?,
        if_none: is_to_be_new(headers)?,
    };
    if at.path.ends_with('/') {
        return Err(Error::field("path", "ends with a name: a folder is made by mkdir"));
    }
    let writing = Writing { at, mkdirs, placing };
    let status = if writing.placing.if_none { 201 } else { 200 };
    let written = files(provider, asked).await?.write(writing, length, body).await;
    Ok(shown(status, &reached(provider, asked, written).await?))
}

/// The length of a body that is to be stored as it comes; `most` is the largest that can come.
fn length(headers: &HeaderMap, most: Option<u64>) -> Result<Option<u64>, Error> {
    if !is_plain(headers) {
        let text = "send the file as it is, without Content-Encoding";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    // A part would be taken for the whole (RFC 9110, 14.5).
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Error::field("Content-Range", "a file is written as a whole"));
    }
    let length = one(headers, &header::CONTENT_LENGTH).and_then(|it| it.parse().ok());
    match (length, most) {
        (Some(length), Some(most)) if length > most => {
            let text = format!(
                "the body has {length} bytes, and a Lambda takes {most}: send larger files through a Worker or the \
                 local server"
            );
            Err(Error::new(Code::TooLarge, text).member("limit", most))
        }
        (length, _) => Ok(length),
    }
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (At { path, user }, recursive) = (at(asked)?, asked.query.flag("recursive")?);
    let remove = Remove { path, user, recursive, if_match: one_etag(asked.request.headers())? };
    let removed = files(provider, asked).await?.remove(remove).await;
    reached(provider, asked, removed).await?;
    Ok(empty())
}

pub(super) async fn list<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let at = at(asked)?;
    let depth = number(asked, "depth", 0, u64::from(DEEPEST), 1)?;
    let limit = number(asked, "limit", 1, LONGEST_LIST, USUAL_LIST)?;
    let depth = u32::try_from(depth).unwrap_or(DEEPEST);
    let listed = files(provider, asked).await?.list(at, depth, limit).await;
    Ok(plain(200, &reached(provider, asked, listed).await?))
}

pub(super) async fn mkdir<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let mkdir = asked.json::<MkdirBody>()?.parse()?;
    let made = files(provider, asked).await?.mkdir(mkdir).await;
    Ok(plain(200, &reached(provider, asked, made).await?))
}

pub(super) async fn rename<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let body = asked.json::<MoveBody>()?.parse()?;
    let renamed = files(provider, asked).await?.rename(body).await;
    Ok(plain(200, &reached(provider, asked, renamed).await?))
}

/// Changes of a folder as server-sent events, where the platform can stream them.
pub(super) async fn watch<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, Error> {
    let (at, recursive) = (at(asked)?, asked.query.flag("recursive")?);
    if !provider.platform.streams {
        let text = "this Lambda answers in one piece: set EDGE_LAMBDA_STREAM=1 and the function URL's invoke mode \
                    RESPONSE_STREAM";
        return Err(Error::new(Code::NotAcceptable, text));
    }
    let watched = files(provider, asked).await?.watch(&at, recursive).await;
    let body = reached(provider, asked, watched).await?;
    Ok(watch::events(body, provider.io.clone(), request_id(&provider.seed)))
}

/// The way to the files of the sandbox that the path names.
async fn files<'p, I: Io>(
    provider: &'p Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Files<'p, I>, Error> {
    provider.files(asked.caller, asked.id()).await
}

/// What came of a call; the state of the sandbox is told where the daemon was not reached because of that.
async fn reached<I: Io, T>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
    result: Result<T, Error>,
) -> Result<T, Error> {
    match result {
        Err(error) if error.code() == Code::ExecUnreachable => {
            Err(provider.unreached(asked.caller, asked.id(), error).await)
        }
        result => result,
    }
}

fn shown(status: u16, entry: &Entry) -> Response<Vec<u8>> {
    tagged(plain(status, entry), entry.etag.as_deref())
}

/// Path and user of the query.
fn at(asked: &ApiRequest<'_>) -> Result<At, Error> {
    // The query's own decoding puts U+FFFD in place of what is no text: that would be another file.
    let query = asked.request.uri().query().unwrap_or_default();
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err(Error::field("path", "must be UTF-8"));
    }
    let path = asked.query.get("path").ok_or_else(|| Error::field("path", "is needed"))?;
    let user = asked.query.get("user").map(str::to_owned);
    Ok(At { path: parse_path("path", path.to_owned())?, user: parse_user(user)? })
}

fn number(asked: &ApiRequest<'_>, name: &str, least: u64, most: u64, usual: u64) -> Result<u64, Error> {
    let Some(text) = asked.query.get(name) else { return Ok(usual) };
    let number = text.parse().ok().filter(|it| (least..=most).contains(it));
    number.ok_or_else(|| Error::field(name, format!("{least} to {most}")))
}

/// The value of a header that is given once.
fn one<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// A condition; one that is no text is still one.
fn condition(headers: &HeaderMap, name: &header::HeaderName) -> Option<Condition> {
    all(headers, name).map(|it| Condition::parse(&it))
}

/// All values of a header, as one.
fn all(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(name).iter().map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The ETag that a file must have to be replaced or removed, or `*`.
fn one_etag(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(condition) = condition(headers, &header::IF_MATCH) else { return Ok(None) };
    match (condition.single(), &condition) {
        (Some(etag), _) => Ok(Some(etag.to_owned())),
        (None, Condition::Tags(tags)) if tags.is_empty() => {
            Err(Error::new(Code::PreconditionFailed, "If-Match names no ETag that a file can have"))
        }
        _ => Err(Error::field("If-Match", "one ETag, or *")),
    }
}

/// Whether no file may be there yet.
fn is_to_be_new(headers: &HeaderMap) -> Result<bool, Error> {
    match condition(headers, &header::IF_NONE_MATCH) {
        None => Ok(false),
        Some(Condition::Any) => Ok(true),
        Some(_) => Err(Error::field("If-None-Match", "only * is taken here")),
    }
}
