//! `core/openapi.json`, read as a validator of answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use http::HeaderMap;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::stage::Answer;

const SOURCE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../core/openapi.json"));
/// What every HTTP answer may have without a word.
const USUAL: [&str; 4] = ["content-type", "content-length", "cache-control", "vary"];
/// What pages of other origins are told, which the document says of all answers at once.
const CORS: &str = "access-control-";

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract {
    document: serde_json::from_str(SOURCE).expect("openapi.json is JSON"),
    validators: Mutex::default(),
});

type Check = Result<(), String>;

/// The document, and the validators of what was needed of it.
pub(crate) struct Contract {
    document: Value,
    validators: Mutex<BTreeMap<String, Arc<Validator>>>,
}

impl Contract {
    /// The API's.
    pub(crate) fn of_the_api() -> &'static Self {
        &CONTRACT
    }

    /// Whether this answer is one that is documented for this request.
    pub(crate) fn check(&self, method: &str, target: &str, answer: &Answer) -> Check {
        let path = target.split('?').next().unwrap_or_default();
        // What browsers ask beforehand is said of all paths at once.
        if (method, answer.status) == ("OPTIONS", 204) {
            return if answer.body.is_empty() { Ok(()) } else { Err("it has a body".into()) };
        }
        // Below a base path it is the same; what is not there is not, and the page that any path may end in (`/`) is public.
        let mut below = path.match_indices('/').filter_map(|(at, _)| self.item(&path[at..]));
        let item =
            self.item(path).or_else(|| below.next().filter(|_| ![401, 404, 503].contains(&answer.status)));
        let responses = match item {
            None => &Self::of_none("404"),
            Some(item) => match item.get(if method == "HEAD" { "get".into() } else { method.to_lowercase() })
            {
                None => &Self::of_none("405"),
                Some(operation) => {
                    if answer.headers.contains_key("preference-applied") && !takes_prefer(operation) {
                        return Err("it is not asked how long it may take".into());
                    }
                    &operation["responses"]
                }
            },
        };
        let response = responses.get(answer.status.to_string()).ok_or("its status is not documented")?;
        let response = self.resolved(response);
        self.check_headers(&response["headers"], &answer.headers)?;
        let content = response.get("content").filter(|_| method != "HEAD");
        let Some(content) = content else {
            return if answer.body.is_empty() { Ok(()) } else { Err("it has a body".into()) };
        };
        // A charset is a parameter, and no other type.
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        match content.get(kind) {
            None => Err(format!("{kind} is not documented")),
            // Any bytes.
            Some(media) if media["schema"] == json!({}) => Ok(()),
            Some(media) if kind == "text/event-stream" => self.check_events(&media["schema"], &answer.body),
            Some(media) if media["schema"]["type"] == "string" => Ok(()),
            Some(media) => self.closed(&media["schema"], &answer.json()),
        }
    }

    /// The responses to a request that the document does not have: this status, once there is a key and the settings are
    /// right.
    fn of_none(status: &str) -> Value {
        let refer =
            |status: &str| (status.to_owned(), json!({"$ref": format!("#/components/responses/E{status}")}));
        [status, "401", "503"].map(refer).into_iter().collect::<serde_json::Map<_, _>>().into()
    }

    /// The item of the path template that this path is of.
    fn item(&self, path: &str) -> Option<&Value> {
        let paths = self.document["paths"].as_object()?;
        let fits = |template: &str| {
            let (theirs, ours): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            theirs.len() == ours.len()
                && theirs
                    .iter()
                    .zip(ours)
                    .all(|(it, our)| *it == our || it.starts_with('{') && !our.is_empty())
        };
        paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item)
    }

    fn check_headers(&self, documented: &Value, headers: &HeaderMap) -> Check {
        let documented: BTreeMap<String, &Value> = documented
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, header)| (name.to_lowercase(), self.resolved(header)))
            .collect();
        let of_all = |it: &str| USUAL.contains(&it) || it.starts_with(CORS) || it == "preference-applied";
        for name in headers.keys().filter(|it| !of_all(it.as_str())) {
            if !documented.contains_key(name.as_str()) {
                return Err(format!("the header {name} is not documented"));
            }
        }
        for (name, header) in documented {
            let Some(value) = headers.get(&name) else {
                if header["required"] == true {
                    return Err(format!("the header {name} is missing"));
                }
                continue;
            };
            let text = value.to_str().map_err(|error| format!("{name}: {error}"))?;
            let value = if header["schema"]["type"] == "integer" {
                text.parse::<i64>().ok().map(Value::from)
            } else {
                None
            };
            let value = value.unwrap_or_else(|| text.into());
            self.validate(&header["schema"], &value).map_err(|why| format!("the header {name}: {why}"))?;
        }
        Ok(())
    }

    fn check_events(&self, stream: &Value, body: &str) -> Check {
        let events = self.resolved(&stream["contentSchema"])["oneOf"].as_array().expect("kinds of events");
        for event in body.split_terminator("\n\n").filter(|it| !it.starts_with(':')) {
            let parts = event.strip_prefix("event: ").and_then(|it| it.split_once("\ndata: "));
            let (head, data) = parts.ok_or_else(|| format!("{event:?} is no event"))?;
            let (kind, id) = head.split_once("\nid: ").map_or((head, None), |(kind, id)| (kind, Some(id)));
            if let Some(id) = id {
                self.validate(&json!({"$ref": "#/components/schemas/Cursor"}), &id.into())?;
            }
            let is_it = |it: &&Value| {
                let kinds = it["properties"]["event"]["enum"].as_array().into_iter().flatten();
                kinds.into_iter().any(|it| it == kind)
            };
            let documented = events.iter().find(is_it);
            let documented = documented.ok_or_else(|| format!("the event {kind} is not documented"))?;
            let data = serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?;
            self.closed(&documented["properties"]["data"], &data)?;
        }
        Ok(())
    }

    /// As [`Contract::validate`], and what the schema does not name is refused: clients pass over
    /// members that they do not know, and the document is to know all of them.
    fn closed(&self, schema: &Value, value: &Value) -> Check {
        let rows = value.get("items").and_then(Value::as_array).into_iter().flatten();
        for row in rows {
            let kind = match (row.get("id"), row.get("snapshotId"), row.get("templateVmid")) {
                (None, Some(_), Some(_)) => "Snapshot",
                (None, Some(_), None) => "KeptSnapshot",
                _ if row.get("mode").is_some() => "File",
                _ if row.get("process").is_some() => "Process",
                _ => "Sandbox",
            };
            self.closed(&json!({"$ref": format!("#/components/schemas/{kind}")}), row)?;
        }
        for event in value.get("events").and_then(Value::as_array).into_iter().flatten() {
            self.closed(&json!({"$ref": "#/components/schemas/ProcessEvent"}), event)?;
        }
        let mut schema = schema.clone();
        if let Some(schema) =
            schema.as_object_mut().filter(|it| it.contains_key("$ref") || it.contains_key("anyOf"))
        {
            schema.insert("unevaluatedProperties".into(), false.into());
        }
        self.validate(&schema, value)
    }

    /// Whether a value is what a schema of the document says.
    pub(crate) fn validate(&self, schema: &Value, value: &Value) -> Check {
        let validator = {
            let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
            validators.entry(schema.to_string()).or_insert_with(|| Arc::new(self.validator(schema))).clone()
        };
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|it| format!("{}: {it}", it.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut root = schema.as_object().cloned().unwrap_or_default();
        root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("components".into(), self.document["components"].clone());
        jsonschema::options()
            .should_validate_formats(true)
            .build(&Value::Object(root))
            .expect("a valid schema")
    }

    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        match part["$ref"].as_str() {
            Some(reference) => self.document.pointer(reference.trim_start_matches('#')).expect(reference),
            None => part,
        }
    }

    /// Calls `see` with the place, the schema and the value of each example.
    pub(crate) fn examples(&self, see: &mut impl FnMut(&str, &Value, &Value)) {
        examples("#", &self.document, see);
    }

    /// References to nothing, and components that nothing refers to.
    pub(crate) fn loose_ends(&self) -> Vec<String> {
        let mut used = BTreeSet::new();
        references(&self.document, &mut used);
        let mut loose: Vec<String> = used
            .iter()
            .filter(|it| self.document.pointer(it.trim_start_matches('#')).is_none())
            .cloned()
            .collect();
        for (kind, components) in self.document["components"].as_object().into_iter().flatten() {
            let names = components.as_object().into_iter().flat_map(Map::keys);
            loose.extend(names.map(|name| format!("#/components/{kind}/{name}")).filter(|it| {
                // Named by `security`; and the answers to what is no operation.
                let of_none = ["#/components/responses/E405", "#/components/responses/E501"];
                kind != "securitySchemes" && !of_none.contains(&it.as_str()) && !used.contains(it)
            }));
        }
        loose
    }
}

/// Whether an operation is asked how long its answer may take.
fn takes_prefer(operation: &Value) -> bool {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.into_iter().any(|it| it["$ref"] == "#/components/parameters/Prefer")
}

fn examples(place: &str, part: &Value, see: &mut impl FnMut(&str, &Value, &Value)) {
    let Value::Object(members) = part else {
        for (at, item) in part.as_array().into_iter().flatten().enumerate() {
            examples(&format!("{place}/{at}"), item, see);
        }
        return;
    };
    // Of a parameter, a header or a body: its schema stands beside. Of a schema: it is around.
    let schema = members.get("schema").unwrap_or(part);
    if let Some(example) = members.get("example") {
        see(place, schema, example);
    }
    match members.get("examples") {
        Some(Value::Array(list)) => list.iter().for_each(|it| see(place, part, it)),
        Some(Value::Object(named)) => named.values().for_each(|it| see(place, schema, &it["value"])),
        _ => {}
    }
    for (name, member) in members.iter().filter(|(name, _)| !name.starts_with("example")) {
        examples(&format!("{place}/{name}"), member, see);
    }
}

fn references(part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|it| references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| references(it, found)),
        _ => {}
    }
}
