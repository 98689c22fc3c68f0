//! Routes about snapshots: those that others are made from, and those that a sandbox keeps.

use http::{Response, header::LOCATION};
use serde::Serialize;

use crate::{
    api::{
        answer::{empty, plain, tagged, with},
        request::{ApiRequest, CREATE_WAIT, DELETE_WAIT},
    },
    error::Error,
    io::Io,
    provider::Provider,
    sandbox::{
        Removed,
        removal::{DeletingKept, DeletingSnapshot},
        snapshot::{All, ShownSnapshot, SnapshotRequest, Status, Taken},
    },
};

pub(super) async fn take<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let request: SnapshotRequest = asked.json()?;
    let deadline = provider.deadline(asked.wait_or(CREATE_WAIT));
    Ok(match provider.take_snapshot(asked.caller, asked.id(), &request, deadline).await? {
        Taken::Template(taken) => {
            let status = if taken.status == Status::Ready { 201 } else { 202 };
            with(plain(status, &taken), LOCATION, &format!("/api/snapshots/{}", taken.snapshot_id))
        }
        Taken::Kept { sandbox, kept, is_done } => {
            let answer = plain(if is_done { 201 } else { 202 }, &kept);
            with(answer, LOCATION, &format!("/api/sandboxes/{sandbox}/snapshots"))
        }
    })
}

pub(super) async fn list<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let items = provider.list_snapshots(asked.caller).await?;
    Ok(plain(200, &All::of(items)))
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = provider.deadline(asked.wait().unwrap_or_default());
    Ok(shown(&provider.get_snapshot(asked.caller, asked.id(), deadline).await?))
}

pub(super) async fn patch<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (patch, if_match) = (asked.json()?, asked.if_match());
    Ok(shown(&provider.patch_snapshot(asked.caller, asked.id(), &patch, if_match.as_deref()).await?))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (if_match, deadline) = (asked.if_match(), provider.deadline(asked.wait_or(DELETE_WAIT)));
    let removed = provider.remove_snapshot(asked.caller, asked.id(), if_match.as_deref(), deadline).await?;
    Ok(gone(removed, &DeletingSnapshot::of(asked.id())))
}

pub(super) async fn list_kept<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let items = provider.list_kept(asked.caller, asked.id()).await?;
    Ok(plain(200, &All::of(items)))
}

pub(super) async fn remove_kept<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (snapshot, deadline) = (&asked.route.part, provider.deadline(asked.wait_or(DELETE_WAIT)));
    let removed = provider.remove_kept(asked.caller, asked.id(), snapshot, deadline).await?;
    Ok(gone(removed, &DeletingKept::of(snapshot)))
}

fn shown(shown: &ShownSnapshot) -> Response<Vec<u8>> {
    tagged(plain(200, &shown.snapshot), shown.etag.as_deref())
}

fn gone(removed: Removed, working: &impl Serialize) -> Response<Vec<u8>> {
    match removed {
        Removed::Done => empty(),
        Removed::Working => plain(202, working),
    }
}
