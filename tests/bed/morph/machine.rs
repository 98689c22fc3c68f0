//! What happens to instances: by requests and by time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Instance, Morph, Snapshot, Spec};

/// A body that is wrong, as FastAPI says it.
#[derive(Debug)]
pub(crate) struct Invalid(pub(crate) String);

type Valid<T> = Result<T, Invalid>;

impl Morph {
    /// Another instance, on its way up.
    pub(crate) fn make(&mut self, snapshot: &str, spec: Spec, body: &Value) -> Valid<String> {
        let metadata = strings(&body["metadata"])?;
        let seconds = seconds(&body["ttl_seconds"])?;
        let action = action(&body["ttl_action"])?;
        let id = self.id("morphvm");
        let made = Instance {
            created: self.now.unix_timestamp(),
            status: "pending",
            next: Some((self.now + self.setup.start, "ready")),
            spec,
            snapshot: snapshot.to_owned(),
            ttl_seconds: seconds,
            ttl_expire_at: seconds.map(|it| self.now.unix_timestamp() + it),
            ttl_action: action,
            services: BTreeMap::new(),
            metadata,
        };
        self.instances.insert(id.clone(), made);
        Ok(id)
    }

    /// What is due by now.
    pub(crate) fn pass(&mut self) {
        let (now, setup) = (self.now, self.setup);
        self.instances.retain(|_, it| {
            if let Some((_, status)) = it.next.filter(|(at, _)| *at <= now) {
                (it.status, it.next) = (status, None);
            }
            let over =
                it.ttl_expire_at.is_some_and(|at| now.unix_timestamp() >= at + setup.lag.whole_seconds());
            if over && it.ttl_action.as_deref() == Some("pause") {
                if it.status == "ready" {
                    it.status = "paused";
                }
                if !setup.tells_expiry {
                    it.ttl_expire_at = None;
                }
                return true;
            }
            !over
        });
        self.snapshots
            .retain(|_, it| it.ttl_seconds.is_none_or(|seconds| it.created + seconds > now.unix_timestamp()));
    }

    pub(crate) fn set_ttl(&mut self, id: &str, body: &Value) -> Valid<()> {
        let seconds = seconds(body.get("ttl_seconds").ok_or_else(|| missing("ttl_seconds"))?)?;
        let action = action(&body["ttl_action"])?;
        let now = self.now.unix_timestamp();
        if let Some(it) = self.instances.get_mut(id) {
            it.ttl_seconds = seconds;
            it.ttl_expire_at = seconds.map(|it| now + it);
            it.ttl_action = action.or(it.ttl_action.take());
        }
        Ok(())
    }

    /// A change of state, if the state allows it.
    pub(crate) fn power(&mut self, id: &str, action: &str) -> Result<(), &'static str> {
        let (now, setup) = (self.now, self.setup);
        let Some(it) = self.instances.get_mut(id) else { return Ok(()) };
        (it.status, it.next) = match (action, it.status) {
            ("pause", "ready") => ("saving", Some((now + setup.pause, "paused"))),
            ("resume", "paused") => {
                it.ttl_expire_at = it.ttl_seconds.map(|seconds| now.unix_timestamp() + seconds);
                ("pending", Some((now + setup.pause, "ready")))
            }
            ("reboot", "ready") => ("pending", Some((now + setup.start, "ready"))),
            ("resume", _) => return Err("Instance is not paused"),
            _ => return Err("Instance is not ready"),
        };
        Ok(())
    }

    pub(crate) fn take_snapshot(&mut self, id: &str, digest: Option<String>, body: &Value) -> Valid<String> {
        let metadata = strings(&body["metadata"])?;
        let ttl_seconds = seconds(&body["ttl_seconds"])?;
        let known = self.snapshots.iter().find(|(_, it)| digest.is_some() && it.digest == digest);
        if let Some((known, _)) = known {
            return Ok(known.clone());
        }
        let (now, setup) = (self.now, self.setup);
        let Some(instance) = self.instances.get_mut(id) else { return Err(missing("instance")) };
        if instance.status == "ready" {
            (instance.status, instance.next) = ("saving", Some((now + setup.snapshot, "ready")));
        }
        let spec = instance.spec;
        let name = self.id("snapshot");
        let (created, ready) = (now.unix_timestamp(), now + setup.snapshot);
        let taken = Snapshot { created, ready, spec, digest, ttl_seconds, metadata };
        self.snapshots.insert(name.clone(), taken);
        Ok(name)
    }

    pub(crate) fn shown(&self, id: &str) -> Value {
        let Some(it) = self.instances.get(id) else { return Value::Null };
        let host = id.replace('_', "-");
        let services: Vec<Value> = it
            .services
            .iter()
            .map(|(name, port)| json!({"name": name, "port": port, "url": format!("https://{name}-{host}.http.cloud.morph.so")}))
            .collect();
        json!({
            "id": id, "object": "instance", "created": it.created, "status": it.status, "spec": spec(it.spec),
            "refs": {"snapshot_id": it.snapshot, "image_id": "morphvm-minimal"},
            "networking": {"internal_ip": "10.0.0.7", "http_services": services},
            "ttl": {"ttl_seconds": it.ttl_seconds, "ttl_expire_at": it.ttl_expire_at, "ttl_action": it.ttl_action},
            "wake_on": {"wake_on_ssh": false, "wake_on_http": false},
            "metadata": it.metadata,
        })
    }

    pub(crate) fn shown_snapshot(&self, id: &str) -> Value {
        let Some(it) = self.snapshots.get(id) else { return Value::Null };
        json!({
            "id": id, "object": "snapshot", "created": it.created,
            "status": if it.ready <= self.now { "ready" } else { "pending" },
            "spec": spec(it.spec), "refs": {"image_id": "morphvm-minimal"}, "digest": it.digest,
            "ttl": {"ttl_seconds": it.ttl_seconds, "ttl_expire_at": it.ttl_seconds.map(|ttl| it.created + ttl)},
            "metadata": it.metadata,
        })
    }
}

fn spec(spec: Spec) -> Value {
    json!({"vcpus": spec.vcpus, "memory": spec.memory, "disk_size": spec.disk_size})
}

pub(crate) fn missing(name: &str) -> Invalid {
    Invalid(format!("{name}: field required"))
}

/// A flat object of strings; null and absent are empty.
pub(crate) fn strings(value: &Value) -> Valid<BTreeMap<String, String>> {
    let Value::Object(members) = value else {
        return if value.is_null() {
            Ok(BTreeMap::new())
        } else {
            Err(Invalid("metadata: not a dict".into()))
        };
    };
    let text = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => Ok((key.clone(), text.to_owned())),
        None => Err(Invalid(format!("metadata.{key}: not a string"))),
    };
    members.iter().map(text).collect()
}

pub(crate) fn seconds(value: &Value) -> Valid<Option<i64>> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_i64().filter(|it| *it > 0) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Invalid("ttl_seconds: not a positive integer".into())),
        },
    }
}

fn action(value: &Value) -> Valid<Option<String>> {
    match value.as_str() {
        None if value.is_null() => Ok(None),
        Some(text @ ("stop" | "pause")) => Ok(Some(text.to_owned())),
        _ => Err(Invalid("ttl_action: stop or pause".into())),
    }
}
