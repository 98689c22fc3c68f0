//! Removing what is proved to be ours, the other way round.

use serde_json::Value;

use super::{
    Site,
    found::{Connected, Record, TunnelId},
    plan::Plan,
    refusal::CloudflareError,
    seen::Seen,
    view::{Caught, Part, Removed},
};
use crate::{
    error::{Code, Error},
    io::Io,
};

impl<I: Io> Site<I> {
    /// Removes service, records and tunnel. `force` ends the connections of a cloudflared; without it nothing is removed
    /// while there is one. A tunnel with rules of others is never removed.
    pub async fn remove(&self, force: bool, vpc: Option<bool>) -> Result<Removed, Error> {
        let seen = self.look(vpc).await?;
        Plan::of(&self.wanted, &seen).admit_removal(&self.wanted, &seen)?;
        if let (Some(tunnel), false) = (seen.id(), force) {
            self.refuse_connected(tunnel).await?;
        }
        let mut removed = Vec::new();
        for service in &seen.services {
            gone(self.send::<Value>(self.client.remove_service(&service.id)).await)?;
            removed.push(Part::Service);
        }
        if self.remove_records(&seen).await? {
            removed.push(Part::Record);
        }
        if let Some(tunnel) = seen.id() {
            self.remove_tunnel(tunnel, force).await?;
            removed.push(Part::Tunnel);
        }
        let theirs = seen.at_host(&self.wanted).into_iter().filter(|it| !seen.is_ours(it, &self.wanted));
        let kept = theirs.map(|it| Caught { name: it.name.clone(), kind: it.kind.clone() }).collect();
        Ok(Removed { removed, kept })
    }

    /// Removes the records that are ours, under any name; tells whether there were some.
    async fn remove_records(&self, seen: &Seen) -> Result<bool, Error> {
        let ours = |all: &[Record]| -> Vec<String> {
            all.iter().filter(|it| seen.is_ours(it, &self.wanted)).map(|it| it.id.clone()).collect()
        };
        let ids = ours(&seen.records);
        if ids.is_empty() {
            return Ok(false);
        }
        let all: Vec<&str> = ids.iter().map(String::as_str).collect();
        match self.send::<Value>(self.client.replace_records(&all, &[])).await {
            Ok(_) => Ok(true),
            Err(error) if error.asks_for_a_look() => match ours(&self.records().await?).is_empty() {
                true => Ok(true),
                false => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_tunnel(&self, id: &TunnelId, force: bool) -> Result<(), Error> {
        if force {
            gone(self.send::<Value>(self.client.disconnect(id)).await)?;
        }
        match self.send::<Value>(self.client.remove_tunnel(id)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_connected() => {
                self.refuse_connected(id).await?;
                Err(connected("it has connected again meanwhile"))
            }
            Err(error) if error.asks_for_a_look() => match self.find().await? {
                None => Ok(()),
                Some(_) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses to go on while a cloudflared is connected, and tells which.
    async fn refuse_connected(&self, id: &TunnelId) -> Result<(), Error> {
        let found: Vec<Connected> = self.list(|_| self.client.connectors(id)).await?;
        if found.is_empty() {
            return Ok(());
        }
        let connectors: Vec<_> = found.into_iter().map(|it| self.connector(it)).collect();
        let text = connectors.iter().map(|it| {
            let version = it.version.as_deref().unwrap_or("of an unknown version");
            format!("cloudflared {version} with {} connections", it.connections.len())
        });
        let shown = serde_json::to_value(&connectors).unwrap_or_default();
        Err(connected(&text.collect::<Vec<_>>().join(", ")).member("connectors", shown))
    }
}

fn connected(who: &str) -> Error {
    let text = format!("{who}: stop it on its host first, or force, which ends its connections");
    Error::new(Code::TunnelConnected, text)
}

/// What was to be removed is gone, by this call or another.
fn gone(result: Result<Value, CloudflareError>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
