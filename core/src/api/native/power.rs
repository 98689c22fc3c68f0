//! Routes that start, stop, reboot, pause, resume and roll back a sandbox.

use http::Response;
use serde::Serialize;

use crate::{
    api::{
        answer::{plain, tagged},
        request::{ApiRequest, CREATE_WAIT},
    },
    error::Error,
    io::Io,
    provider::Provider,
    sandbox::{
        Sandbox,
        power::{Did, Keeps, Powered},
    },
};

macro_rules! routes {
    ($($name:ident)*) => {
        $(
            pub(super) async fn $name<I: Io>(
                provider: &Provider<'_, I>,
                asked: &ApiRequest<'_>,
            ) -> Result<Response<Vec<u8>>, Error> {
                let (body, deadline) = (asked.json()?, provider.deadline(asked.wait_or(CREATE_WAIT)));
                Ok(answer(&provider.$name(asked.caller, asked.id(), &body, deadline).await?))
            }
        )*
    };
}

routes! { start stop reboot pause rollback }

/// A sandbox after a power action, as it is sent.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Powered"))]
pub(in crate::api) struct Answer<'a> {
    /// What was done.
    did: Did,
    /// What a pause kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Keeps"))]
    keeps: Option<Keeps>,
    #[serde(flatten)]
    sandbox: &'a Sandbox,
}

fn answer(powered: &Powered) -> Response<Vec<u8>> {
    let Powered { did, finished, keeps, shown } = powered;
    let body = Answer { did: *did, keeps: *keeps, sandbox: &shown.sandbox };
    tagged(plain(if *finished { 200 } else { 202 }, &body), shown.etag.as_deref())
}
