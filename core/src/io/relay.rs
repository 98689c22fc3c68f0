//! A client's request that is sent on to an upstream, and the upstream's answer that is handed back.

use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode,
    header::{
        CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use time::OffsetDateTime;

use super::{
    Answer, Failure, Io, NetError, Platform, Sent, collect,
    websocket::{ensure_websockets, is_asked, upgrade},
};
use crate::error::Error;

/// Body of a request that goes out.
#[derive(Debug)]
pub enum RequestBody<U> {
    /// Bytes that core made.
    Whole(Vec<u8>),
    /// A client's body, which the adapter sends on as it comes.
    Streamed(U),
}

/// Body of an answer to a client.
#[derive(Debug)]
pub enum ResponseBody<E, B> {
    /// Bytes that core made.
    Whole(Vec<u8>),
    /// Server-sent events that core makes while they are sent; an error cuts the answer.
    Events(E),
    /// Body of an upstream's answer. The adapter hands it on untouched, and cuts the answer where the
    /// upstream's is cut (rule P9.3).
    Proxied(B),
    /// Websocket that the upstream has opened. The platform joins it with the client's connection, and
    /// nobody reads its messages.
    Upgraded(B),
    /// Websocket that the platform opens and closes at once: of a refusal the client's page would learn nothing.
    Closed {
        /// Why, in a number from 4000 on (RFC 6455, 7.4.2).
        code: u16,
        /// Why, in 123 bytes at most.
        reason: String,
    },
}

/// A client's request that may be sent on to an upstream: it has no header left that concerns the client's
/// own connection, and asks for a websocket only where the platform can hand one on.
#[derive(Debug)]
pub struct Relay<U> {
    /// The request; whoever sends it on gives it the upstream's URI and a [`super::Way`].
    pub request: Request<RequestBody<U>>,
    /// Whether the client asks for a websocket.
    upgrades: bool,
    /// The largest answer, where answers do not stream.
    most: Option<usize>,
}

/// Headers that concern one connection (RFC 9110, 7.6.1), besides those that `Connection` names (rule P9.4).
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl<U> Relay<U> {
    /// Prepares a client's request. On a platform without websockets, a request for one is refused with 501
    /// (rule P9.5).
    pub fn new(mut request: Request<RequestBody<U>>, platform: &Platform) -> Result<Self, Error> {
        let upgrades = is_asked(request.method(), request.headers());
        if upgrades {
            ensure_websockets(platform)?;
        }
        let headers = request.headers_mut();
        remove_those_of_connection(headers);
        // The upstream's is in its URI, and `100 Continue` is the client's server's to say.
        headers.remove(HOST);
        headers.remove(EXPECT);
        if upgrades {
            upgrade(headers);
        }
        Ok(Self { request, upgrades, most: (!platform.streams).then_some(platform.answer_bytes) })
    }

    /// Sends it, and returns the upstream's answer when its headers are in. Where answers do not stream, its
    /// body is read first; one larger than [`Platform::answer_bytes`] is [`Failure::TooLarge`].
    pub async fn send<I, E>(
        self,
        io: &I,
        deadline: OffsetDateTime,
    ) -> Result<Response<ResponseBody<E, I::Body>>, NetError>
    where
        I: Io<Upload = U>,
    {
        let Answer { status, mut headers, body, .. } = io.open(self.request, deadline).await?;
        let status = StatusCode::from_u16(status).map_err(|_| no_answer(status))?;
        remove_those_of_connection(&mut headers);
        let body = match self.most {
            _ if status == StatusCode::SWITCHING_PROTOCOLS && self.upgrades => {
                upgrade(&mut headers);
                ResponseBody::Upgraded(body)
            }
            _ if status.is_informational() => return Err(no_answer(status.as_u16())),
            None => ResponseBody::Proxied(body),
            Some(most) => ResponseBody::Whole(collect(body, most).await?),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn remove_those_of_connection(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter().filter_map(|it| it.to_str().ok());
    let named: Vec<HeaderName> =
        values.flat_map(|it| it.split(',')).filter_map(|it| it.trim().parse().ok()).collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

/// A status that is no end of a request, or none of HTTP.
fn no_answer(status: u16) -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Cut, detail: format!("status {status} is no answer") }
}
