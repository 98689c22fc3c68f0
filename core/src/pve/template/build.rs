//! What is built in a template: packages, a script and the daemon, through its container's console, or its VM's guest
//! agent.
//!
//! The mark says what is to be built, and the guest's disk how far that has come. The user's script is begun once at
//! most: where its end is not known, the build has failed.

mod finish;
mod next;
mod script;
mod way;

use std::time::Duration;

use time::OffsetDateTime;

use self::{
    next::{Next, decide, decide_done},
    script::CHANGED,
    way::{Stop, Way},
};
use crate::{
    daemon::program::{self, Arch, Manifest},
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{Located, write::write},
        marks::{Build, Mark},
    },
    sandbox::{id::Kind, template::Step},
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
    /// What is left is root's, as its mark says.
    ForRoot,
}

/// Does the next missing thing of a build.
pub(super) async fn turn<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    build: &Build,
    deadline: Deadline<'_, I>,
) -> Result<Turn, Error> {
    if build.by_root {
        return Ok(Turn::ForRoot);
    }
    let way = Way::new(cluster, found);
    let folder = script::folder(build, found.mark.nonce);
    let mut builder = Builder { cluster, found, build, way, folder, uptime: 0, deadline };
    match builder.turn().await {
        Ok(turn) => Ok(turn),
        Err(Stop::Again) if build.done => Ok(Turn::Working(Step::Cleaning, String::new())),
        Err(Stop::Again) => Ok(Turn::Working(Step::Starting, String::new())),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Silent) => builder.silent().await,
        Err(Stop::NoWay(error)) => {
            // Root can put the daemon into a container, and clean it.
            let is_for_root = build.packages.is_empty() && build.run.is_empty();
            match found.mark.kind {
                Kind::Lxc if is_for_root => builder.leave_to_root().await,
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
    folder: String,
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
        if build.done && build.failed.is_none() {
            return self.finish(running).await;
        }
        let mut seen = None;
        if running && build.failed.is_none() {
            seen = Some(self.way.look(&self.folder, self.until()).await?);
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
                let work = script::work(&self.folder, build);
                self.way.begin(&self.folder, work, self.until()).await?;
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
            Next::Done => {
                self.note_done().await?;
                working(Step::Cleaning)
            }
            Next::Clean => self.clean().await,
            Next::Stop => self.stop().await,
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
            let (code, said) = self.say(script::piece(&self.folder, number, size), piece.to_vec()).await?;
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
        let text = script::install(&self.folder, &manifest.program(arch).sha256);
        let (code, said) = self.say(text, installer.into_bytes()).await?;
        match code {
            // What was pushed is pushed anew.
            0 | CHANGED => Ok(()),
            _ => Err(Stop::Failed(Step::Guest, script::plain(&String::from_utf8_lossy(&said)))),
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
