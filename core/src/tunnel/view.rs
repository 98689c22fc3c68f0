//! The tunnel as the API shows it.

use serde::{Serialize, Serializer};

use super::{
    Site,
    found::{Connected, Opened},
    plan::Plan,
    seen::Seen,
};
use crate::{access::secret::Secret, error::Error, io::Io, text::rfc3339::moment};

/// Tunnel of a deployment: what is wanted beside what is there.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Name of the tunnel.
    pub name: String,
    /// Id of the tunnel; null while there is none.
    pub id: Option<String>,
    /// Guests' domain.
    pub domain: String,
    /// Whether a Worker reaches the guests by a VPC service, and no public name leads into the tunnel.
    pub vpc: bool,
    /// Whether all is as it is wanted.
    pub complete: bool,
    /// What is wanted, in the order in which it is made.
    pub rows: Vec<Row>,
    /// Other proxied records below the domain, which the Worker's route catches too: each needs a more specific route
    /// without a Worker.
    pub caught: Vec<Caught>,
    /// Hash of what was read, for `force`.
    pub plan: String,
    /// Status of the tunnel as Cloudflare has it: `healthy`, `degraded`, `down`, or `inactive` before the first connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub status: Option<String>,
    /// GET alone: each cloudflared that is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Connector>"))]
    pub connectors: Option<Vec<Connector>>,
    /// POST alone: what this request has made or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Part>"))]
    pub did: Option<Vec<Part>>,
    /// Id of the VPC service, for `wrangler.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub service_id: Option<String>,
    /// POST alone: the one command for the host of PVE, as root, with the key of an admin in `KEY`. It asks for the token,
    /// which replaces another one that the host has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub command: Option<String>,
    /// POST alone: the token by which cloudflared connects. Whoever has it gets what is sent into the tunnel.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub token: Option<Secret>,
}

/// Thing that is wanted at Cloudflare, and what is there.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "contract", schemars(rename = "TunnelRow"))]
pub struct Row {
    /// Kind of the thing.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// What is there, beside what is wanted.
    pub state: State,
    /// What is wanted.
    pub wanted: String,
    /// What is there, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub actual: Option<String>,
    /// Of `foreign`: what is in the way, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub why: Option<String>,
    /// Of `foreign`: whether `force` overwrites it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "bool"))]
    pub force: Option<bool>,
}

/// Kind of a thing at Cloudflare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "TunnelPart"))]
pub enum Part {
    /// Certificate of the zone, which must cover the guests' names.
    Certificate,
    /// Tunnel.
    Tunnel,
    /// Rules of the tunnel: the guests' names go to the proxy beside cloudflared.
    Ingress,
    /// DNS record of the guests' names.
    Record,
    /// VPC service, by which a Worker reaches the proxy.
    Service,
}

/// State of a thing at Cloudflare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "contract", schemars(rename = "TunnelState"))]
pub enum State {
    /// As it is wanted.
    Same,
    /// Not there: it is made.
    Missing,
    /// Ours, and other than it is wanted: it is changed.
    Differs,
    /// Not proved to be ours, and in the way.
    Foreign,
}

/// Record that the route of the guests' domain catches.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "contract", schemars(rename = "CaughtRecord"))]
pub struct Caught {
    /// Name of the record.
    pub name: String,
    /// Type of the record.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Cloudflared that is connected to the tunnel.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Connector {
    /// Version of cloudflared.
    pub version: Option<String>,
    /// Version of the tunnel's configuration that it has.
    pub config_version: Option<i64>,
    /// Its connections to Cloudflare's data centers: four where all is well.
    pub connections: Vec<Connection>,
}

/// Connection of a cloudflared.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "TunnelConnection"))]
pub struct Connection {
    /// Data center.
    pub location: Option<String>,
    /// Seconds for which it has been there.
    pub age_seconds: Option<i64>,
}

/// What a deletion has removed.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "contract", schemars(rename = "TunnelRemoved"))]
pub struct Removed {
    /// Things that were ours, in the order in which they went.
    pub removed: Vec<Part>,
    /// Records of the guests' names that are not ours, and stay.
    pub kept: Vec<Caught>,
}

impl Row {
    pub(super) fn new(part: Part, name: &str, wanted: String) -> Self {
        let (state, actual, why, force) = (State::Missing, None, None, None);
        Self { part, name: name.to_owned(), state, wanted, actual, why, force }
    }

    pub(super) fn same(self) -> Self {
        Self { state: State::Same, ..self }
    }

    pub(super) fn missing(self) -> Self {
        Self { state: State::Missing, ..self }
    }

    pub(super) fn differs(self, actual: &str) -> Self {
        Self { state: State::Differs, actual: Some(actual.to_owned()), ..self }
    }

    pub(super) fn foreign(self, force: bool, actual: &str, why: String) -> Self {
        let (actual, why) = (Some(actual.to_owned()), Some(why));
        Self { state: State::Foreign, actual, why, force: Some(force), ..self }
    }
}

impl<I: Io> Site<I> {
    /// Compares what is wanted with what is there; `vpc` says whether the way in is a VPC service, else the record does.
    pub async fn compare(&self, vpc: Option<bool>) -> Result<Tunnel, Error> {
        let seen = self.look(vpc).await?;
        let connected: Vec<Connected> = match &seen.tunnel {
            Some(tunnel) => self.list(|_| self.client.connectors(&tunnel.id)).await?,
            None => Vec::new(),
        };
        let connectors = connected.into_iter().map(|it| self.connector(it)).collect();
        Ok(Tunnel { connectors: Some(connectors), ..self.view(&seen, Plan::of(&self.wanted, &seen)) })
    }

    /// What was read, beside what is wanted.
    pub(super) fn view(&self, seen: &Seen, plan: Plan) -> Tunnel {
        Tunnel {
            name: self.wanted.name.clone(),
            id: seen.id().map(ToString::to_string),
            domain: self.wanted.domain.clone(),
            vpc: seen.vpc,
            complete: plan.is_done(),
            rows: plan.rows,
            caught: plan.caught,
            plan: plan.hash,
            status: seen.tunnel.as_ref().and_then(|it| it.status.clone()),
            connectors: None,
            did: None,
            service_id: seen.services.first().map(|it| it.id.clone()),
            command: None,
            token: None,
        }
    }

    pub(super) fn connector(&self, connected: Connected) -> Connector {
        let now = self.invocation.now();
        let connection = |it: Opened| Connection {
            location: it.colo_name,
            age_seconds: it.opened_at.and_then(|it| moment(&it)).map(|at| (now - at).whole_seconds()),
        };
        Connector {
            version: connected.version,
            config_version: connected.config_version,
            connections: connected.conns.unwrap_or_default().into_iter().map(connection).collect(),
        }
    }
}

/// The secret in clear, for the one answer that has it.
fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}
