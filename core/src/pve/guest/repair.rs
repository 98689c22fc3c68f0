//! The repair of a sandbox after a snapshot or a rollback that was interrupted (rules S8.6 to S8.8).

use time::OffsetDateTime;

use super::{
    Located, commit,
    write::{Unwritten, write},
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::LATE_SECONDS,
        cluster::Cluster,
        marks::{Doing, Mark, Phase, Want, What},
    },
    sandbox::FINISH_SECONDS,
};

/// The next step of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There is none.
    Nothing,
    /// PVE may still execute what was sent.
    Wait,
    /// The action is over, or never was: only the marks are written.
    Clear,
    /// The config is the snapshot's: all that is ours is written.
    Reassert,
}

/// The next step, decided from one read of the guest.
fn next(found: &Located, now: OffsetDateTime) -> Next {
    let tagged = found.doing_by_tag();
    let Some(Doing { what, since, .. }) = &found.mark.doing else {
        // An administrator's rollback: old tags, and nothing of ours was begun.
        return if tagged.is_some() { Next::Clear } else { Next::Nothing };
    };
    let age = now.unix_timestamp() - since;
    match (what, tagged) {
        (What::Rollback | What::Start, Some(What::Snapshot)) => Next::Reassert,
        // A request that was not answered may be executed late, and not any more after this.
        (What::Rollback | What::Snapshot, _) if age < LATE_SECONDS => Next::Wait,
        (What::Start, _) if found.mark.want == Want::On && age < FINISH_SECONDS => Next::Nothing,
        (What::Template, _) => Next::Nothing,
        _ => Next::Clear,
    }
}

/// Whether [`settle`] has something to write.
pub fn is_due(found: &Located, now: OffsetDateTime) -> bool {
    found.committed && matches!(next(found, now), Next::Clear | Next::Reassert)
}

/// Writes what an interrupted snapshot or rollback has left to write (rule S8.7, steps 3 and 4), in one PUT by
/// digest: of two at once one wins. It never rolls back, and starts nothing.
pub async fn settle<I: Io>(cluster: &Cluster<'_, I>, mut found: Located) -> Result<Located, Error> {
    if found.config.lock.is_some() || !is_due(&found, cluster.now()) {
        return Ok(found);
    }
    let written = match next(&found, cluster.now()) {
        Next::Reassert => reassert(cluster, &found).await,
        _ => write(cluster, &found, &clear).await,
    };
    let written = match written {
        // PVE is at work on it, with no lock in its config: the next one writes.
        Err(error) if error.code() == Code::GuestLocked => None,
        written => written?.ok(),
    };
    if let Some(mark) = written {
        found.mark = mark;
    }
    Ok(found)
}

/// Writes all that is ours over what came back with the snapshot.
async fn reassert<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
) -> Result<Result<Mark, Unwritten>, Error> {
    let mark = &found.mark;
    let memory = mark.doing.as_ref().is_some_and(|it| it.memory);
    // What had failed was not stopped by its owner, and what has its memory back runs.
    let want = if memory || mark.phase == Phase::Error { Want::On } else { mark.want };
    let begun = mark.doing.clone().filter(|_| want == Want::On);
    let doing = begun.map(|it| Doing { what: What::Start, ..it });
    let keeps = mark.keeps.filter(|_| want == Want::Paused);
    let ours = Mark { want, doing, keeps, phase: Phase::Committed, problem: None, ..mark.clone() };
    if memory {
        let all = |mark: &mut Mark| {
            *mark = ours.clone();
            Ok(())
        };
        return write(cluster, found, &all).await;
    }
    match commit::sandbox(cluster, found, &ours).await {
        Ok(mark) => Ok(Ok(mark)),
        Err(commit::Failure::Again(error)) => Ok(Err(Unwritten::after(error))),
        Err(commit::Failure::Final(error)) => Err(error),
    }
}

/// Takes from a mark that something is being done.
pub fn clear(mark: &mut Mark) -> Result<(), Error> {
    mark.doing = None;
    Ok(())
}

/// Whether the rollback was executed, and what came back with it is to be overwritten.
pub fn came_back(found: &Located, now: OffsetDateTime) -> bool {
    next(found, now) == Next::Reassert
}
