//! What stands between here and PVE, by an answer that it has given in PVE's place (rule P3.3).

use std::fmt;

use http::header::{LOCATION, RETRY_AFTER, SERVER, WWW_AUTHENTICATE};

use crate::io::Whole;

/// Bytes of a page that are looked at.
const LOOKED_AT: usize = 16 << 10;

/// The answer of a proxy, a firewall, a login page or an edge in PVE's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// HTTP status.
    pub status: u16,
    /// What its `Server` header says it is, shortened.
    pub server: Option<String>,
    /// Seconds after which it lets another request through, as its `Retry-After` says.
    pub retry_after: Option<u32>,
    /// Who it is, where that is known.
    pub who: Option<Who>,
}

/// Part of Cloudflare's edge that answers in an origin's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Access, which asks for a login or refuses a service token.
    Access,
    /// The edge, by an error of its own: 1000 to 1199, whatever the status.
    Edge(u16),
}

impl Stranger {
    /// Who has answered; the body is a page for people, and is not repeated.
    pub(in crate::pve::api) fn of(whole: &Whole) -> Self {
        let header = |name| whole.headers.get(name).and_then(|it| it.to_str().ok());
        Self {
            status: whole.status,
            server: header(SERVER).map(|it| it.chars().take(40).collect()),
            retry_after: header(RETRY_AFTER).and_then(|it| it.trim().parse().ok()),
            who: Who::of(whole),
        }
    }
}

impl Who {
    /// The part of the edge that an answer shows; `None` for all that is not known to be one.
    pub(in crate::pve::api) fn of(whole: &Whole) -> Option<Self> {
        let page = whole.body.get(..LOOKED_AT).unwrap_or(&whole.body);
        let page = String::from_utf8_lossy(page);
        if is_access(whole, &page) {
            return Some(Self::Access);
        }
        edge_error(&page).map(Self::Edge)
    }
}

/// Whether Access has answered: a redirect to its login, a challenge of its own, its headers, or its page.
fn is_access(whole: &Whole, page: &str) -> bool {
    let header = |name| whole.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let (place, challenge) = (header(LOCATION), header(WWW_AUTHENTICATE));
    let host =
        place.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', ':']).next()).unwrap_or_default();
    let is_login = host.ends_with(".cloudflareaccess.com") || place.contains("/cdn-cgi/access/");
    let is_page = page.trim_start().starts_with('<') && page.contains("Cloudflare Access");
    (300..400).contains(&whole.status) && is_login
        || matches!(whole.status, 401 | 403)
            && (is_page
                || challenge.starts_with("Cloudflare-Access")
                || whole.headers.contains_key("cf-access-domain"))
}

/// Number of an error of the edge, of its page for people or of its line for programs.
fn edge_error(page: &str) -> Option<u16> {
    let after =
        ["error code: ", "cf-error-code\">"].iter().find_map(|mark| Some(page.split_once(mark)?.1))?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).take(5).collect();
    digits.parse().ok().filter(|it| (1000..1200).contains(it))
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(server) = &self.server {
            write!(f, " from {server}")?;
        }
        if let Some(Who::Edge(code)) = self.who {
            write!(f, " (Cloudflare's error {code})")?;
        }
        f.write_str(" is not PVE's answer")
    }
}
