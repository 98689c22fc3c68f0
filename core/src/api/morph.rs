//! What each route does on Morph Cloud.

use crate::sandbox::command;
use futures_util::Stream;
use http::{Response, header::LOCATION};
use serde_json::{Value, json};

use super::{
    answer::{created, empty, marked, plain, powered, request_id, with},
    asked::{Asked, CREATE_WAIT, Extend, Gc},
    openapi::openapi,
    routes::{Action, alive},
    templates::absent,
};
use crate::{
    error::{Code, Error},
    io::{Io, NetError},
    morph::{
        Cloud, change, config, create, exec, health,
        instance::{self, Instance},
        power, read, remove, snapshot,
        sweep::sweep,
    },
    sandbox::{
        id::{MorphId, SourceId, not_found},
        power::{RollbackBody, StopBody},
        snapshot::{SnapshotRequest, Status},
    },
};

fn id(asked: &Asked<'_>) -> Result<MorphId, Error> {
    MorphId::instance(&asked.route.id).ok_or_else(|| not_found(&asked.route.id))
}

pub(super) async fn whole<I: Io>(
    cloud: &Cloud<'_, I>,
    asked: &Asked<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let caller = asked.caller;
    let id = || id(asked);
    match asked.route.action {
        Action::Health => Ok(alive()),
        Action::OpenApi => Ok(openapi()),
        Action::SandboxHealth => {
            let (healthy, report) = health::health(cloud).await;
            Ok(plain(if healthy { 200 } else { 503 }, &report))
        }
        Action::Config => Ok(plain(200, &config::config(cloud).await?)),
        Action::Create => {
            let (request, key) = asked.creation(cloud.settings)?;
            let deadline = cloud.deadline(asked.wait().unwrap_or(CREATE_WAIT));
            let made = create::create(cloud, caller, &request, key, deadline).await?;
            let answer = created(&read::sandbox(cloud, &made.instance), made.ready, made.replayed);
            Ok(marked(answer, &read::etag(&made.instance)))
        }
        Action::List => Ok(plain(200, &read::list(cloud, caller, &asked.query.filter()?).await?)),
        Action::Get => {
            let deadline = cloud.deadline(asked.wait().unwrap_or_default());
            Ok(shown(cloud, &read::get(cloud, caller, &id()?, deadline).await?))
        }
        Action::Patch => {
            let (patch, if_match) = (asked.json()?, asked.if_match());
            let changed = change::patch(cloud, caller, &id()?, &patch, if_match.as_deref()).await?;
            Ok(shown(cloud, &changed))
        }
        Action::Delete => {
            remove::remove(cloud, caller, &id()?, asked.if_match().as_deref()).await?;
            Ok(empty())
        }
        Action::Extend => {
            let ttl = asked.json::<Extend>()?.ttl(cloud.settings)?;
            let if_match = asked.if_match();
            Ok(shown(cloud, &change::extend(cloud, caller, &id()?, ttl, if_match.as_deref()).await?))
        }
        Action::Exec => {
            let opened = exec::open(cloud, caller, &id()?, &asked.command()?).await?;
            let cap = cloud.platform.answer_bytes;
            let outcome = command::collect(opened, cap).await.map_err(|error| exec::failed(&error))?;
            Ok(plain(200, &outcome))
        }
        Action::Start | Action::Stop | Action::Reboot | Action::Pause | Action::Resume | Action::Rollback => {
            power(cloud, asked, &id()?).await
        }
        Action::Sweep => {
            let Gc { dry_run } = asked.sweep()?;
            Ok(plain(200, &sweep(cloud, dry_run).await?))
        }
        Action::BuildTemplate => {
            let text = "Morph makes machines of snapshots: take one of a sandbox, with promote";
            Err(Error::new(Code::Unsupported, text))
        }
        Action::GetTemplate | Action::ConfirmTemplate | Action::DeleteTemplate => {
            Err(absent(&asked.route.id))
        }
        _ => snapshots(cloud, asked).await,
    }
}

fn shown<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Response<Vec<u8>> {
    marked(plain(200, &read::sandbox(cloud, instance)), &read::etag(instance))
}

async fn power<I: Io>(
    cloud: &Cloud<'_, I>,
    asked: &Asked<'_>,
    id: &MorphId,
) -> Result<Response<Vec<u8>>, Error> {
    let caller = asked.caller;
    let deadline = cloud.deadline(asked.wait().unwrap_or(CREATE_WAIT));
    let (done, instance) = match asked.route.action {
        Action::Stop => {
            asked.json::<StopBody>()?.timeout()?;
            return Err(power::stop());
        }
        Action::Rollback => {
            asked.json::<RollbackBody>()?;
            let text = "Morph brings no sandbox back: make another from a snapshot";
            return Err(Error::new(Code::Unsupported, text));
        }
        Action::Reboot => {
            asked.json::<StopBody>()?.timeout()?;
            power::reboot(cloud, caller, id, deadline).await?
        }
        Action::Pause => power::pause(cloud, caller, id, &asked.json()?, deadline).await?,
        _ => power::resume(cloud, caller, id, &asked.json()?, deadline).await?,
    };
    Ok(marked(powered(done, read::sandbox(cloud, &instance)), &read::etag(&instance)))
}

async fn snapshots<I: Io>(cloud: &Cloud<'_, I>, asked: &Asked<'_>) -> Result<Response<Vec<u8>>, Error> {
    let (caller, route) = (asked.caller, asked.route);
    let list = |items: Value| plain(200, &json!({"items": items, "nextCursor": null}));
    let snapshot = || match route.id.parse() {
        Ok(SourceId::Morph(id)) => Ok(id),
        Ok(SourceId::Preset(id)) => {
            let text = format!("{id} is a preset: GET /api/snapshots shows it");
            Err(Error::new(Code::Forbidden, text))
        }
        _ => Err(Error::new(Code::NotFound, format!("there is no snapshot {}", route.id))),
    };
    match route.action {
        Action::ListSnapshots => Ok(list(json!(snapshot::list(cloud, caller).await?))),
        Action::TakeSnapshot => {
            let request: SnapshotRequest = asked.json()?;
            let deadline = cloud.deadline(asked.wait().unwrap_or(CREATE_WAIT));
            let taken = snapshot::take(cloud, caller, &id(asked)?, &request, deadline).await?;
            let place = format!("/api/snapshots/{}", taken.snapshot_id);
            let status = if taken.status == Status::Ready { 201 } else { 202 };
            Ok(with(plain(status, &taken), LOCATION, &place))
        }
        // It keeps none.
        Action::ListKept | Action::DeleteKept => {
            let found = instance::find(cloud, caller, &id(asked)?).await?;
            read::gone(&found, cloud.now())?;
            if route.action == Action::ListKept {
                return Ok(list(json!([])));
            }
            let text = format!("this sandbox keeps no snapshot {}", route.snapshot);
            Err(Error::new(Code::NotFound, text))
        }
        Action::DeleteSnapshot => {
            snapshot::remove(cloud, caller, &snapshot()?, asked.if_match().as_deref()).await?;
            Ok(empty())
        }
        Action::PatchSnapshot => {
            let (patch, if_match) = (asked.json()?, asked.if_match());
            let (changed, etag) =
                snapshot::patch(cloud, caller, &snapshot()?, &patch, if_match.as_deref()).await?;
            Ok(marked(plain(200, &changed), &etag))
        }
        _ => {
            let deadline = cloud.deadline(asked.wait().unwrap_or_default());
            let (found, etag) = snapshot::get(cloud, caller, &snapshot()?, deadline).await?;
            Ok(marked(plain(200, &found), &etag))
        }
    }
}

pub(super) async fn events<I: Io>(
    cloud: &Cloud<'_, I>,
    asked: &Asked<'_>,
) -> Result<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, Error> {
    let opened = exec::open(cloud, asked.caller, &id(asked)?, &asked.command()?).await?;
    Ok(command::events(opened, cloud.io.clone(), request_id(&cloud.seed), exec::failed))
}
