//! What is to be there at Cloudflare.

use serde_json::{Map, Value, json};

use super::found::TunnelId;

/// Content of a record that leads nowhere: a Worker's route alone answers for its name.
const ORIGINLESS: &str = "100::";

/// Names, ingress and record that a deployment is to have.
pub(super) struct Wanted {
    /// Name of the tunnel, and of the VPC service.
    pub(super) name: String,
    /// Comment that proves a record to be ours.
    pub(super) comment: String,
    /// Guests' domain.
    pub(super) domain: String,
    /// All names of guests.
    pub(super) host: String,
    /// Port of the proxy, on loopback of the host of PVE.
    pub(super) port: u16,
}

impl Wanted {
    pub(super) fn new(deployment: &str, domain: &str, port: u16) -> Self {
        Self {
            name: format!("pve-edge-{deployment}"),
            comment: format!("pve-edge {deployment}"),
            domain: domain.to_owned(),
            host: format!("*.{domain}"),
            port,
        }
    }

    /// URL of the proxy, as cloudflared beside it sees it.
    pub(super) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Rules of the ingress: all names of guests go to the proxy. The last rule has no host, as cloudflared demands.
    pub(super) fn ingress(&self) -> Value {
        json!([{"hostname": self.host, "service": self.origin()}, {"service": "http_status:404"}])
    }

    /// Configuration that has these rules, and else what it had.
    pub(super) fn config(&self, has: &Value) -> Value {
        let mut config = has.as_object().cloned().unwrap_or_else(Map::new);
        config.remove("originRequest");
        config.insert("ingress".into(), self.ingress());
        Value::Object(config)
    }

    /// Type and content of the record; the content is not known before there is a tunnel.
    pub(super) fn record(tunnel: Option<&TunnelId>, vpc: bool) -> (&'static str, Option<String>) {
        if vpc { ("AAAA", Some(ORIGINLESS.to_owned())) } else { ("CNAME", tunnel.map(TunnelId::host)) }
    }

    /// The record to make.
    pub(super) fn new_record(&self, tunnel: &TunnelId, vpc: bool) -> Value {
        let (kind, content) = Self::record(Some(tunnel), vpc);
        json!({
            "type": kind, "name": self.host, "content": content, "proxied": true, "ttl": 1, "comment": self.comment,
        })
    }

    /// The VPC service to make: the proxy, and nothing else of that host.
    pub(super) fn new_service(&self, tunnel: &TunnelId) -> Value {
        json!({
            "type": "http", "name": self.name, "http_port": self.port,
            "host": {"ipv4": "127.0.0.1", "network": {"tunnel_id": tunnel}},
        })
    }
}
