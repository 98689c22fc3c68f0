//! The API's own description, `GET /openapi.json`.

use http::Response;

use super::answer::respond;

/// `core/openapi.json`, which a test writes from the types.
const SOURCE: &[u8] = include_bytes!("../../openapi.json");

const COMPACT: ([u8; SOURCE.len()], usize) = compact(SOURCE);

/// The description as it is served: without its indentation, which would be an eighth of it in a Worker's bundle.
static DOCUMENT: [u8; COMPACT.1] = first(&COMPACT.0);

/// The description.
pub(super) fn openapi() -> Response<Vec<u8>> {
    respond(200, "application/json", DOCUMENT.to_vec())
}

/// JSON without the spaces outside of its strings, and how long that is.
#[allow(long_running_const_eval)]
#[expect(clippy::indexing_slicing, reason = "out of bounds is an error of the compiler here")]
const fn compact<const N: usize>(source: &[u8]) -> ([u8; N], usize) {
    let mut kept = [0; N];
    let (mut from, mut to) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    while from < source.len() {
        let byte = source[from];
        from += 1;
        if !in_string && byte.is_ascii_whitespace() {
            continue;
        }
        kept[to] = byte;
        to += 1;
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
    }
    (kept, to)
}

#[expect(clippy::indexing_slicing, reason = "out of bounds is an error of the compiler here")]
const fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut kept = [0; N];
    let mut at = 0;
    while at < N {
        kept[at] = bytes[at];
        at += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::{api::routes::ROUTES, error::Code};

    fn document() -> Value {
        serde_json::from_slice(&DOCUMENT).unwrap()
    }

    fn texts(list: &Value) -> BTreeSet<&str> {
        list.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
    }

    #[test]
    fn only_spaces_are_left_out() {
        assert_eq!(document(), serde_json::from_slice::<Value>(SOURCE).unwrap());
        assert_eq!(DOCUMENT.len(), document().to_string().len());
        assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn router_and_document_agree() {
        let document = document();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys().filter(|it| *it != "parameters");
            documented.extend(methods.map(|it| (it.to_uppercase(), path.clone())));
        }
        let routed: BTreeSet<_> =
            ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_code_is_documented_by_status() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let rows = || Code::ALL.iter().map(|it| it.row());
        assert_eq!(texts(&schemas["Code"]["enum"]), rows().map(|it| it.0).collect());
        let retryable: BTreeSet<&str> = rows().filter(|it| it.3).map(|it| it.0).collect();
        assert_eq!(texts(&schemas["Code"]["x-retryable"]), retryable);

        let mut ours: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
        // Visitors' problems are no operation's.
        let told = Code::ALL.iter().filter(|it| !Code::OF_VISITORS.contains(it)).map(|it| it.row());
        for (name, status, ..) in told {
            ours.entry(status).or_default().insert(name);
        }
        let responses = document["components"]["responses"].as_object().unwrap();
        let theirs: BTreeMap<u16, BTreeSet<&str>> = responses
            .iter()
            .map(|(name, response)| {
                let status: u16 = name.strip_prefix('E').unwrap().parse().unwrap();
                let members = &response["content"]["application/problem+json"]["schema"]["properties"];
                assert_eq!(members["status"]["const"], status);
                (status, texts(&members["code"]["enum"]))
            })
            .collect();
        assert_eq!(ours, theirs);
    }
}
