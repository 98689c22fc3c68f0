//! Templates that are half made.

use time::OffsetDateTime;

use super::{CONDEMNED_SECONDS, Verdict, action, swap};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        guest::{Located, destroy::destroy_or_stop, stale::refuse_locked},
        marks::{self, Mark, Phase, Want, What},
        template::advance,
    },
    sandbox::{FINISH_SECONDS, id::SourceId, sweep::Action},
};

const REFUSED: &str = "PVE made no template of it";
/// How long one that could not be built is kept, so that its admin sees why.
const FAILED_SECONDS: i64 = 3600;
/// How long root may take for what only root can do.
const ROOT_SECONDS: i64 = 24 * 3600;

/// Tends a template. One that is being made is carried on for ten minutes after its copy ended, and one that is
/// made from nothing for a day; then it goes as sandboxes do: condemned, and deleted by a later run (rule S4.8).
pub(super) async fn tend_template<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    dry_run: bool,
) -> Option<Action> {
    if let Some(lock) = &found.config.lock {
        let reason = refuse_locked(cluster, &found, lock).await?;
        return Some(action(&found, "report", reason));
    }
    let (due, why) = match due(&found, cluster.now())? {
        // PVE tells nobody why it made no template of it.
        (Verdict::Finish, _)
            if found.config.template != Some(true)
                && is_old(&found.mark, cluster.now())
                && was_tried(cluster, &found).await =>
        {
            (Verdict::Condemn, REFUSED)
        }
        due => due,
    };
    let mut done = action(&found, due.name(), why.to_owned());
    if dry_run {
        return Some(done);
    }
    let result = match due {
        Verdict::Delete => destroy_or_stop(cluster, &found).await.map(|_| ()).map_err(Error::from),
        Verdict::Condemn => condemn(cluster, &found).await,
        _ => carry_on(cluster, &found, &mut done).await,
    };
    if let Err(error) = result {
        done.reason = format!("{}; failed: {error}", done.reason);
    }
    Some(done)
}

/// Decides what is due for a template that is not locked, and why, from nothing but what was read.
fn due(Located { config, mark, .. }: &Located, now: OffsetDateTime) -> Option<(Verdict, &'static str)> {
    let condemned_for = mark.expires.map_or(0, |it| now.unix_timestamp() - it);
    match (mark.want, config.template) {
        (Want::Gone, _) if condemned_for >= CONDEMNED_SECONDS => {
            Some((Verdict::Delete, "condemned by an earlier sweep"))
        }
        (Want::Gone, _) => None,
        (_, Some(true)) if is_offered(config, mark) => None,
        (_, Some(true)) => Some((Verdict::Finish, "it is made, and not offered yet")),
        _ if mark.base.is_some() => Some((Verdict::Finish, "it is being made, or waits for root")),
        _ => Some((Verdict::Finish, "it was interrupted")),
    }
}

/// Does the next missing thing, or gives the template up; `done` says which then.
async fn carry_on<I: Io>(cluster: &Cluster<'_, I>, found: &Located, done: &mut Action) -> Result<(), Error> {
    let (mark, now) = (&found.mark, cluster.now());
    let (given_up, reason) = match advance(cluster, found.clone(), cluster.at_once()).await {
        // What PVE refuses for so long, it refuses for good.
        Err(error) if mark.phase == Phase::Claimed && mark.age(now) >= patience(mark, &error) => {
            (true, error.to_string())
        }
        Err(error) => return Err(error),
        Ok(it) if is_old(mark, now) && it.refused => (true, REFUSED.to_owned()),
        Ok(it) if !it.commands.is_empty() => {
            let reason = format!("root has to run on {}: {}", found.node, it.commands.join("; "));
            (mark.age(now) >= ROOT_SECONDS, reason)
        }
        Ok(it) if it.failed => {
            let lines = it.output.lines().last().unwrap_or_default();
            (mark.settled_for(now) >= FAILED_SECONDS, format!("it could not be built: {lines}"))
        }
        // A console that others use for a day, say.
        Ok(_) if mark.base.is_some() && mark.phase == Phase::Claimed && mark.age(now) >= ROOT_SECONDS => {
            (true, "it was not built within a day".to_owned())
        }
        Ok(_) => return Ok(()),
    };
    (done.action, done.reason) = (if given_up { "condemn" } else { "report" }, reason);
    if given_up { condemn(cluster, found).await } else { Ok(()) }
}

/// Whether it is ten minutes since its copy ended.
fn is_old(mark: &Mark, now: OffsetDateTime) -> bool {
    let since = mark.doing.as_ref().map(|it| it.since).filter(|it| *it > 0);
    since.is_some_and(|it| now.unix_timestamp() - it >= FINISH_SECONDS)
}

async fn condemn<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<(), Error> {
    let now = cluster.now().unix_timestamp();
    let condemned = |mark: &mut Mark| {
        mark.want = Want::Gone;
        mark.expires = Some(now);
    };
    swap(cluster, found, &condemned).await
}

/// Whether PVE has tried to make a template of it; a lock or an outage may have kept everybody from asking.
async fn was_tried<I: Io>(cluster: &Cluster<'_, I>, Located { node, mark, .. }: &Located) -> bool {
    let (kind, birth) = (mark.kind.converts(), mark.birth().unix_timestamp());
    let tasks = cluster.send(cluster.pve.tasks_of(node, kind, mark.vmid, birth)).await.unwrap_or_default();
    tasks.iter().any(|it| it.is_since(kind, mark.vmid, birth))
}

fn is_offered(config: &Config, mark: &Mark) -> bool {
    let (tags, version) =
        (config.tags.as_deref().unwrap_or_default(), mark.snapshot.as_ref().and_then(SourceId::preset));
    if version.is_none() {
        return !mark.is_doing(What::Template) && marks::listed(mark.vmid, tags).is_some();
    }
    marks::template(tags).flatten().is_some()
}

/// How long a template that is not committed is carried on; root may take a day.
fn patience(mark: &Mark, error: &Error) -> i64 {
    let waits = mark.base.is_some() && !matches!(error.code(), Code::Condemned | Code::CloneFailed);
    if waits { ROOT_SECONDS } else { FINISH_SECONDS }
}
