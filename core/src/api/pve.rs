//! What each route does on PVE.

use crate::sandbox::command;
use http::Response;
use serde_json::json;

use super::{
    answer::{created, empty, plain, powered, request_id, tagged},
    asked::{Asked, CHANGE_WAIT, CREATE_WAIT, DELETE_WAIT, Extend, Gc},
    openapi::openapi,
    routes::{Action, alive},
    snapshots::snapshots,
    templates::templates,
};
use crate::{
    error::Error,
    io::{Io, NetError},
    pve::{
        change,
        cluster::Cluster,
        create,
        exec::{self},
        guest::place::Place,
        health, power, read,
        remove::{self, Removed},
        rollback,
        sweep::sweep,
    },
    sandbox::id::{SandboxId, not_found},
};

fn id<I: Io>(cluster: &Cluster<'_, I>, asked: &Asked<'_>) -> Result<SandboxId, Error> {
    asked.id(cluster.settings).ok_or_else(|| not_found(&asked.route.id))
}

pub(super) async fn whole<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let Asked { caller, route, .. } = asked;
    let id = || id(cluster, asked);
    match route.action {
        Action::Health => Ok(alive()),
        Action::OpenApi => Ok(openapi()),
        Action::SandboxHealth => {
            let (healthy, report) = health::health(cluster).await;
            Ok(plain(if healthy { 200 } else { 503 }, &report))
        }
        Action::Config => Ok(plain(200, &read::config(cluster).await?)),
        Action::Create => create_sandbox(cluster, asked).await,
        Action::List => Ok(plain(200, &read::list(cluster, caller, &asked.query.filter()?).await?)),
        Action::Get => {
            let deadline = cluster.deadline(asked.wait().unwrap_or_default());
            let (sandbox, mark) = read::get(cluster, caller, &id()?, deadline).await?;
            Ok(tagged(plain(200, &sandbox), mark.as_ref()))
        }
        Action::Patch => {
            let (patch, if_match) = (asked.json()?, asked.if_match());
            let deadline = cluster.deadline(asked.wait().unwrap_or(CHANGE_WAIT));
            let place = change::patch(cluster, caller, &id()?, &patch, if_match.as_deref(), deadline).await?;
            shown(cluster, place).await
        }
        Action::Delete => {
            let deadline = cluster.deadline(asked.wait().unwrap_or(DELETE_WAIT));
            match remove::remove(cluster, caller, &id()?, asked.if_match().as_deref(), deadline).await? {
                Removed::Done => Ok(empty()),
                Removed::Working => Ok(plain(202, &json!({"id": route.id, "state": "deleting"}))),
            }
        }
        Action::Extend => {
            let ttl = asked.json::<Extend>()?.ttl(cluster.settings)?;
            let (if_match, wait) = (asked.if_match(), asked.wait().unwrap_or(CHANGE_WAIT));
            let deadline = cluster.deadline(wait);
            let place = change::extend(cluster, caller, &id()?, ttl, if_match.as_deref(), deadline).await?;
            shown(cluster, place).await
        }
        Action::Exec => {
            let opened = exec::open(cluster, caller, &id()?, &asked.command()?).await?;
            let cap = cluster.platform.answer_bytes;
            let outcome = command::collect(opened, cap).await.map_err(|error| exec::failed(&error))?;
            Ok(plain(200, &outcome))
        }
        Action::Start | Action::Stop | Action::Reboot | Action::Pause | Action::Resume | Action::Rollback => {
            power(cluster, asked, &id()?).await
        }
        Action::TakeSnapshot
        | Action::ListKept
        | Action::DeleteKept
        | Action::ListSnapshots
        | Action::GetSnapshot
        | Action::PatchSnapshot
        | Action::DeleteSnapshot => snapshots(cluster, asked).await,
        Action::Sweep => {
            let Gc { dry_run } = asked.sweep()?;
            Ok(plain(200, &sweep(cluster, dry_run).await?))
        }
        _ => templates(cluster, asked).await,
    }
}

async fn power<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
    id: &SandboxId,
) -> Result<Response<Vec<u8>>, Error> {
    let caller = asked.caller;
    let deadline = cluster.deadline(asked.wait().unwrap_or(CREATE_WAIT));
    let done = match asked.route.action {
        Action::Stop => power::stop(cluster, caller, id, &asked.json()?, deadline).await?,
        Action::Reboot => power::reboot(cluster, caller, id, &asked.json()?, deadline).await?,
        Action::Rollback => rollback::rollback(cluster, caller, id, &asked.json()?, deadline).await?,
        Action::Pause => power::pause(cluster, caller, id, &asked.json()?, deadline).await?,
        _ => power::start(cluster, caller, id, &asked.json()?, deadline).await?,
    };
    let (sandbox, mark) = match &done.after {
        Some(place) => (read::after(cluster, place, done.finished).await, Some(place.mark.clone())),
        None => read::get(cluster, caller, id, cluster.now()).await?,
    };
    Ok(tagged(powered(done, sandbox), mark.as_ref()))
}

async fn create_sandbox<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (request, key) = asked.creation(cluster.settings)?;
    let deadline = cluster.deadline(asked.wait().unwrap_or(CREATE_WAIT));
    let made = create::create(cluster, asked.caller, &request, key, deadline).await?;
    let ready = made.progress.ready;
    let mark = made.progress.mark.clone();
    let sandbox = read::progressed(cluster, made.progress).await;
    Ok(tagged(created(&sandbox, ready, made.replayed), Some(&mark)))
}

/// A sandbox after a change: what was written, and what PVE says of its state.
async fn shown<I: Io>(cluster: &Cluster<'_, I>, place: Place) -> Result<Response<Vec<u8>>, Error> {
    let mark = place.mark.clone();
    let (sandbox, _) = read::changed(cluster, place).await?;
    Ok(tagged(plain(200, &sandbox), Some(&mark)))
}

pub(super) async fn events<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
) -> Result<impl futures_util::Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, Error> {
    let opened = exec::open(cluster, asked.caller, &id(cluster, asked)?, &asked.command()?).await?;
    Ok(command::events(opened, cluster.io.clone(), request_id(&cluster.seed), exec::failed))
}
