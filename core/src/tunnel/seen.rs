//! What is at Cloudflare, as one request has read it.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Site,
    found::{Configured, Found, Record, Service, TunnelId, Zone},
    refusal::CloudflareError,
    wanted::Wanted,
};
use crate::{
    error::{Code, Error},
    io::Io,
};

/// Kinds of records beside which a wildcard record of ours cannot be.
const BLOCKING: [&str; 4] = ["A", "AAAA", "CNAME", "NS"];

/// What was read.
pub(super) struct Seen {
    /// Name of the zone.
    pub(super) zone: String,
    /// Tunnel of our name.
    pub(super) tunnel: Option<Found>,
    /// Its configuration; null without one.
    pub(super) config: Value,
    /// All records of the zone.
    pub(super) records: Vec<Record>,
    /// Whether the way in is a VPC service.
    pub(super) vpc: bool,
    /// VPC services of our name, where that is the way in.
    pub(super) services: Vec<Service>,
}

impl Seen {
    /// Id of the tunnel.
    pub(super) fn id(&self) -> Option<&TunnelId> {
        self.tunnel.as_ref().map(|it| &it.id)
    }

    /// Records that stand where ours is to be.
    pub(super) fn at_host(&self, wanted: &Wanted) -> Vec<&Record> {
        let is_there =
            |it: &&Record| it.name.eq_ignore_ascii_case(&wanted.host) && BLOCKING.contains(&&*it.kind);
        self.records.iter().filter(is_there).collect()
    }

    /// Whether a record is proved to be ours: by its comment, or because it leads into our tunnel.
    pub(super) fn is_ours(&self, record: &Record, wanted: &Wanted) -> bool {
        let leads_here = self.id().is_some_and(|id| record.content == Some(id.host()));
        leads_here || record.comment.as_deref() == Some(&*wanted.comment)
    }

    /// Hash of what was read and of what is wanted: another one means that a plan is of other things.
    pub(super) fn hash(&self, wanted: &Wanted) -> String {
        let mut records = self.at_host(wanted);
        records.sort_by(|one, other| one.id.cmp(&other.id));
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort_by(|one, other| one.id.cmp(&other.id));
        let tunnel = self.tunnel.as_ref().map(|it| (it.id.to_string(), it.config_src.clone()));
        let read = json!({
            "wanted": [wanted.ingress(), self.vpc], "zone": self.zone, "tunnel": tunnel, "config": self.config,
            "records": records, "services": services,
        });
        let hash = hex::encode(Sha256::digest(read.to_string()));
        hash.get(..32).unwrap_or_default().to_owned()
    }
}

impl<I: Io> Site<I> {
    /// Looks at all that there is. `vpc` says whether the way in is a VPC service; where nobody says, the record does.
    pub(super) async fn look(&self, vpc: Option<bool>) -> Result<Seen, Error> {
        let zone = self.zone().await?;
        let tunnel = self.find().await?;
        let config = match &tunnel {
            Some(tunnel) => self.configuration(&tunnel.id).await?,
            None => Value::Null,
        };
        let records = self.records().await?;
        let mut seen = Seen { zone, tunnel, config, records, vpc: false, services: Vec::new() };
        let is_originless = |it: &&Record| it.kind == "AAAA" && seen.is_ours(it, &self.wanted);
        let looks_so = seen.at_host(&self.wanted).iter().any(is_originless);
        seen.vpc = vpc.unwrap_or(looks_so);
        if seen.vpc {
            seen.services = self.services().await?;
        }
        Ok(seen)
    }

    /// Name of the zone, which must be of the account and hold the guests' domain.
    async fn zone(&self) -> Result<String, Error> {
        let zone: Zone = self.send(self.client.zone()).await?;
        let domain = &self.wanted.domain;
        if zone.account.id.as_deref().is_some_and(|it| it != self.client.account()) {
            let text = format!("the zone {} is not one of the account that CF_ACCOUNT_ID names", zone.name);
            return Err(Error::new(Code::Misconfigured, text));
        }
        let is_in_zone = *domain == zone.name || domain.ends_with(&format!(".{}", zone.name));
        if !is_in_zone {
            let text = format!("CF_DOMAIN is {domain}, which is not in the zone {} of CF_ZONE_ID", zone.name);
            return Err(Error::new(Code::Misconfigured, text));
        }
        Ok(zone.name)
    }

    /// The tunnel of our name.
    pub(super) async fn find(&self) -> Result<Option<Found>, CloudflareError> {
        let name = &*self.wanted.name;
        let all: Vec<Found> = self.list(|page| self.client.find_tunnel(name, page)).await?;
        Ok(all.into_iter().find(|it| it.name == name && it.deleted_at.is_none()))
    }

    /// Configuration of a tunnel; null where it has none yet.
    pub(super) async fn configuration(&self, id: &TunnelId) -> Result<Value, CloudflareError> {
        match self.send::<Option<Configured>>(self.client.configuration(id)).await {
            Ok(read) => Ok(read.map(|it| it.config).unwrap_or_default()),
            Err(error) if error.is_missing() => Ok(Value::Null),
            Err(error) => Err(error),
        }
    }

    /// All records of the zone.
    pub(super) async fn records(&self) -> Result<Vec<Record>, CloudflareError> {
        self.list(|page| self.client.records(page)).await
    }

    /// VPC services of our name.
    pub(super) async fn services(&self) -> Result<Vec<Service>, CloudflareError> {
        let all: Vec<Service> = self.list(|page| self.client.services(page)).await?;
        Ok(all.into_iter().filter(|it| it.name == self.wanted.name).collect())
    }
}
