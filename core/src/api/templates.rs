//! The routes about templates that are made from nothing.

use std::time::Duration;

use http::{Response, header::LOCATION};
use serde_json::json;

use super::{
    answer::{empty, plain, with},
    asked::{Asked, CREATE_WAIT, DELETE_WAIT},
    body::of,
    routes::Action,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{cluster::Cluster, template},
    sandbox::template::Status,
};

pub(super) async fn templates<I: Io>(
    cluster: &Cluster<'_, I>,
    asked: &Asked<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (caller, route) = (asked.caller, asked.route);
    let id = || asked.id(cluster.settings).ok_or_else(|| absent(&route.id));
    let waits = |otherwise| cluster.deadline(asked.wait().unwrap_or(otherwise));
    match route.action {
        Action::BuildTemplate => {
            let body = asked.value()?;
            let canonical = body.to_string();
            let key = asked.idempotency_key()?.map(|key| (key, &*canonical));
            let deadline = waits(CREATE_WAIT);
            let (built, replayed) = template::build(cluster, caller, &of(body)?, key, deadline).await?;
            let status = match (built.status, replayed) {
                (Status::Ready, true) => 200,
                (Status::Ready, false) => 201,
                _ => 202,
            };
            let answer = plain(status, &built);
            Ok(match &built.id {
                Some(id) => with(answer, LOCATION, &format!("/api/templates/{id}")),
                None => answer,
            })
        }
        Action::ConfirmTemplate => {
            let confirmed = asked.json()?;
            let deadline = waits(Duration::ZERO);
            Ok(plain(200, &template::confirm(cluster, caller, &id()?, &confirmed, deadline).await?))
        }
        Action::DeleteTemplate => {
            match template::remove(cluster, caller, &id()?, waits(DELETE_WAIT)).await? {
                true => Ok(empty()),
                false => Ok(plain(202, &json!({"id": route.id, "status": "deleting"}))),
            }
        }
        _ => Ok(plain(200, &template::get(cluster, caller, &id()?, waits(Duration::ZERO)).await?)),
    }
}

pub(super) fn absent(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no template {id}"))
}
