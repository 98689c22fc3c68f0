//! Parsers of the values of settings.

use std::net::IpAddr;

use crate::{access::secret::Secret, sandbox::address::is_dns_name};

/// Schemes that an address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `https`; for this machine `http` too.
    Private,
    /// `https` or `http`: nothing secret goes there.
    Any,
}

const ORIGIN: &str = "scheme, host and port, such as https://pve.example.com:8006";

/// Parses `https://host:port`, and nothing else.
pub(super) fn origin(text: &str, scheme: Scheme) -> Result<String, String> {
    let base = base_url(text, scheme)?;
    // The scheme has two slashes; a third begins a path.
    if base.matches('/').count() == 2 { Ok(base) } else { Err(nothing_else()) }
}

/// Parses an origin, or the address of a path below one; drops a slash at the end.
pub(super) fn base_url(text: &str, wanted: Scheme) -> Result<String, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let uri: http::Uri = text.parse().map_err(|_| ORIGIN)?;
    let scheme = uri.scheme_str().filter(|it| matches!(*it, "http" | "https")).ok_or(ORIGIN)?;
    let authority = uri.authority().ok_or(ORIGIN)?;
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return Err(nothing_else());
    }
    let host = authority.host();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    if ip.is_none() && !is_dns_name(host) {
        return Err(ORIGIN.into());
    }
    let has_port = authority.as_str().len() > host.len();
    if has_port && authority.port_u16().is_none_or(|it| it == 0) {
        return Err(format!("{ORIGIN}: a port is 1 to 65535"));
    }
    let is_local =
        host == "localhost" || host.ends_with(".localhost") || ip.is_some_and(|it| it.is_loopback());
    if wanted == Scheme::Private && scheme == "http" && !is_local {
        return Err("https: over http the API token would travel in clear".into());
    }
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

fn nothing_else() -> String {
    format!("{ORIGIN}, and nothing else: no user, no path")
}

/// Parses a path such as `/sandboxes`, of characters that URLs need not encode.
pub(super) fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-_.~".contains(&it);
    let mut segments = path.split('/').skip(1);
    let begins_well = path.is_empty() || path.starts_with('/');
    let is_path =
        begins_well && segments.all(|it| !it.is_empty() && !it.starts_with('.') && it.bytes().all(is_plain));
    if is_path { Ok(path.to_owned()) } else { Err("a path, such as /sandboxes".into()) }
}

/// Parses a key that is sent in a header, as `whose` gives it.
pub(super) fn header_value(text: &str, whose: &str) -> Result<Secret, String> {
    let plain = text.bytes().all(|it| it.is_ascii_graphic());
    if plain { Ok(Secret::new(text)) } else { Err(format!("a key as {whose} gives it")) }
}

/// Parses the id of a Cloudflare account or zone.
pub(super) fn cloudflare_id(text: &str) -> Result<String, String> {
    let is_id = text.len() == 32 && text.bytes().all(|it| it.is_ascii_digit() || matches!(it, b'a'..=b'f'));
    if is_id {
        Ok(text.to_owned())
    } else {
        Err("32 hex digits in lower case, as the dashboard shows them".into())
    }
}

/// Parses a domain that can be a zone's: two labels or more, in lower case.
pub(super) fn zone_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let is_one = is_dns_name(&name) && name.contains('.');
    if is_one { Ok(name) } else { Err("a domain, such as example.com".into()) }
}

/// Parses PVE's API token; id and secret are split at the last `=`, as PVE does (pve-access-control `AccessControl.pm`).
pub(super) fn api_token(text: &str) -> Result<Secret, String> {
    let text = text.strip_prefix("PVEAPIToken=").unwrap_or(text);
    let well_formed = text.rsplit_once('=').is_some_and(|(id, secret)| {
        let user = id.split_once('!').map(|(user, token)| !token.is_empty() && user.contains('@'));
        user == Some(true) && !secret.is_empty()
    });
    let plain = text.bytes().all(|it| it.is_ascii_graphic() && it != b';');
    if well_formed && plain { Ok(Secret::new(text)) } else { Err("USER@REALM!TOKENID=SECRET".into()) }
}

/// The user and the name of a token that [`api_token`] has taken, as PVE allows names (pve-access-control
/// `Auth/Plugin.pm`); of users only those that no shell takes for anything else.
pub(super) fn token_id(text: &str) -> Result<(String, String), String> {
    let text = text.strip_prefix("PVEAPIToken=").unwrap_or(text);
    let (id, _) = text.rsplit_once('=').unwrap_or((text, ""));
    let is_word = |it: &str| it.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    let is_name =
        |it: &str| it.len() >= 2 && is_word(it) && it.starts_with(|it: char| it.is_ascii_alphabetic());
    let named = id.split_once('!').and_then(|(user, token)| {
        let (name, realm) = user.split_once('@')?;
        let is_right = !name.is_empty() && !name.starts_with('-') && is_word(name) && is_name(realm);
        (is_right && is_name(token)).then(|| (user.to_owned(), token.to_owned()))
    });
    named.ok_or_else(|| "USER@REALM!TOKENID=SECRET".into())
}

/// Parses a domain name.
pub(super) fn dns_name(text: &str) -> Result<String, String> {
    if is_dns_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a domain name, such as lan or home.arpa".into())
    }
}

/// Parses a host, with its port where that is not the scheme's own.
pub(super) fn host(text: &str) -> Result<String, String> {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let port_is_fine = port.is_none_or(|it| it.parse::<u16>().is_ok_and(|it| it > 0));
    if is_dns_name(name) && port_is_fine {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a host, such as edge.example.org".into())
    }
}

/// Parses the name of a node.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    if is_dns_name(text) && !text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("a node's name, such as pve1".into())
    }
}

/// Parses the name of a storage or a bridge.
pub(super) fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    if is_plain && text.len() <= 64 { Ok(text.to_owned()) } else { Err("a name as PVE shows it".into()) }
}
