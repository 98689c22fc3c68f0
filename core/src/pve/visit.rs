//! Visits to sandboxes through the gateway: the sandbox that a name means, its services, and what wakes it.

use super::{
    cluster::Cluster,
    create::{Up, give_up, start_and_probe},
    guest::{
        Located,
        condition::{Condition, condition},
        located::locate,
        needs::{Need, refuse_condemned, unlocked, usable},
        reach,
        write::{Attempts, write},
    },
    inventory::Inventory,
    marks::{Mark, Phase, Want, What, lifetime, state::state},
    power,
    within::deadline,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        State,
        id::{Kind, SandboxId, node_hint, not_found},
        nonce::Nonce,
        power::{Keeps, StartBody},
        service::{ServiceName, Services, Terms, Wish},
        visit::{Asked, Identity, Rest, Visited, wants_renewal},
        vmid::Vmid,
    },
};

impl<I: Io> Cluster<'_, I> {
    /// The sandbox that a visitor asks for, if it is there and its time is not over. One request to PVE, where the id or the
    /// last visit tells the node and its config the address.
    pub(crate) async fn identify(&self, asked: &Asked) -> Result<Identity, Error> {
        let id = self.asked_id(asked).await?;
        let found = locate(self, &self.gateway(), &id).await?;
        found.needs(self, &[Need::Alive])?;
        let at = self.place_of(&found).await;
        let Located { mark, node, .. } = found;
        let id = SandboxId { node: node_hint(&node), ..mark.id() };
        let Mark { team, services, expires, span, .. } = mark;
        Ok(Identity { id, team, services, expires, span, at })
    }

    /// Where visitors come to a sandbox. An address that its config does not give is the word of whoever is root in it: it
    /// counts once the daemon there obeys calls that are for this sandbox alone.
    async fn place_of(&self, found: &Located) -> Option<Visited> {
        // One that sleeps has none, and PVE may say so by an error.
        let at = reach::visited(self, found).await.ok().flatten()?;
        let is_given = found.config.address().is_some();
        (is_given || reach::answers_at(self, found, at, deadline(self)).await).then_some(at)
    }

    /// What a sandbox does, for a visitor whose request nothing in it has taken. Where its mark tells, one request.
    pub(crate) async fn rest(&self, id: &SandboxId) -> Result<Rest, Error> {
        let found = locate(self, &self.gateway(), id).await?;
        found.needs(self, &[Need::Alive])?;
        let (mark, now) = (&found.mark, self.now());
        let is_at_it = self.is_brought_up(mark);
        let up = if mark.settled_for(now) < WARM_SECONDS { Rest::JustUp } else { Rest::Up };
        Ok(match (mark.want, mark.phase) {
            (Want::On, Phase::Ready) if is_at_it => up,
            (Want::On, Phase::Committed) if is_at_it => Rest::ComingUp,
            _ if !found.committed || mark.is_doing(What::Rollback) => Rest::ComingUp,
            _ if found.config.is_suspended() => Rest::Asleep(State::Paused),
            _ => {
                let seen = condition(self, &found).await?;
                let is_working = matches!(seen, Condition::Working(_));
                // While PVE works on it, such as for a snapshot, it is what it shall be.
                let running = seen.is_running() || is_working && mark.want == Want::On;
                match state(mark, running, now) {
                    State::Running => up,
                    State::Creating if is_working => Rest::ComingUp,
                    State::Creating => Rest::Left,
                    State::Error => {
                        Rest::Failed(mark.problem.clone().unwrap_or_else(|| "it did not come up".into()))
                    }
                    asleep @ (State::Paused | State::Stopped) => Rest::Asleep(asleep),
                }
            }
        })
    }

    /// Starts or resumes a sandbox that a visitor has asked for. Of many visitors at once the one whose write of what it
    /// shall be is taken starts it; for all others there is nothing to do. PVE takes no change of a VM whose memory is on
    /// disk: that each of them resumes, and PVE does so once.
    pub(crate) async fn wake(&self, id: &SandboxId, deadline: Deadline<'_, I>) -> Result<(), Error> {
        let caller = self.gateway();
        let found = usable(self, &caller, id, deadline).await?;
        found.needs(self, &[Need::NotCondemned])?;
        let mark = &found.mark;
        if mark.want == Want::On && mark.phase != Phase::Error && self.is_brought_up(mark) {
            return Ok(());
        }
        let has_memory = mark.kind == Kind::Lxc && mark.keeps == Some(Keeps::Memory);
        if found.config.is_suspended() || has_memory {
            return power::start(self, &caller, id, &StartBody::default(), deadline).await.map(drop);
        }
        // One that shall run was left half-way, or has stopped by itself.
        let seen = match mark.want {
            Want::On => condition(self, &found).await?,
            _ => Condition::Stopped,
        };
        let (now, limits) = (self.now().unix_timestamp(), &self.settings.limits);
        let begin = |mark: &mut Mark| {
            refuse_condemned(mark)?;
            // Whoever has begun that has given it its time.
            if (mark.want, mark.phase) != (Want::On, Phase::Committed) {
                lifetime::start(mark, None, now, limits);
            }
            mark.want = Want::On;
            mark.phase = Phase::Committed;
            mark.changed = Some(now);
            mark.problem = None;
            mark.keeps = None;
            Ok(())
        };
        let Ok(mark) = write(self, &found, &begin).await? else { return Ok(()) };
        let begun = Located { mark: Mark { doing: None, ..mark }, ..found };
        match start_and_probe(self, &begun, &seen, deadline).await {
            Err(error) if error.code() == Code::ExecUnprotected => Err(give_up(self, &begun, error).await),
            Err(error) => Err(error),
            Ok(Up::Ready(..) | Up::NotYet(_)) => Ok(()),
        }
    }

    /// Whether somebody has begun to bring a sandbox up, or has done so, a moment ago.
    fn is_brought_up(&self, mark: &Mark) -> bool {
        mark.settled_for(self.now()) < LEFT_SECONDS
    }

    /// Gives a sandbox that somebody visits its time again, if less than half of it is left by now. One attempt: where
    /// somebody else was faster, that was it.
    pub(crate) async fn renew_visited(&self, id: &SandboxId) -> Result<(), Error> {
        let found = locate(self, &self.gateway(), id).await?;
        found.needs(self, &[Need::Alive, Need::Committed, Need::NotSuspended])?;
        let (mark, now, limits) = (&found.mark, self.now(), &self.settings.limits);
        if mark.want != Want::On || !wants_renewal(mark.expires, mark.span, now) {
            return Ok(());
        }
        let renew = |mark: &mut Mark| {
            lifetime::extend(mark, None, now.unix_timestamp(), limits);
            Ok(())
        };
        write(self, &found, &renew).await.map(drop)
    }

    pub(crate) async fn put_service(
        &self,
        caller: &Caller,
        id: &str,
        name: &ServiceName,
        wish: &Wish,
        deadline: Deadline<'_, I>,
    ) -> Result<Terms, Error> {
        let id = self.sandbox(id)?;
        let services =
            self.change_services(caller, &id, deadline, &|services| services.put(name, wish.clone())).await?;
        services.get(name).ok_or_else(|| no_service(name))
    }

    pub(crate) async fn remove_service(
        &self,
        caller: &Caller,
        id: &str,
        name: &ServiceName,
        deadline: Deadline<'_, I>,
    ) -> Result<(), Error> {
        let id = self.sandbox(id)?;
        let remove = |services: &mut Services| match services.remove(name) {
            true => Ok(()),
            false => Err(no_service(name)),
        };
        self.change_services(caller, &id, deadline, &remove).await.map(drop)
    }

    /// The services of a sandbox, as they are now.
    pub(crate) async fn services(&self, caller: &Caller, id: &str) -> Result<(SandboxId, Services), Error> {
        let found = locate(self, caller, &self.sandbox(id)?).await?;
        found.needs(self, &[Need::Alive])?;
        Ok((SandboxId { node: node_hint(&found.node), ..found.mark.id() }, found.mark.services))
    }

    async fn change_services(
        &self,
        caller: &Caller,
        id: &SandboxId,
        deadline: Deadline<'_, I>,
        apply: &(dyn Fn(&mut Services) -> Result<(), Error> + Sync),
    ) -> Result<Services, Error> {
        let mut attempts = Attempts::default();
        loop {
            let found = unlocked(self, caller, id, deadline).await?;
            found.needs(self, &[Need::Alive, Need::Committed, Need::NotSuspended])?;
            let apply = |mark: &mut Mark| apply(&mut mark.services);
            match write(self, &found, &apply).await? {
                Ok(mark) => return Ok(mark.services),
                Err(unwritten) => attempts.count(unwritten, id)?,
            }
        }
    }

    /// The id that a visitor means. Without an id or a nonce only a listing tells.
    async fn asked_id(&self, asked: &Asked) -> Result<SandboxId, Error> {
        if let Some(id) = &asked.id {
            return self.sandbox(id);
        }
        if let Some(nonce) = asked.nonce {
            let id = self.id_of(asked.vmid, nonce).ok_or_else(|| not_found(asked.vmid))?;
            return Ok(SandboxId { node: asked.node.clone().unwrap_or_default(), ..id });
        }
        let inventory = Inventory::read(self).await?;
        let ours = inventory
            .guest(asked.vmid)
            .and_then(|it| Some((it.row.node.clone(), it.ours.as_ref()?.mark.id())));
        let (node, id) = ours.ok_or_else(|| not_found(asked.vmid))?;
        Ok(SandboxId { node: node_hint(&node), ..id })
    }

    /// The id of the guest that had this VMID and this nonce, if this deployment gave that out.
    fn id_of(&self, vmid: Vmid, nonce: Nonce) -> Option<SandboxId> {
        let (secrets, deployment) = (&self.settings.secrets, &self.settings.deployment);
        let kind = [Kind::Lxc, Kind::Qemu]
            .into_iter()
            .find(|kind| nonce.proved_by(secrets, deployment, *kind, vmid).is_some())?;
        Some(SandboxId { provider: kind.provider(), vmid, nonce, node: String::new() })
    }

    /// The gateway itself, which sees the sandboxes of all teams of the deployment.
    fn gateway(&self) -> Caller {
        Caller { team: self.settings.deployment.clone(), admin: true }
    }
}

/// Seconds after which one that shall run, and does not, is brought up by whoever means to use it: whoever has begun that is
/// gone.
const LEFT_SECONDS: i64 = 10;

/// Seconds from a start, in which the servers of a sandbox may begin to listen later than its daemon.
const WARM_SECONDS: i64 = 60;

fn no_service(name: &ServiceName) -> Error {
    Error::new(Code::NotFound, format!("the sandbox has no service {name} that was declared"))
}
