//! Routes about sandboxes.

use http::{Response, header::LOCATION};

use crate::{
    api::{
        answer::{empty, plain, tagged, with},
        request::{ApiRequest, CHANGE_WAIT, CREATE_WAIT, DELETE_WAIT, ExtendBody},
    },
    error::Error,
    io::Io,
    provider::Provider,
    sandbox::{Removed, Shown, State, creation::CreateRequest, removal::DeletingSandbox},
};

pub(super) async fn create<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let request: CreateRequest = asked.json()?;
    let settings = provider.settings();
    request.check(settings.provider, &settings.limits)?;
    let (key, deadline) = (asked.idempotency_key()?, provider.deadline(asked.wait_or(CREATE_WAIT)));
    let made = provider.create(asked.caller, &request, key, deadline).await?;
    let status = match (made.shown.sandbox.state, made.ready, made.replayed) {
        (State::Creating, ..) => 202,
        (_, _, true) => 200,
        (_, true, _) => 201,
        // Over, or stopped by somebody, before it was up.
        _ => 202,
    };
    let place = format!("/api/sandboxes/{}", made.shown.sandbox.id);
    Ok(with(shown(status, &made.shown), LOCATION, &place))
}

pub(super) async fn list<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &provider.list(asked.caller, &asked.query.filter()?).await?))
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = provider.deadline(asked.wait().unwrap_or_default());
    Ok(shown(200, &provider.get(asked.caller, asked.id(), deadline).await?))
}

pub(super) async fn patch<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (patch, if_match) = (asked.json()?, asked.if_match());
    let deadline = provider.deadline(asked.wait_or(CHANGE_WAIT));
    let changed = provider.patch(asked.caller, asked.id(), &patch, if_match.as_deref(), deadline).await?;
    Ok(shown(200, &changed))
}

pub(super) async fn extend<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let ttl = asked.json::<ExtendBody>()?.ttl(&provider.settings().limits)?;
    let (if_match, deadline) = (asked.if_match(), provider.deadline(asked.wait_or(CHANGE_WAIT)));
    let changed = provider.extend(asked.caller, asked.id(), ttl, if_match.as_deref(), deadline).await?;
    Ok(shown(200, &changed))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (if_match, deadline) = (asked.if_match(), provider.deadline(asked.wait_or(DELETE_WAIT)));
    Ok(match provider.remove(asked.caller, asked.id(), if_match.as_deref(), deadline).await? {
        Removed::Done => empty(),
        Removed::Working => plain(202, &DeletingSandbox::of(asked.id())),
    })
}

fn shown(status: u16, shown: &Shown) -> Response<Vec<u8>> {
    tagged(plain(status, &shown.sandbox), shown.etag.as_deref())
}
