//! What is asked of services, and the link that opens one.

use serde::{Deserialize, Serialize};

use super::{HostHeader, Origin, Visibility, ensure_visitable, is_always_private};
use crate::error::Error;

/// Origins that one service or link may name.
const ORIGINS: usize = 8;

/// Seconds that a link opens when nobody says.
const USUAL_LINK: u32 = 600;

/// The longest that a link opens: a week.
const LONGEST_LINK: u32 = 7 * 24 * 3600;

/// A service to declare.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceBody {
    /// Port in the guest. Nobody visits 22, 25, 111, 2049, 8006 and 39375.
    #[cfg_attr(feature = "contract", schemars(range(min = 1)))]
    pub port: u16,
    /// Whom it lets in; private by default, and public only where the deployment allows it.
    #[serde(default)]
    pub visibility: Visibility,
    /// Who may wake its stopped or paused sandbox by visiting it; private by default.
    #[serde(default)]
    pub wake: Visibility,
    /// The `Host` that it is told; public by default.
    #[serde(default)]
    pub host_header: HostHeader,
    /// Origins whose pages may use it, beside those of the same sandbox.
    #[serde(default)]
    #[cfg_attr(feature = "contract", schemars(length(max = ORIGINS)))]
    pub allow_origins: Vec<Origin>,
    /// Whether the links that were made so far are to open nothing any more.
    #[serde(default)]
    pub revoke_links: bool,
}

/// A service that may be declared.
#[derive(Clone, Debug)]
pub struct Wish {
    pub(super) port: u16,
    pub(super) visibility: Visibility,
    pub(super) wake: Visibility,
    pub(super) host_header: HostHeader,
    pub(super) allow_origins: Vec<Origin>,
    pub(super) revokes: bool,
}

impl ServiceBody {
    /// Checks what is asked for; `allows_public` is `EDGE_PUBLIC_SERVICES`.
    pub fn wish(self, allows_public: bool) -> Result<Wish, Error> {
        let Self { port, visibility, wake, host_header, allow_origins, revoke_links } = self;
        if port == 0 {
            return Err(Error::field("port", "1 to 65535"));
        }
        ensure_visitable(port).map_err(|why| Error::field("port", why.detail()))?;
        if visibility == Visibility::Public && is_always_private(port) {
            return Err(Error::field(
                "visibility",
                format!("port {port} is private: whoever is there rules the sandbox"),
            ));
        }
        if visibility == Visibility::Public && !allows_public {
            let fix = "private: this deployment has no public services (EDGE_PUBLIC_SERVICES)";
            return Err(Error::field("visibility", fix));
        }
        if wake == Visibility::Public && visibility != Visibility::Public {
            return Err(Error::field("wake", "public only where visibility is public"));
        }
        ensure_few("allowOrigins", &allow_origins)?;
        Ok(Wish { port, visibility, wake, host_header, allow_origins, revokes: revoke_links })
    }
}

/// A link to make.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct LinkBody {
    /// Seconds in which it lets somebody in; 600 by default, a week at most. Whoever came in stays for 12 hours.
    #[cfg_attr(feature = "contract", schemars(with = "Option<u32>", range(min = 1, max = LONGEST_LINK)))]
    ttl_seconds: Option<u32>,
    /// Origins whose pages may show the service in a frame.
    #[cfg_attr(feature = "contract", schemars(length(max = ORIGINS)))]
    embed: Vec<Origin>,
}

impl LinkBody {
    /// Seconds in which the link opens, and the origins that may frame what it opens.
    pub fn check(self) -> Result<(u32, Vec<Origin>), Error> {
        let seconds = self.ttl_seconds.unwrap_or(USUAL_LINK);
        if !(1..=LONGEST_LINK).contains(&seconds) {
            return Err(Error::field("ttlSeconds", format!("1 to {LONGEST_LINK}")));
        }
        ensure_few("embed", &self.embed)?;
        Ok((seconds, self.embed))
    }
}

fn ensure_few(field: &str, origins: &[Origin]) -> Result<(), Error> {
    match origins.len() <= ORIGINS {
        true => Ok(()),
        false => Err(Error::field(field, format!("at most {ORIGINS} origins"))),
    }
}

/// Link that opens a service in a browser.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceLink {
    /// URL to open; it carries a token.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "uri")))]
    pub url: String,
    /// When it ceases to let anybody in.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub expires_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(body: &str, allows_public: bool) -> Result<(), String> {
        let body: ServiceBody = serde_json::from_str(body).map_err(|it| it.to_string())?;
        body.wish(allows_public).map(drop).map_err(|it| it.detail().to_owned())
    }

    #[test]
    fn what_may_not_be_declared_is_told_by_its_field() {
        assert_eq!(fix(r#"{"port": 3000, "visibility": "public", "wake": "public"}"#, true), Ok(()));
        for (body, field) in [
            (r#"{"port": 0}"#, "port"),
            (r#"{"port": 22}"#, "port"),
            (r#"{"port": 39375}"#, "port"),
            (r#"{"port": 39383, "visibility": "public"}"#, "visibility"),
            (r#"{"port": 3000, "wake": "public"}"#, "wake"),
        ] {
            assert!(fix(body, true).unwrap_err().starts_with(field), "{body}");
        }
        assert!(
            fix(r#"{"port": 3000, "visibility": "public"}"#, false).unwrap_err().starts_with("visibility")
        );
        let origins = [r#""https://a.test""#; 9].join(",");
        assert!(fix(&format!(r#"{{"port": 3000, "allowOrigins": [{origins}]}}"#), true).is_err());
    }

    #[test]
    fn a_link_opens_for_a_week_at_most() {
        let of = |text: &str| serde_json::from_str::<LinkBody>(text).unwrap().check().map(|it| it.0).ok();
        assert_eq!((of("{}"), of(r#"{"ttlSeconds": 604800}"#)), (Some(600), Some(604_800)));
        assert_eq!((of(r#"{"ttlSeconds": 0}"#), of(r#"{"ttlSeconds": 604801}"#)), (None, None));
    }
}
