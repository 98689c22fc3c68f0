//! Records of the zone.

use serde_json::{Value, json};

use super::{
    Cloudflare,
    api::{Call, End, Handled, refused},
    tunnels::stamp,
};

/// Members that a record to make may have.
const MEMBERS: [&str; 7] = ["type", "name", "content", "proxied", "ttl", "comment", "tags"];

impl Cloudflare {
    pub(super) fn dns(&mut self, call: &Call<'_>, path: &[&str]) -> Handled {
        match (call.method, path) {
            ("GET", []) => {
                call.only(&["page", "per_page", "order", "direction"], &[])?;
                let mut rows = self.records.clone();
                rows.sort_by_key(|it| it["name"].to_string());
                Ok(End::Rows(rows))
            }
            ("POST", []) => {
                call.only(&[], &MEMBERS)?;
                self.check(&call.body)?;
                let id = self.put_record(&call.body);
                Ok(End::One(self.record(&id)))
            }
            ("POST", ["batch"]) => self.batch(call),
            _ => Err(refused(405, 10405, "Method not allowed")),
        }
    }

    /// All of it or nothing, in the API's order.
    fn batch(&mut self, call: &Call<'_>) -> Handled {
        call.only(&[], &["deletes", "posts"])?;
        let before = self.records.clone();
        let done = self.try_batch(call);
        if done.is_err() {
            self.records = before;
        }
        done
    }

    fn try_batch(&mut self, call: &Call<'_>) -> Handled {
        let list = |name: &str| call.body[name].as_array().cloned().unwrap_or_default();
        let (mut deletes, mut posts) = (Vec::new(), Vec::new());
        for it in list("deletes") {
            let at = self.records.iter().position(|known| known["id"] == it["id"]);
            let at = at.ok_or_else(|| refused(404, 81044, "Record does not exist."))?;
            deletes.push(self.records.remove(at));
        }
        for it in list("posts") {
            self.check(&it)?;
            let id = self.put_record(&it);
            posts.push(self.record(&id));
        }
        Ok(End::One(json!({"deletes": deletes, "patches": [], "puts": [], "posts": posts})))
    }

    fn check(&self, record: &Value) -> Result<(), End> {
        let name = record["name"].as_str().ok_or_else(|| refused(400, 9000, "DNS name is invalid."))?;
        let is_in_zone = name == self.zone || name.ends_with(&format!(".{}", self.zone));
        let kind = record["type"].as_str().unwrap_or_default();
        if !is_in_zone || !matches!(kind, "A" | "AAAA" | "CNAME" | "TXT") {
            return Err(refused(400, 9000, "DNS name is invalid."));
        }
        if record["comment"].as_str().is_some_and(|it| it.len() > 100) {
            return Err(refused(400, 9314, "the comment is too long"));
        }
        let blocks = |kind: &Value| matches!(kind.as_str(), Some("A" | "AAAA" | "CNAME"));
        let there: Vec<&Value> = self.records.iter().filter(|it| it["name"] == name).collect();
        if there.iter().any(|it| it["type"] == kind && it["content"] == record["content"]) {
            return Err(refused(400, 81057, "The record already exists."));
        }
        let excludes = |it: &&Value| blocks(&it["type"]) && (it["type"] == "CNAME" || kind == "CNAME");
        if blocks(&record["type"]) && there.iter().any(excludes) {
            return Err(refused(400, 81053, "An A, AAAA, or CNAME record with that host already exists."));
        }
        Ok(())
    }

    pub(super) fn put_record(&mut self, record: &Value) -> String {
        let id = self.id();
        let mut shown = json!({
            "id": id, "proxied": false, "proxiable": true, "ttl": 1, "settings": {}, "meta": {}, "tags": [],
            "created_on": stamp(self.now), "modified_on": stamp(self.now),
        });
        for (name, value) in record.as_object().into_iter().flatten() {
            shown[name] = value.clone();
        }
        self.records.push(shown);
        id
    }

    fn record(&self, id: &str) -> Value {
        self.records.iter().find(|it| it["id"] == id).cloned().unwrap_or_default()
    }
}
