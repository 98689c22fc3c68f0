//! Carrying on a template that is being made.

use super::{
    build::{Turn, turn},
    root, version,
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::LATE_SECONDS,
        cluster::Cluster,
        guest::{
            Located, commit,
            copied::{failed_copy, is_torn},
            located::was_destroyed,
            repair,
            stale::left_by_a_crash,
            write::write,
        },
        inventory::Inventory,
        marks::{self, Mark, Phase, Want, What},
        reserve,
    },
    sandbox::{
        id::{SandboxId, SourceId},
        template::Step,
    },
};

/// How far a template has come.
#[derive(Debug)]
pub struct Advanced {
    /// What we keep about it.
    pub mark: Mark,
    /// Whether it is offered.
    pub ready: bool,
    /// What root has to do before it goes on.
    pub commands: Vec<String>,
    /// Whether PVE refuses to make a template of it.
    pub refused: bool,
    /// Whether it could not be built.
    pub failed: bool,
    /// The step that it is at.
    pub step: Step,
    /// The last lines of what is built in it.
    pub output: String,
}

/// The next thing to be done to a template that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: PVE works on it.
    Wait,
    /// It is made: offer it.
    Offer,
    /// PVE makes its disks base volumes; where that was given up, it is asked once more (rule S8.5).
    Remake,
    /// It is committed: make a template of it.
    Make,
    /// It is claimed, and something is to be built in it.
    Build,
    /// It is claimed: commit it.
    Commit,
    /// It was removed, or is condemned.
    Gone,
}

/// Decides from one read; `None` where the VMID is another guest's.
fn decide(found: Option<&Located>, lock: Option<&str>) -> Next {
    match found {
        _ if lock.is_some() => Next::Wait,
        Some(it) if it.committed && it.config.is_finished_template() => Next::Offer,
        Some(it) if it.committed && it.config.template == Some(true) => Next::Remake,
        Some(it) if it.mark.want != Want::On => Next::Gone,
        Some(it) if it.committed => Next::Make,
        Some(it) if it.mark.base.as_ref().is_some_and(|it| it.build.is_some()) => Next::Build,
        Some(_) => Next::Commit,
        None => Next::Gone,
    }
}

/// Does the next missing thing for a template that is being made, until it is offered, root has to do
/// something, or `deadline` has passed.
pub async fn advance<I: Io>(
    cluster: &Cluster<'_, I>,
    known: Located,
    deadline: Deadline<'_, I>,
) -> Result<Advanced, Error> {
    if let Some(lock @ ("create" | "clone")) = known.config.lock.as_deref()
        && let Some(reason) = left_by_a_crash(cluster, &known, lock).await
    {
        return Err(Error::new(Code::TemplateLockStale, format!("on node {}: {reason}", known.node)));
    }
    let step = first_step(&known.mark);
    let mut making = Making { known, step, output: String::new(), refused: false, is_alone: false };
    match making.carry_on(cluster, deadline).await {
        // The next request goes on.
        Err(error) if error.code() == Code::BudgetExhausted => {
            if making.output.is_empty() {
                error.detail().clone_into(&mut making.output);
            }
            Ok(making.so_far())
        }
        result => result,
    }
}

/// A template that is being made, as this request has seen it.
struct Making {
    known: Located,
    step: Step,
    output: String,
    refused: bool,
    /// Whether no other template has its version.
    is_alone: bool,
}

impl Making {
    async fn carry_on<I: Io>(
        &mut self,
        cluster: &Cluster<'_, I>,
        deadline: Deadline<'_, I>,
    ) -> Result<Advanced, Error> {
        let mut wait = deadline.keeping(reserve::TEMPLATE_STEP).paced(pace::TASK);
        let mut config = self.known.config.clone();
        loop {
            let lock = config.lock.clone();
            let now = Located::of(&self.known.node, self.known.mark.vmid, config);
            let now = now.filter(|it| it.mark.nonce == self.known.mark.nonce);
            let end = match (decide(now.as_ref(), lock.as_deref()), now) {
                (Next::Wait, _) => None,
                (Next::Offer, Some(now)) => {
                    discard(cluster, &now.node, &now.mark).await;
                    Some(offer(cluster, now).await?)
                }
                (Next::Remake, Some(now)) => {
                    remake(cluster, &now).await;
                    None
                }
                (Next::Make, Some(now)) => {
                    self.make(cluster, now).await?;
                    None
                }
                (Next::Build, Some(now)) => self.build(cluster, &now, deadline).await?,
                (Next::Commit, Some(now)) => self.commit(cluster, &now).await?,
                (Next::Gone, _) | (_, None) => {
                    return Err(Error::new(Code::NotFound, "the template was removed meanwhile"));
                }
            };
            if let Some(end) = end {
                return Ok(end);
            }
            if !wait.pause().await {
                return Ok(self.so_far());
            }
            config = match cluster.send(self.known.api(cluster).config()).await {
                Ok(config) => config,
                Err(error) if error.is_missing() => {
                    discard(cluster, &self.known.node, &self.known.mark).await;
                    let id = SandboxId { node: self.known.node.clone(), ..self.known.mark.id() };
                    let why = failed_copy(cluster, &id, false).await;
                    let unknown = || Error::new(Code::CloneFailed, "PVE could not make it: see its task log");
                    return Err(why.unwrap_or_else(unknown));
                }
                Err(error) if error.is_refusal() => return Err(error.into()),
                Err(_) => return Ok(self.so_far()),
            };
        }
    }

    /// Has PVE make a template of the guest.
    async fn make<I: Io>(&mut self, cluster: &Cluster<'_, I>, now: Located) -> Result<(), Error> {
        self.is_alone = self.is_alone || has_its_version_alone(cluster, &now).await?;
        self.step = Step::Converting;
        if self.is_alone {
            // It answers null, and works on.
            let made = cluster.send(now.api(cluster).make_template(None)).await;
            self.refused = made.is_err_and(|it| it.is_refusal());
        }
        self.known = now;
        Ok(())
    }

    /// Does the next thing that is to be built in the guest; commits it after the last.
    async fn build<I: Io>(
        &mut self,
        cluster: &Cluster<'_, I>,
        now: &Located,
        deadline: Deadline<'_, I>,
    ) -> Result<Option<Advanced>, Error> {
        if self.step == Step::Creating {
            self.step = Step::Starting;
        }
        let Some(build) = now.mark.base.as_ref().and_then(|it| it.build.as_ref()) else { return Ok(None) };
        match turn(cluster, now, build, deadline).await? {
            Turn::Working(step, output) => {
                (self.step, self.output) = (step, output);
                Ok(None)
            }
            Turn::Failed(step, output) => {
                Ok(Some(Advanced { failed: true, step, output, ..unfinished(now.mark.clone()) }))
            }
            Turn::Over | Turn::ForRoot => self.commit(cluster, now).await,
        }
    }

    /// Commits what was claimed, unless root has to do something before.
    async fn commit<I: Io>(
        &mut self,
        cluster: &Cluster<'_, I>,
        now: &Located,
    ) -> Result<Option<Advanced>, Error> {
        let commands = commit(cluster, now).await?;
        if !commands.is_empty() {
            return Ok(Some(Advanced { commands, ..unfinished(self.known.mark.clone()) }));
        }
        self.step = Step::Converting;
        Ok(None)
    }

    fn so_far(&self) -> Advanced {
        let (step, output) = (self.step, self.output.clone());
        Advanced { refused: self.refused, step, output, ..unfinished(self.known.mark.clone()) }
    }
}

fn first_step(mark: &Mark) -> Step {
    if mark.phase == Phase::Claimed { Step::Creating } else { Step::Converting }
}

fn unfinished(mark: Mark) -> Advanced {
    let (commands, output) = (Vec::new(), String::new());
    let step = first_step(&mark);
    Advanced { mark, ready: false, commands, refused: false, failed: false, step, output }
}

/// Asks PVE once more to make a template of a guest that it calls one, where that was given up.
async fn remake<I: Io>(cluster: &Cluster<'_, I>, found: &Located) {
    let since = found.mark.doing.as_ref().map_or(0, |it| it.since);
    if cluster.now().unix_timestamp() - since >= LATE_SECONDS {
        let disk = found.config.boot_disk().map(|(name, _)| name);
        let _ = cluster.send(found.api(cluster).make_template(disk)).await;
    }
}

/// Commits what was claimed; what root has to do before it.
async fn commit<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Vec<String>, Error> {
    let mut mark = found.mark.clone();
    if is_torn(cluster, found).await? {
        let text = "PVE has crashed while it copied, and disks may be missing: the sweep deletes it";
        return Err(Error::new(Code::CloneFailed, text));
    }
    if let Some(base) = &mark.base {
        // Its admin has deleted it, and a late request has brought it back.
        if was_destroyed(cluster, &found.node, &mark).await? {
            return Err(Error::new(Code::Condemned, "this template was deleted"));
        }
        let commands = root::missing(cluster, found, base).await?;
        if !commands.is_empty() {
            return Ok(commands);
        }
        let inventory = Inventory::read(cluster).await?;
        let version = version::next_version(cluster, &inventory, mark.kind.provider(), &base.preset);
        mark.snapshot = Some(SourceId::Preset(version));
    }
    match commit::template(cluster, found, &mark).await {
        Err(commit::Failure::Final(error)) => Err(error),
        // The next look shows whether it was written.
        Ok(()) | Err(commit::Failure::Again(_)) => Ok(Vec::new()),
    }
}

/// Whether no other template has its version; else it is given another one (rule S8.4).
async fn has_its_version_alone<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<bool, Error> {
    let Some(another) = version::another_version(cluster, &found.mark).await? else { return Ok(true) };
    let now = cluster.now().unix_timestamp();
    // Whether it was written, the next look shows.
    let _ = write(cluster, found, &|mark| {
        mark.snapshot = Some(another.clone());
        // Its ten minutes begin anew.
        if let Some(doing) = &mut mark.doing {
            doing.since = now;
        }
        Ok(())
    })
    .await?;
    Ok(false)
}

/// Writes the tags of a template that is made: listings tell by them that it is, and find a preset's version.
async fn offer<I: Io>(cluster: &Cluster<'_, I>, found: Located) -> Result<Advanced, Error> {
    let mark = &found.mark;
    let version = mark.snapshot.as_ref().and_then(SourceId::preset);
    let offered = marks::template(found.tags()).flatten();
    let is_tagged = marks::listed(mark.vmid, found.tags()).is_some();
    let is_found = is_tagged && (version.is_none() || version == offered.as_ref());
    let offered = if !mark.is_doing(What::Template) && is_found {
        Ok(mark.clone())
    } else {
        write(cluster, &found, &repair::clear).await?
    };
    Ok(match offered {
        Ok(mark) => Advanced { ready: true, ..unfinished(mark) },
        Err(_) => unfinished(found.mark),
    })
}

/// Removes PVE's snapshot of the sandbox, which nothing needs any more; where
/// it stays, it does no harm but on ZFS, where it is in the way of a rollback.
pub(crate) async fn discard<I: Io>(cluster: &Cluster<'_, I>, node: &str, mark: &Mark) {
    let Some(from) = &mark.taken_from else { return };
    let guest = cluster.pve.guest(node, mark.kind, from.vmid);
    let Ok(config) = cluster.send(guest.config()).await else { return };
    if Located::of(node, from.vmid, config).is_some_and(|it| it.mark.nonce == from.nonce) {
        let _ = cluster.send(guest.remove_snapshot(&from.snapname)).await;
    }
}
