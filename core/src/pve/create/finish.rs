//! Finishing: looking at what PVE shows and doing the next missing thing (rule S2.12).
//!
//! It serves a creation, a poll of a sandbox that is still coming up, and the sweep. Every step may run
//! twice, in two adapters at once.

use super::{
    Claimed, Progress,
    failed::clone_failed,
    step::{Coming, Step, Why, step},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::PveError,
        cluster::Cluster,
        guest::{
            Located,
            condition::{Condition, condition},
            wait::end_of_task,
            write::change,
        },
        inventory::Inventory,
        marks::{Mark, Want, state::is_coming_up},
        reserve,
    },
};

/// Brings a claimed guest up, until it is ready or `deadline` has passed.
/// With a deadline that has passed it does what can be done at once.
pub(crate) async fn finish<I: Io>(
    cluster: &Cluster<'_, I>,
    mut claimed: Claimed,
    deadline: Deadline<'_, I>,
) -> Result<Progress, Error> {
    let mut wait = deadline.keeping(reserve::CLONE).paced(pace::CLONE);
    // A clone that was just accepted is not done yet.
    if claimed.task.is_some() {
        wait.pause().await;
    }
    let found = loop {
        match claimed.look(cluster).await? {
            Look::There(found) => break found,
            Look::NotYet if wait.pause().await => {}
            Look::NotYet => return Ok(claimed.unseen(None)),
            Look::Locked(mark) => {
                if !wait.pause().await {
                    return Ok(claimed.unseen(Some(*mark)));
                }
            }
        }
    };
    // Another request has committed it, and may have started it long ago.
    let condition = match found.committed {
        true => condition(cluster, &found).await,
        false => Ok(Condition::Stopped),
    };
    let condition = match condition {
        Err(error) if !is_coming_up(&found.mark, cluster.now()) => return Err(error.into()),
        condition => condition.unwrap_or(Condition::Stopped),
    };
    carry_on(cluster, *found, condition, true, deadline).await
}

/// The result of a look at a claimed guest.
enum Look {
    /// It is there, and nothing keeps us from it.
    There(Box<Located>),
    /// It is there with this mark, and PVE works on it.
    Locked(Box<Mark>),
    /// It is not there, or does not tell yet whose it is.
    NotYet,
}

impl Claimed {
    /// Reads the guest.
    async fn look<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<Look, Error> {
        let config = match cluster.send(cluster.guest(&self.node, &self.mark).config()).await {
            Ok(config) => config,
            Err(error) if error.is_missing() => return self.miss(cluster).await,
            // A pool's rights begin when the clone ends.
            Err(error) if error.is_forbidden() && !self.seen => return Ok(Look::NotYet),
            Err(error) if error.is_never_sent() || error.may_be_executed() => return Ok(Look::NotYet),
            Err(error) => return Err(error.into()),
        };
        let unknown = config.is_unknown_yet();
        let vmid = self.mark.vmid;
        match Located::of(&self.node, vmid, config).filter(|it| it.mark.nonce == self.mark.nonce) {
            Some(found) => {
                self.seen = true;
                // A committed guest past its start-up needs no further step, so its lock does not block us.
                let needs_step = !found.committed || is_coming_up(&found.mark, cluster.now());
                Ok(match found.config.lock.is_some() && needs_step {
                    true => Look::Locked(Box::new(found.mark)),
                    false => Look::There(Box::new(found)),
                })
            }
            None if unknown => Ok(Look::NotYet),
            None => Err(Error::new(
                Code::CloneFailed,
                format!("VMID {vmid} is another guest's now: ours was removed meanwhile"),
            )),
        }
    }

    /// The node does not know the guest: it goes to another one, is not there yet, or never will be.
    async fn miss<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<Look, Error> {
        let Self { node, mark, task, seen, .. } = self;
        // A VM that is made for another node goes there when its clone ends.
        if *node != mark.node {
            node.clone_from(&mark.node);
            return Ok(Look::NotYet);
        }
        let failure = end_of_task(cluster, task.as_ref()).await.and_then(Result::err);
        if let Some(cause) = failure.filter(|it| !it.is_outdone()) {
            return Err(clone_failed(&cause, mark));
        }
        // It may have moved: only a listing that lacks it proves that it is gone.
        if *seen && task.is_none() && Inventory::read(cluster).await?.guest(mark.vmid).is_none() {
            let text =
                format!("the clone to VMID {} has failed and PVE has removed it; ask again", mark.vmid);
            return Err(Error::new(Code::CloneFailed, text));
        }
        Ok(Look::NotYet)
    }

    /// How far it has come where nothing could be done to it; `found` is its mark where it was read.
    fn unseen(self, found: Option<Mark>) -> Progress {
        let Self { node, mark, cause, .. } = self;
        let mark = found.unwrap_or(mark);
        let problem = cause.map(|it| it.to_string()).or(mark.problem.clone());
        Progress { mark, node, config: None, running: false, ready: false, problem }
    }
}

/// Does one missing thing after the other, until it is ready or `deadline` has passed: commits, grows,
/// starts, probes. What PVE refuses for now is asked again. `condition` is what PVE said a moment ago.
/// Only a creation undoes what PVE refuses for good (rule S2.14): a read never deletes, and the sweep condemns first.
pub(crate) async fn carry_on<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    condition: Condition,
    undoes: bool,
    deadline: Deadline<'_, I>,
) -> Result<Progress, Error> {
    let mut guest = Coming { found, condition };
    let mut wait = deadline.keeping(reserve::STEP).paced(pace::RETRY);
    loop {
        let why = match step(cluster, &mut guest, undoes, deadline).await {
            Ok(Step::Done(ready)) => return Ok(guest.progress(ready)),
            Ok(Step::Again(why)) => why,
            // What stands between has refused a write: that is told at once, and not sent again.
            Err(cause) if cause.code().is_of_a_stranger() && !undoes => {
                return Ok(leave(cluster, guest, Why { cause, lasts: false }).await);
            }
            Err(cause) if cause.code().is_of_a_stranger() => {
                return Err(cause.member("sandboxId", guest.found.mark.id().to_string()));
            }
            Err(cause) => return Err(cause),
        };
        loop {
            if !wait.pause().await {
                return Ok(match why {
                    None => guest.progress(false),
                    Some(why) => leave(cluster, guest, why).await,
                });
            }
            // Nothing is done to what cannot be read: it may be stopped, or another's, by now.
            if guest.read_again(cluster).await? {
                break;
            }
        }
    }
}

/// Leaves a sandbox to the next request: how far it has come, with the cause for which it is no further. A
/// cause that lasts is written, for the requests that come after this one.
async fn leave<I: Io>(cluster: &Cluster<'_, I>, guest: Coming, why: Why) -> Progress {
    let problem = why.cause.to_string();
    let known = guest.found.clone();
    let mut progress = guest.progress(false);
    let vmid = u32::from(progress.mark.vmid);
    tracing::info!(vmid, cause = %why.cause, "what is missing is left to the next request");
    if why.lasts && progress.mark.problem.as_ref() != Some(&problem) {
        let phase = progress.mark.phase;
        let tell = |mark: &mut Mark| {
            // Whoever has brought it up, stopped or condemned it meanwhile knows better.
            if mark.phase == phase && mark.want == Want::On {
                mark.problem = Some(problem.clone());
            }
            Ok(())
        };
        if let Ok(mark) = change(cluster, &known, &tell).await {
            progress.mark = mark;
        }
    }
    progress.problem = Some(problem);
    progress
}

impl From<PveError> for Why {
    fn from(error: PveError) -> Self {
        let lasts = error.is_by_pve() && !error.is_beside_another();
        Self { cause: error.into(), lasts }
    }
}
