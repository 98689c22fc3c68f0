//! Settings of the tunnel: account, zone and domain at Cloudflare.

use super::{
    reader::Reader,
    values::{cloudflare_id, header_value, zone_name},
};
use crate::{access::secret::Secret, sandbox::address::Domain};

/// Account, zone and domain of the tunnel, each where it is set.
#[derive(Clone, Debug, Default)]
pub struct Cloudflare {
    /// Token of Cloudflare's API, from `CF_API_TOKEN`.
    pub token: Option<Secret>,
    /// Id of the account, from `CF_ACCOUNT_ID`.
    pub account: Option<String>,
    /// Id of the zone, from `CF_ZONE_ID`.
    pub zone: Option<String>,
    /// Guests' domain, from `CF_DOMAIN`.
    pub domain: Option<String>,
}

impl Cloudflare {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            token: reader.parsed("CF_API_TOKEN", |it| header_value(it, "Cloudflare")),
            account: reader.parsed("CF_ACCOUNT_ID", cloudflare_id),
            zone: reader.parsed("CF_ZONE_ID", cloudflare_id),
            domain: reader.parsed("CF_DOMAIN", zone_name),
        }
    }

    /// Domain of the service URLs: the one that is set, which must be that of the tunnel, or else the tunnel's.
    pub(super) fn public_domain(&self, reader: &mut Reader<'_>, set: Option<Domain>) -> Option<Domain> {
        let tunnel: Option<Domain> = self.domain.as_deref().and_then(|it| it.parse().ok());
        match (&set, &tunnel) {
            (Some(one), Some(other)) if one != other => {
                reader.add_problem(
                    "CF_DOMAIN",
                    "must be the same as PVE_PUBLIC_DOMAIN, without scheme or port",
                );
                set
            }
            (None, Some(_)) if !reader.has("PVE_PUBLIC_DOMAIN") => tunnel,
            _ => set,
        }
    }
}
