//! One HTTP request: `GET /healthz`, a call, or cmux's `POST /exec`.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    CALL, HEALTH_PATH, SIGNATURE,
    answer::{Code, Refusal},
    call::{Body as Announced, Call, CallError, Digest256, Operation},
};
use tokio::time::timeout;

use super::{
    cmux::EXEC_PATH,
    operations::{Daemon, Given},
    terminal::open,
};
use crate::{
    answer::{Body, Reply, json, refuse},
    trust::NotObeyed,
};

/// How long the next bytes of a body may take, and a body wait for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers a request; `obeyed` is told as soon as it is known to be a call that is.
pub(super) async fn answer(
    daemon: Arc<Daemon>,
    request: Request<Incoming>,
    obeyed: impl FnOnce(),
) -> Response<Body> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match request.uri().path() {
        HEALTH_PATH if is_read => json(&daemon.health()),
        EXEC_PATH => daemon.cmux.answer(request, obeyed).await,
        _ => match take(&daemon, &request) {
            Ok(call) => {
                obeyed();
                let name = call.call.to_string();
                let reply = match call.operation {
                    Operation::Terminal(terminal) => open(daemon, terminal, request).await,
                    _ => execute(daemon, call, request.into_body()).await,
                };
                named(reply.unwrap_or_else(|refusal| refuse(&refusal)), &name)
            }
            Err(refusal) => {
                // Whoever has sent it learns that it is this one which was not executed.
                let name = one(request.headers(), CALL).and_then(Call::name_in);
                name.map_or_else(|| refuse(&refusal), |it| named(refuse(&refusal), &it.to_string()))
            }
        },
    };
    // Nothing between here and the edge may keep or compress it.
    let fresh = HeaderValue::from_static("no-store, no-transform");
    response.headers_mut().insert(header::CACHE_CONTROL, fresh);
    response
}

fn named(mut response: Response<Body>, call: &str) -> Response<Body> {
    if let Ok(name) = HeaderValue::try_from(call) {
        response.headers_mut().insert(CALL, name);
    }
    response
}

/// Takes the call that a request is.
fn take(daemon: &Daemon, request: &Request<Incoming>) -> Result<Call, Refusal> {
    let bad = |why: &str| Refusal::new(Code::BadCall, why);
    let operation = request.uri().path().strip_prefix("/v1/").filter(|operation| {
        let method = if *operation == Operation::TERMINAL { Method::GET } else { Method::POST };
        *request.method() == method
    });
    let operation = operation.ok_or_else(|| bad("a call is POST /v1/{op}, and of a terminal GET"))?;
    let headers = request.headers();
    if !headers.contains_key(CALL) && !headers.contains_key(SIGNATURE) {
        return Err(Refusal::new(Code::Unauthorized, "the call is not signed"));
    }
    let one = |name| one(headers, name).ok_or_else(|| bad("a call has each of its two headers once"));
    let taken = daemon.trust().take(operation, one(CALL)?, one(SIGNATURE)?);
    taken.map_err(|why| not_obeyed(daemon, why))
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn not_obeyed(daemon: &Daemon, why: NotObeyed) -> Refusal {
    match why {
        NotObeyed::Unproved(why @ CallError::Malformed(_)) => Refusal::new(Code::BadCall, why.to_string()),
        NotObeyed::Unproved(why) => Refusal::new(Code::Unauthorized, why.to_string()),
        NotObeyed::NotHere => Refusal::new(Code::NotHere, "this guest is another sandbox"),
        NotObeyed::OtherOperation => {
            Refusal::new(Code::BadCall, "the path asks for something else than the call")
        }
        NotObeyed::Seen => Refusal::new(Code::Seen, "the call was taken before"),
        NotObeyed::OtherSession => Refusal {
            session: Some(daemon.trust().session()),
            boot: Some(daemon.boot.now()),
            ..Refusal::new(Code::Session, "the session of the call is over")
        },
    }
}

/// Executes a call, to its end even if the connection breaks.
async fn execute(daemon: Arc<Daemon>, call: Call, body: Incoming) -> Reply {
    let Some(announced) = call.body else {
        return finish(async move { daemon.execute(call, Given::Streamed(body)).await }).await;
    };
    let kib = u32::try_from(announced.length.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let busy = || Refusal::new(Code::Busy, "the bodies of other calls take all the room");
    let room = timeout(PATIENCE, daemon.bodies.clone().acquire_many_owned(kib)).await.map_err(|_| busy())?;
    let room = room.map_err(|_| busy())?;
    let bytes = whole(body, announced).await?;
    let daemon = daemon.clone();
    let work = async move {
        // The body is in memory until it is done with, whoever has left meanwhile.
        let _room = room;
        daemon.execute(call, Given::Whole(bytes)).await
    };
    finish(work).await
}

async fn finish(work: impl Future<Output = Reply> + Send + 'static) -> Reply {
    let failed = |_| Err(Refusal::new(Code::Failed, "the daemon has failed"));
    tokio::spawn(work).await.unwrap_or_else(failed)
}

/// Reads a body, which must be the one that was signed.
async fn whole(mut body: Incoming, announced: Announced) -> Result<Bytes, Refusal> {
    let wrong = |why: &str| Refusal::new(Code::WrongBody, why);
    let length = usize::try_from(announced.length).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::with_capacity(length);
    loop {
        let frame = timeout(PATIENCE, body.frame()).await.map_err(|_| wrong("the body does not come"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| wrong("the body broke off"))?;
        if let Some(data) = frame.data_ref() {
            if data.len() > length - bytes.len() {
                return Err(wrong("the body is longer than the call says"));
            }
            bytes.extend_from_slice(data);
        }
    }
    if bytes.len() != length || Digest256::of(&bytes) != announced.sha256 {
        return Err(wrong("the body is not the one of the call"));
    }
    Ok(bytes.freeze())
}
