//! The tunnel by which guests are reached from the internet: made, compared and removed by Cloudflare's API.
//!
//! Nothing is kept of it here. Each request looks at what is there, plans, and does the missing thing, in this order:
//! tunnel, ingress, record, VPC service. Ours is what can be proved: the tunnel and the service by their exact name, a
//! record by its content or its comment. Whatever else is in the way is a conflict, which is overwritten by a request
//! alone that carries the hash of what was read.

mod api;
mod found;
mod make;
mod plan;
mod refusal;
mod remove;
mod seen;
mod view;
mod wanted;

use self::{api::Client, wanted::Wanted};
pub use self::{
    make::Request,
    view::{Caught, Connection, Connector, Part, Removed, Row, State, Tunnel},
};
use crate::{
    error::{Code, Error},
    io::{Io, invocation::Invocation},
    sandbox::preset::ProviderName,
    settings::Settings,
};

/// The account and the zone of a deployment's tunnel, as one request works with them.
pub struct Site<I> {
    invocation: Invocation<I>,
    client: Client,
    wanted: Wanted,
}

impl<I: Io> Site<I> {
    /// The site that the settings name, or which of them are missing. `port` is the proxy's on the host of PVE.
    pub fn new(invocation: &Invocation<I>, settings: &Settings, port: u16) -> Result<Self, Error> {
        if settings.provider == ProviderName::Morph {
            let text = "Morph Cloud gives its sandboxes public names itself: there is nothing to tunnel to";
            return Err(Error::new(Code::Unsupported, text));
        }
        let set = &settings.cloudflare;
        let (Some(token), Some(account), Some(zone), Some(domain)) =
            (&set.token, &set.account, &set.zone, &set.domain)
        else {
            let needed = [
                ("CF_API_TOKEN", set.token.is_none()),
                ("CF_ACCOUNT_ID", set.account.is_none()),
                ("CF_ZONE_ID", set.zone.is_none()),
                ("CF_DOMAIN", set.domain.is_none()),
            ];
            let missing: Vec<_> = needed.iter().filter(|it| it.1).map(|it| it.0).collect();
            let text = format!("the tunnel needs {} to be set", missing.join(", "));
            return Err(Error::new(Code::Misconfigured, text));
        };
        let client = Client::new(token, account, zone)
            .ok_or_else(|| Error::new(Code::Misconfigured, "CF_API_TOKEN cannot be the value of a header"))?;
        let wanted = Wanted::new(&settings.deployment, domain, port);
        Ok(Self { invocation: invocation.toward("cloudflare"), client, wanted })
    }
}
