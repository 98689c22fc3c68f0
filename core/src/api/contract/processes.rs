//! What operations on commands and processes take and answer.

use serde_json::{Value, json};

use super::{
    operations::Answer,
    schemas::{Schemas, reference},
};
use crate::{
    api::action::Action,
    sandbox::{
        command::{Outcome, events::Failed},
        process::{
            Cursor, Encoding, Exit, OutputPage, Process, ProcessId, Processes, Stdin,
            event::{Gap, Started, Written},
        },
        terminal::TerminalLink,
    },
};

/// Parameters of the query, and the header by which a client of events goes on.
pub(super) fn parameters(action: Action, schemas: &mut Schemas) -> Vec<Value> {
    let query = |name: &str, about: &str, schema: Value| json!({"name": name, "in": "query", "description": about, "schema": schema});
    match action {
        Action::ListProcesses => {
            vec![query("tag", "Only those that were started with it", json!({"type": "string"}))]
        }
        Action::WriteStdin => {
            let mut at = query(
                "at",
                "How many bytes were written before these",
                json!({"type": "integer", "minimum": 0}),
            );
            super::put(&mut at, "required", true.into());
            vec![
                at,
                query("end", "Whether these are the last ones; false by default", json!({"type": "boolean"})),
            ]
        }
        Action::OpenTerminal => {
            let size = || json!({"type": "integer", "minimum": 1, "maximum": 65535});
            let token = "Token of a link, in place of a key";
            let user =
                json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^\u0000:\n]*$"});
            let process = "Process whose terminal it is; without one, a shell is started";
            vec![
                query("token", token, json!({"type": "string", "minLength": 1, "maxLength": 1024})),
                query("process", process, schemas.written::<ProcessId>()),
                query("after", "Where the output of `process` begins; `start` by default", place(schemas)),
                query("cols", "Columns of the shell's terminal; 80 by default", size()),
                query("rows", "Rows of the shell's terminal; 24 by default", size()),
                query("user", "Name or number of the user whose shell it is; root by default", user),
            ]
        }
        _ => {
            vec![
                query("after", "Where to begin; `start` by default", place(schemas)),
                query("encoding", "Form of the output; `text` by default", schemas.written::<Encoding>()),
                json!({
                    "name": "Last-Event-ID",
                    "in": "header",
                    "description": "As `after`, and before it: browsers send it when they connect again",
                    "schema": {"type": "string"},
                }),
            ]
        }
    }
}

/// A place in the output of a process.
fn place(schemas: &mut Schemas) -> Value {
    json!({"anyOf": [{"type": "string", "enum": ["start", "end"]}, schemas.written::<Cursor>()]})
}

/// The answers that are no problems.
pub(super) fn answers(action: Action, of: &mut Schemas) -> Vec<Answer> {
    use Action::*;
    match action {
        ExecSandbox => {
            let whole = Answer::new(200, "It ended; its exit code tells how").json::<Outcome>(of);
            vec![with_events(whole, of)]
        }
        ReadOutput => {
            let page = Answer::new(200, "As far as there is any").json::<OutputPage>(of);
            vec![with_events(page, of)]
        }
        CreateProcess => {
            let about = "It was started, now or by an earlier request with this `Idempotency-Key`";
            vec![Answer::new(201, about).json::<Process>(of).location()]
        }
        ListProcesses => vec![Answer::new(200, "The oldest first").json::<Processes>(of)],
        OpenTerminal => vec![websocket()],
        LinkTerminal => vec![Answer::new(200, "It opens a terminal for 60 seconds").json::<TerminalLink>(of)],
        DeleteProcess => vec![Answer::new(204, "It is gone")],
        WriteStdin => vec![
            Answer::new(200, "All of it was taken").json::<Stdin>(of),
            Answer::new(202, "Not all of it was taken: send the rest later").json::<Stdin>(of),
        ],
        _ => vec![Answer::new(200, "As the sandbox's daemon knows it now").json::<Process>(of)],
    }
}

fn websocket() -> Answer {
    let mut answer = Answer::new(101, "The websocket is open");
    for (name, about) in [
        ("Upgrade", "`websocket`"),
        ("Connection", "`upgrade`"),
        ("Sec-WebSocket-Accept", "The answer to `Sec-WebSocket-Key` (RFC 6455, 4.2.2)"),
    ] {
        answer.headers.push((name, json!({"description": about, "schema": {"type": "string"}})));
    }
    answer
}

fn with_events(mut answer: Answer, schemas: &mut Schemas) -> Answer {
    const EVENT: &str = "ExecEvent";
    schemas.add(EVENT, event);
    let events = json!({
        "schema": {
            "type": "string",
            "description": "Events, each with one line of JSON as its data, and with the place behind it as its id where \
                the sandbox has pve-edge-guest. Lines that begin with `:` keep the connection open.",
            "contentMediaType": "text/event-stream",
            "contentSchema": reference(EVENT),
        },
        "example": "event: stdout\nid: 3\ndata: {\"data\":\"ok\\n\"}\n\nevent: exit\nid: 3\ndata: {\"exitCode\":0,\"timedOut\":false}\n\n",
    });
    answer.content.insert("text/event-stream".into(), events);
    answer
}

fn event(schemas: &mut Schemas) -> Value {
    let event = |names: &[&str], data: Value| {
        let event = json!({"type": "string", "enum": names});
        json!({"type": "object", "required": ["event", "data"], "properties": {"event": event, "data": data}})
    };
    json!({
        "description": "`started`, where the sandbox has pve-edge-guest; `stdout` and `stderr`; `gap`, of output that was \
            dropped before it was read; `error`, a Problem when the output was cut, and then no `exit` follows; and last \
            `exit`",
        "oneOf": [
            event(&["started"], schemas.written::<Started>()),
            event(&["stdout", "stderr"], schemas.written::<Written>()),
            event(&["gap"], schemas.written::<Gap>()),
            event(&["error"], json!({"anyOf": [schemas.written::<Failed<'_>>(), reference("Problem")]})),
            event(&["exit"], schemas.written::<Exit>()),
        ],
    })
}
