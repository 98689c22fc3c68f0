//! The operations of [`Provider`](crate::provider::Provider), on a PVE cluster.

use futures_util::Stream;

use super::{
    change,
    cluster::Cluster,
    create, exec,
    file::{self, Files},
    health::health,
    power::{self, Done},
    read, remove, rollback,
    snapshot::{self, keep},
    sweep::sweep,
    template,
};
use crate::{
    access::keys::Caller,
    daemon::Daemon,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        Created, Removed, Shown,
        command::{ExecRequest, Outcome, OutputRoom},
        creation::CreateRequest,
        health::Report,
        id::{SandboxId, SourceId, SpelledId, not_found},
        lifetime::Ttl,
        listing::{Filter, Page},
        offer::Offer,
        patch::Patch,
        power::{PauseBody, Powered, RollbackBody, StartBody, StopBody},
        process::Event,
        snapshot::{KeptSnapshot, ShownSnapshot, Snapshot, SnapshotRequest, Taken},
        sweep::Report as SweepReport,
        template::{Built, Confirmation, Template, TemplateRequest},
    },
};

impl<I: Io> Cluster<'_, I> {
    pub(crate) async fn health(&self) -> Report {
        health(self).await
    }

    pub(crate) async fn offer(&self) -> Result<Offer, Error> {
        read::config(self).await
    }

    pub(crate) async fn create(
        &self,
        caller: &Caller,
        request: &CreateRequest,
        key: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Created, Error> {
        let made = create::create(self, caller, request, key, deadline).await?;
        let ready = made.progress.ready;
        Ok(Created { shown: read::show_progress(self, made.progress).await, ready, replayed: made.replayed })
    }

    pub(crate) async fn list(&self, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
        read::list(self, caller, filter).await
    }

    pub(crate) async fn get(
        &self,
        caller: &Caller,
        id: &str,
        deadline: Deadline<'_, I>,
    ) -> Result<Shown, Error> {
        read::get(self, caller, &self.sandbox(id)?, deadline).await
    }

    pub(crate) async fn patch(
        &self,
        caller: &Caller,
        id: &str,
        patch: &Patch,
        if_match: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Shown, Error> {
        let changed = change::patch(self, caller, &self.sandbox(id)?, patch, if_match, deadline).await?;
        read::show_changed(self, changed).await
    }

    pub(crate) async fn extend(
        &self,
        caller: &Caller,
        id: &str,
        ttl: Option<Ttl>,
        if_match: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Shown, Error> {
        let changed = change::extend(self, caller, &self.sandbox(id)?, ttl, if_match, deadline).await?;
        read::show_changed(self, changed).await
    }

    pub(crate) async fn remove(
        &self,
        caller: &Caller,
        id: &str,
        if_match: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        remove::remove(self, caller, &self.sandbox(id)?, if_match, deadline).await
    }

    pub(crate) async fn exec(
        &self,
        caller: &Caller,
        id: &str,
        command: &ExecRequest,
        key: Option<&str>,
    ) -> Result<Outcome, Error> {
        let events = exec::events(self, caller, &self.sandbox(id)?, command, key).await?;
        Outcome::collect(events, OutputRoom::of(&self.platform)).await
    }

    pub(crate) async fn exec_events(
        &self,
        caller: &Caller,
        id: &str,
        command: &ExecRequest,
        key: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
        exec::events(self, caller, &self.sandbox(id)?, command, key).await
    }

    pub(crate) async fn files(&self, caller: &Caller, id: &str) -> Result<Files<'_, I>, Error> {
        file::files(self, caller, &self.sandbox(id)?).await
    }

    pub(crate) async fn daemon(&self, caller: &Caller, id: &str, what: &str) -> Result<Daemon<'_, I>, Error> {
        file::daemon(self, caller, &self.sandbox(id)?, what).await
    }

    pub(crate) async fn unreached(&self, caller: &Caller, id: &str, error: Error) -> Error {
        match self.sandbox(id) {
            Ok(id) => file::unreached(self, caller, &id, error).await,
            Err(_) => error,
        }
    }

    pub(crate) async fn start(
        &self,
        caller: &Caller,
        id: &str,
        body: &StartBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        let id = self.sandbox(id)?;
        let done = power::start(self, caller, &id, body, deadline).await?;
        self.powered(caller, &id, done).await
    }

    pub(crate) async fn stop(
        &self,
        caller: &Caller,
        id: &str,
        body: &StopBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        let id = self.sandbox(id)?;
        let done = power::stop(self, caller, &id, body, deadline).await?;
        self.powered(caller, &id, done).await
    }

    pub(crate) async fn reboot(
        &self,
        caller: &Caller,
        id: &str,
        body: &StopBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        let id = self.sandbox(id)?;
        let done = power::reboot(self, caller, &id, body, deadline).await?;
        self.powered(caller, &id, done).await
    }

    pub(crate) async fn pause(
        &self,
        caller: &Caller,
        id: &str,
        body: &PauseBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        let id = self.sandbox(id)?;
        let done = power::pause(self, caller, &id, body, deadline).await?;
        self.powered(caller, &id, done).await
    }

    pub(crate) async fn rollback(
        &self,
        caller: &Caller,
        id: &str,
        body: &RollbackBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        let id = self.sandbox(id)?;
        let done = rollback::rollback(self, caller, &id, body, deadline).await?;
        self.powered(caller, &id, done).await
    }

    pub(crate) async fn take_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        request: &SnapshotRequest,
        deadline: Deadline<'_, I>,
    ) -> Result<Taken, Error> {
        let id = self.sandbox(id)?;
        if request.keep {
            let (kept, is_done) = keep::take(self, caller, &id, request, deadline).await?;
            return Ok(Taken::Kept { sandbox: id.to_string(), kept, is_done });
        }
        snapshot::take(self, caller, &id, request, deadline).await.map(Taken::Template)
    }

    pub(crate) async fn list_kept(&self, caller: &Caller, id: &str) -> Result<Vec<KeptSnapshot>, Error> {
        keep::list(self, caller, &self.sandbox(id)?).await
    }

    pub(crate) async fn remove_kept(
        &self,
        caller: &Caller,
        id: &str,
        snapshot: &str,
        deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        keep::remove(self, caller, &self.sandbox(id)?, snapshot, deadline).await.map(Removed::when)
    }

    pub(crate) async fn list_snapshots(&self, caller: &Caller) -> Result<Vec<Snapshot>, Error> {
        snapshot::list(self, caller).await
    }

    pub(crate) async fn get_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        deadline: Deadline<'_, I>,
    ) -> Result<ShownSnapshot, Error> {
        snapshot::get(self, caller, &self.snapshot(id)?, deadline).await
    }

    pub(crate) async fn patch_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        patch: &Patch,
        if_match: Option<&str>,
    ) -> Result<ShownSnapshot, Error> {
        snapshot::patch(self, caller, &self.snapshot(id)?, patch, if_match).await
    }

    pub(crate) async fn remove_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        if_match: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        snapshot::remove(self, caller, &self.snapshot(id)?, if_match, deadline).await.map(Removed::when)
    }

    pub(crate) async fn build_template(
        &self,
        caller: &Caller,
        request: &TemplateRequest,
        key: Option<(&str, &str)>,
        deadline: Deadline<'_, I>,
    ) -> Result<Built, Error> {
        template::build(self, caller, request, key, deadline).await
    }

    pub(crate) async fn get_template(
        &self,
        caller: &Caller,
        id: &str,
        deadline: Deadline<'_, I>,
    ) -> Result<Template, Error> {
        template::get(self, caller, &self.template(id)?, deadline).await
    }

    pub(crate) async fn confirm_template(
        &self,
        caller: &Caller,
        id: &str,
        confirmation: &Confirmation,
        deadline: Deadline<'_, I>,
    ) -> Result<Template, Error> {
        template::confirm(self, caller, &self.template(id)?, confirmation, deadline).await
    }

    pub(crate) async fn remove_template(
        &self,
        caller: &Caller,
        id: &str,
        deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        template::remove(self, caller, &self.template(id)?, deadline).await.map(Removed::when)
    }

    pub(crate) async fn sweep(&self, dry_run: bool) -> Result<SweepReport, Error> {
        sweep(self, dry_run).await
    }

    /// The sandbox after a power action: as it was left, or read again where that is not known.
    async fn powered(&self, caller: &Caller, id: &SandboxId, done: Done) -> Result<Powered, Error> {
        let Done { did, finished, keeps, after } = done;
        let shown = match &after {
            Some(place) => read::show_after(self, place, finished).await,
            None => read::get(self, caller, id, self.at_once()).await?,
        };
        Ok(Powered { did, finished, keeps, shown })
    }

    /// The id of a guest, if this deployment gave it out.
    fn proved(&self, id: &str) -> Option<SandboxId> {
        id.parse::<SpelledId>().ok()?.prove(&self.settings.secrets, &self.settings.deployment)
    }

    /// The id of a sandbox, if this deployment gave it out.
    pub(super) fn sandbox(&self, id: &str) -> Result<SandboxId, Error> {
        self.proved(id).ok_or_else(|| not_found(id))
    }

    fn snapshot(&self, id: &str) -> Result<SandboxId, Error> {
        match (self.proved(id), id.parse::<SourceId>()) {
            (Some(id), _) => Ok(id),
            (None, Ok(SourceId::Preset(id))) => Err(Error::new(
                Code::Forbidden,
                format!("{id} is a preset: GET /api/snapshots shows it, PVE deletes it"),
            )),
            _ => Err(Error::new(Code::NotFound, format!("there is no snapshot {id}"))),
        }
    }

    fn template(&self, id: &str) -> Result<SandboxId, Error> {
        self.proved(id).ok_or_else(|| Error::new(Code::NotFound, format!("there is no template {id}")))
    }
}
