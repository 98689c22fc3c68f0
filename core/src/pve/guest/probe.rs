//! Whether a guest is up as a sandbox is: what listens in it answers us, and refuses everybody else (rule S2.13).

use std::time::Duration;

use time::OffsetDateTime;

use super::{Located, agent, execd, hello, reach};
use crate::{
    access::secret::Secret,
    daemon::{CallFailure, Daemon},
    error::{Code, Error},
    io::{Io, Way},
    pve::{cluster::Cluster, console::Console, marks::Phase},
    sandbox::{channel::Channel, command::ExecRequest, environment::Env, id::Kind, place::Place},
};

/// How long an answer by a public name may take: the edge and the tunnel are on the way.
const PUBLIC_PATIENCE: Duration = Duration::from_secs(4);

/// Looks for a daemon in a container that does not answer by itself: one that is installed and does not listen yet is
/// waited for. Where it listens, in vain, it is not reached. 99CF is its port.
const LOOK: &str = "grep -qis ':99CF [0-9A-F]*:0000 0A' /proc/net/tcp /proc/net/tcp6 && exit 0\n\
    for f in /usr/local/bin/pve-edge-guest /usr/local/bin/cmux-execd; do [ -e $f ] && exit 9; done; exit 0";
/// Exit code of [`LOOK`] where there is a daemon to wait for.
const WAIT: i32 = 9;

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It is up, and commands reach it by this channel.
    Ready(Channel),
    /// Not there yet, or something else answers for it: what came instead.
    NotYet(String),
    /// It does what nobody has proved to be ours to ask.
    Open,
    /// `cmux-execd` refuses our token.
    WrongToken,
    /// `cmux-execd` answers, and PVE had no way to give it a token.
    NoToken,
    /// Our daemon obeys none of the deployment's keys.
    NoKey,
    /// Our daemon says that it is in another sandbox.
    Elsewhere,
    /// It takes our commands, and what the sandbox needs first fails in it.
    Unable,
}

/// Asks a guest whether it is up as a sandbox is, as often as is wanted.
pub struct Prober<'e, 'a, I> {
    cluster: &'e Cluster<'a, I>,
    found: &'e Located,
    first: &'e ExecRequest,
    /// Where its daemon is, once that was proved in this request.
    places: Vec<Place>,
    /// What listens in it, as far as that is known.
    channel: Option<Channel>,
    bare: Bare,
}

/// What is known of a container whose daemon does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bare {
    /// Nothing; it did not answer so many times.
    Unknown(u32),
    /// Its console cannot be had, for this reason.
    NoConsole(String),
}

/// Number of probes without an answer after which the console of a container is asked what is in it: at first, where it
/// is not known to have a daemon, and where it is.
const UNANSWERED: (u32, u32) = (8, 12);
/// Number of further ones after which it is asked again.
const ASKED_AGAIN: u32 = 8;

impl<'e, 'a, I: Io> Prober<'e, 'a, I> {
    /// Of this guest; `first` is what is run in it before it counts as up, where no daemon of ours is.
    pub fn new(cluster: &'e Cluster<'a, I>, found: &'e Located, first: &'e ExecRequest) -> Self {
        let channel = found.mark.channel();
        Self { cluster, found, first, places: Vec::new(), channel, bare: Bare::Unknown(0) }
    }

    /// Whether only PVE tells its address, so that each probe may cost a request more.
    pub fn asks_pve(&self) -> bool {
        self.found.mark.kind == Kind::Qemu
            || self.cluster.settings.public_domain.is_none() && self.found.config.address().is_none()
    }

    /// Whether it is up. Each request waits for `patience`; by a public name, where an edge stands between, longer. An
    /// error is one that waiting does not mend.
    pub async fn ask(&mut self, patience: Duration) -> Result<Probe, Error> {
        match (self.channel, self.found.mark.kind) {
            (Some(Channel::Guest), Kind::Qemu) => self.ask_daemon(patience).await,
            (Some(Channel::Agent), _) => self.ask_agent().await,
            (Some(Channel::Terminal), _) => self.ask_console().await,
            (None, Kind::Qemu) => match self.ask_agent().await? {
                Probe::Ready(_) => self.prefer_daemon(patience).await,
                said => Ok(said),
            },
            (_, Kind::Lxc) => match self.ask_daemon(patience).await? {
                Probe::NotYet(said) => self.ask_bare(said).await,
                probed => Ok(probed),
            },
            (_, Kind::Qemu) => self.ask_daemon(patience).await,
        }
    }

    /// A container whose daemon does not answer: commands go through its console, where it has none, or where what
    /// listens in it is not reached from here.
    async fn ask_bare(&mut self, said: String) -> Result<Probe, Error> {
        let with = |why: &str| Probe::NotYet(format!("{said}; and its console: {why}"));
        let times = match &mut self.bare {
            Bare::Unknown(times) => times,
            Bare::NoConsole(why) => return Ok(with(why)),
        };
        *times += 1;
        let first = if self.channel.is_some() { UNANSWERED.1 } else { UNANSWERED.0 };
        if self.channel == Some(Channel::Execd) || *times < first || (*times - first) % ASKED_AGAIN != 0 {
            return Ok(Probe::NotYet(said));
        }
        let mut console = self.console();
        let look = ExecRequest::short(LOOK.into(), Env::default()).spec();
        match console.command(&look, self.cluster.end()).await {
            Ok(WAIT) => Ok(Probe::NotYet(said)),
            Ok(_) => self.ask_console().await,
            Err(CallFailure::NoWay(error)) if is_lasting(error.code()) => {
                let probe = with(error.detail());
                self.bare = Bare::NoConsole(error.detail().to_owned());
                Ok(probe)
            }
            Err(failure) => Ok(with(&failure.to_string())),
        }
    }

    /// Runs the first command in the console. A guest that has just started has none yet.
    async fn ask_console(&self) -> Result<Probe, Error> {
        match self.console().command(&self.first.spec(), self.cluster.end()).await {
            Ok(0) => Ok(Probe::Ready(Channel::Terminal)),
            Ok(_) => Ok(Probe::Unable),
            Err(CallFailure::NoWay(error)) if is_lasting(error.code()) => Err(*error),
            Err(failure) => Ok(Probe::NotYet(failure.to_string())),
        }
    }

    fn console(&self) -> Console<I> {
        // It may be a long wait since the sandbox was found.
        Console::new(self.cluster, self.cluster.pve, self.found).unproved()
    }

    async fn ask_agent(&self) -> Result<Probe, Error> {
        agent::probe(self.cluster, self.found, self.first).await
    }

    /// A VM whose agent answers: commands go through our daemon, where one is there too.
    async fn prefer_daemon(&mut self, patience: Duration) -> Result<Probe, Error> {
        self.locate().await?;
        let mut daemon = self.daemon();
        let (said, _) = self.look(&mut daemon, patience).await;
        match said {
            Some(Channel::Guest) => self.ask_daemon(patience).await,
            _ => Ok(Probe::Ready(Channel::Agent)),
        }
    }

    /// Asks the daemon that listens in the guest: ours, or `cmux-execd`. What is not known yet its `/healthz` tells.
    async fn ask_daemon(&mut self, patience: Duration) -> Result<Probe, Error> {
        self.locate().await?;
        if self.places.is_empty() {
            return Ok(Probe::NotYet("no address of it is known yet".into()));
        }
        let mut daemon = self.daemon();
        if self.channel != Some(Channel::Execd) {
            match self.look(&mut daemon, patience).await {
                (Some(Channel::Guest), None) => self.channel = Some(Channel::Guest),
                // What has its template's daemon has no other.
                (Some(channel), None) if self.channel.is_none() => self.channel = Some(channel),
                (_, said) => {
                    return Ok(said.unwrap_or_else(|| Probe::NotYet("another daemon answers".into())));
                }
            }
        }
        if self.channel == Some(Channel::Guest) {
            let deadline = || self.deadline(patience);
            return hello::probe(self.cluster, self.found, &mut daemon, deadline).await;
        }
        self.ask_execd(patience).await
    }

    /// What `/healthz` tells: the channel, or why that is not known. Our daemon is itself whether or not it obeys us.
    async fn look(&self, daemon: &mut Daemon<'_, I>, patience: Duration) -> (Option<Channel>, Option<Probe>) {
        match daemon.health(self.deadline(patience)).await {
            Ok(_) => (Some(Channel::Guest), None),
            Err(CallFailure::NoKey) => (Some(Channel::Guest), Some(Probe::NoKey)),
            Err(CallFailure::Foreign { status: 200 }) => (Some(Channel::Execd), None),
            Err(failure) => (None, Some(Probe::NotYet(failure.to_string()))),
        }
    }

    async fn ask_execd(&self, patience: Duration) -> Result<Probe, Error> {
        let Self { cluster, found, first, .. } = self;
        // The commit had no way to hand it over.
        if found.mark.secret.is_none() && found.mark.phase == Phase::Committed && !found.mark.was_ready {
            return Ok(Probe::NoToken);
        }
        let Some(place) = self.places.first() else {
            return Ok(Probe::NotYet("no address of it is known yet".into()));
        };
        let token = Secret::new(reach::token(cluster.settings, &found.mark));
        let wrong = Secret::new("0".repeat(64));
        let deadline = || self.deadline(patience);
        let probed = execd::probe(&cluster.io, place, (&token, first), &wrong, deadline, || cluster.spend(1));
        Ok(probed.await)
    }

    /// Finds out where the daemon is. It may have no address yet, or PVE does not tell at this moment.
    async fn locate(&mut self) -> Result<(), Error> {
        if self.places.is_empty() {
            self.places = match reach::places(self.cluster, self.found).await {
                Ok(places) => places,
                Err(error) if error.is_final() || error.is_unsupported() => return Err(error.into()),
                Err(_) => Vec::new(),
            };
        }
        Ok(())
    }

    fn daemon(&self) -> Daemon<'e, I> {
        reach::daemon_at(self.cluster, self.places.clone(), self.found)
    }

    fn deadline(&self, patience: Duration) -> OffsetDateTime {
        let is_public = self.places.iter().any(|it| it.way != Way::Guest);
        let patience = if is_public { patience.max(PUBLIC_PATIENCE) } else { patience };
        (self.cluster.now() + patience).min(self.cluster.end())
    }
}

/// Whether a console that was not opened for this reason will not be.
fn is_lasting(code: Code) -> bool {
    matches!(code, Code::ConsoleRefused | Code::PveForbidden | Code::Unsupported)
}
