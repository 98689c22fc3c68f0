//! Credentials of visitors: taken out of a request, so that no guest ever sees one.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, COOKIE},
};

use super::door::Door;
use crate::{
    access::{
        keys::{ApiKeys, Caller},
        pass::{Carrier, Pass, Realm},
    },
    io::headers::API_KEY,
    sandbox::{id::SpelledId, nonce::Nonce},
    settings::Settings,
};

/// Header of programs: the token of a link, or an API key.
const TOKEN: HeaderName = HeaderName::from_static("x-pve-edge-token");

/// Parameter of a link's URL.
const PARAMETER: &str = "pve_edge_token";

/// Parameter of the URL by which a person asks, on the page that says that a sandbox sleeps, to have it woken.
const WAKE: &str = "pve_edge_wake";

/// Cookies of our name that are looked at of each kind: a sibling may have planted some of the second.
const COOKIES: usize = 16;

/// What lets a visitor in.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// An API key of this caller.
    Key(Caller),
    /// A pass, and what it came by.
    Pass(Pass, By),
}

/// What a pass came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A header of ours, which no page sends without being asked for it.
    Header,
    /// The URL.
    Query,
    /// A cookie, which a browser sends by itself.
    Cookie,
}

impl Credential {
    /// Id of the sandbox that it is for.
    pub(super) fn sandbox(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Pass(pass, _) => Some(&pass.sandbox),
        }
    }

    /// Nonce of the sandbox that it is for.
    pub(super) fn nonce(&self) -> Option<Nonce> {
        match self {
            Self::Key(_) => None,
            Self::Pass(pass, _) => nonce_of(pass),
        }
    }
}

/// Nonce of the sandbox that a pass is for.
pub(super) fn nonce_of(pass: &Pass) -> Option<Nonce> {
    Some(pass.sandbox.parse::<SpelledId>().ok()?.nonce())
}

/// Takes all credentials out of a request, and returns those that are for this door, in the order in which they count:
/// header, URL, cookies, and `Authorization` or `X-API-Key` where it has one of our keys. Any other is the guest's.
pub(super) fn take<B>(
    request: &mut Request<B>,
    door: &Door,
    settings: &Settings,
    now: i64,
) -> Vec<Credential> {
    let realm = Realm { deployment: &settings.deployment, domain: &door.domain };
    let pass = |token: &str, carrier, by| {
        let pass = Pass::of(token, carrier, &settings.secrets, realm, now)?;
        is_for(&pass, door).then_some(Credential::Pass(pass, by))
    };
    let mut found = Vec::new();
    for value in request.headers().get_all(TOKEN).iter().filter_map(|it| it.to_str().ok()) {
        let key = || settings.api_keys.caller(value).map(Credential::Key);
        found.extend(pass(value, Carrier::Link, By::Header).or_else(key));
    }
    request.headers_mut().remove(TOKEN);
    for token in take_parameter(request.uri_mut(), PARAMETER) {
        found.extend(pass(&token, Carrier::Link, By::Query));
    }
    for token in take_cookies(request.headers_mut()) {
        found.extend(pass(&token, Carrier::Cookie, By::Cookie));
    }
    found.extend(take_keys(request.headers_mut(), &settings.api_keys).into_iter().map(Credential::Key));
    found
}

/// Takes our API keys out of a request, and returns whose they are.
fn take_keys(headers: &mut HeaderMap, keys: &ApiKeys) -> Vec<Caller> {
    let mut found = Vec::new();
    for name in [AUTHORIZATION, API_KEY] {
        let (mut kept, before) = (Vec::new(), found.len());
        for value in headers.get_all(&name) {
            match whose(value.as_bytes(), keys) {
                Some(caller) => found.push(caller),
                // Platforms join several headers by a comma.
                None => kept.extend(value.as_bytes().split(|it| *it == b',').filter(|part| {
                    let caller = whose(part, keys);
                    found.extend(caller.clone());
                    caller.is_none()
                })),
            }
        }
        if found.len() > before {
            let kept = HeaderValue::from_bytes(&kept.join(&b',')).ok().filter(|it| !it.is_empty());
            headers.remove(&name);
            headers.extend(kept.map(|it| (name, it)));
        }
    }
    found
}

/// Whose key the value of a header is.
fn whose(value: &[u8], keys: &ApiKeys) -> Option<Caller> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    keys.caller(bearer.map_or(text, |(_, key)| key.trim()))
}

/// The path of a page that a person asks to have woken.
pub(crate) fn to_wake(path: &str) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    // Two slashes at its beginning would be another host.
    format!("/{}{mark}{WAKE}=1", path.trim_start_matches('/'))
}

/// Cuts out of a URL that a person has asked for the sandbox to be woken, and tells whether it was there.
pub(super) fn take_wish(uri: &mut Uri) -> bool {
    !take_parameter(uri, WAKE).is_empty()
}

/// A URL with the token of a link in it.
pub(crate) fn with_token(origin: &str, path: &str, token: &str) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{origin}{path}{mark}{PARAMETER}={token}")
}

fn is_for(pass: &Pass, door: &Door) -> bool {
    let id = pass.sandbox.parse::<SpelledId>();
    let is_same =
        |it: SpelledId| it.vmid() == door.vmid && door.nonce.is_none_or(|nonce| nonce == it.nonce());
    pass.port == door.port && id.is_ok_and(is_same)
}

/// Cuts the parameters of a name out of a URL, and nothing else.
fn take_parameter(uri: &mut Uri, name: &str) -> Vec<String> {
    let value = |it: &str| it.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let query = uri.query().unwrap_or_default();
    let tokens: Vec<_> = query.split('&').filter_map(value).collect();
    if !tokens.is_empty() {
        let rest = query.split('&').filter(|it| value(it).is_none()).collect::<Vec<_>>().join("&");
        let path = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{rest}", uri.path()) };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        if let Ok(cut) = Uri::from_parts(parts) {
            *uri = cut;
        }
    }
    tokens
}

/// Takes our cookies out of a request, byte by byte: a name that only looks like ours is somebody else's.
///
/// No sibling can set a cookie of our name, but it can write it into the value of one of its own, behind a comma, by which
/// platforms join several headers. So what begins a pair counts first, however much is behind commas.
fn take_cookies(headers: &mut HeaderMap) -> Vec<String> {
    let ours = format!("{}=", super::COOKIE);
    let (mut first, mut joined, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for pair in headers.get_all(COOKIE).iter().flat_map(|it| it.as_bytes().split(|it| *it == b';')) {
        let mut rest = Vec::new();
        for (at, part) in pair.split(|it| *it == b',').enumerate() {
            match trim(part).strip_prefix(ours.as_bytes()) {
                Some(token) => {
                    let tokens = if at == 0 { &mut first } else { &mut joined };
                    tokens.extend(std::str::from_utf8(token).map(str::to_owned));
                }
                None => rest.push(part),
            }
        }
        let rest = rest.join(&b',');
        kept.extend(Some(trim(&rest).to_vec()).filter(|it| !it.is_empty()));
    }
    headers.remove(COOKIE);
    if let Some(kept) = Some(kept.join(&b"; "[..])).filter(|it| !it.is_empty()) {
        headers.extend(HeaderValue::from_bytes(&kept).ok().map(|it| (COOKIE, it)));
    }
    first.into_iter().take(COOKIES).chain(joined.into_iter().take(COOKIES)).collect()
}

/// Without the spaces and tabs around it; what else a language takes for space is part of a name.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn cookies(values: &[&[u8]]) -> (Vec<String>, Option<Vec<u8>>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, HeaderValue::from_bytes(value).unwrap());
        }
        let tokens = take_cookies(&mut headers);
        (tokens, headers.get(COOKIE).map(|it| it.as_bytes().to_vec()))
    }

    #[test]
    fn every_cookie_of_our_name_is_taken_and_no_other() {
        let (tokens, kept) = cookies(&[b"a=1; __Host-pve_edge=x;b=2;  __Host-pve_edge=y"]);
        assert_eq!((tokens, kept), (vec!["x".into(), "y".into()], Some(b"a=1; b=2".to_vec())));
        let (tokens, kept) = cookies(&[b"__Host-pve_edge=x"]);
        assert_eq!((tokens.len(), kept), (1, None));
        let (tokens, kept) = cookies(&[b"a=1", b"__Host-pve_edge=x"]);
        assert_eq!((tokens.len(), kept), (1, Some(b"a=1".to_vec())));
        let (tokens, kept) = cookies(&[b"a=1,2, __Host-pve_edge=x; b=3"]);
        assert_eq!((tokens.len(), kept), (1, Some(b"a=1,2; b=3".to_vec())));
        let (tokens, kept) = cookies(&[b"__Host-pve_edge=x, a=1"]);
        assert_eq!((tokens, kept), (vec!["x".into()], Some(b"a=1".to_vec())));
        let (tokens, _) = cookies(&[b"a=1, __Host-pve_edge=y; __Host-pve_edge=x"]);
        assert_eq!(tokens, ["x", "y"]);
        for planted in [
            &b"\xe2\x80\x82__Host-pve_edge=x"[..],
            b"__host-pve_edge=x",
            b"__Host-pve_edge =x",
            b"x__Host-pve_edge=x",
            b"\x0b__Host-pve_edge=x",
        ] {
            let Ok(value) = HeaderValue::from_bytes(planted) else { continue };
            let mut headers = HeaderMap::from_iter([(COOKIE, value)]);
            assert!(take_cookies(&mut headers).is_empty(), "{planted:?}");
        }
    }

    #[test]
    fn every_key_of_ours_is_taken_and_no_other() {
        let keys = ApiKeys::parse(&format!("blue:{}", hex::encode(Sha256::digest("secret")))).unwrap();
        let take = |values: &[&'static str]| {
            let values = values.iter().map(|it| (AUTHORIZATION, HeaderValue::from_static(it)));
            let mut headers: HeaderMap = values.collect();
            let taken = take_keys(&mut headers, &keys).len();
            let kept = headers.get_all(AUTHORIZATION).iter().map(|it| it.to_str().unwrap().to_owned());
            (taken, kept.collect::<Vec<_>>())
        };
        let theirs = "Digest username=\"a\", realm=\"b\"";
        assert_eq!(take(&["Bearer secret"]), (1, vec![]));
        assert_eq!(take(&["Bearer theirs, bearer  secret"]), (1, vec!["Bearer theirs".into()]));
        assert_eq!(take(&["Bearer theirs", "Bearer secret"]), (1, vec!["Bearer theirs".into()]));
        assert_eq!(take(&[theirs]), (0, vec![theirs.into()]));
        assert_eq!(take(&["secret,Bearer secret"]), (2, vec![]));
        assert_eq!(take(&["Bearer a", "Bearer b"]), (0, vec!["Bearer a".into(), "Bearer b".into()]));
    }

    #[test]
    fn only_the_token_is_cut_out_of_a_url() {
        for (url, rest, count) in [
            ("https://a.test/p?x=1&pve_edge_token=t&y=%20", "https://a.test/p?x=1&y=%20", 1),
            ("https://a.test/p?pve_edge_token=t", "https://a.test/p", 1),
            ("https://a.test/p?pve_edge_token=t&pve_edge_token=u", "https://a.test/p", 2),
            ("https://a.test/p?xpve_edge_token=t", "https://a.test/p?xpve_edge_token=t", 0),
            ("https://a.test/?a&&b=", "https://a.test/?a&&b=", 0),
            ("/p?&pve_edge_token=t&", "/p?&", 1),
        ] {
            let mut uri: Uri = url.parse().unwrap();
            assert_eq!(
                (take_parameter(&mut uri, PARAMETER).len(), &*uri.to_string()),
                (count, rest),
                "{url}"
            );
        }
        assert_eq!(with_token("https://a.test", "/p", "t"), "https://a.test/p?pve_edge_token=t");
        assert_eq!(with_token("https://a.test", "/p?x", "t"), "https://a.test/p?x&pve_edge_token=t");
    }
}
