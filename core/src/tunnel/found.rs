//! Things of Cloudflare's, as its API shows them: what of them is used here.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Id of a tunnel, which is part of a host name too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TunnelId(String);

impl TunnelId {
    /// Host that leads into the tunnel.
    pub(super) fn host(&self) -> String {
        format!("{}.cfargotunnel.com", self.0)
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TunnelId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_id = text.len() == 36 && text.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
        if is_id { Ok(Self(text)) } else { Err("must be a tunnel's id") }
    }
}

/// Zone, as the API shows it.
#[derive(Deserialize)]
pub(super) struct Zone {
    pub(super) name: String,
    #[serde(default)]
    pub(super) account: Owner,
}

/// Account of a zone.
#[derive(Default, Deserialize)]
pub(super) struct Owner {
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// Tunnel, as the API shows it.
#[derive(Clone, Deserialize)]
pub(super) struct Found {
    pub(super) id: TunnelId,
    pub(super) name: String,
    #[serde(default)]
    pub(super) config_src: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) deleted_at: Option<String>,
}

/// Configuration of a tunnel, as the API shows it.
#[derive(Deserialize)]
pub(super) struct Configured {
    #[serde(default)]
    pub(super) config: Value,
}

/// Record, as the API shows it.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) content: Option<String>,
    #[serde(default)]
    pub(super) proxied: Option<bool>,
    #[serde(default)]
    pub(super) comment: Option<String>,
}

/// Records that a batch has made, as the API shows them.
#[derive(Deserialize)]
pub(super) struct Replaced {
    #[serde(default)]
    pub(super) posts: Option<Vec<Record>>,
}

/// VPC service, as the API shows it.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Service {
    #[serde(rename = "service_id")]
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) http_port: Option<u16>,
    #[serde(default)]
    pub(super) host: Value,
}

/// Cloudflared that is connected to a tunnel, as the API shows it.
#[derive(Deserialize)]
pub(super) struct Connected {
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) config_version: Option<i64>,
    #[serde(default)]
    pub(super) conns: Option<Vec<Opened>>,
}

/// Connection of a cloudflared, as the API shows it.
#[derive(Deserialize)]
pub(super) struct Opened {
    #[serde(default)]
    pub(super) colo_name: Option<String>,
    #[serde(default)]
    pub(super) opened_at: Option<String>,
}
