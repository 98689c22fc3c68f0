//! Routes about templates that are made from nothing.

use http::{Response, header::LOCATION};

use crate::{
    api::{
        answer::{empty, plain, with},
        body,
        request::{ApiRequest, CREATE_WAIT, DELETE_WAIT},
    },
    error::Error,
    io::Io,
    provider::Provider,
    sandbox::{
        Removed,
        removal::DeletingTemplate,
        template::{Built, Status},
    },
};

pub(super) async fn build<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let value = asked.json_value()?;
    let canonical = value.to_string();
    let key = asked.idempotency_key()?.map(|key| (key, &*canonical));
    let (request, deadline) = (body::read(value)?, provider.deadline(asked.wait_or(CREATE_WAIT)));
    let Built { template, replayed } = provider.build_template(asked.caller, &request, key, deadline).await?;
    let status = match (template.status, replayed) {
        (Status::Ready, true) => 200,
        (Status::Ready, false) => 201,
        (Status::Downloading | Status::Building | Status::NeedsRoot | Status::Failed, _) => 202,
    };
    let answer = plain(status, &template);
    Ok(match &template.id {
        Some(id) => with(answer, LOCATION, &format!("/api/templates/{id}")),
        None => answer,
    })
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = provider.deadline(asked.wait().unwrap_or_default());
    Ok(plain(200, &provider.get_template(asked.caller, asked.id(), deadline).await?))
}

pub(super) async fn confirm<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (confirmation, deadline) = (asked.json()?, provider.deadline(asked.wait().unwrap_or_default()));
    Ok(plain(200, &provider.confirm_template(asked.caller, asked.id(), &confirmation, deadline).await?))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = provider.deadline(asked.wait_or(DELETE_WAIT));
    Ok(match provider.remove_template(asked.caller, asked.id(), deadline).await? {
        Removed::Done => empty(),
        Removed::Working => plain(202, &DeletingTemplate::of(asked.id())),
    })
}
