//! Templates that are half made.

use super::{CONDEMNED_SECONDS, stale::locked, swap};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        guest::destroy::destroy,
        marks::{self, Mark, Phase, Want, What},
        template::advance,
    },
    sandbox::{FINISH_SECONDS, id::SourceId, sweep::Action},
};

const REFUSED: &str = "PVE made no template of it";
/// How long root may take for what only root can do.
const ROOT_SECONDS: i64 = 24 * 3600;

/// A template that is being made is carried on for ten minutes after its copy ended, and one that is made
/// from nothing for a day (rule S4.8); then it goes as sandboxes do: condemned, and deleted by a later run.
pub(super) async fn tend_template<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: Config,
    mark: Mark,
    dry_run: bool,
) -> Option<Action> {
    let vmid = Some(mark.vmid);
    let id = Some(mark.id().to_string());
    if let Some(lock) = &config.lock {
        let reason = locked(cluster, node, &mark, lock).await?;
        return Some(Action { vmid, id, action: "report", reason });
    }
    let now = cluster.now();
    let is_old = mark
        .doing
        .as_ref()
        .is_some_and(|it| it.since > 0 && now.unix_timestamp() - it.since >= FINISH_SECONDS);
    let (action, why) = match (mark.want, config.template) {
        (Want::Gone, _) if mark.expires.is_some_and(|it| now.unix_timestamp() - it >= CONDEMNED_SECONDS) => {
            ("delete", "condemned by an earlier sweep")
        }
        (Want::Gone, _) => return None,
        (_, Some(true)) if is_offered(&config, &mark) => return None,
        (_, Some(true)) => ("finish", "it is made, and not offered yet"),
        // PVE tells nobody why it made no template of it.
        _ if is_old && was_tried(cluster, node, &mark).await => ("condemn", REFUSED),
        _ if mark.base.is_some() => ("finish", "it is being made, or waits for root"),
        _ => ("finish", "it was interrupted"),
    };
    let mut action = Action { vmid, id, action, reason: why.to_owned() };
    if dry_run {
        return Some(action);
    }
    let done = match action.action {
        "delete" => destroy(cluster, node, &config, &mark).await.map(|_| ()).map_err(Error::from),
        "condemn" => condemn(cluster, node, &config, &mark).await,
        _ => match advance(cluster, node, config.clone(), mark.clone(), now).await {
            // What PVE refuses for so long, it refuses for good.
            Err(error) if mark.phase == Phase::Claimed && mark.age(now) >= patience(&mark, &error) => {
                action = Action { action: "condemn", reason: error.to_string(), ..action };
                condemn(cluster, node, &config, &mark).await
            }
            Ok(it) if is_old && it.refused => {
                action = Action { action: "condemn", reason: REFUSED.to_owned(), ..action };
                condemn(cluster, node, &config, &mark).await
            }
            Ok(it) if !it.commands.is_empty() => {
                let reason = format!("root has to run on {node}: {}", it.commands.join("; "));
                let given_up = mark.age(now) >= ROOT_SECONDS;
                action = Action { action: if given_up { "condemn" } else { "report" }, reason, ..action };
                if given_up { condemn(cluster, node, &config, &mark).await } else { Ok(()) }
            }
            advanced => advanced.map(|_| ()),
        },
    };
    if let Err(error) = done {
        action.reason = format!("{}; failed: {error}", action.reason);
    }
    Some(action)
}

async fn condemn<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<(), Error> {
    let now = cluster.now().unix_timestamp();
    let condemned = |mark: &mut Mark| {
        mark.want = Want::Gone;
        mark.expires = Some(now);
    };
    swap(cluster, node, config, mark, &condemned).await
}

/// Whether PVE has tried to make a template of it; a lock or an outage may have kept everybody from asking.
async fn was_tried<I: Io>(cluster: &Cluster<'_, I>, node: &str, mark: &Mark) -> bool {
    let (kind, birth) = (mark.kind.converts(), mark.birth().unix_timestamp());
    let tasks = cluster.send(cluster.pve.tasks_of(node, kind, mark.vmid, birth)).await.unwrap_or_default();
    tasks.iter().any(|it| it.is_since(kind, mark.vmid, birth))
}

fn is_offered(config: &Config, mark: &Mark) -> bool {
    let version = mark.snapshot.as_ref().and_then(SourceId::preset);
    if version.is_none() {
        return !mark.is_doing(What::Template);
    }
    marks::template(config.tags.as_deref().unwrap_or_default()).flatten().is_some()
}

/// How long a template that is not committed is carried on; root may take a day.
fn patience(mark: &Mark, error: &Error) -> i64 {
    let waits = mark.base.is_some() && error.code() != Code::Condemned;
    if waits { ROOT_SECONDS } else { FINISH_SECONDS }
}
