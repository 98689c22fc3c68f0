//! The way into the guest in which a template is built: a container's console, or a VM's guest agent.

use pve_edge_guest_protocol::{Unique, answer::Code as Refused, process::Spec};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    WORK,
    next::Seen,
    script::{self, Left},
};
use crate::{
    daemon::CallFailure,
    error::{Code, Error},
    io::Io,
    pve::{
        api::PveError,
        cluster::Cluster,
        console::Console,
        guest::{Located, agent},
        marks::Mark,
    },
    sandbox::{
        id::Kind,
        process::State,
        template::Step::{self, Packages},
    },
};

/// Bytes of a piece of the program that goes through a console.
const PIECE: usize = 64 << 10;

/// Why a turn came to nothing.
pub(super) enum Stop {
    /// The next one may come further.
    Again,
    /// The guest agent does not answer.
    Silent,
    /// There is no way into the guest.
    NoWay(Error),
    /// The build has failed.
    Failed(Step, String),
    /// The request itself cannot be done.
    Error(Error),
}

impl From<CallFailure> for Stop {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NoWay(error) => match error.code() {
                Code::ConsoleRefused | Code::PveForbidden | Code::Unsupported => Self::NoWay(*error),
                _ => Self::Again,
            },
            _ => Self::Again,
        }
    }
}

impl From<PveError> for Stop {
    fn from(error: PveError) -> Self {
        Self::Error(error.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Stop {
    /// What a script comes to that the agent was asked to run.
    fn of_agent(error: PveError) -> Self {
        let is_lasting = error.is_forbidden()
            || error.is_unsupported()
            || error.lacks_agent()
            || error.forbids_agent_exec();
        match error {
            error if is_lasting => Self::NoWay(error.into()),
            error if error.is_agent_silent() => Self::Silent,
            _ => Self::Again,
        }
    }
}

/// A way into the guest.
pub(super) enum Way<'a, 'c, I: Io> {
    /// The console of a container.
    Console(Box<Console<I>>, Unique),
    /// The guest agent of a VM.
    Agent(&'a Cluster<'c, I>, &'a Located),
}

impl<'a, 'c, I: Io> Way<'a, 'c, I> {
    /// The way into this guest; nothing is opened yet.
    pub(super) fn new(cluster: &'a Cluster<'c, I>, found: &'a Located) -> Self {
        match found.mark.kind {
            Kind::Lxc => {
                let console = Console::new(cluster, cluster.pve, found);
                Self::Console(Box::new(console), name(&found.mark))
            }
            Kind::Qemu => Self::Agent(cluster, found),
        }
    }

    /// Bytes of a piece of the program.
    pub(super) fn piece(&self) -> usize {
        match self {
            Self::Console(..) => PIECE,
            Self::Agent(..) => agent::INPUT,
        }
    }

    /// Runs a script of our own to its end; its exit code and its output. It may be run again.
    pub(super) async fn script(
        &mut self,
        text: String,
        input: Vec<u8>,
        until: OffsetDateTime,
    ) -> Result<(i32, Vec<u8>), Stop> {
        match self {
            Self::Console(console, _) => Ok(console.script(text, input, until).await?),
            Self::Agent(cluster, found) => {
                agent::script(cluster, found, &text, &input, until).await.map_err(Stop::of_agent)
            }
        }
    }

    /// Starts the packages and the user's script, once at most, with this folder.
    pub(super) async fn begin(
        &mut self,
        folder: &str,
        work: String,
        until: OffsetDateTime,
    ) -> Result<(), Stop> {
        match self {
            Self::Console(console, name) => {
                let argv = ["sh".into(), "-c".into(), work].into();
                let ms = u64::try_from(WORK.as_millis()).ok();
                let spec =
                    Spec { argv: Some(argv), cwd: Some("/".into()), timeout_ms: ms, ..Spec::default() };
                console.run(*name, &spec, true, until).await?;
                Ok(())
            }
            Self::Agent(..) => {
                let (code, said) =
                    self.script(script::detached(folder, &work, WORK.as_secs()), Vec::new(), until).await?;
                match code {
                    0 => Ok(()),
                    _ => Err(Stop::Failed(Packages, script::plain(&String::from_utf8_lossy(&said)))),
                }
            }
        }
    }

    /// Looks how far the build of this folder has come: at its process first, which may end meanwhile.
    pub(super) async fn look(&mut self, folder: &str, until: OffsetDateTime) -> Result<Seen, Stop> {
        match self {
            Self::Console(console, name) => {
                let mut process = process(console, *name, until).await?;
                let (_, said) = console.script(script::look(folder), Vec::new(), until).await?;
                let left: Left = script::left(&said).ok_or(Stop::Again)?;
                // Somebody has just begun it.
                if process.is_none() && left.step.is_some() {
                    process = self::process(console, *name, until).await?;
                }
                Ok(Seen { process, left })
            }
            Self::Agent(..) => {
                let text = format!("{}{}", script::state(folder), script::look(folder));
                let (_, said) = self.script(text, Vec::new(), until).await?;
                let at = said.iter().position(|it| *it == b'\n').ok_or(Stop::Again)?;
                let (state, rest) = said.split_at_checked(at + 1).ok_or(Stop::Again)?;
                let process = script::process(state).ok_or(Stop::Again)?;
                Ok(Seen { process, left: script::left(rest).ok_or(Stop::Again)? })
            }
        }
    }
}

/// How the process of packages and script stands that was begun in a console.
async fn process<I: Io>(
    console: &mut Console<I>,
    name: Unique,
    until: OffsetDateTime,
) -> Result<Option<State>, Stop> {
    match console.process(name, until).await {
        Ok(process) => Ok(Some(process.state)),
        Err(CallFailure::Refused(it)) if it.code == Refused::NoSuchProcess => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// The name of a build's process.
fn name(mark: &Mark) -> Unique {
    let digest = Sha256::digest(format!("template build {}", mark.nonce));
    Unique(digest.first_chunk().copied().unwrap_or_default())
}
