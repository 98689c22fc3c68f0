//! The routes about templates that are made from nothing.

use std::time::Duration;

use http::{HeaderMap, Response};
use serde_json::json;

use super::{
    answer::{empty, plain, with},
    asked::{idempotency_key, wait},
    routes::{Action, CREATE_WAIT, DELETE_WAIT, Route},
};
use crate::{
    auth::Caller,
    edge::Edge,
    error::{Code, Error},
    io::Io,
    request,
    sandbox::SandboxId,
    template::{self, Status},
};

pub(super) async fn templates<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    route: &Route,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Vec<u8>>, Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no template {}", route.id));
    let id = || route.id.parse::<SandboxId>().map_err(|_| absent());
    let waits = |otherwise| wait(headers).map(|it| edge.deadline(it.unwrap_or(otherwise)));
    match route.action {
        Action::BuildTemplate => {
            let asked = request::value(headers, body)?;
            let canonical = asked.to_string();
            let key = idempotency_key(headers)?.map(|key| (key, &*canonical));
            let deadline = waits(CREATE_WAIT)?;
            let (built, replayed) =
                template::build(edge, caller, &request::of(asked)?, key, deadline).await?;
            let status = match (built.status, replayed) {
                (Status::Ready, true) => 200,
                (Status::Ready, false) => 201,
                _ => 202,
            };
            let answer = plain(status, &built);
            Ok(match &built.id {
                Some(id) => with(answer, "location", &format!("/api/templates/{id}")),
                None => answer,
            })
        }
        Action::ConfirmTemplate => {
            let asked = request::json(headers, body)?;
            let deadline = waits(Duration::ZERO)?;
            Ok(plain(200, &template::confirm(edge, caller, &id()?, &asked, deadline).await?))
        }
        Action::DeleteTemplate => match template::remove(edge, caller, &id()?, waits(DELETE_WAIT)?).await? {
            true => Ok(empty()),
            false => Ok(plain(202, &json!({"id": route.id, "status": "deleting"}))),
        },
        _ => Ok(plain(200, &template::get(edge, caller, &id()?, waits(Duration::ZERO)?).await?)),
    }
}
