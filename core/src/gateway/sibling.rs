//! Siblings: pages of other sandboxes, whose requests carry the visitor's cookies too.
//!
//! No attribute of a cookie separates names below one domain. So a request that a cookie alone authenticates counts only
//! where the browser says that a page of the same sandbox, or nobody's, has sent it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, REFERER, VARY,
    },
};

use super::door::Door;
use crate::{io::websocket, sandbox::service::Terms};

/// Seconds for which a browser may keep the answer to a preflight.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// What a request says of whoever has sent it, and why.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    method: Method,
    origin: Option<String>,
    referer: Option<String>,
    /// `Sec-Fetch-Site`, which browsers since 2023 send with all requests but websockets.
    site: Option<String>,
    wanted: Option<(HeaderValue, Option<HeaderValue>)>,
    /// A browser has sent it, as far as that can be told.
    pub(super) is_browser: bool,
    /// A page is opened, in a tab or in a frame, by any method.
    pub(super) is_page: bool,
    /// A page is opened by GET.
    pub(super) is_navigation: bool,
    /// A person has opened it, as far as the browser tells that: a page that loads itself, another page's frame or script,
    /// do not count.
    pub(super) is_meant: bool,
    /// It opens a websocket.
    pub(super) is_websocket: bool,
    /// It asks whether another may be sent.
    pub(super) is_preflight: bool,
    /// Nobody waits for it: it was fetched ahead, is a look, or an icon.
    pub(super) is_speculative: bool,
}

impl Asking {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let text = |name: &HeaderName| {
            headers.get(name).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned())
        };
        let fetch = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let (mode, site, purpose) = (fetch("sec-fetch-mode"), fetch("sec-fetch-site"), fetch("sec-purpose"));
        let takes_html = text(&ACCEPT).is_some_and(|it| it.contains("text/html"));
        let method = request.method().clone();
        let is_websocket = websocket::is_asked(&method, headers);
        let is_page =
            !is_websocket && mode.as_deref().map_or(takes_html && site.is_none(), |it| it == "navigate");
        let preflight = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS);
        let wanted = preflight.map(|it| (it.clone(), headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned()));
        let is_by_person = fetch("sec-fetch-user").as_deref() == Some("?1") || mode.is_none();
        let is_ahead = purpose.or_else(|| fetch("purpose")).is_some_and(|it| it.contains("prefetch"));
        let is_icon = request.uri().path() == "/favicon.ico";
        Self {
            origin: text(&ORIGIN),
            referer: text(&REFERER),
            is_browser: mode.is_some() || site.is_some() || headers.contains_key(ORIGIN) || takes_html,
            is_page,
            is_meant: is_page && is_by_person,
            is_navigation: is_page && matches!(method, Method::GET | Method::HEAD),
            is_websocket,
            is_preflight: wanted.is_some() && headers.contains_key(ORIGIN),
            is_speculative: is_ahead || is_icon || method == Method::HEAD,
            site,
            wanted,
            method,
        }
    }

    /// Whether the page itself, or what stood in its place, has led here.
    pub(super) fn is_own_page(&self) -> bool {
        self.is_page && self.site.as_deref() == Some("same-origin")
    }
}

/// Whether a page of this origin may use the service with the visitor's cookie.
fn is_allowed(origin: &str, door: &Door, service: &Terms) -> bool {
    door.is_sibling(origin) || service.allow_origins.iter().any(|it| it.as_str() == origin)
}

/// Whether a request that carries the visitor's cookie was sent by a page of the same sandbox, by a page that its service
/// allows, or by the visitor.
pub(super) fn is_own(asking: &Asking, door: &Door, service: &Terms) -> bool {
    let origin = asking.origin.as_deref();
    let is_named = origin.is_some_and(|it| is_allowed(it, door, service));
    if asking.is_websocket {
        return is_named;
    }
    if origin.is_some() && !is_named {
        return false;
    }
    // What it may be shown in, its answer says.
    if asking.is_navigation {
        return true;
    }
    let referred = || asking.referer.as_deref().is_some_and(|it| door.is_sibling(origin_of(it)));
    match asking.site.as_deref() {
        Some("same-origin" | "none") => true,
        Some(_) => is_named || referred(),
        None => is_named || referred() || matches!(asking.method, Method::GET | Method::HEAD),
    }
}

/// The origin of a URL.
fn origin_of(url: &str) -> &str {
    let after = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url.get(after..).and_then(|it| it.find(['/', '?', '#'])).map_or(url.len(), |at| after + at);
    url.get(..end).unwrap_or(url)
}

/// Answers a browser that asks whether a page may send a request: without a cookie, and never by the guest.
pub(super) fn preflight(asking: &Asking, door: &Door, service: &Terms) -> Response<Vec<u8>> {
    let mut answer = no();
    let origin = asking.origin.as_deref().filter(|it| is_allowed(it, door, service));
    let origin = origin.and_then(|it| HeaderValue::from_str(it).ok());
    let (Some(origin), Some((method, wanted))) = (origin, &asking.wanted) else { return answer };
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    headers.extend(wanted.clone().map(|it| (ACCESS_CONTROL_ALLOW_HEADERS, it)));
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Answers a browser that no page may send the request.
pub(super) fn no() -> Response<Vec<u8>> {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer.headers_mut().insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    answer
}

/// Puts the answer's headers about other origins in place of the guest's own.
pub(super) fn share(headers: &mut HeaderMap, asking: &Asking, door: &Door, service: &Terms) {
    let guests: Vec<_> =
        headers.keys().filter(|it| it.as_str().starts_with("access-control-")).cloned().collect();
    for name in guests {
        headers.remove(name);
    }
    let Some(origin) = asking.origin.as_deref().filter(|it| is_allowed(it, door, service)) else { return };
    let shown = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|it| *it != "set-cookie")
        .collect::<Vec<_>>()
        .join(", ");
    let Ok(origin) = HeaderValue::from_str(origin) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.extend(HeaderValue::from_str(&shown).ok().map(|it| (ACCESS_CONTROL_EXPOSE_HEADERS, it)));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::service::Services;

    const NONCE: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";
    const OWN: &str = "https://port-80-vm-200-aaaaaaaaaaaaaaaaaaaaaaaa.example.com";
    const OTHER_PORT: &str = "https://port-3000-vm-200-aaaaaaaaaaaaaaaaaaaaaaaa.example.com";
    const SIBLING: &str = "https://port-80-vm-201-bbbbbbbbbbbbbbbbbbbbbbbb.example.com";
    const LATER: &str = "https://port-80-vm-200-bbbbbbbbbbbbbbbbbbbbbbbb.example.com";

    fn door() -> Door {
        Door {
            port: 80,
            vmid: "200".parse().unwrap(),
            nonce: NONCE.parse().ok(),
            scheme: "https".into(),
            domain: "example.com".into(),
        }
    }

    fn service() -> Terms {
        Terms { allow_origins: vec!["https://app.test".parse().unwrap()], ..Services::default().at(80) }
    }

    fn asking(method: &str, headers: &[(&str, &str)]) -> Asking {
        let mut request = Request::builder().method(method).uri("https://x.test/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asking::of(&request.body(()).unwrap())
    }

    /// Whose request it is, by what browsers send of it (Fetch Metadata; Fetch, 3.2.5).
    #[test]
    fn a_siblings_request_does_not_count() {
        let get = |headers: &[(&str, &str)]| is_own(&asking("GET", headers), &door(), &service());
        let post = |headers: &[(&str, &str)]| is_own(&asking("POST", headers), &door(), &service());
        let (site, mode, origin) = ("sec-fetch-site", "sec-fetch-mode", "origin");
        // A page of its own, and the visitor.
        assert!(get(&[(site, "same-origin"), (mode, "cors")]));
        assert!(post(&[(site, "same-origin"), (mode, "cors"), (origin, OWN)]));
        assert!(get(&[(site, "none"), (mode, "navigate")]));
        assert!(get(&[(site, "cross-site"), (mode, "navigate")]));
        // Another port of the same sandbox, and an origin that the service allows.
        assert!(post(&[(site, "same-site"), (mode, "cors"), (origin, OTHER_PORT)]));
        assert!(post(&[(site, "cross-site"), (mode, "cors"), (origin, "https://app.test")]));
        let referer = format!("{OTHER_PORT}/page");
        assert!(get(&[(site, "same-site"), (mode, "no-cors"), ("referer", &referer)]));
        // Siblings, and who had the VMID before or has it later.
        for other in [SIBLING, LATER, "null", "https://app.test.evil.test", "http://app.test"] {
            assert!(!post(&[(site, "same-site"), (mode, "cors"), (origin, other)]), "{other}");
            assert!(!post(&[(site, "same-site"), (mode, "navigate"), (origin, other)]), "{other}");
            assert!(!post(&[(origin, other)]), "{other}");
        }
        assert!(!get(&[(site, "same-site"), (mode, "no-cors")]));
        assert!(!get(&[(site, "same-site"), (mode, "no-cors"), ("referer", SIBLING)]));
        assert!(!post(&[]));
        // Browsers that do not say it are judged by what they do say.
        assert!(post(&[(origin, OWN)]) && get(&[]));
    }

    #[test]
    fn a_websocket_says_whose_it_is() {
        let open = |origin: Option<&str>| {
            let headers: Vec<_> =
                [("upgrade", "websocket")].into_iter().chain(origin.map(|it| ("origin", it))).collect();
            is_own(&asking("GET", &headers), &door(), &service())
        };
        assert!(open(Some(OWN)) && open(Some(OTHER_PORT)) && open(Some("https://app.test")));
        assert!(!open(None) && !open(Some(SIBLING)) && !open(Some(LATER)) && !open(Some("null")));
    }

    #[test]
    fn a_preflight_names_the_origin_and_never_all() {
        let ask = |origin| {
            let headers = [("origin", origin), ("access-control-request-method", "PUT")];
            preflight(&asking("OPTIONS", &headers), &door(), &service())
        };
        let allowed = ask("https://app.test");
        assert_eq!(allowed.status(), 204);
        assert_eq!(allowed.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.test");
        for other in [SIBLING, LATER, "null", "*"] {
            let refused = ask(other);
            assert_eq!(refused.status(), 403, "{other}");
            assert!(!refused.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[test]
    fn what_the_guest_says_of_origins_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert("etag", HeaderValue::from_static("\"a\""));
        let mut of_sibling = headers.clone();
        share(&mut of_sibling, &asking("GET", &[("origin", SIBLING)]), &door(), &service());
        assert!(!of_sibling.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        share(&mut headers, &asking("GET", &[("origin", OTHER_PORT)]), &door(), &service());
        assert_eq!(headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect::<Vec<_>>(), [OTHER_PORT]);
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "etag");
    }

    #[test]
    fn who_asks_and_why() {
        let page = asking("GET", &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")]);
        assert!(page.is_navigation && page.is_page && page.is_browser && !page.is_speculative);
        let old = asking("GET", &[("accept", "text/html,*/*")]);
        assert!(old.is_navigation);
        let form = asking("POST", &[("sec-fetch-mode", "navigate")]);
        assert!(form.is_page && !form.is_navigation);
        let curl = asking("GET", &[("accept", "*/*")]);
        assert!(!curl.is_browser && !curl.is_page);
        let ahead = asking("GET", &[("sec-fetch-mode", "navigate"), ("sec-purpose", "prefetch;prerender")]);
        assert!(ahead.is_speculative);
        let fetched = asking("GET", &[("sec-fetch-mode", "cors"), ("accept", "text/html")]);
        assert!(!fetched.is_page);
        assert_eq!(origin_of("https://a.test:1/x?y"), "https://a.test:1");
        assert_eq!((origin_of("https://a.test"), origin_of("x")), ("https://a.test", "x"));
    }
}
