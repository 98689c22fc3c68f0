//! The start of a build's guest, and its end: what is one machine's own is removed in its last start, and it is stopped
//! (rule S8.9).

use super::{
    Builder, REQUESTS, SHUTDOWN, Turn, decide_done,
    next::Next,
    script::{self, UNTIDY},
    way::Stop,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, task::Task},
        guest::{
            Located,
            hello::key_names,
            located::was_destroyed,
            wait::wait,
            write::{Apply, write},
        },
        marks::{Build, Cleaned, Mark},
    },
    sandbox::{channel::Channel, id::Kind, template::Step},
};

impl<I: Io> Builder<'_, '_, I> {
    /// Does the next missing thing once all is in it that shall be.
    pub(super) async fn finish(&mut self, running: bool) -> Result<Turn, Stop> {
        let is_clean = self.is_clean(running).await?;
        match decide_done(running, is_clean) {
            Next::Clean => self.clean().await,
            Next::Start => self.start().await,
            Next::Stop => self.stop().await,
            // Root starts it for the daemon, and cleans it after that.
            _ if self.found.mark.base.as_ref().is_some_and(|it| !it.execd) => {
                Ok(self.leave_to_root().await?)
            }
            _ => Ok(Turn::Over),
        }
    }

    /// Whether what is one machine's own was removed in the last start of the guest.
    async fn is_clean(&mut self, running: bool) -> Result<bool, Stop> {
        let Some(cleaned) = self.build.cleaned else { return Ok(false) };
        // A restart from inside is no task of PVE's.
        let started = self.cluster.now().unix_timestamp() - self.uptime;
        Ok((!running || started <= cleaned.at) && self.last_start().await? == cleaned.start)
    }

    /// When PVE's last task that starts it began, 0 where there is none. That is compared with itself alone.
    async fn last_start(&mut self) -> Result<i64, Stop> {
        let Located { node, mark, .. } = self.found;
        let (kind, since) = (mark.kind.starts(), mark.birth().unix_timestamp() - LATE_SECONDS);
        let tasks = self.cluster.send(self.cluster.pve.tasks_of(node, kind, mark.vmid, since)).await?;
        let starts = tasks.iter().filter(|it| it.is_since(kind, mark.vmid, since));
        Ok(starts.filter_map(Task::began).max().unwrap_or(0))
    }

    /// Starts the guest, a container with root's shell as its console, and never with its node: a copy would keep that.
    pub(super) async fn start(&mut self) -> Result<Turn, Stop> {
        let Located { node, mark, config, .. } = self.found;
        // Its admin has deleted it, and a late request has brought it back.
        if was_destroyed(self.cluster, node, mark).await? {
            return Err(Error::new(Code::Condemned, "this template was deleted").into());
        }
        let guest = self.found.api(self.cluster);
        let mut form = Vec::new();
        if mark.kind == Kind::Lxc && config.option("cmode") != Some("shell") {
            form.push(("cmode", "shell"));
        }
        form.extend((config.onboot == Some(true)).then_some(("onboot", "0")));
        if !form.is_empty() {
            form.push(("digest", &config.digest));
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

    /// Notes that all is in it that shall be.
    pub(super) async fn note_done(&mut self) -> Result<(), Stop> {
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
        self.note(&note).await
    }

    /// Removes what is one machine's own, and notes in which start of the guest.
    pub(super) async fn clean(&mut self) -> Result<Turn, Stop> {
        let cleaned = Cleaned { start: self.last_start().await?, at: self.cluster.now().unix_timestamp() };
        let is_vm = self.found.mark.kind == Kind::Qemu;
        let (code, said) = self.say(script::clean(is_vm), Vec::new()).await?;
        let said = script::plain(&String::from_utf8_lossy(&said));
        match code {
            0 => {}
            UNTIDY => return Ok(Turn::Working(Step::Cleaning, said)),
            _ => return Err(Stop::Failed(Step::Cleaning, said)),
        }
        let note = |mark: &mut Mark| {
            if let Some(build) = mark.base.as_mut().and_then(|it| it.build.as_mut()) {
                build.cleaned = Some(cleaned);
                build.silent = None;
            }
            Ok(())
        };
        self.note(&note).await?;
        Ok(Turn::Working(Step::Cleaning, String::new()))
    }

    /// Notes that what is left is root's; the next look tells the commands.
    pub(super) async fn leave_to_root(&mut self) -> Result<Turn, Error> {
        let note = |mark: &mut Mark| {
            if let Some(build) = mark.base.as_mut().and_then(|it| it.build.as_mut()) {
                build.by_root = true;
            }
            Ok(())
        };
        // Whether it was written, the next look shows.
        let _ = write(self.cluster, self.found, &note).await?;
        Ok(Turn::Working(Step::Starting, String::new()))
    }

    async fn note(&mut self, note: Apply<'_>) -> Result<(), Stop> {
        // Whether it was written, the next look shows.
        let _ = write(self.cluster, self.found, note).await?;
        Ok(())
    }

    /// Stops the guest. A VM that is done shuts down: what it has not written when it is killed is lost.
    pub(super) async fn stop(&mut self) -> Result<Turn, Stop> {
        let guest = self.found.api(self.cluster);
        let is_vm = self.found.mark.kind == Kind::Qemu;
        let call = if is_vm && self.build.done { guest.shutdown(SHUTDOWN) } else { guest.stop() };
        match self.cluster.send(call).await {
            Ok(task) if is_vm => {
                wait(self.cluster, &task, self.deadline.keeping(REQUESTS)).await;
            }
            // Somebody else has stopped it, or is about to.
            Err(error) if !error.is_not_running() && !error.is_locked() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        Ok(match self.build.failed {
            Some(step) => Turn::Working(step, self.found.mark.problem.clone().unwrap_or_default()),
            None => Turn::Working(Step::Stopping, String::new()),
        })
    }
}
