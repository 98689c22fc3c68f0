//! The repair of a sandbox after a snapshot or a rollback that was interrupted (rules S8.6 to S8.8).

use time::OffsetDateTime;

use super::{
    commit::{self, Unwritten},
    place::Place,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, config::Config},
        cluster::Cluster,
        marks::{self, Doing, Mark, Phase, Want, What},
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
    /// It is over, or never was: only the marks are written.
    Clear,
    /// The config is the snapshot's: all that is ours is written.
    Reassert,
}

/// The next step, decided from one read: `tagged` is what the head tag says is being done.
fn next(mark: &Mark, tagged: Option<What>, now: OffsetDateTime) -> Next {
    let Some(Doing { what, since, .. }) = &mark.doing else {
        // An administrator's rollback: old tags, and nothing of ours was begun.
        return if tagged.is_some() { Next::Clear } else { Next::Nothing };
    };
    let age = now.unix_timestamp() - since;
    match (what, tagged) {
        (What::Rollback | What::Start, Some(What::Snapshot)) => Next::Reassert,
        // A request that was not answered may be executed late, and not any more after this.
        (What::Rollback | What::Snapshot, _) if age < LATE_SECONDS => Next::Wait,
        (What::Start, _) if mark.want == Want::On && age < FINISH_SECONDS => Next::Nothing,
        (What::Template, _) => Next::Nothing,
        _ => Next::Clear,
    }
}

/// Whether [`settle`] has something to write.
pub fn is_due(place: &Place, now: OffsetDateTime) -> bool {
    let tagged = marks::tagged(place.mark.vmid, place.config.tags.as_deref().unwrap_or_default());
    place.committed && matches!(next(&place.mark, tagged, now), Next::Clear | Next::Reassert)
}

/// Writes what an interrupted snapshot or rollback has left to write (rule S8.7, steps 3 and 4), in one PUT by
/// digest: of two at once one wins. It never rolls back, and starts nothing.
pub async fn settle<I: Io>(cluster: &Cluster<'_, I>, mut place: Place) -> Result<Place, Error> {
    if place.config.lock.is_some() || !is_due(&place, cluster.now()) {
        return Ok(place);
    }
    let Place { node, config, mark, .. } = &place;
    let tagged = marks::tagged(mark.vmid, config.tags.as_deref().unwrap_or_default());
    let written = if next(mark, tagged, cluster.now()) == Next::Reassert {
        reassert(cluster, node, config, mark).await
    } else {
        commit::write(cluster, node, config, mark, &clear).await
    };
    let written = match written {
        // PVE is at work on it, with no lock in its config: the next one writes.
        Err(error) if error.code() == Code::GuestLocked => None,
        written => written?.ok(),
    };
    if let Some(mark) = written {
        place.mark = mark;
    }
    Ok(place)
}

/// Writes all that is ours over what came back with the snapshot.
async fn reassert<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<Result<Mark, Unwritten>, Error> {
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
        return commit::write(cluster, node, config, mark, &all).await;
    }
    match commit::first(cluster, node, config, &ours).await {
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

/// As [`settle`]; refuses a sandbox that is being rolled back all the same.
pub async fn finished<I: Io>(cluster: &Cluster<'_, I>, place: Place) -> Result<Place, Error> {
    let place = settle(cluster, place).await?;
    match place.mark.is_doing(What::Rollback) {
        true => Err(commit::locked("rollback", &place.mark)),
        false => Ok(place),
    }
}

/// Whether the rollback was executed, and what came back with it is to be overwritten.
pub fn came_back(place: &Place, now: OffsetDateTime) -> bool {
    let tagged = marks::tagged(place.mark.vmid, place.config.tags.as_deref().unwrap_or_default());
    next(&place.mark, tagged, now) == Next::Reassert
}
