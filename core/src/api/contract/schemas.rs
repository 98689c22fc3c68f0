//! The schemas of the contract: what `schemars` makes of the types, in the form that generators of clients take.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The schemas that the contract's operations refer to so far.
pub(super) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
    others: BTreeMap<String, Value>,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings =
            || SchemaSettings::draft2020_12().with(|it| it.definitions_path = "/components/schemas".into());
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            others: BTreeMap::new(),
        }
    }

    /// The schema of a body that requests have.
    pub(super) fn read<T: JsonSchema>(&mut self) -> Value {
        tidied(self.read.subschema_for::<T>().to_value())
    }

    /// The schema of a body that answers have.
    pub(super) fn written<T: JsonSchema>(&mut self) -> Value {
        tidied(self.written.subschema_for::<T>().to_value())
    }

    /// Adds a schema that no type has.
    pub(super) fn add(&mut self, name: &str, schema: impl FnOnce(&mut Self) -> Value) {
        let schema = schema(self);
        self.others.insert(name.to_owned(), schema);
    }

    /// The variants of an enum without members: as they are written, and their comments.
    pub(super) fn variants<T: JsonSchema>() -> Vec<(String, String)> {
        let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
        let text = |it: Value| it.as_str().unwrap_or_default().to_owned();
        let variants = schema.get("oneOf").and_then(constants).unwrap_or_default();
        variants.into_iter().map(|(name, about)| (text(name), text(about.unwrap_or_default()))).collect()
    }

    /// All that were referred to, by name; or the name that two types have.
    pub(super) fn finish(mut self) -> Result<BTreeMap<String, Value>, String> {
        let mut all = self.others;
        let written = self.written.take_definitions(true);
        for (name, schema) in self.read.take_definitions(true).into_iter().chain(written) {
            let schema = tidied(schema);
            if all.get(&name).is_some_and(|it| *it != schema) {
                return Err(format!(
                    "two types are called {name}, or it is written otherwise than it is read"
                ));
            }
            all.insert(name, schema);
        }
        Ok(all)
    }
}

/// A reference to a schema by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Makes `name` all of `base` and what it has beside: `schemars` repeats the members of a flattened type.
pub(super) fn extend(all: &mut BTreeMap<String, Value>, name: &str, base: &str) {
    let Some(members) = all.get(base).and_then(|it| it.get("properties")).cloned() else { return };
    let Some(Value::Object(schema)) = all.get_mut(name) else { return };
    let is_own = |member: &str| members.get(member).is_none();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|member, _| is_own(member));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|member| member.as_str().is_none_or(is_own));
    }
    let description = schema.remove("description");
    *schema = Map::from_iter([("allOf".to_owned(), json!([reference(base), schema]))]);
    schema.extend(description.map(|it| ("description".to_owned(), it)));
}

/// A schema without what only Rust says, and with the forms that generators of clients do well.
fn tidied(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    // A number's width, and what a missing member becomes: TypeScript's clients would have to send it.
    let is_width = |it: &Value| it.as_str().is_some_and(|it| it.contains("int"));
    if schema.get("format").is_some_and(is_width) {
        schema.remove("format");
        if schema.get("minimum") == Some(&json!(0)) {
            schema.remove("minimum");
        }
    }
    schema.remove("default");
    if let Some(values) = schema.get("oneOf").and_then(constants) {
        let meanings: Vec<String> =
            values.iter().filter_map(|(value, about)| meaning(value, about)).collect();
        let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        let about = [vec![prose(about)], meanings].concat().join("\n");
        schema = Map::from_iter([
            ("type".to_owned(), json!("string")),
            ("description".to_owned(), about.into()),
            ("enum".to_owned(), values.into_iter().map(|(value, _)| value).collect()),
        ]);
        return Value::Object(schema);
    }
    if let Some(value) = schema.remove("const") {
        // Python's clients fail on an optional constant, and do enums well.
        let (name, value) = if value.is_string() { ("enum", json!([value])) } else { ("const", value) };
        schema.insert(name.to_owned(), value);
    }
    if let Some(Value::String(about)) = schema.get_mut("description") {
        *about = prose(about);
    }
    for name in ["items", "additionalProperties", "contentSchema"] {
        if let Some(inner) = schema.get_mut(name) {
            *inner = tidied(inner.take());
        }
    }
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        members.values_mut().for_each(|it| *it = tidied(it.take()));
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(inner)) = schema.get_mut(name) {
            inner.iter_mut().for_each(|it| *it = tidied(it.take()));
        }
    }
    Value::Object(schema)
}

/// The values of an enum whose variants `schemars` tells one by one, each with its description.
fn constants(variants: &Value) -> Option<Vec<(Value, Option<Value>)>> {
    let variants = variants.as_array()?;
    variants.iter().map(|it| Some((it.get("const")?.clone(), it.get("description").cloned()))).collect()
}

fn meaning(value: &Value, about: &Option<Value>) -> Option<String> {
    Some(format!("- `{}`: {}", value.as_str()?, prose(about.as_ref()?.as_str()?)))
}

/// A doc comment as prose: its lines joined, its paragraphs kept.
pub(super) fn prose(comment: &str) -> String {
    let paragraphs = comment.trim().split("\n\n");
    paragraphs
        .map(|it| it.lines().map(str::trim).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
