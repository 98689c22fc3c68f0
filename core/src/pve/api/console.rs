//! Calls about the console of a container, which PVE hands on as a websocket.

use http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL};
use serde::Deserialize;
use serde_json::Value;

use super::{Call, guest::Guest};
use crate::access::secret::Secret;

/// Answer to `POST …/termproxy`: where the console waits for its websocket, for 10 s.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Told")]
pub struct Terminal {
    /// Who has asked, as the first line of the websocket is to name him.
    pub user: String,
    /// Ticket, which is valid for this console and some 40 s.
    pub ticket: Secret,
    port: String,
}

#[derive(Deserialize)]
struct Told {
    user: String,
    ticket: String,
    port: Value,
}

impl From<Told> for Terminal {
    fn from(Told { user, ticket, port }: Told) -> Self {
        // PVE writes it as text, older versions as a number.
        let port = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
        Self { user, ticket: Secret::new(ticket), port }
    }
}

impl Guest<'_> {
    /// `POST /nodes/{node}/lxc/{vmid}/termproxy` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/termproxy))
    ///
    /// Needs `VM.Console`. All callers share one terminal (pve-container `API2/LXC.pm`: `dtach` with one socket for each
    /// container), which outlives them.
    pub fn termproxy(&self) -> Call<Terminal> {
        self.post("/nodes/{node}/{kind}/{vmid}/termproxy", &[&"termproxy"], &[])
    }

    /// `GET /nodes/{node}/lxc/{vmid}/vncwebsocket` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/vncwebsocket))
    ///
    /// Goes to the same host of the API as the call before: the port is that host's.
    pub fn websocket(&self, terminal: &Terminal) -> Request<()> {
        let query = [("port", &*terminal.port), ("vncticket", terminal.ticket.expose())];
        let call: Call<Value> =
            self.get("/nodes/{node}/{kind}/{vmid}/vncwebsocket", &[&"vncwebsocket"], &query);
        let mut request = call.request.map(|_| ());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("binary"));
        request
    }
}
