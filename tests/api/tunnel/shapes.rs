//! What is sent to Cloudflare and read from it, as a file that the compiler of TypeScript holds against the types of the
//! vendor's own client (`tests/tools/cloudflare/run`).

use std::collections::BTreeSet;

use expect_test::expect_file;
use pve_edge_bed::cloudflare::Exchange;

use super::{Bed, NAME, WILDCARD, undo};
use crate::stage::prelude::*;

/// With `UPDATE_EXPECT=1` it is written.
#[test]
fn all_exchanges_are_in_the_file_for_the_vendors_types() {
    let bed = Bed::new();
    bed.stage.world.latency(0, 0);
    bed.account().add_record("A", WILDCARD, "192.0.2.7", true);
    let plan = bed.make(json!({"dryRun": true})).json()["plan"].clone();
    bed.make(json!({"force": true, "plan": plan}));
    bed.account().records.clear();
    bed.make(json!({}));
    bed.make(json!({"vpc": true}));
    bed.account().services[0]["http_port"] = json!(80);
    bed.make(json!({"vpc": true}));
    bed.account().connect(NAME, 2);
    bed.compare();
    let done = bed.stage.ask(undo("?force=true"));
    assert_eq!(done.status, 200, "{done:?}");
    let (mut calls, mut lines) = (BTreeSet::new(), BTreeSet::new());
    for it in bed.account().exchanges.iter().filter(|it| it.status == 200) {
        calls.insert(format!("{} {}", it.method, it.path));
        lines.insert(line(it));
    }
    assert_eq!(calls.len(), 16, "{calls:#?}");
    let lines: String = lines.into_iter().collect();
    let text = format!(
        "// Written by tests/api/tunnel/shapes.rs.\nimport type {{ Exchange }} from \"./shapes\";\n\n\
         export const seen: Exchange[] = [\n{lines}];\n"
    );
    expect_file!["../../tools/cloudflare/seen.ts"].assert_eq(&text);
}

fn line(it: &Exchange) -> String {
    let mut query = json!({});
    for (name, value) in &it.query {
        query[name] = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    }
    let call = json!(format!("{} {}", it.method, it.path));
    format!("  {{ call: {call}, query: {query}, body: {}, answer: {} }},\n", it.body, it.answer)
}
