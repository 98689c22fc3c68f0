//! Rules of the contract that the types do not say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Name of the schema of a patch without what only a sandbox has.
pub(super) const PATCH_SNAPSHOT: &str = "PatchSnapshot";

/// Adds what the types do not say: which members are needed, which exclude or need each other, and what a snapshot's
/// patch may say.
pub(super) fn complete(schemas: &mut BTreeMap<String, Value>) -> Result<(), String> {
    let snapshot = snapshot_patch(schemas).ok_or("there is no Patch")?;
    schemas.insert(PATCH_SNAPSHOT.into(), snapshot);
    for (name, needed) in [
        ("RollbackBody", &["snapshot"][..]),
        ("TemplateRequest", &["preset"]),
        ("Confirmation", &["execd"]),
        ("SignalBody", &["signal"]),
        ("TerminalSize", &["cols", "rows"]),
    ] {
        let schema = schemas.get_mut(name).ok_or_else(|| format!("there is no {name}"))?;
        super::put(schema, "required", json!(needed));
    }
    for (name, wrong) in exclusions() {
        let schema = schemas.get_mut(name).ok_or_else(|| format!("there is no {name}"))?;
        super::put(schema, "not", if let [one] = &*wrong { one.clone() } else { json!({"anyOf": wrong}) });
    }
    Ok(())
}

fn snapshot_patch(schemas: &BTreeMap<String, Value>) -> Option<Value> {
    let mut patch = schemas.get("Patch")?.clone();
    let members = patch.get_mut("properties")?.as_object_mut()?;
    members.retain(|name, _| name != "ttlSeconds" && name != "onExpiry");
    super::put(&mut patch, "description", "A JSON merge patch (RFC 7396) of a snapshot.".into());
    Some(patch)
}

/// What a body of this name must not be.
fn exclusions() -> [(&'static str, Vec<Value>); 5] {
    let kept = json!({
        "required": ["keep", "promote"],
        "properties": {"keep": {"const": true}, "promote": {"type": "object"}},
    });
    [
        ("CreateRequest", pairs(&["snapshotId", "preset", "templateVmid"])),
        ("ExecBody", one_of_command_and_argv()),
        ("ProcessBody", one_of_command_and_argv()),
        ("TemplateRequest", {
            let sources = ["appliance", "url", "image", "fromTemplate"];
            let sums = [
                one_without("checksum", "checksumAlgorithm"),
                one_without("checksumAlgorithm", "checksum"),
                one_without("checksum", "url"),
            ];
            // A copy is made where its source is, and as large.
            let own = ["node", "bridge", "templateStorage", "cpu", "memory", "disk"];
            let copies = own.into_iter().flat_map(|it| pairs(&["fromTemplate", it])).collect();
            [vec![none(&sources)], pairs(&sources), copies, sums.to_vec()].concat()
        }),
        ("SnapshotRequest", vec![kept]),
    ]
}

fn one_of_command_and_argv() -> Vec<Value> {
    let names = ["command", "argv"];
    [vec![none(&names)], pairs(&names)].concat()
}

/// Values that have any two of these members, and not as null.
fn pairs(names: &[&str]) -> Vec<Value> {
    let of = |(at, one): (usize, &&str)| {
        let others = names.iter().skip(at + 1);
        others.map(|other| all(&[*one, *other])).collect::<Vec<_>>()
    };
    names.iter().enumerate().flat_map(of).collect()
}

/// Values that have all of these members, and not as null.
fn all(names: &[&str]) -> Value {
    json!({"required": names, "properties": members(names, &not_null())})
}

/// Values that have none of these members, or as null.
fn none(names: &[&str]) -> Value {
    json!({"properties": members(names, &nothing())})
}

fn one_without(one: &str, other: &str) -> Value {
    json!({"required": [one], "properties": {one: not_null(), other: nothing()}})
}

fn members(names: &[&str], schema: &Value) -> Map<String, Value> {
    names.iter().map(|it| ((*it).to_owned(), schema.clone())).collect()
}

fn nothing() -> Value {
    json!({"type": "null"})
}

fn not_null() -> Value {
    json!({"not": nothing()})
}
