//! Terminals of the daemon: websockets, which the platform joins with the client's.

use http::{HeaderMap, HeaderName, Method, header};
use pve_edge_guest_protocol::{call::Operation, process::Terminal};
use time::OffsetDateTime;

use super::{CallFailure, Daemon, Outgoing};
use crate::io::{Answer, Io};

/// Headers of a request with a body.
const OF_BODY: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_LENGTH];

impl<I: Io> Daemon<'_, I> {
    /// Opens a terminal, on a websocket with the headers `opening`; the answer has status 101.
    pub async fn terminal(
        &mut self,
        terminal: Terminal,
        opening: &HeaderMap,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        let operation = Operation::Terminal(terminal);
        self.make(Outgoing { operation: &operation, body: &[], opening: Some(opening) }, deadline).await
    }
}

/// Makes the head of a call open a websocket, which is a `GET` (RFC 6455, 4.1).
pub(super) fn open_websocket(head: &mut http::Request<()>, opening: &HeaderMap) {
    *head.method_mut() = Method::GET;
    OF_BODY.iter().for_each(|name| drop(head.headers_mut().remove(name)));
    head.headers_mut().extend(opening.clone());
}
