//! Tunnels: their names, configurations and connections.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ACCOUNT, Cloudflare, TUNNEL_SECRET, Tunnel,
    api::{Call, End, Handled, refused},
};

impl Cloudflare {
    pub(super) fn cfd_tunnel(&mut self, call: &Call<'_>, path: &[&str]) -> Handled {
        if let [id, ..] = path
            && self.tunnels.iter().all(|it| it.id != *id || it.deleted.is_some())
        {
            return Err(refused(404, 1003, "Tunnel not found"));
        }
        match (call.method, path) {
            ("GET", []) => {
                call.only(&["name", "is_deleted", "page", "per_page"], &[])?;
                Ok(End::Rows(self.found(call)))
            }
            ("POST", []) => self.create(call),
            ("DELETE", [id]) => self.delete(id),
            ("GET", [id]) => Ok(End::One(self.shown(id))),
            ("GET", [id, "token"]) => Ok(End::One(json!(token(id)))),
            ("GET", [id, "configurations"]) => Ok(End::One(self.configuration(id))),
            ("PUT", [id, "configurations"]) => self.configure(call, id),
            ("GET", [id, "connections"]) => Ok(End::Rows(self.clients(id))),
            ("DELETE", [id, "connections"]) => {
                self.of(id)?.connections.clear();
                Ok(End::One(Value::Null))
            }
            _ => Err(refused(405, 10405, "Method not allowed")),
        }
    }

    fn of(&mut self, id: &str) -> Result<&mut Tunnel, End> {
        self.tunnels.iter_mut().find(|it| it.id == id).ok_or_else(|| refused(404, 1003, "Tunnel not found"))
    }

    /// By name; without `is_deleted` those that were deleted come too, the oldest first.
    fn found(&self, call: &Call<'_>) -> Vec<Value> {
        let deleted = call.parameter("is_deleted").map(|it| it == "true");
        let named = |it: &&Tunnel| call.parameter("name").is_none_or(|name| it.name == name);
        let wanted = |it: &&Tunnel| deleted.is_none_or(|deleted| it.deleted.is_some() == deleted);
        self.tunnels.iter().filter(named).filter(wanted).map(|it| self.shown(&it.id)).collect()
    }

    fn create(&mut self, call: &Call<'_>) -> Handled {
        call.only(&[], &["name", "config_src", "tunnel_secret"])?;
        let name = call.text("name")?.to_owned();
        let config_src = match call.body["config_src"].as_str().unwrap_or("local") {
            "cloudflare" => "cloudflare",
            "local" => "local",
            _ => return Err(refused(400, 1001, "config_src")),
        };
        if self.living().iter().any(|it| it.name == name) {
            return Err(refused(409, 1013, "You already have a tunnel with this name"));
        }
        let id = self.add_tunnel(&name, config_src);
        let mut shown = self.shown(&id);
        shown["token"] = json!(token(&id));
        shown["credentials_file"] =
            json!({"AccountTag": ACCOUNT, "TunnelID": id, "TunnelName": name, "TunnelSecret": TUNNEL_SECRET});
        Ok(End::One(shown))
    }

    fn delete(&mut self, id: &str) -> Handled {
        let now = self.now;
        let tunnel = self.of(id)?;
        if !tunnel.connections.is_empty() {
            return Err(refused(400, 1022, "Cannot delete tunnel because it has active connections"));
        }
        tunnel.deleted = Some(now);
        Ok(End::One(self.shown(id)))
    }

    fn configure(&mut self, call: &Call<'_>, id: &str) -> Handled {
        call.only(&[], &["config"])?;
        let rules = call.body["config"]["ingress"].as_array().filter(|it| !it.is_empty());
        let rules = rules.ok_or_else(|| refused(400, 1056, "Bad Configuration: no ingress rules"))?;
        let catches_all = |it: &Value| it.get("hostname").is_none() && it.get("path").is_none();
        let (last, others) = rules.split_last().expect("there is one");
        if !catches_all(last) {
            return Err(refused(400, 1056, "Bad Configuration: The last ingress rule must match all URLs"));
        }
        if others.iter().any(catches_all) {
            return Err(refused(
                400,
                1056,
                "Bad Configuration: a rule that is not the last matches all URLs",
            ));
        }
        let mut config = call.body["config"].clone();
        // What nobody has said is shown all the same.
        for rule in config["ingress"].as_array_mut().into_iter().flatten() {
            if rule.get("hostname").is_some() && rule.get("originRequest").is_none() {
                rule["originRequest"] = json!({});
            }
        }
        if config.get("warp-routing").is_none() {
            config["warp-routing"] = json!({"enabled": false});
        }
        let tunnel = self.of(id)?;
        if tunnel.config_src == "local" {
            return Err(refused(400, 1056, "the tunnel is configured locally"));
        }
        (tunnel.config, tunnel.version) = (config, tunnel.version + 1);
        Ok(End::One(self.configuration(id)))
    }

    fn configuration(&self, id: &str) -> Value {
        let Some(it) = self.tunnels.iter().find(|it| it.id == id) else { return Value::Null };
        let mut shown = json!({
            "account_id": ACCOUNT, "tunnel_id": it.id, "version": it.version, "source": it.config_src,
            "created_at": stamp(it.created),
        });
        shown["config"] = it.config.clone();
        shown
    }

    fn clients(&self, id: &str) -> Vec<Value> {
        let Some(it) = self.tunnels.iter().find(|it| it.id == id) else { return Vec::new() };
        let connection = |(at, opened): (usize, &OffsetDateTime)| {
            json!({
                "id": format!("{at:08x}{}", &id[8..]), "uuid": format!("{at:08x}{}", &id[8..]),
                "client_id": id, "client_version": "2026.11.1", "colo_name": format!("fra{at:02}"),
                "is_pending_reconnect": false, "opened_at": stamp(*opened), "origin_ip": "192.0.2.1",
            })
        };
        let connections: Vec<Value> = it.connections.iter().enumerate().map(connection).collect();
        let Some(first) = it.connections.first() else { return Vec::new() };
        vec![json!({
            "id": id, "arch": "linux_amd64", "config_version": it.version, "conns": connections,
            "features": ["ha-origin"], "run_at": stamp(*first), "version": "2026.11.1",
        })]
    }

    fn shown(&self, id: &str) -> Value {
        let Some(it) = self.tunnels.iter().find(|it| it.id == id) else { return Value::Null };
        let status = match it.connections.len() {
            0 if it.version == 0 => "inactive",
            0 => "down",
            4.. => "healthy",
            _ => "degraded",
        };
        let mut shown = json!({
            "id": it.id, "account_tag": ACCOUNT, "created_at": stamp(it.created), "name": it.name,
            "connections": [], "tun_type": "cfd_tunnel", "status": status, "metadata": {},
            "config_src": it.config_src, "remote_config": it.config_src == "cloudflare",
        });
        if let Some(at) = it.deleted {
            shown["deleted_at"] = json!(stamp(at));
        }
        shown
    }
}

/// The token by which cloudflared connects.
fn token(id: &str) -> String {
    format!("{TUNNEL_SECRET}-of-{id}")
}

pub(super) fn stamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("a moment")
}
