//! The operations of [`Provider`](crate::provider::Provider), on Morph Cloud.

use futures_util::Stream;

use super::{
    Cloud, change, config, create, exec,
    health::health,
    instance::{self, Instance},
    power, read, remove, snapshot,
    sweep::sweep,
};
use crate::{
    access::keys::Caller,
    daemon::Daemon,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        Created, Removed, Shown,
        channel::Channel,
        command::{ExecRequest, Outcome, OutputRoom},
        creation::CreateRequest,
        health::Report,
        id::{MorphId, SourceId, not_found},
        lifetime::Ttl,
        listing::{Filter, Page},
        offer::Offer,
        patch::Patch,
        power::{Did, Keeps, PauseBody, Powered, RollbackBody, StartBody, StopBody},
        process::Event,
        snapshot::{KeptSnapshot, ShownSnapshot, Snapshot, SnapshotRequest, Taken},
        sweep::Report as SweepReport,
        template::{Built, Confirmation, Template, TemplateRequest},
    },
};

impl<I: Io> Cloud<'_, I> {
    pub(crate) async fn health(&self) -> Report {
        health(self).await
    }

    pub(crate) async fn offer(&self) -> Result<Offer, Error> {
        config::config(self).await
    }

    pub(crate) async fn create(
        &self,
        caller: &Caller,
        request: &CreateRequest,
        key: Option<&str>,
        deadline: Deadline<'_, I>,
    ) -> Result<Created, Error> {
        let made = create::create(self, caller, request, key, deadline).await?;
        Ok(Created { shown: self.shown(&made.instance), ready: made.ready, replayed: made.replayed })
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
        Ok(self.shown(&read::get(self, caller, &sandbox(id)?, deadline).await?))
    }

    pub(crate) async fn patch(
        &self,
        caller: &Caller,
        id: &str,
        patch: &Patch,
        if_match: Option<&str>,
        _deadline: Deadline<'_, I>,
    ) -> Result<Shown, Error> {
        Ok(self.shown(&change::patch(self, caller, &sandbox(id)?, patch, if_match).await?))
    }

    pub(crate) async fn extend(
        &self,
        caller: &Caller,
        id: &str,
        ttl: Option<Ttl>,
        if_match: Option<&str>,
        _deadline: Deadline<'_, I>,
    ) -> Result<Shown, Error> {
        Ok(self.shown(&change::extend(self, caller, &sandbox(id)?, ttl, if_match).await?))
    }

    pub(crate) async fn remove(
        &self,
        caller: &Caller,
        id: &str,
        if_match: Option<&str>,
        _deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        remove::remove(self, caller, &sandbox(id)?, if_match).await?;
        Ok(Removed::Done)
    }

    pub(crate) async fn exec(
        &self,
        caller: &Caller,
        id: &str,
        command: &ExecRequest,
        key: Option<&str>,
    ) -> Result<Outcome, Error> {
        let opened = exec::open(self, caller, &sandbox(id)?, command, key).await?;
        Outcome::collect(opened.events(), OutputRoom::of(&self.platform)).await
    }

    pub(crate) async fn exec_events(
        &self,
        caller: &Caller,
        id: &str,
        command: &ExecRequest,
        key: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
        Ok(exec::open(self, caller, &sandbox(id)?, command, key).await?.events())
    }

    /// Refuses files, for which Morph has no call.
    pub(crate) fn no_files(&self, id: &str) -> Error {
        sandbox(id).map_or_else(|error| error, |_| Channel::Morph.lacks("a file"))
    }

    /// Morph runs commands in its machines itself.
    pub(crate) async fn daemon(
        &self,
        _caller: &Caller,
        id: &str,
        what: &str,
    ) -> Result<Daemon<'_, I>, Error> {
        sandbox(id)?;
        Err(Channel::Morph.lacks(what))
    }

    pub(crate) async fn unreached(&self, _caller: &Caller, _id: &str, error: Error) -> Error {
        error
    }

    pub(crate) async fn start(
        &self,
        caller: &Caller,
        id: &str,
        body: &StartBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        power::resume(self, caller, &sandbox(id)?, body, deadline).await
    }

    /// Morph has no state between running and gone.
    pub(crate) async fn stop(
        &self,
        _caller: &Caller,
        id: &str,
        body: &StopBody,
        _deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        body.timeout()?;
        sandbox(id)?;
        let text =
            "Morph stops nothing without deleting it: pause it, which keeps files and memory, or delete it";
        Err(Error::new(Code::Unsupported, text))
    }

    pub(crate) async fn reboot(
        &self,
        caller: &Caller,
        id: &str,
        body: &StopBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        body.timeout()?;
        power::reboot(self, caller, &sandbox(id)?, deadline).await
    }

    pub(crate) async fn pause(
        &self,
        caller: &Caller,
        id: &str,
        body: &PauseBody,
        deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        power::pause(self, caller, &sandbox(id)?, body, deadline).await
    }

    pub(crate) async fn rollback(
        &self,
        _caller: &Caller,
        id: &str,
        _body: &RollbackBody,
        _deadline: Deadline<'_, I>,
    ) -> Result<Powered, Error> {
        sandbox(id)?;
        let text = "Morph brings no sandbox back: make another from a snapshot";
        Err(Error::new(Code::Unsupported, text))
    }

    pub(crate) async fn take_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        request: &SnapshotRequest,
        deadline: Deadline<'_, I>,
    ) -> Result<Taken, Error> {
        snapshot::take(self, caller, &sandbox(id)?, request, deadline).await.map(Taken::Template)
    }

    /// Morph keeps no snapshots on a sandbox.
    pub(crate) async fn list_kept(&self, caller: &Caller, id: &str) -> Result<Vec<KeptSnapshot>, Error> {
        let found = instance::find_instance(self, caller, &sandbox(id)?).await?;
        read::ensure_alive(&found, self.now())?;
        Ok(Vec::new())
    }

    pub(crate) async fn remove_kept(
        &self,
        caller: &Caller,
        id: &str,
        snapshot: &str,
        _deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        self.list_kept(caller, id).await?;
        Err(Error::new(Code::NotFound, format!("this sandbox keeps no snapshot {snapshot}")))
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
        snapshot::get(self, caller, &snapshot_id(id)?, deadline).await
    }

    pub(crate) async fn patch_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        patch: &Patch,
        if_match: Option<&str>,
    ) -> Result<ShownSnapshot, Error> {
        snapshot::patch(self, caller, &snapshot_id(id)?, patch, if_match).await
    }

    pub(crate) async fn remove_snapshot(
        &self,
        caller: &Caller,
        id: &str,
        if_match: Option<&str>,
        _deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        snapshot::remove(self, caller, &snapshot_id(id)?, if_match).await?;
        Ok(Removed::Done)
    }

    pub(crate) async fn build_template(
        &self,
        _caller: &Caller,
        _request: &TemplateRequest,
        _key: Option<(&str, &str)>,
        _deadline: Deadline<'_, I>,
    ) -> Result<Built, Error> {
        let text = "Morph makes machines of snapshots: take one of a sandbox, with promote";
        Err(Error::new(Code::Unsupported, text))
    }

    pub(crate) async fn get_template(
        &self,
        _caller: &Caller,
        id: &str,
        _deadline: Deadline<'_, I>,
    ) -> Result<Template, Error> {
        Err(no_template(id))
    }

    pub(crate) async fn confirm_template(
        &self,
        _caller: &Caller,
        id: &str,
        _confirmation: &Confirmation,
        _deadline: Deadline<'_, I>,
    ) -> Result<Template, Error> {
        Err(no_template(id))
    }

    pub(crate) async fn remove_template(
        &self,
        _caller: &Caller,
        id: &str,
        _deadline: Deadline<'_, I>,
    ) -> Result<Removed, Error> {
        Err(no_template(id))
    }

    pub(crate) async fn sweep(&self, dry_run: bool) -> Result<SweepReport, Error> {
        sweep(self, dry_run).await
    }

    /// The sandbox that an instance is.
    pub(super) fn shown(&self, instance: &Instance) -> Shown {
        Shown { sandbox: read::show_sandbox(self, instance), etag: Some(read::etag(instance)) }
    }

    /// The sandbox after a power action.
    pub(super) fn powered(
        &self,
        did: Did,
        finished: bool,
        keeps: Option<Keeps>,
        instance: &Instance,
    ) -> Powered {
        Powered { did, finished, keeps, shown: self.shown(instance) }
    }
}

/// The id of an instance.
pub(super) fn sandbox(id: &str) -> Result<MorphId, Error> {
    MorphId::instance(id).ok_or_else(|| not_found(id))
}

fn snapshot_id(id: &str) -> Result<MorphId, Error> {
    match id.parse() {
        Ok(SourceId::Morph(id)) => Ok(id),
        Ok(SourceId::Preset(id)) => {
            Err(Error::new(Code::Forbidden, format!("{id} is a preset: GET /api/snapshots shows it")))
        }
        _ => Err(Error::new(Code::NotFound, format!("there is no snapshot {id}"))),
    }
}

fn no_template(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no template {id}"))
}
