//! Websockets (RFC 6455): a client's that an upstream answers, and that the platform joins with the upstream's.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};

use super::{Answer, Platform, ResponseBody};
use crate::error::{Code, Error};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// The one version that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// Bytes that the reason of an end may have (RFC 6455, 5.5.1).
const REASON: usize = 123;

/// Takes from a client's request the headers that open its websocket, for a request of our own: the client's others stay
/// here. A platform without websockets refuses it with 501 (rule P9.5), and a request that asks for none is 426.
pub fn opening(headers: &HeaderMap, platform: &Platform) -> Result<HeaderMap, Error> {
    ensure_websockets(platform)?;
    if !is_asked(&Method::GET, headers) {
        let text = "this is a websocket: connect to it with wss:// or ws://";
        return Err(Error::new(Code::UpgradeRequired, text));
    }
    if one(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|it| it != VERSION) {
        return Err(Error::new(Code::UpgradeRequired, "Sec-WebSocket-Version must be 13"));
    }
    let is_key = |it: &&HeaderValue| STANDARD.decode(it).is_ok_and(|it| it.len() == 16);
    let key = one(headers, &SEC_WEBSOCKET_KEY).filter(is_key);
    let key = key.ok_or_else(|| Error::field("Sec-WebSocket-Key", "16 bytes as base64, once"))?;
    let mut opening = HeaderMap::new();
    ask(&mut opening, key.clone());
    Ok(opening)
}

/// Asks for a websocket, with this `Sec-WebSocket-Key`.
pub fn ask(headers: &mut HeaderMap, key: HeaderValue) {
    upgrade(headers);
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    headers.insert(SEC_WEBSOCKET_KEY, key);
}

/// The value of a header that is sent once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The answer that joins the client with the websocket of an upstream's answer, of whose headers it has what the client's
/// end checks.
pub fn joined<E, B>(answer: Answer<B>) -> Response<ResponseBody<E, B>> {
    let mut response = Response::new(ResponseBody::Upgraded(answer.body));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    upgrade(response.headers_mut());
    if let Some(accept) = answer.headers.get(SEC_WEBSOCKET_ACCEPT) {
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
    }
    response
}

/// The answer that opens a client's websocket and closes it at once, with a code and a reason that its page can read. It
/// agrees to the first protocol that the client offers: without one, browsers take the websocket for refused.
pub fn closed<E, B>(
    headers: &HeaderMap,
    platform: &Platform,
    (code, reason): (u16, &str),
) -> Result<Response<ResponseBody<E, B>>, Error> {
    opening(headers, platform)?;
    let end = reason.char_indices().map(|(at, it)| at + it.len_utf8()).take_while(|it| *it <= REASON).last();
    let reason = reason.get(..end.unwrap_or_default()).unwrap_or_default().to_owned();
    let mut response = Response::new(ResponseBody::Closed { code, reason });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    upgrade(response.headers_mut());
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|it| it.to_str().ok());
    let first = offered.and_then(|it| it.split(',').next()?.trim().parse::<HeaderValue>().ok());
    response.headers_mut().extend(first.map(|it| (SEC_WEBSOCKET_PROTOCOL, it)));
    Ok(response)
}

/// Refuses a websocket on a platform that cannot have one.
pub(crate) fn ensure_websockets(platform: &Platform) -> Result<(), Error> {
    if platform.upgrades {
        return Ok(());
    }
    let text = format!("a deployment on {} cannot open websockets", platform.name);
    Err(Error::new(Code::UpgradeUnsupported, text))
}

/// Whether a request opens a websocket (RFC 6455, 4.1).
pub(crate) fn is_asked(method: &Method, headers: &HeaderMap) -> bool {
    let wanted = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    method == Method::GET && headers.get_all(UPGRADE).iter().any(wanted)
}

/// Asks for a websocket of a platform that makes its own key, or agrees to one.
pub fn upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}
