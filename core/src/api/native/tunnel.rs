//! Routes about the tunnel by which guests are reached from the internet.

use http::Response;
use serde::Deserialize;

use crate::{
    api::{answer::plain, request::ApiRequest, setup::located},
    error::Error,
    io::Io,
    provider::Provider,
    sandbox::address::PROXY_PORT,
    text::shell::quote,
    tunnel::{Request, Site, Tunnel},
};

/// A tunnel to make.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(in crate::api) struct TunnelBody {
    /// Only plan; false by default.
    dry_run: bool,
    /// Overwrite what is not ours, as far as `plan` showed it; false by default.
    force: bool,
    /// Hash of the plan that was seen: anything else that is there now is 412 `plan-changed`. `force` needs it.
    plan: Option<String>,
    /// Let a Worker reach the guests by a VPC service, so that no public name leads into the tunnel; false by default.
    vpc: bool,
}

pub(super) async fn make<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let TunnelBody { dry_run, force, plan, vpc } = asked.json()?;
    let site = site(provider, asked)?;
    let made = site.make(&Request { dry_run, force, plan, vpc }).await?;
    let command = made.token.is_some().then(|| command(provider.asked_at.as_deref()));
    Ok(plain(200, &Tunnel { command, ..made }))
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &site(provider, asked)?.compare(vpc(asked)?).await?))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let force = asked.query.flag("force")?;
    Ok(plain(200, &site(provider, asked)?.remove(force, vpc(asked)?).await?))
}

fn site<I: Io>(provider: &Provider<'_, I>, asked: &ApiRequest<'_>) -> Result<Site<I>, Error> {
    asked.caller.ensure_admin("the tunnel is the deployment's")?;
    Site::new(provider, provider.settings(), PROXY_PORT)
}

fn vpc(asked: &ApiRequest<'_>) -> Result<Option<bool>, Error> {
    asked.query.get("vpc").is_some().then(|| asked.query.flag("vpc")).transpose()
}

/// The command for the host of PVE. Key and token are on no command line: `printf` is the shell's own, and the script asks
/// for the token. A host may have that of a tunnel that was deleted, so the script asks where it has one too; one that is
/// equal changes nothing. The script holds keys of the proxy, and is removed.
fn command(origin: Option<&str>) -> String {
    let url = quote(&located(origin, "/api/setup/proxy.sh"));
    let get = format!("printf 'Authorization: Bearer %s\\n' \"$KEY\" | curl -fsS -H @- -o proxy.sh {url}");
    format!("(umask 077; {get} && sh proxy.sh --new-token; rm -f proxy.sh)")
}
