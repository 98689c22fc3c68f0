//! Terminals of sandboxes, for people: what one asks for, and the link that opens one in a browser.

use std::num::NonZeroU16;

use pve_edge_guest_protocol::process::Size;
use serde::Serialize;

use super::process::{After, ProcessBody, ProcessId, ProcessRequest};
use crate::error::Error;

/// Terminal that is asked for.
#[derive(Clone, Debug)]
pub enum TerminalRequest {
    /// The terminal of a process, with its output from some place on. The process goes on when the client leaves.
    Process(ProcessId, After),
    /// The terminal of a new shell, which ends when the client leaves.
    Shell(ProcessRequest),
}

/// Size of a shell's terminal that nobody says.
const USUAL: Size = Size { cols: 80, rows: 24 };

/// Shell of the user, as a login gives it.
const LOGIN: &str = r#"exec "${SHELL:-/bin/sh}" -l"#;

impl TerminalRequest {
    /// A shell of `user`, who is root when nobody says.
    pub fn shell(
        cols: Option<NonZeroU16>,
        rows: Option<NonZeroU16>,
        user: Option<String>,
    ) -> Result<Self, Error> {
        let size = Size {
            cols: cols.map_or(USUAL.cols, NonZeroU16::get),
            rows: rows.map_or(USUAL.rows, NonZeroU16::get),
        };
        let body = ProcessBody::of_terminal(LOGIN.to_owned(), size, user);
        ProcessRequest::parse(body).map(Self::Shell)
    }
}

/// Link that opens a terminal of a sandbox once or more, while it is valid.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TerminalLink {
    /// URL of the websocket, with a token in its query; parameters can be added behind it.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "uri")))]
    pub url: String,
    /// When it ceases to open new terminals; those that are open stay.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub expires_at: String,
}
