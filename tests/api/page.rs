//! The page for people: how it is served, and what a browser may do with it. What it does is tried in Chromium (`tests/page`).

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::stage::{WORKERS, prelude::*, settings};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PARTS: [(&str, &str); 2] =
    [("/page.js", "text/javascript; charset=utf-8"), ("/page.css", "text/css; charset=utf-8")];
/// Bytes that document, script and style may have together, gzipped.
const BUDGET: usize = 20_000;

fn deployed(changes: &[(&str, &str)]) -> Stage {
    Stage::with_settings(&settings(changes), WORKERS)
}

/// As a browser asks that has no key.
fn visit(stage: &Stage, path: &str) -> Answer {
    let asks = Ask::get(path).without("authorization").header("accept", BROWSER).header("host", "edge.test");
    let answer = stage.ask(asks);
    assert!(stage.world.requests().is_empty(), "{}", stage.told());
    assert_eq!(answer.header("set-cookie"), "");
    answer
}

fn compressed(text: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory").len()
}

#[test]
fn its_three_parts_are_small_and_need_no_key() {
    let stage = deployed(&[]);
    let document = visit(&stage, "/");
    assert_eq!((document.status, document.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(document.header("cache-control"), "no-store");
    let mut bytes = compressed(&document.body);
    for (path, kind) in PARTS {
        let part = visit(&stage, path);
        assert_eq!((part.status, part.header("content-type")), (200, kind));
        assert_eq!(
            (part.header("cache-control"), part.header("x-content-type-options")),
            ("no-cache", "nosniff")
        );
        assert!(document.body.contains(&format!("=\"{path}\"")), "{path}");
        bytes += compressed(&part.body);
        let known = part.header("etag").to_owned();
        for known in [known.clone(), format!("W/{known}"), format!("\"other\", {known}")] {
            let again = stage.ask(Ask::get(path).without("authorization").header("if-none-match", &*known));
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
            assert_eq!(again.header("etag"), part.header("etag"));
        }
        assert_eq!(stage.ask(Ask::get(path).header("if-none-match", "\"other\"")).status, 200);
        assert_eq!(stage.ask(Ask::post(path, json!({}))).refusal(), "405 method-not-allowed");
    }
    assert!(bytes <= BUDGET, "{bytes} bytes gzipped");
}

#[test]
fn a_browser_is_told_what_it_may_do() {
    for (domain, probe) in [
        ("sandbox.test", " https://probe.sandbox.test"),
        ("http://localhost:8787", " http://probe.localhost:8787"),
    ] {
        let document = visit(&deployed(&[("PVE_PUBLIC_DOMAIN", domain)]), "/");
        assert_eq!(
            document.header("content-security-policy"),
            format!(
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src \
                 'self'{probe}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                 require-trusted-types-for 'script'"
            )
        );
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("vary", "Accept, Host, X-Forwarded-Proto"),
        ] {
            assert_eq!(document.header(name), value);
        }
    }
    let alone = visit(&Stage::on_morph(7, &[]), "/");
    assert!(alone.header("content-security-policy").contains("connect-src 'self';"), "{alone:?}");
}

/// Texts of guests and users become elements in no way that could run them, and the key is kept in no place that lasts.
#[test]
fn nothing_of_it_could_run_what_a_guest_says() {
    let stage = deployed(&[]);
    let texts = ["/", "/page.js", "/page.css"].map(|path| visit(&stage, path).body);
    let [document, script, _] = &texts;
    for odd in ["<style", " style=", " onclick", "javascript:", "<iframe", "<base", "action="] {
        assert!(!document.contains(odd), "{odd}");
    }
    assert_eq!(document.matches("<script").count(), 1);
    for odd in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "localStorage",
        "cookie",
        "DOMParser",
        "srcdoc",
        "import(",
        "postMessage",
    ] {
        assert!(!script.contains(odd), "{odd}");
    }
    assert!(
        texts
            .iter()
            .all(|it| !it.contains("//cdn.") && !it.contains("@import") && !it.contains("sourceMapping"))
    );
}

/// Wherever the API is, its parts are found; an odd name under which it is asked says nothing in the document.
#[test]
fn it_is_found_below_a_path() {
    let below = visit(&deployed(&[("EDGE_BASE_PATH", "/edge")]), "/edge/");
    assert!(below.body.contains("href=\"/edge/page.css\"") && below.body.contains("src=\"/edge/page.js\""));
    assert_eq!(visit(&deployed(&[("EDGE_BASE_PATH", "/edge")]), "/edge/page.js").status, 200);
    for host in ["", "a\"b", "x/y"] {
        let odd = deployed(&[]).ask(Ask::get("/").header("accept", BROWSER).header("host", host));
        assert!(odd.body.contains("src=\"/page.js\""), "{}", odd.body);
    }
}
