//! Making the tunnel: one look, then the missing thing, step by step.
//!
//! Two callers at once end with one tunnel:
//!
//! 1. Both look, and neither sees a tunnel.
//! 2. One creates it. The other's creation is refused, for the name is taken.
//! 3. The other looks again, and goes on with the tunnel that is there.
//! 4. Both write the same rules. One makes the record; the other's is refused, and it looks, and sees the same.
//!
//! A write that was not answered is followed by a look too. What a look finds that the plan did not show is never
//! overwritten.

use serde_json::Value;

use super::{
    Site,
    found::{Found, Record, Replaced, Service, TunnelId},
    plan::{Plan, ingress_state, record_state, service_state},
    refusal::CloudflareError,
    seen::Seen,
    view::{Part, State, Tunnel},
};
use crate::{
    access::secret::Secret,
    error::{Code, Error},
    io::Io,
};

/// Request for a tunnel.
pub struct Request {
    /// Whether to plan alone.
    pub dry_run: bool,
    /// Whether what is not ours is overwritten, as far as the plan showed it.
    pub force: bool,
    /// Hash of the plan that the caller has seen.
    pub plan: Option<String>,
    /// Whether the way in is a VPC service.
    pub vpc: bool,
}

/// Work on what was seen.
struct Work<'a, I> {
    site: &'a Site<I>,
    seen: Seen,
    /// Whether what is not ours may be overwritten: as long as all that was read is what the plan showed.
    force: bool,
    did: Vec<Part>,
}

impl<I: Io> Site<I> {
    /// Makes what is missing, or plans it.
    pub async fn make(&self, request: &Request) -> Result<Tunnel, Error> {
        let plan_is_needed = request.force && !request.dry_run && request.plan.is_none();
        if plan_is_needed {
            let text = "is needed with force: the hash that the answer to dryRun, or the conflict, shows";
            return Err(Error::field("plan", text));
        }
        let seen = self.look(Some(request.vpc)).await?;
        let plan = Plan::of(&self.wanted, &seen);
        if request.plan.as_ref().is_some_and(|it| *it != plan.hash) {
            let text = "the plan was made of something else than what is there now: look at this one";
            return Err(plan.problem(Code::PlanChanged, text));
        }
        if request.dry_run {
            return Ok(self.view(&seen, plan));
        }
        plan.admit(request.force)?;
        let mut work = Work { site: self, seen, force: request.force, did: Vec::new() };
        let tunnel = work.tunnel().await?;
        work.ingress(&tunnel).await?;
        // The record leads nowhere then: what takes its place comes first.
        if work.seen.vpc {
            work.service(&tunnel).await?;
        }
        work.record(&tunnel).await?;
        let token: String = self.send(self.client.token(&tunnel)).await?;
        let Work { seen, did, .. } = work;
        let view = self.view(&seen, Plan::of(&self.wanted, &seen));
        Ok(Tunnel { did: Some(did), token: Some(Secret::new(token)), ..view })
    }
}

impl<I: Io> Work<'_, I> {
    /// The tunnel, made where there is none.
    async fn tunnel(&mut self) -> Result<TunnelId, Error> {
        if let Some(id) = self.seen.id() {
            return Ok(id.clone());
        }
        let site = self.site;
        let found = match site.send::<Found>(site.client.create_tunnel(&site.wanted.name)).await {
            Ok(made) => {
                self.did.push(Part::Tunnel);
                made
            }
            Err(error) if error.asks_for_a_look() => {
                self.force = false;
                let found = site.find().await?.ok_or(error)?;
                self.seen.config = site.configuration(&found.id).await?;
                found
            }
            Err(error) => return Err(error.into()),
        };
        let id = found.id.clone();
        self.seen.tunnel = Some(found);
        self.admit()?;
        Ok(id)
    }

    /// The tunnel's rules. They are replaced as a whole, and nothing says of which ones: they are read back.
    async fn ingress(&mut self, tunnel: &TunnelId) -> Result<(), Error> {
        let site = self.site;
        if ingress_state(&site.wanted, &self.seen.config) == State::Same {
            return Ok(());
        }
        let config = site.wanted.config(&self.seen.config);
        let put = site.send::<Value>(site.client.configure(tunnel, &config)).await;
        if let Err(error) = &put
            && !error.may_be_executed()
        {
            return put.map(drop).map_err(Error::from);
        }
        self.seen.config = site.configuration(tunnel).await?;
        if ingress_state(&site.wanted, &self.seen.config) == State::Same {
            self.did.push(Part::Ingress);
            return Ok(());
        }
        put?;
        let text =
            "the tunnel's rules are not those that were written: somebody else writes them too; ask again";
        Err(self.plan().problem(Code::TunnelConflict, text))
    }

    /// The record of all names of guests. Others that stand there go in the same call that makes ours.
    async fn record(&mut self, tunnel: &TunnelId) -> Result<(), Error> {
        let (site, mut lost) = (self.site, None::<CloudflareError>);
        loop {
            let state = record_state(&site.wanted, &self.seen);
            let there: Vec<String> = self.seen.at_host(&site.wanted).iter().map(|it| it.id.clone()).collect();
            match (state, lost.take()) {
                (State::Same, _) => return Ok(()),
                (State::Foreign, _) if !self.force => return self.admit(),
                // It was tried, and has changed nothing.
                (_, Some(error)) => return Err(error.into()),
                _ => {}
            }
            match self.write_record(tunnel, &there).await {
                Ok(made) => {
                    self.seen.records.retain(|it| !there.contains(&it.id));
                    self.seen.records.push(made);
                    self.did.push(Part::Record);
                    return Ok(());
                }
                Err(error) if error.asks_for_a_look() => {
                    self.force = false;
                    self.seen.records = site.records().await?;
                    lost = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn write_record(&self, tunnel: &TunnelId, instead: &[String]) -> Result<Record, CloudflareError> {
        let client = &self.site.client;
        let record = self.site.wanted.new_record(tunnel, self.seen.vpc);
        if instead.is_empty() {
            return self.site.send(client.create_record(&record)).await;
        }
        let instead: Vec<&str> = instead.iter().map(String::as_str).collect();
        let replaced: Replaced = self.site.send(client.replace_records(&instead, &[record])).await?;
        let made = replaced.posts.unwrap_or_default().pop();
        made.ok_or_else(|| CloudflareError::Shape("posts: must have the record".into()))
    }

    /// The VPC service.
    async fn service(&mut self, tunnel: &TunnelId) -> Result<(), Error> {
        let (site, mut lost) = (self.site, None::<CloudflareError>);
        loop {
            let state = service_state(&site.wanted, &self.seen);
            match (state, lost.take()) {
                (State::Same, _) => return Ok(()),
                (_, Some(error)) => return Err(error.into()),
                _ => {}
            }
            let service = site.wanted.new_service(tunnel);
            let call = match self.seen.services.first() {
                None => site.client.create_service(&service),
                Some(it) => site.client.change_service(&it.id, &service),
            };
            match site.send::<Service>(call).await {
                Ok(made) => {
                    self.seen.services = vec![made];
                    self.did.push(Part::Service);
                    return Ok(());
                }
                Err(error) if error.asks_for_a_look() => {
                    self.seen.services = site.services().await?;
                    lost = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn plan(&self) -> Plan {
        Plan::of(&self.site.wanted, &self.seen)
    }

    /// Refuses what was found since, if it is in the way.
    fn admit(&self) -> Result<(), Error> {
        let mut plan = self.plan();
        plan.rows.retain(|it| it.part != Part::Certificate);
        plan.admit(self.force)
    }
}
