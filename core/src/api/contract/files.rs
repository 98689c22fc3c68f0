//! What the operations on files take and answer.

use serde_json::{Map, Value, json};

use super::{
    operations::{Answer, Body},
    parameter,
    schemas::{Schemas, reference},
};
use crate::{
    api::action::Action,
    sandbox::file::{Entry, Listing, MkdirBody, MoveBody, Unpacked, watch::Changed},
};

/// Media type of a body that is any bytes.
const BYTES: &str = "application/octet-stream";

/// Parameters beside those of the path.
pub(super) fn parameters(action: Action) -> Vec<Value> {
    let mut parameters: Vec<Value> = action.parameters().iter().map(|name| of_query(action, name)).collect();
    parameters.extend(match action {
        Action::GetFile => vec![
            in_header("Range", "One range of bytes, such as `bytes=0-1023` or `bytes=-100`", "bytes=0-1023"),
            in_header(
                "If-Range",
                "ETag of the file that `Range` is of: of another file, all is answered",
                "\"1a2b-40-17c\"",
            ),
            parameter("IfMatch"),
            in_header(
                "If-None-Match",
                "ETag that the client has: 304 when the file still has it",
                "\"1a2b-40-17c\"",
            ),
        ],
        Action::PutFile => vec![
            parameter("IfMatch"),
            in_header("If-None-Match", "`*`: no file may be there; 412 when one is", "*"),
        ],
        Action::DeleteFile => vec![parameter("IfMatch")],
        _ => Vec::new(),
    });
    parameters
}

fn in_header(name: &str, about: &str, example: &str) -> Value {
    let schema = json!({"type": "string"});
    json!({"name": name, "in": "header", "description": about, "schema": schema, "example": example})
}

fn of_query(action: Action, name: &str) -> Value {
    let boolean = || json!({"type": "boolean", "default": false});
    let archive = || json!({"type": "string", "enum": ["tar", "tar.gz"]});
    let (about, schema) = match name {
        "path" => (
            "Path, absolute or below the user's home; percent-encoded UTF-8",
            json!({"type": "string", "minLength": 1, "maxLength": 4096, "pattern": r"^[^\u0000]*$"}),
        ),
        "user" => (
            "Name or number of the user as whom it is done; root by default",
            json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^\u0000:\n]*$"}),
        ),
        "mode" => (
            "Permission bits in octal; by default those of the file that is replaced, else `0644`",
            json!({"type": "string", "pattern": "^[0-7]{1,5}$"}),
        ),
        "mkdirs" => ("Whether folders that are missing are made", boolean()),
        "recursive" if action == Action::DeleteFile => {
            ("Whether a folder goes with all that is in it; without it, only an empty one", boolean())
        }
        "recursive" => ("Whether the folders below are watched too", boolean()),
        "pack" => ("Format of the archive that the folder or file is packed into", archive()),
        "unpack" => ("Format of the archive that is unpacked into the folder", archive()),
        "depth" => (
            "Levels of folders; 0 for the file or folder itself",
            json!({"type": "integer", "minimum": 0, "maximum": 64, "default": 1}),
        ),
        _ => (
            "Files and folders after which the list ends",
            json!({"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}),
        ),
    };
    let example = match name {
        "path" => json!("/root/notes.txt"),
        "user" => json!("1000"),
        "mode" => json!("0644"),
        "depth" => json!(1),
        "limit" => json!(1000),
        "pack" | "unpack" => json!("tar.gz"),
        _ => json!(true),
    };
    let required = name == "path";
    json!({
        "name": name, "in": "query", "required": required, "description": about, "schema": schema,
        "example": example,
    })
}

/// The body that a request has.
pub(super) fn body(action: Action, schemas: &mut Schemas) -> Option<Body> {
    Some(match action {
        Action::PutFile => Body { schema: json!({}), is_required: false, media: BYTES },
        Action::MakeFolder => Body::json(schemas.read::<MkdirBody>(), true),
        Action::MoveFile => Body::json(schemas.read::<MoveBody>(), true),
        _ => return None,
    })
}

/// Statuses of problems beside those of all operations on a sandbox.
pub(super) fn problems(action: Action) -> &'static [u16] {
    match action {
        Action::GetFile => &[406, 416, 422],
        Action::WatchFiles => &[406, 422],
        _ => &[422],
    }
}

/// The answers that are no problems.
pub(super) fn answers(action: Action, of: &mut Schemas) -> Vec<Answer> {
    match action {
        Action::GetFile => content(),
        Action::PutFile => written(of),
        Action::DeleteFile => vec![Answer::new(204, "It is gone")],
        Action::ListFiles => vec![Answer::new(200, "What is in the folder").json::<Listing>(of)],
        Action::MakeFolder => vec![Answer::new(200, "The folder").json::<Entry>(of)],
        Action::MoveFile => vec![Answer::new(200, "It has its new path").json::<Entry>(of)],
        _ => vec![changes(of)],
    }
}

fn content() -> Vec<Answer> {
    let mut whole = Answer::new(200, "The file; or the archive, with `pack`");
    let mut part = Answer::new(206, "The part of the file that `Range` names");
    let mut known = Answer::new(304, "The file is the one that If-None-Match names");
    for answer in [&mut whole, &mut part, &mut known] {
        answer.headers.extend([
            ("ETag", etag()),
            ("Accept-Ranges", json!({"schema": {"type": "string", "enum": ["bytes"]}})),
            ("Last-Modified", json!({"description": "By the sandbox's clock", "schema": {"type": "string"}})),
            ("X-Content-Type-Options", json!({"schema": {"type": "string", "enum": ["nosniff"]}})),
        ]);
    }
    let range = json!({
        "required": true,
        "schema": {"type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$"},
        "example": "bytes 0-1023/4096",
    });
    part.headers.push(("Content-Range", range));
    whole.content =
        Map::from_iter([BYTES, "application/x-tar"].map(|it| (it.to_owned(), json!({"schema": {}}))));
    part.content = Map::from_iter([(BYTES.to_owned(), json!({"schema": {}}))]);
    vec![whole, part, known]
}

fn written(of: &mut Schemas) -> Vec<Answer> {
    const WRITTEN: &str = "WrittenFile";
    of.add(WRITTEN, |it| json!({"anyOf": [it.written::<Entry>(), it.written::<Unpacked>()]}));
    let answers =
        [(200, "It is in place; with `unpack`, what was unpacked"), (201, "It is made: `If-None-Match: *`")];
    let answers = answers.into_iter().map(|(status, about)| {
        let mut answer = Answer::new(status, about).schema(reference(WRITTEN));
        answer.headers.push(("ETag", etag()));
        answer
    });
    answers.collect()
}

/// The ETag of a file.
fn etag() -> Value {
    json!({
        "description": "Of the file's content, for If-Match; absent with `pack` and `unpack`",
        "schema": {"type": "string", "pattern": "^\"[!#-~]+\"$"},
        "example": "\"1a2b-40-17c\"",
    })
}

fn changes(of: &mut Schemas) -> Answer {
    const CHANGE: &str = "FileEvent";
    const NOTHING: &str = "NoData";
    of.add(NOTHING, |_| json!({"type": "object", "description": "Nothing more is told", "maxProperties": 0}));
    of.add(CHANGE, |it| {
        let event = |names: &[&str], data: Value| {
            let event = json!({"type": "string", "enum": names});
            json!({"type": "object", "required": ["event", "data"], "properties": {"event": event, "data": data}})
        };
        json!({
            "description": "First `watching`: changes are seen from here on. `modified` is a file's content, \
                `attributes` its owner, mode or times; what is renamed is `removed` and `created`. `overflow`: changes \
                were lost, list the folder again. Last `gone`, when the folder itself is; or `error`, a Problem when \
                the watch was cut",
            "oneOf": [
                event(&["watching", "overflow", "gone"], reference(NOTHING)),
                event(&["created", "modified", "attributes", "removed"], it.written::<Changed>()),
                event(&["error"], reference("Problem")),
            ],
        })
    });
    let mut answer = Answer::new(200, "Changes, as they happen");
    let events = json!({
        "schema": {
            "type": "string",
            "description": "Events, each with one line of JSON as its data. Lines that begin with `:` keep the \
                connection open.",
            "contentMediaType": "text/event-stream",
            "contentSchema": reference(CHANGE),
        },
        "example": "event: watching\ndata: {}\n\nevent: created\ndata: {\"path\":\"a.txt\",\"directory\":false}\n\n",
    });
    answer.content.insert("text/event-stream".into(), events);
    answer
}
