//! Terminals of the stand-in: they open, and nothing is said on them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use pve_edge_guest_protocol::{
    CALL, SIGNATURE,
    answer::{Code, Refusal},
    process::Terminal,
};

use super::Reply;
use crate::sim::{Sim, execd::Streamed};

/// What opens a websocket, and what signs a call: nothing else of a client is a guest's to know.
const KNOWN: [&str; 6] =
    [CALL, SIGNATURE, "connection", "upgrade", "sec-websocket-key", "sec-websocket-version"];

impl Sim {
    pub(super) fn open_terminal(
        &mut self,
        vmid: u32,
        terminal: Terminal,
        request: &Request<Vec<u8>>,
    ) -> Reply {
        let other = request.headers().keys().map(HeaderName::as_str).find(|name| !KNOWN.contains(name));
        let lacks = KNOWN.iter().find(|name| !request.headers().contains_key(**name));
        if request.method() != Method::GET || other.is_some() || lacks.is_some() {
            return Err(Refusal::new(Code::BadCall, format!("too much: {other:?}, missing: {lacks:?}")));
        }
        self.process(vmid, terminal.process)?;
        if let Some(ran) = self.process_mut(vmid) {
            ran.terminals.push(terminal);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("it is"));
        Ok(Streamed { status: 101, headers, pieces: Vec::new() })
    }
}
