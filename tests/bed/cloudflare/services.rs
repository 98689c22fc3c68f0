//! VPC services of the account.

use serde_json::{Value, json};

use super::{
    Cloudflare,
    api::{Call, End, Handled, refused},
    tunnels::stamp,
};

const MEMBERS: [&str; 5] = ["type", "name", "http_port", "https_port", "host"];

impl Cloudflare {
    pub(super) fn directory(&mut self, call: &Call<'_>, path: &[&str]) -> Handled {
        match (call.method, path) {
            ("GET", []) => {
                call.only(&["type", "page", "per_page"], &[])?;
                Ok(End::Rows(self.services.clone()))
            }
            ("POST", []) => {
                self.right(call)?;
                let taken = self.services.iter().any(|it| it["name"] == call.body["name"]);
                if taken {
                    return Err(refused(409, 5101, "a service of that name exists"));
                }
                let id = self.uuid();
                let mut service = call.body.clone();
                service["service_id"] = json!(id);
                service["created_at"] = json!(stamp(self.now));
                service["updated_at"] = json!(stamp(self.now));
                self.services.push(service.clone());
                Ok(End::One(service))
            }
            ("PUT", [id]) => {
                self.right(call)?;
                let at = self.place(id)?;
                let mut service = call.body.clone();
                service["service_id"] = json!(id);
                service["updated_at"] = json!(stamp(self.now));
                self.services[at] = service.clone();
                Ok(End::One(service))
            }
            ("DELETE", [id]) => {
                let at = self.place(id)?;
                self.services.remove(at);
                Ok(End::One(Value::Null))
            }
            _ => Err(refused(405, 10405, "Method not allowed")),
        }
    }

    fn place(&self, id: &str) -> Result<usize, End> {
        let at = self.services.iter().position(|it| it["service_id"] == id);
        at.ok_or_else(|| refused(404, 5104, "no such service"))
    }

    /// Whether the service leads through a tunnel that is there.
    fn right(&self, call: &Call<'_>) -> Result<(), End> {
        call.only(&[], &MEMBERS)?;
        let tunnel = call.body["host"]["network"]["tunnel_id"].as_str().unwrap_or_default();
        let is_known = self.living().iter().any(|it| it.id == tunnel);
        let is_http = call.body["type"] == "http" && call.body["http_port"].is_u64();
        let is_named = call.text("name").is_ok() && call.body["host"]["ipv4"].is_string();
        if is_known && is_http && is_named { Ok(()) } else { Err(refused(400, 5102, "invalid service")) }
    }
}
