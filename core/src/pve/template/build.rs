//! What is built in a template: packages, a script and the daemon, through its container's console.
//!
//! The mark says what is to be built, and the container's disk how far that has come. The user's script is begun once at
//! most: where its end is not known, the build has failed.

mod next;
mod script;

use std::time::Duration;

use pve_edge_guest_protocol::{Unique, answer::Code as Refused, process::Spec};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use self::{
    next::{Next, Seen, decide},
    script::{CHANGED, Left, PIECE},
};
use crate::{
    daemon::{
        CallFailure,
        program::{self, Arch, Manifest},
    },
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        api::PveError,
        cluster::Cluster,
        console::Console,
        guest::{Located, hello::key_names, located::was_destroyed, write::write},
        marks::{Build, Mark},
    },
    sandbox::{channel::Channel, process::State, template::Step},
};

/// Time of the packages and the script.
const WORK: Duration = Duration::from_secs(3600);
/// Time for one script of our own.
const CALL: Duration = Duration::from_secs(25);
/// Time for pieces of the program, however short the caller waits.
const PUSH: Duration = Duration::from_secs(6);
/// Time that is kept for what follows the last piece.
const AFTER: Duration = Duration::from_secs(5);

/// What came of one turn of a build.
pub(super) enum Turn {
    /// It goes on.
    Working(Step, String),
    /// It is over: the container is stopped, and can be made a template.
    Over,
    /// It has failed, and the container is stopped.
    Failed(Step, String),
    /// The container's console cannot be had, and only the daemon is missing.
    NoConsole,
}

/// Why a turn came to nothing.
enum Stop {
    /// The next one may come further.
    Again,
    /// The console cannot be had.
    NoConsole(Error),
    /// The build has failed.
    Failed(Step, String),
    /// The request itself cannot be done.
    Error(Error),
}

impl From<CallFailure> for Stop {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NoWay(error) => match error.code() {
                Code::ConsoleRefused | Code::PveForbidden | Code::Unsupported => Self::NoConsole(*error),
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

/// Does the next missing thing of a build.
pub(super) async fn turn<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    build: &Build,
    deadline: Deadline<'_, I>,
) -> Result<Turn, Error> {
    let console = Console::new(cluster, cluster.pve, &found.node, &found.mark);
    let mut builder = Builder { cluster, found, build, console, deadline };
    match builder.turn().await {
        Ok(turn) => Ok(turn),
        Err(Stop::Again) => Ok(Turn::Working(Step::Starting, String::new())),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::NoConsole(_)) if build.packages.is_empty() && build.run.is_empty() => Ok(Turn::NoConsole),
        Err(Stop::NoConsole(error)) => builder.fail(Step::Starting, error.detail()).await,
        Err(Stop::Failed(step, output)) => builder.fail(step, &output).await,
    }
}

/// One turn of a build.
struct Builder<'a, 'c, I: Io> {
    cluster: &'a Cluster<'c, I>,
    found: &'a Located,
    build: &'a Build,
    console: Console<I>,
    deadline: Deadline<'a, I>,
}

impl<I: Io> Builder<'_, '_, I> {
    async fn turn(&mut self) -> Result<Turn, Stop> {
        let (cluster, found, build) = (self.cluster, self.found, self.build);
        let running = cluster.send(found.api(cluster).status()).await?.status != "stopped";
        let seen =
            if running && !build.done && build.failed.is_none() { Some(self.look().await?) } else { None };
        let manifest = match &seen {
            Some(seen) if build.guest && seen.left.code == Some(0) => Some(program::manifest(cluster).await),
            _ => None,
        };
        let manifest = manifest.transpose().map_err(undeployed)?;
        let arch = seen.as_ref().and_then(|it| it.left.arch.parse().ok());
        let program = manifest.as_ref().zip(arch).map(|(it, arch)| it.program(arch));
        let output = seen.as_ref().map(|it| it.left.output.clone()).unwrap_or_default();
        let working = |step| Ok(Turn::Working(step, output.clone()));
        match decide(build, running, seen.as_ref(), program) {
            Next::Start => self.start().await.map(|()| Turn::Working(Step::Starting, String::new())),
            Next::Work => self.work().await.map(|()| Turn::Working(Step::Packages, String::new())),
            Next::Wait(step) => working(step),
            Next::Push(from) => {
                if let Some((manifest, arch)) = manifest.zip(arch) {
                    self.push(&manifest, arch, from).await?;
                }
                working(Step::Guest)
            }
            Next::Install => {
                if let Some((manifest, arch)) = manifest.zip(arch) {
                    self.install(&manifest, arch).await?;
                }
                working(Step::Guest)
            }
            Next::Clean => {
                self.clean().await?;
                working(Step::Cleaning)
            }
            Next::Stop => {
                self.stop().await?;
                Ok(match build.failed {
                    Some(step) => Turn::Working(step, found.mark.problem.clone().unwrap_or_default()),
                    None => Turn::Working(Step::Stopping, String::new()),
                })
            }
            Next::Over => Ok(Turn::Over),
            Next::Failed(step) => Ok(Turn::Failed(step, found.mark.problem.clone().unwrap_or_default())),
            Next::Fail(step, why) => Err(Stop::Failed(step, format!("{output}\n{why}").trim().to_owned())),
        }
    }

    fn until(&self) -> OffsetDateTime {
        (self.cluster.now() + CALL).min(self.cluster.end())
    }

    /// Runs a script of our own.
    async fn say(&mut self, text: String, input: Vec<u8>) -> Result<(i32, Vec<u8>), Stop> {
        let until = self.until();
        Ok(self.console.script(text, input, until).await?)
    }

    /// Looks how far it has come: at the process first, which may end meanwhile, and once more where somebody has just
    /// begun it.
    async fn look(&mut self) -> Result<Seen, Stop> {
        let mut process = self.process().await?;
        let (_, said) = self.say(script::look(), Vec::new()).await?;
        let left: Left = script::left(&said).ok_or(Stop::Again)?;
        if process.is_none() && left.step.is_some() {
            process = self.process().await?;
        }
        Ok(Seen { process, left })
    }

    /// How the process of packages and script stands.
    async fn process(&mut self) -> Result<Option<State>, Stop> {
        let until = self.until();
        match self.console.process(name(&self.found.mark), until).await {
            Ok(process) => Ok(Some(process.state)),
            Err(CallFailure::Refused(it)) if it.code == Refused::NoSuchProcess => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Starts the container, with root's shell as its console.
    async fn start(&mut self) -> Result<(), Stop> {
        let Located { node, mark, config, .. } = self.found;
        // Its admin has deleted it, and a late request has brought it back.
        if was_destroyed(self.cluster, node, mark).await? {
            return Err(Error::new(Code::Condemned, "this template was deleted").into());
        }
        let guest = self.found.api(self.cluster);
        if config.option("cmode") != Some("shell") {
            let form = [("cmode", "shell"), ("digest", &*config.digest)];
            self.cluster.send(guest.set_config(&form)).await?;
        }
        // Others may have started it meanwhile: the next look shows it.
        let _ = self.cluster.send(guest.start()).await;
        Ok(())
    }

    /// Starts the packages and the script, once at most.
    async fn work(&mut self) -> Result<(), Stop> {
        let argv = ["sh".into(), "-c".into(), script::work(self.build)].into();
        let ms = u64::try_from(WORK.as_millis()).ok();
        let spec = Spec { argv: Some(argv), cwd: Some("/".into()), timeout_ms: ms, ..Spec::default() };
        let until = self.until();
        self.console.run(name(&self.found.mark), &spec, true, until).await?;
        Ok(())
    }

    /// Pushes the program from a piece on, as far as time allows.
    async fn push(&mut self, manifest: &Manifest, arch: Arch, from: u64) -> Result<(), Stop> {
        let began = self.cluster.now();
        let bytes = program::whole(self.cluster, manifest, arch).await?;
        for (number, piece) in
            (0_u64..).zip(bytes.chunks(PIECE)).skip(usize::try_from(from).unwrap_or_default())
        {
            let now = self.cluster.now();
            if self.deadline.has_passed() && now > began + PUSH || now + AFTER > self.cluster.end() {
                return Ok(());
            }
            let (code, _) = self.say(script::piece(number), piece.to_vec()).await?;
            if code != 0 {
                let why = "the program of the daemon could not be written: is the disk full?";
                return Err(Stop::Failed(Step::Guest, why.into()));
            }
        }
        Ok(())
    }

    /// Installs the program that was pushed; the installer starts it, and waits until it listens.
    async fn install(&mut self, manifest: &Manifest, arch: Arch) -> Result<(), Stop> {
        let base = self.cluster.asked_at.as_deref().unwrap_or("EDGE");
        let installer = program::script(base, self.cluster.settings, manifest, None);
        let text = script::install(&manifest.program(arch).sha256);
        let (code, said) = self.say(text, installer.into_bytes()).await?;
        match code {
            // What was pushed is pushed anew.
            0 | CHANGED => Ok(()),
            _ => Err(Stop::Failed(Step::Guest, script::plain(&String::from_utf8_lossy(&said)))),
        }
    }

    /// Removes what is one machine's own, and notes that the build is done.
    async fn clean(&mut self) -> Result<(), Stop> {
        let (code, said) = self.say(script::clean().to_owned(), Vec::new()).await?;
        if code != 0 {
            return Err(Stop::Failed(Step::Cleaning, script::plain(&String::from_utf8_lossy(&said))));
        }
        let keys = key_names(self.cluster);
        let note = |mark: &mut Mark| {
            let Some(base) = &mut mark.base else { return Ok(()) };
            let guest = base.build.as_ref().is_some_and(|it| it.guest);
            base.build = Some(Build { done: true, ..Build::default() });
            if guest {
                base.execd = true;
                mark.commands = Some(Channel::Guest);
                mark.guest_keys.clone_from(&keys);
            }
            Ok(())
        };
        // Whether it was written, the next look shows.
        let _ = write(self.cluster, self.found, &note).await?;
        Ok(())
    }

    /// Stops the container; what the build has left goes first.
    async fn stop(&mut self) -> Result<(), Stop> {
        if self.build.done {
            let _ = self.say(script::tidy(), Vec::new()).await;
        }
        match self.cluster.send(self.found.api(self.cluster).stop()).await {
            Err(error) if !error.is_not_running() => Err(error.into()),
            // Somebody else has stopped it.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Notes that it has failed.
    async fn fail(&mut self, step: Step, output: &str) -> Result<Turn, Error> {
        let (now, output) = (self.cluster.now().unix_timestamp(), script::plain(output));
        let note = |mark: &mut Mark| {
            mark.problem = Some(output.clone());
            mark.changed = Some(now);
            if let Some(base) = &mut mark.base {
                base.build = Some(Build { failed: Some(step), ..Build::default() });
            }
            Ok(())
        };
        let _ = write(self.cluster, self.found, &note).await?;
        Ok(Turn::Working(step, output))
    }
}

/// The name of a build's process.
fn name(mark: &Mark) -> Unique {
    let digest = Sha256::digest(format!("template build {}", mark.nonce));
    Unique(digest.first_chunk().copied().unwrap_or_default())
}

/// A deployment without the daemon's programs builds none in.
fn undeployed(error: Error) -> Stop {
    match error.code() {
        Code::UnknownPath => Stop::Failed(Step::Guest, error.detail().to_owned()),
        _ => Stop::Error(error),
    }
}
