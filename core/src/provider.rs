//! The provider: where a deployment's sandboxes are made, and all that can be asked of it.
//!
//! [`pve`](crate::pve) and [`morph`](crate::morph) are siblings: each has every operation of the table
//! below, with the same arguments and the same answer, and itself refuses what it cannot do. An
//! operation that one of them lacks does not compile.

use std::{ops::Deref, time::Duration};

use futures_util::{Stream, future::Either};
use http::HeaderMap;
use pve_edge_guest_protocol::process::{Scope, Size};

use crate::{
    access::keys::Caller,
    daemon::Daemon,
    error::Error,
    io::{Answer, Io, apart::apart, deadline::Deadline, invocation::Invocation},
    morph::{Cloud, Morph},
    pve::{api::Pve, cluster::Cluster, file::Files},
    sandbox::{
        Created, Removed, Shown,
        command::{ExecRequest, Outcome},
        creation::CreateRequest,
        health::Report,
        id::SandboxId,
        lifetime::Ttl,
        listing::{Filter, Page},
        offer::Offer,
        patch::Patch,
        power::{PauseBody, Powered, RollbackBody, StartBody, StopBody},
        preset::ProviderName,
        process::{
            After, Encoding, Event, Metrics, OutputPage, Process, ProcessId, ProcessRequest, Processes, Stdin,
        },
        service::{ServiceName, Services, Terms, Wish},
        snapshot::{KeptSnapshot, ShownSnapshot, Snapshot, SnapshotRequest, Taken},
        sweep,
        template::{Built, Confirmation, Template, TemplateRequest},
        terminal::TerminalRequest,
        visit::{Asked, Identity, Rest},
    },
    settings::Settings,
};

/// The client of a deployment's provider, which is kept between requests.
#[derive(Clone, Debug)]
pub enum Client {
    /// Of a PVE cluster.
    Pve(Pve),
    /// Of Morph Cloud.
    Morph(Morph),
}

impl Client {
    /// The client that the settings ask for; `None` when its address or its key is missing.
    pub fn new(settings: &Settings) -> Option<Self> {
        match settings.provider {
            ProviderName::Morph => {
                Morph::new(&settings.morph_base_url, settings.morph_api_key.as_ref()?).map(Self::Morph)
            }
            ProviderName::PveLxc | ProviderName::PveVm => {
                let access = settings.access.as_ref().map(|(id, secret)| (id, secret));
                let pve = Pve::new(settings.api_url.as_deref()?, settings.api_token.as_ref()?, access);
                pve.map(Self::Pve)
            }
        }
    }
}

/// The provider that one request works with.
pub enum Provider<'a, I> {
    /// A PVE cluster.
    Pve(Cluster<'a, I>),
    /// Morph Cloud.
    Morph(Cloud<'a, I>),
}

impl<'a, I: Io> Provider<'a, I> {
    /// The provider of a deployment, for one request.
    pub fn new(invocation: Invocation<I>, settings: &'a Settings, client: &'a Client) -> Self {
        match client {
            Client::Pve(pve) => Self::Pve(Cluster::new(invocation, settings, pve)),
            Client::Morph(morph) => Self::Morph(Cloud::new(invocation, settings, morph)),
        }
    }

    /// The deployment's settings.
    pub fn settings(&self) -> &'a Settings {
        match self {
            Self::Pve(cluster) => cluster.settings,
            Self::Morph(cloud) => cloud.settings,
        }
    }

    /// Gives the way to a sandbox's files.
    pub async fn files(&self, caller: &Caller, id: &str) -> Result<Files<'_, I>, Error> {
        match self {
            Self::Pve(cluster) => cluster.files(caller, id).await,
            Self::Morph(cloud) => Err(cloud.no_files(id)),
        }
    }

    /// Runs a command and tells its events as they come; `key` is the `Idempotency-Key`.
    pub async fn exec_events(
        &self,
        caller: &Caller,
        id: &str,
        command: &ExecRequest,
        key: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
        Ok(match self {
            Self::Pve(cluster) => Either::Left(apart(cluster.exec_events(caller, id, command, key)).await?),
            Self::Morph(cloud) => Either::Right(apart(cloud.exec_events(caller, id, command, key)).await?),
        })
    }

    /// Tells the events of a process from some place on, as they come.
    pub async fn process_events(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        from: (&After, Encoding),
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
        Ok(match self {
            Self::Pve(cluster) => {
                Either::Left(apart(cluster.process_events(caller, id, process, from)).await?)
            }
            Self::Morph(cloud) => {
                Either::Right(apart(cloud.process_events(caller, id, process, from)).await?)
            }
        })
    }
}

impl<I> Deref for Provider<'_, I> {
    type Target = Invocation<I>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Pve(cluster) => cluster,
            Self::Morph(cloud) => cloud,
        }
    }
}

/// One row for each operation; `id` is as the caller has spelled it, and is proved by the provider.
macro_rules! operations {
    ($( $(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty; )*) => {
        impl<I: Io> Provider<'_, I> {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($argument: $type),*) -> $answer {
                    match self {
                        Self::Pve(cluster) => apart(cluster.$name($($argument),*)).await,
                        Self::Morph(cloud) => apart(cloud.$name($($argument),*)).await,
                    }
                }
            )*
        }
    };
}

operations! {
    /// Reports whether sandboxes can be made, and what is wrong if they cannot.
    health() -> Report;
    /// Tells what a client may ask for.
    offer() -> Result<Offer, Error>;
    /// Creates a sandbox, or answers with the one that the same key made before.
    create(caller: &Caller, request: &CreateRequest, key: Option<&str>, deadline: Deadline<'_, I>) -> Result<Created, Error>;
    /// Lists the caller's sandboxes.
    list(caller: &Caller, filter: &Filter) -> Result<Page, Error>;
    /// Reads one sandbox; one that is coming up is carried on until `deadline`.
    get(caller: &Caller, id: &str, deadline: Deadline<'_, I>) -> Result<Shown, Error>;
    /// Changes name, metadata or time, if the sandbox is still what `if_match` names.
    patch(caller: &Caller, id: &str, patch: &Patch, if_match: Option<&str>, deadline: Deadline<'_, I>) -> Result<Shown, Error>;
    /// Gives a sandbox its span again, or `ttl`, counted from now.
    extend(caller: &Caller, id: &str, ttl: Option<Ttl>, if_match: Option<&str>, deadline: Deadline<'_, I>) -> Result<Shown, Error>;
    /// Deletes a sandbox.
    remove(caller: &Caller, id: &str, if_match: Option<&str>, deadline: Deadline<'_, I>) -> Result<Removed, Error>;
    /// Runs a command and collects its output; `key` is the `Idempotency-Key`.
    exec(caller: &Caller, id: &str, command: &ExecRequest, key: Option<&str>) -> Result<Outcome, Error>;
    /// Gives the project's own daemon in a sandbox; `what` names the thing that only it can do.
    daemon(caller: &Caller, id: &str, what: &str) -> Result<Daemon<'_, I>, Error>;
    /// Tells why the daemon of a sandbox was not reached: the sandbox's state, where that explains it, else `error`.
    unreached(caller: &Caller, id: &str, error: Error) -> Error;
    /// Starts a process.
    start_process(caller: &Caller, id: &str, request: &ProcessRequest, key: Option<&str>) -> Result<Process, Error>;
    /// Lists processes, those of a tag alone if there is one.
    list_processes(caller: &Caller, id: &str, tag: Option<&str>) -> Result<Processes, Error>;
    /// Reads one process.
    get_process(caller: &Caller, id: &str, process: ProcessId) -> Result<Process, Error>;
    /// Kills a process with its descendants, and forgets it.
    remove_process(caller: &Caller, id: &str, process: ProcessId) -> Result<(), Error>;
    /// Reads a process's output from some place on, as far as it has come.
    read_output(caller: &Caller, id: &str, process: ProcessId, from: (&After, Encoding), wait: Duration) -> Result<OutputPage, Error>;
    /// Writes to a process's standard input, behind so many bytes, and tells whether these are the last ones.
    write_stdin(caller: &Caller, id: &str, process: ProcessId, place: (u64, bool), bytes: &[u8]) -> Result<Stdin, Error>;
    /// Sends a signal to a process.
    signal_process(caller: &Caller, id: &str, process: ProcessId, to_send: (String, Scope)) -> Result<Process, Error>;
    /// Changes the size of a process's terminal.
    resize_process(caller: &Caller, id: &str, process: ProcessId, size: Size) -> Result<Process, Error>;
    /// Opens a terminal, on a websocket with the headers `opening`; the answer has status 101.
    open_terminal(caller: &Caller, id: &str, request: &TerminalRequest, opening: &HeaderMap) -> Result<Answer<I::Body>, Error>;
    /// Measures a sandbox.
    metrics(caller: &Caller, id: &str) -> Result<Metrics, Error>;
    /// Starts a stopped sandbox, or resumes a paused one.
    start(caller: &Caller, id: &str, body: &StartBody, deadline: Deadline<'_, I>) -> Result<Powered, Error>;
    /// Stops a sandbox.
    stop(caller: &Caller, id: &str, body: &StopBody, deadline: Deadline<'_, I>) -> Result<Powered, Error>;
    /// Reboots a running sandbox.
    reboot(caller: &Caller, id: &str, body: &StopBody, deadline: Deadline<'_, I>) -> Result<Powered, Error>;
    /// Pauses a sandbox.
    pause(caller: &Caller, id: &str, body: &PauseBody, deadline: Deadline<'_, I>) -> Result<Powered, Error>;
    /// Rolls a sandbox back to a snapshot that it keeps.
    rollback(caller: &Caller, id: &str, body: &RollbackBody, deadline: Deadline<'_, I>) -> Result<Powered, Error>;
    /// Declares a service of a sandbox, or changes it.
    put_service(caller: &Caller, id: &str, name: &ServiceName, wish: &Wish, deadline: Deadline<'_, I>) -> Result<Terms, Error>;
    /// Takes the declaration of a service back.
    remove_service(caller: &Caller, id: &str, name: &ServiceName, deadline: Deadline<'_, I>) -> Result<(), Error>;
    /// Reads the services of a sandbox, and its id.
    services(caller: &Caller, id: &str) -> Result<(SandboxId, Services), Error>;
    /// Finds the sandbox that a visitor asks for.
    identify(asked: &Asked) -> Result<Identity, Error>;
    /// Tells what a sandbox does, for a visitor whose request nothing in it has taken.
    rest(id: &SandboxId) -> Result<Rest, Error>;
    /// Starts or resumes a sandbox for a visitor, unless somebody else has begun that.
    wake(id: &SandboxId, deadline: Deadline<'_, I>) -> Result<(), Error>;
    /// Gives a sandbox that is visited its time again.
    renew_visited(id: &SandboxId) -> Result<(), Error>;
    /// Takes a snapshot of a sandbox.
    take_snapshot(caller: &Caller, id: &str, request: &SnapshotRequest, deadline: Deadline<'_, I>) -> Result<Taken, Error>;
    /// Lists the snapshots that a sandbox keeps.
    list_kept(caller: &Caller, id: &str) -> Result<Vec<KeptSnapshot>, Error>;
    /// Deletes a snapshot that a sandbox keeps.
    remove_kept(caller: &Caller, id: &str, snapshot: &str, deadline: Deadline<'_, I>) -> Result<Removed, Error>;
    /// Lists the caller's snapshots, and all presets.
    list_snapshots(caller: &Caller) -> Result<Vec<Snapshot>, Error>;
    /// Reads one snapshot; one that is being made is carried on until `deadline`.
    get_snapshot(caller: &Caller, id: &str, deadline: Deadline<'_, I>) -> Result<ShownSnapshot, Error>;
    /// Changes a snapshot's name or metadata.
    patch_snapshot(caller: &Caller, id: &str, patch: &Patch, if_match: Option<&str>) -> Result<ShownSnapshot, Error>;
    /// Deletes a snapshot.
    remove_snapshot(caller: &Caller, id: &str, if_match: Option<&str>, deadline: Deadline<'_, I>) -> Result<Removed, Error>;
    /// Makes a template from nothing; `key` is the `Idempotency-Key` and the request's canonical text.
    build_template(caller: &Caller, request: &TemplateRequest, key: Option<(&str, &str)>, deadline: Deadline<'_, I>) -> Result<Built, Error>;
    /// Reads one template; one that is being made is carried on until `deadline`.
    get_template(caller: &Caller, id: &str, deadline: Deadline<'_, I>) -> Result<Template, Error>;
    /// Notes that root has put the exec daemon into a template.
    confirm_template(caller: &Caller, id: &str, confirmation: &Confirmation, deadline: Deadline<'_, I>) -> Result<Template, Error>;
    /// Deletes a template.
    remove_template(caller: &Caller, id: &str, deadline: Deadline<'_, I>) -> Result<Removed, Error>;
    /// Brings to its end what nobody asks for again.
    sweep(dry_run: bool) -> Result<sweep::Report, Error>;
}
