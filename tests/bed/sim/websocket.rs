//! How `…/vncwebsocket` becomes a websocket [pve-http-server `AnyEvent.pm` handle_api2_request].

use std::io;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::server::{Shared, lock};
use crate::console;

/// Whether a request wants to be one.
pub(super) fn is_wanted(request: &Request<Vec<u8>>) -> bool {
    request.method() == Method::GET && request.uri().path().ends_with("websocket")
}

/// The headers of the answer, or what pveproxy misses.
pub(super) fn shaken(headers: &HeaderMap) -> Result<HeaderMap, String> {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("");
    let upgrade = text(header::UPGRADE).to_lowercase();
    if upgrade != "websocket" {
        return Err(format!("unable to upgrade to protocol '{upgrade}'"));
    }
    let version = text(header::SEC_WEBSOCKET_VERSION);
    if version != "13" {
        return Err(format!("unsupported websocket-version '{version}'"));
    }
    let key = text(header::SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err("missing websocket-key".into());
    }
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|it| it.to_string())?;
    let mut answer = HeaderMap::new();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if text(header::SEC_WEBSOCKET_PROTOCOL).split([',', ' ']).any(|it| it == "binary") {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("binary"));
    }
    Ok(answer)
}

/// Joins the connection to the worker at its port. Where nobody is, the connection ends without an answer.
pub(super) fn join(sim: &Shared, request: &Request<Vec<u8>>, upgrade: OnUpgrade) -> io::Result<()> {
    let query = request.uri().query().unwrap_or("").as_bytes();
    let ticket = form_urlencoded::parse(query).find(|(name, _)| name == "vncticket");
    let visit = ticket.and_then(|(_, ticket)| lock(sim).visit(&ticket));
    let (upid, visit) = visit.ok_or(io::ErrorKind::ConnectionRefused)?;
    let sim = sim.clone();
    tokio::spawn(async move {
        let was_let_in = match upgrade.await {
            Ok(stream) => console::serve(TokioIo::new(stream), visit).await,
            Err(_) => false,
        };
        lock(&sim).leave(&upid, was_let_in);
    });
    Ok(())
}
