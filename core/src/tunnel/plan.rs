//! The plan: what is wanted beside what is there, and what is in the way.

use serde_json::{Map, Value};

use super::{
    found::{Record, Service},
    seen::Seen,
    view::{Caught, Part, Row, State},
    wanted::Wanted,
};
use crate::error::{Code, Error};

/// Records that a route catches too, as many as are told.
const TOLD: usize = 50;

/// Plan of one request.
pub(super) struct Plan {
    /// What is wanted, one row for each thing, in the order in which it is made.
    pub(super) rows: Vec<Row>,
    /// Other records that the route of the guests' domain catches.
    pub(super) caught: Vec<Caught>,
    /// Hash of what was read.
    pub(super) hash: String,
}

impl Plan {
    pub(super) fn of(wanted: &Wanted, seen: &Seen) -> Self {
        let mut rows = vec![certificate(wanted, seen), tunnel(wanted, seen), ingress(wanted, seen)];
        rows.extend(seen.vpc.then(|| service(wanted, seen)));
        rows.push(record(wanted, seen));
        Self { rows, caught: caught(wanted, seen), hash: seen.hash(wanted) }
    }

    /// Whether all is as it is wanted.
    pub(super) fn is_done(&self) -> bool {
        self.rows.iter().all(|it| it.state == State::Same)
    }

    /// Refuses a plan in whose way something else is, unless `force` may overwrite all of it.
    pub(super) fn admit(&self, force: bool) -> Result<(), Error> {
        let foreign = self.rows.iter().filter(|it| it.state == State::Foreign);
        let in_the_way: Vec<&Row> = foreign.filter(|it| !force || it.force != Some(true)).collect();
        match in_the_way.first() {
            None => Ok(()),
            Some(row) if row.part == Part::Certificate => {
                let text = row.why.clone().unwrap_or_default();
                Err(self.problem(Code::CertificateDepth, text))
            }
            Some(_) => {
                let told: Vec<_> = in_the_way.iter().filter_map(|it| it.why.clone()).collect();
                Err(self.problem(Code::TunnelConflict, told.join("; ")))
            }
        }
    }

    /// Refuses to remove a tunnel that is not taken over, or that has rules of others, by force either.
    pub(super) fn admit_removal(&self, wanted: &Wanted, seen: &Seen) -> Result<(), Error> {
        if rules(&seen.config).iter().any(|it| !is_ours(wanted, it)) {
            let text = format!(
                "the tunnel {} has rules for other names than {}, and is left: they are another deployment's of this name, or \
                 of an earlier CF_DOMAIN; in that case replace them first (POST with force and the plan), or delete the tunnel \
                 at Cloudflare",
                wanted.name, wanted.host
            );
            return Err(self.problem(Code::TunnelConflict, text));
        }
        let is_local = |it: &&Row| it.part == Part::Tunnel && it.state == State::Foreign;
        match self.rows.iter().find(is_local) {
            None => Ok(()),
            Some(row) => Err(self.problem(Code::TunnelConflict, row.why.clone().unwrap_or_default())),
        }
    }

    /// A problem that shows the plan.
    pub(super) fn problem(&self, code: Code, text: impl Into<String>) -> Error {
        let rows = serde_json::to_value(&self.rows).unwrap_or_default();
        Error::new(code, text).member("rows", rows).member("plan", self.hash.as_str())
    }
}

/// Whether the certificate that every zone has covers the guests' names: it covers one label before the zone's name.
fn certificate(wanted: &Wanted, seen: &Seen) -> Row {
    let row = Row::new(Part::Certificate, &wanted.host, format!("*.{}", seen.zone));
    if wanted.domain == seen.zone {
        return row.same();
    }
    row.foreign(
        true,
        &format!("*.{}", seen.zone),
        format!(
            "the certificate of the zone {} does not cover {}: use the zone's own name, best of a zone for guests \
             alone, or order an Advanced Certificate and force",
            seen.zone, wanted.host
        ),
    )
}

fn tunnel(wanted: &Wanted, seen: &Seen) -> Row {
    let row = Row::new(Part::Tunnel, &wanted.name, "configured by Cloudflare's API".to_owned());
    match &seen.tunnel {
        None => row.missing(),
        Some(found) if found.config_src.as_deref() == Some("local") => row.foreign(
            false,
            "configured by a file on its host",
            format!(
                "the tunnel {} is configured by a file on its host, and is not taken over: delete or rename it",
                wanted.name
            ),
        ),
        Some(_) => row.same(),
    }
}

/// State of a tunnel's configuration.
pub(super) fn ingress_state(wanted: &Wanted, config: &Value) -> State {
    let rules = rules(config);
    let applies_to_all = config.get("originRequest").is_some_and(|it| !is_nothing(it));
    if rules.is_empty() && !applies_to_all {
        return State::Missing;
    }
    let mut wanted_rules = wanted.ingress();
    let same = wanted_rules.as_array_mut().is_some_and(|all| {
        all.len() == rules.len() && all.iter().zip(rules).all(|(one, other)| *one == plain(other))
    });
    match (same, applies_to_all) {
        (true, false) => State::Same,
        (false, false) if rules.iter().all(|it| is_ours(wanted, it)) => State::Differs,
        _ => State::Foreign,
    }
}

fn rules(config: &Value) -> &[Value] {
    config.get("ingress").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a rule is of this deployment. With another domain it is one's that has the same name, of another PVE.
fn is_ours(wanted: &Wanted, rule: &Value) -> bool {
    let plain = plain(rule);
    let is = |name: &str, value: &str| plain.get(name).and_then(Value::as_str) == Some(value);
    match plain.as_object().map_or(0, Map::len) {
        2 => is("hostname", &wanted.host) && plain.get("service").is_some(),
        1 => is("service", "http_status:404"),
        _ => false,
    }
}

/// A rule without the members that say nothing.
fn plain(rule: &Value) -> Value {
    let members = rule.as_object().into_iter().flatten().filter(|(_, it)| !is_nothing(it));
    Value::Object(members.map(|(name, it)| (name.clone(), it.clone())).collect())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn ingress(wanted: &Wanted, seen: &Seen) -> Row {
    let row = Row::new(Part::Ingress, &wanted.host, wanted.origin());
    let text = |rule: &Value, name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("*").to_owned();
    let rules: Vec<_> = rules(&seen.config)
        .iter()
        .map(|it| format!("{} -> {}", text(it, "hostname"), text(it, "service")))
        .collect();
    let actual = rules.join(", ");
    match ingress_state(wanted, &seen.config) {
        State::Missing => row.missing(),
        State::Same => row.same(),
        State::Differs => row.differs(&actual),
        State::Foreign => row.foreign(
            true,
            &actual,
            format!(
                "the tunnel {} has rules for other names than {}: force replaces those of an earlier CF_DOMAIN; another \
                 deployment of this name would lose its way in by that, and the two need different accounts or names",
                wanted.name, wanted.host
            ),
        ),
    }
}

/// State of the records that stand where ours is to be.
pub(super) fn record_state(wanted: &Wanted, seen: &Seen) -> State {
    let there = seen.at_host(wanted);
    if there.iter().any(|it| !seen.is_ours(it, wanted)) {
        return State::Foreign;
    }
    let (kind, content) = Wanted::record(seen.id(), seen.vpc);
    match &*there {
        [] => State::Missing,
        [it] if it.kind == kind && it.proxied == Some(true) && content.is_some() && it.content == content => {
            State::Same
        }
        _ => State::Differs,
    }
}

fn record(wanted: &Wanted, seen: &Seen) -> Row {
    let (kind, content) = Wanted::record(seen.id(), seen.vpc);
    let content = content.unwrap_or_else(|| "the tunnel's host".to_owned());
    let row = Row::new(Part::Record, &wanted.host, format!("{kind} {content}, proxied"));
    let shown: Vec<String> = seen.at_host(wanted).into_iter().map(shown).collect();
    let actual = shown.join(", ");
    match record_state(wanted, seen) {
        State::Missing => row.missing(),
        State::Same => row.same(),
        State::Differs => row.differs(&actual),
        State::Foreign => row.foreign(
            true,
            &actual,
            format!("{} has a record that is not pve-edge's ({actual}); force replaces it", wanted.host),
        ),
    }
}

fn shown(record: &Record) -> String {
    let proxied = if record.proxied == Some(true) { "proxied" } else { "not proxied" };
    format!("{} {}, {proxied}", record.kind, record.content.as_deref().unwrap_or_default())
}

/// State of the VPC services of our name, which proves them to be ours.
pub(super) fn service_state(wanted: &Wanted, seen: &Seen) -> State {
    let is_right = |it: &Service| {
        let host = seen.id().map(|id| wanted.new_service(id)).and_then(|it| it.get("host").cloned());
        it.http_port == Some(wanted.port) && host.is_some_and(|host| host == it.host)
    };
    match &*seen.services {
        [] => State::Missing,
        [one, ..] if is_right(one) => State::Same,
        _ => State::Differs,
    }
}

fn service(wanted: &Wanted, seen: &Seen) -> Row {
    let row = Row::new(Part::Service, &wanted.name, format!("{} through the tunnel", wanted.origin()));
    match service_state(wanted, seen) {
        State::Missing => row.missing(),
        State::Same => row.same(),
        State::Differs | State::Foreign => row.differs("another port, address or tunnel"),
    }
}

/// Other proxied records below the guests' domain: the route that leads guests' names to the Worker catches theirs too.
fn caught(wanted: &Wanted, seen: &Seen) -> Vec<Caught> {
    let below = format!(".{}", wanted.domain);
    let is_caught = |it: &&Record| {
        let name = it.name.to_ascii_lowercase();
        it.proxied == Some(true) && name.ends_with(&below) && name != wanted.host
    };
    let caught = seen.records.iter().filter(is_caught).take(TOLD);
    caught.map(|it| Caught { name: it.name.clone(), kind: it.kind.clone() }).collect()
}
