//! The routes about snapshots: templates, and those that a sandbox keeps.

use std::time::Duration;

use http::{Response, header::LOCATION};
use serde_json::json;

use super::{
    answer::{empty, plain, tagged, with},
    asked::{Asked, CREATE_WAIT, DELETE_WAIT},
    routes::Action,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        cluster::Cluster,
        snapshot::{self, keep},
    },
    sandbox::{
        id::{SourceId, not_found},
        snapshot::{SnapshotRequest, Status},
    },
};

pub(super) async fn snapshots<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (caller, route) = (asked.caller, asked.route);
    let id = || match (asked.id(cluster.settings), route.id.parse::<SourceId>()) {
        (Some(id), _) => Ok(id),
        (None, Ok(SourceId::Preset(id))) => Err(Error::new(
            Code::Forbidden,
            format!("{id} is a preset: GET /api/snapshots shows it, PVE deletes it"),
        )),
        _ => Err(Error::new(Code::NotFound, format!("there is no snapshot {}", route.id))),
    };
    let sandbox = || asked.id(cluster.settings).ok_or_else(|| not_found(&route.id));
    let waits = |otherwise| cluster.deadline(asked.wait().unwrap_or(otherwise));
    match route.action {
        Action::ListSnapshots => {
            let items = snapshot::list(cluster, caller).await?;
            Ok(plain(200, &json!({"items": items, "nextCursor": null})))
        }
        Action::TakeSnapshot => {
            let sandbox = sandbox()?;
            let request: SnapshotRequest = asked.json()?;
            if request.keep {
                let deadline = waits(CREATE_WAIT);
                let (taken, done) = keep::take(cluster, caller, &sandbox, &request, deadline).await?;
                let place = format!("/api/sandboxes/{sandbox}/snapshots");
                return Ok(with(plain(if done { 201 } else { 202 }, &taken), LOCATION, &place));
            }
            let taken = snapshot::take(cluster, caller, &sandbox, &request, waits(CREATE_WAIT)).await?;
            let place = format!("/api/snapshots/{}", taken.snapshot_id);
            let status = if taken.status == Status::Ready { 201 } else { 202 };
            Ok(with(plain(status, &taken), LOCATION, &place))
        }
        Action::ListKept => {
            let items = keep::list(cluster, caller, &sandbox()?).await?;
            Ok(plain(200, &json!({"items": items, "nextCursor": null})))
        }
        Action::DeleteKept => {
            let deadline = waits(DELETE_WAIT);
            match keep::remove(cluster, caller, &sandbox()?, &route.snapshot, deadline).await? {
                true => Ok(empty()),
                false => Ok(plain(202, &json!({"snapshotId": route.snapshot, "status": "deleting"}))),
            }
        }
        Action::DeleteSnapshot => {
            let (if_match, deadline) = (asked.if_match(), waits(DELETE_WAIT));
            match snapshot::remove(cluster, caller, &id()?, if_match.as_deref(), deadline).await? {
                true => Ok(empty()),
                false => Ok(plain(202, &json!({"snapshotId": route.id, "status": "deleting"}))),
            }
        }
        Action::PatchSnapshot => {
            let (patch, if_match) = (asked.json()?, asked.if_match());
            let (snapshot, mark) =
                snapshot::patch(cluster, caller, &id()?, &patch, if_match.as_deref()).await?;
            Ok(tagged(plain(200, &snapshot), Some(&mark)))
        }
        _ => {
            let (snapshot, mark) = snapshot::get(cluster, caller, &id()?, waits(Duration::ZERO)).await?;
            Ok(tagged(plain(200, &snapshot), mark.as_ref()))
        }
    }
}
