//! The contract as the text of a file that people read: what is short stands on one line.

use serde_json::Value;

/// Longest line, where it can be broken.
const WIDTH: usize = 120;
/// Members that come first, in this order; others follow by name.
const FIRST: [&str; 41] = [
    "openapi",
    "info",
    "operationId",
    "servers",
    "security",
    "tags",
    "paths",
    "components", // the document
    "title",
    "version",
    "summary",
    "name",
    "in",
    "$ref",
    "type",
    "description",
    "required",
    "headers",
    "parameters",
    "requestBody",
    "responses",
    "content",
    "schema",
    "style",
    "explode", // an operation
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "enum",
    "const",
    "items",
    "properties",
    "additionalProperties",
    "not",
    "example",
    "examples",
    "x-retryable", // a schema
];

/// The text, with a newline at its end.
pub(super) fn text(document: &Value) -> String {
    format!("{}\n", show(document, 0, 0))
}

/// A value that begins at column `at`, and after which `more` characters follow on the line.
fn show(value: &Value, indent: usize, at: usize) -> String {
    let short = one_line(value);
    if at + short.chars().count() < WIDTH {
        return short;
    }
    let inner = " ".repeat(indent + 2);
    let end = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => {
            let line = |(name, member): (&String, &Value)| {
                let name = Value::from(name.as_str()).to_string();
                let at = inner.len() + name.chars().count() + 2;
                format!("{inner}{name}: {}", show(member, inner.len(), at))
            };
            let lines: Vec<String> = ordered(members).into_iter().map(line).collect();
            format!("{{\n{}\n{end}}}", lines.join(",\n"))
        }
        Value::Array(items) if items.iter().any(|it| it.is_object() || it.is_array()) => {
            let line = |it| format!("{inner}{}", show(it, inner.len(), inner.len()));
            let lines: Vec<String> = items.iter().map(line).collect();
            format!("[\n{}\n{end}]", lines.join(",\n"))
        }
        Value::Array(items) if !items.is_empty() => format!("[\n{}\n{end}]", filled(items, &inner)),
        _ => short,
    }
}

/// Items without members, as many on a line as fit.
fn filled(items: &[Value], indent: &str) -> String {
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    for (at, item) in items.iter().enumerate() {
        let comma = if at + 1 < items.len() { "," } else { "" };
        let word = format!("{item}{comma}");
        if line.len() + 1 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines.join("\n")
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = ordered(members).into_iter();
            let members =
                members.map(|(name, it)| format!("{}: {}", Value::from(name.as_str()), one_line(it)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        _ => value.to_string(),
    }
}

fn ordered(members: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().collect();
    let rank = |name: &str| FIRST.iter().position(|it| *it == name).unwrap_or(FIRST.len());
    members.sort_by_key(|(name, _)| rank(name));
    members
}
