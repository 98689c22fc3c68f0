//! What is built in a template: packages, a script and the daemon, through its container's console, or its VM's guest
//! agent.
//!
//! The mark says what is to be built, and the guest's disk how far that has come. The user's script is begun once at
//! most: where its end is not known, the build has failed.

mod next;
mod script;
mod way;

use std::time::Duration;

use time::OffsetDateTime;

use self::{
    next::{Next, decide},
    script::CHANGED,
    way::{Stop, Way},
};
use crate::{
    daemon::program::{self, Arch, Manifest},
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{Located, hello::key_names, located::was_destroyed, wait::wait, write::write},
        marks::{Build, Mark},
    },
    sandbox::{channel::Channel, id::Kind, template::Step},
};

/// Time of the packages and the script.
const WORK: Duration = Duration::from_secs(3600);
/// Time for one script of our own.
const CALL: Duration = Duration::from_secs(25);
/// Time for pieces of the program, however short the caller waits.
const PUSH: Duration = Duration::from_secs(6);
/// Time that is kept for what follows the last piece.
const AFTER: Duration = Duration::from_secs(5);
/// Requests that are kept for it, and for the piece: a guest agent takes some of each.
const REQUESTS: u32 = 12;
/// Seconds from a VM's start in which its guest agent may be silent, and after that at a stretch.
const SILENCE: (i64, i64) = (600, 120);
/// Seconds in which a VM may shut down by itself.
const SHUTDOWN: u32 = 60;

/// What came of one turn of a build.
pub(super) enum Turn {
    /// It goes on.
    Working(Step, String),
    /// It is over: the guest is stopped, and can be made a template.
    Over,
    /// It has failed, and the guest is stopped.
    Failed(Step, String),
    /// The container's console cannot be had, and only the daemon is missing.
    NoConsole,
}

/// Does the next missing thing of a build.
pub(super) async fn turn<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    build: &Build,
    deadline: Deadline<'_, I>,
) -> Result<Turn, Error> {
    let way = Way::new(cluster, found);
    let mut builder = Builder { cluster, found, build, way, uptime: 0, deadline };
    match builder.turn().await {
        Ok(turn) => Ok(turn),
        Err(Stop::Again) => Ok(Turn::Working(Step::Starting, String::new())),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Silent) => builder.silent().await,
        Err(Stop::NoWay(error)) => {
            // Root can put the daemon into a container.
            let is_for_root = build.packages.is_empty() && build.run.is_empty();
            match found.mark.kind {
                Kind::Lxc if is_for_root => Ok(Turn::NoConsole),
                _ => builder.fail(Step::Starting, error.detail()).await,
            }
        }
        Err(Stop::Failed(step, output)) => builder.fail(step, &output).await,
    }
}

/// One turn of a build.
struct Builder<'a, 'c, I: Io> {
    cluster: &'a Cluster<'c, I>,
    found: &'a Located,
    build: &'a Build,
    way: Way<'a, 'c, I>,
    /// Seconds since the guest's start.
    uptime: i64,
    deadline: Deadline<'a, I>,
}

impl<I: Io> Builder<'_, '_, I> {
    async fn turn(&mut self) -> Result<Turn, Stop> {
        let (cluster, found, build) = (self.cluster, self.found, self.build);
        let status = cluster.send(found.api(cluster).status()).await?;
        let running = status.status != "stopped";
        self.uptime = status.uptime();
        let mut seen = None;
        if running && !build.done && build.failed.is_none() {
            seen = Some(self.way.look(self.until()).await?);
            self.note_silence(None).await?;
        }
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
            Next::Start => self.start().await,
            Next::Work => {
                self.way.begin(script::work(self.build), self.until()).await?;
                Ok(Turn::Working(Step::Packages, String::new()))
            }
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
        self.way.script(text, input, until).await
    }

    /// Starts the guest; a container with root's shell as its console.
    async fn start(&mut self) -> Result<Turn, Stop> {
        let Located { node, mark, config, .. } = self.found;
        // Its admin has deleted it, and a late request has brought it back.
        if was_destroyed(self.cluster, node, mark).await? {
            return Err(Error::new(Code::Condemned, "this template was deleted").into());
        }
        let guest = self.found.api(self.cluster);
        if mark.kind == Kind::Lxc && config.option("cmode") != Some("shell") {
            let form = [("cmode", "shell"), ("digest", &*config.digest)];
            self.cluster.send(guest.set_config(&form)).await?;
        }
        let started = match self.cluster.send(guest.start()).await {
            Ok(task) => wait(self.cluster, &task, self.deadline.keeping(REQUESTS)).await,
            Err(error) => Some(Err(error)),
        };
        // Others may have started it meanwhile: the next look shows it.
        let why = match started {
            Some(Err(error)) if !error.is_beside_another() => error.to_string(),
            _ => String::new(),
        };
        Ok(Turn::Working(Step::Starting, why))
    }

    /// Pushes the program from a byte on, as far as time and requests allow.
    async fn push(&mut self, manifest: &Manifest, arch: Arch, from: u64) -> Result<(), Stop> {
        let began = self.cluster.now();
        let bytes = program::whole(self.cluster, manifest, arch).await?;
        let size = self.way.piece();
        // A piece that is not whole is pushed again.
        let whole = usize::try_from(from).unwrap_or_default() / size;
        for (number, piece) in bytes.chunks(size).enumerate().skip(whole) {
            let now = self.cluster.now();
            let is_late =
                self.deadline.has_passed() && now > began + PUSH || now + AFTER > self.cluster.end();
            if is_late || self.cluster.left() < REQUESTS {
                return Ok(());
            }
            let (code, said) = self.say(script::piece(number, size), piece.to_vec()).await?;
            if code != 0 {
                let said = String::from_utf8_lossy(&said);
                let why =
                    format!("{said}\nthe program of the daemon could not be written: is the disk full?");
                return Err(Stop::Failed(Step::Guest, script::plain(&why)));
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
        let (code, said) = self.say(script::clean(), Vec::new()).await?;
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

    /// Stops the guest; what the build has left goes first.
    async fn stop(&mut self) -> Result<(), Stop> {
        let guest = self.found.api(self.cluster);
        let is_vm = self.found.mark.kind == Kind::Qemu;
        if self.build.done {
            let tidied = self.say(script::tidy(is_vm), Vec::new()).await;
            // What a VM has not written when it is killed is lost.
            if is_vm {
                tidied?;
            }
        }
        let call = if is_vm && self.build.done { guest.shutdown(SHUTDOWN) } else { guest.stop() };
        match self.cluster.send(call).await {
            Ok(task) if is_vm => {
                wait(self.cluster, &task, self.deadline.keeping(REQUESTS)).await;
                Ok(())
            }
            // Somebody else has stopped it, or is about to.
            Err(error) if !error.is_not_running() && !error.is_locked() => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What comes of a guest agent that does not answer: a VM may take its time to start, and after that be busy for a
    /// while.
    async fn silent(&mut self) -> Result<Turn, Error> {
        let (now, step) = (self.cluster.now().unix_timestamp(), Step::Starting);
        let (starting, stretch) = SILENCE;
        match self.build.silent {
            _ if self.uptime < starting => {}
            Some(since) if now - since >= stretch => {
                let text = "the guest agent of the VM does not answer: install qemu-guest-agent in the template that \
                            is copied, have it start with the VM, and ask for this template anew";
                return self.fail(step, text).await;
            }
            Some(_) => {}
            None => self.note_silence(Some(now)).await?,
        }
        Ok(Turn::Working(step, "the guest agent does not answer yet".into()))
    }

    /// Notes since when the guest agent is silent, or that it is not any more.
    async fn note_silence(&mut self, since: Option<i64>) -> Result<(), Error> {
        if self.build.silent == since {
            return Ok(());
        }
        let note = |mark: &mut Mark| {
            if let Some(build) = mark.base.as_mut().and_then(|it| it.build.as_mut()) {
                build.silent = since;
            }
            Ok(())
        };
        // Whether it was written, the next look shows.
        let _ = write(self.cluster, self.found, &note).await?;
        Ok(())
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

/// A deployment without the daemon's programs builds none in.
fn undeployed(error: Error) -> Stop {
    match error.code() {
        Code::UnknownPath => Stop::Failed(Step::Guest, error.detail().to_owned()),
        _ => Stop::Error(error),
    }
}
