//! What each route does on PVE.

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
    change, config, create,
    edge::Edge,
    error::Error,
    exec, execd, health,
    io::{Io, NetError},
    place::{Place, not_found},
    power, read,
    remove::{self, Removed},
    rollback,
    sandbox::SandboxId,
    sweep::sweep,
};

fn id<I: Io>(edge: &Edge<'_, I>, asked: &Asked<'_>) -> Result<SandboxId, Error> {
    asked.id(edge.settings).ok_or_else(|| not_found(&asked.route.id))
}

pub(super) async fn whole<I: Io>(edge: &Edge<'_, I>, asked: &Asked<'_>) -> Result<Response<Vec<u8>>, Error> {
    let Asked { caller, route, .. } = asked;
    let id = || id(edge, asked);
    match route.action {
        Action::Health => Ok(alive()),
        Action::OpenApi => Ok(openapi()),
        Action::SandboxHealth => {
            let (healthy, report) = health::health(edge).await;
            Ok(plain(if healthy { 200 } else { 503 }, &report))
        }
        Action::Config => Ok(plain(200, &config::config(edge).await?)),
        Action::Create => create_sandbox(edge, asked).await,
        Action::List => Ok(plain(200, &read::list(edge, caller, &asked.query.filter()?).await?)),
        Action::Get => {
            let deadline = edge.deadline(asked.wait().unwrap_or_default());
            let (sandbox, mark) = read::get(edge, caller, &id()?, deadline).await?;
            Ok(tagged(plain(200, &sandbox), mark.as_ref()))
        }
        Action::Patch => {
            let (patch, if_match) = (asked.json()?, asked.if_match());
            let deadline = edge.deadline(asked.wait().unwrap_or(CHANGE_WAIT));
            let place = change::patch(edge, caller, &id()?, &patch, if_match.as_deref(), deadline).await?;
            shown(edge, place).await
        }
        Action::Delete => {
            let deadline = edge.deadline(asked.wait().unwrap_or(DELETE_WAIT));
            match remove::remove(edge, caller, &id()?, asked.if_match().as_deref(), deadline).await? {
                Removed::Done => Ok(empty()),
                Removed::Working => Ok(plain(202, &json!({"id": route.id, "state": "deleting"}))),
            }
        }
        Action::Extend => {
            let ttl = asked.json::<Extend>()?.ttl(edge.settings)?;
            let (if_match, wait) = (asked.if_match(), asked.wait().unwrap_or(CHANGE_WAIT));
            let deadline = edge.deadline(wait);
            let place = change::extend(edge, caller, &id()?, ttl, if_match.as_deref(), deadline).await?;
            shown(edge, place).await
        }
        Action::Exec => {
            let opened = exec::open(edge, caller, &id()?, &asked.command()?).await?;
            let cap = edge.platform.answer_bytes;
            let outcome = execd::collect(opened, cap).await.map_err(|error| exec::failed(&error))?;
            Ok(plain(200, &outcome))
        }
        Action::Start | Action::Stop | Action::Reboot | Action::Pause | Action::Resume | Action::Rollback => {
            power(edge, asked, &id()?).await
        }
        Action::TakeSnapshot
        | Action::ListKept
        | Action::DeleteKept
        | Action::ListSnapshots
        | Action::GetSnapshot
        | Action::PatchSnapshot
        | Action::DeleteSnapshot => snapshots(edge, asked).await,
        Action::Sweep => {
            let Gc { dry_run } = asked.sweep()?;
            Ok(plain(200, &sweep(edge, dry_run).await?))
        }
        _ => templates(edge, asked).await,
    }
}

async fn power<I: Io>(
    edge: &Edge<'_, I>,
    asked: &Asked<'_>,
    id: &SandboxId,
) -> Result<Response<Vec<u8>>, Error> {
    let caller = asked.caller;
    let deadline = edge.deadline(asked.wait().unwrap_or(CREATE_WAIT));
    let done = match asked.route.action {
        Action::Stop => power::stop(edge, caller, id, &asked.json()?, deadline).await?,
        Action::Reboot => power::reboot(edge, caller, id, &asked.json()?, deadline).await?,
        Action::Rollback => rollback::rollback(edge, caller, id, &asked.json()?, deadline).await?,
        Action::Pause => power::pause(edge, caller, id, &asked.json()?, deadline).await?,
        _ => power::start(edge, caller, id, &asked.json()?, deadline).await?,
    };
    let (sandbox, mark) = match &done.after {
        Some(place) => (read::after(edge, place, done.finished).await, Some(place.mark.clone())),
        None => read::get(edge, caller, id, edge.now()).await?,
    };
    Ok(tagged(powered(done, sandbox), mark.as_ref()))
}

async fn create_sandbox<I: Io>(edge: &Edge<'_, I>, asked: &Asked<'_>) -> Result<Response<Vec<u8>>, Error> {
    let (request, key) = asked.creation(edge.settings)?;
    let deadline = edge.deadline(asked.wait().unwrap_or(CREATE_WAIT));
    let made = create::create(edge, asked.caller, &request, key, deadline).await?;
    let ready = made.progress.ready;
    let mark = made.progress.mark.clone();
    let sandbox = read::progressed(edge, made.progress).await;
    Ok(tagged(created(&sandbox, ready, made.replayed), Some(&mark)))
}

/// A sandbox after a change: what was written, and what PVE says of its state.
async fn shown<I: Io>(edge: &Edge<'_, I>, place: Place) -> Result<Response<Vec<u8>>, Error> {
    let mark = place.mark.clone();
    let (sandbox, _) = read::changed(edge, place).await?;
    Ok(tagged(plain(200, &sandbox), Some(&mark)))
}

pub(super) async fn events<I: Io>(
    edge: &Edge<'_, I>,
    asked: &Asked<'_>,
) -> Result<impl futures_util::Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, Error> {
    let opened = exec::open(edge, asked.caller, &id(edge, asked)?, &asked.command()?).await?;
    Ok(execd::events(opened, edge.io.clone(), request_id(&edge.seed), exec::failed))
}
