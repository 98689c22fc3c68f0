//! Requests to start a process.

use std::collections::BTreeMap;

use pve_edge_guest_protocol::process::{Size, Spec};
use serde::Deserialize;
use serde_json::json;

use crate::{
    error::Error,
    sandbox::{
        command::request::{Program, Words},
        environment::Env,
    },
};

/// Longest time that a process may be given: 30 days.
const LONGEST_TIMEOUT_MS: u64 = 2_592_000_000;
/// Bytes that a tag may have.
const LONGEST_TAG: usize = 256;

/// A process to start: `command` or `argv`; all of the request stays below 100 KiB.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProcessBody {
    /// Line for bash, such as `ls -l | head`.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")))]
    command: Option<String>,
    /// Program and its arguments, which are passed as they are: no shell is between.
    #[cfg_attr(feature = "contract", schemars(length(min = 1), inner(regex(pattern = r"^[^\u0000]*$")), extend("not" = {"prefixItems": [{"type": "string", "maxLength": 0}]})))]
    argv: Option<Vec<String>>,
    /// Absolute path of the working directory; the user's home by default.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^/[^\u0000]*$")))]
    cwd: Option<String>,
    /// Environment variables of this process, which override the sandbox's.
    #[cfg_attr(feature = "contract", schemars(with = "crate::sandbox::command::request::Variables"))]
    env: BTreeMap<String, String>,
    /// Name or number of the user who runs it; root by default.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 64), regex(pattern = r"^[^\u0000:\n]*$"))
    )]
    user: Option<String>,
    /// Whether its standard input can be written to; else it is empty. That of a terminal always can.
    stdin: bool,
    /// Terminal for all three streams, of this size; its output is `stdout`.
    pty: Option<SizeBody>,
    /// Milliseconds after which it is killed with its descendants; without it, it may run as long as the sandbox does.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = LONGEST_TIMEOUT_MS)))]
    timeout_ms: Option<u64>,
    /// Text by which it is found again.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = LONGEST_TAG)))]
    tag: Option<String>,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "contract", schemars(rename = "TerminalSize"))]
#[serde(deny_unknown_fields)]
pub struct SizeBody {
    /// Columns.
    #[cfg_attr(feature = "contract", schemars(range(min = 1)))]
    cols: u16,
    /// Rows.
    #[cfg_attr(feature = "contract", schemars(range(min = 1)))]
    rows: u16,
}

impl ProcessBody {
    /// A command with a terminal.
    pub(in crate::sandbox) fn of_terminal(
        command: String,
        Size { cols, rows }: Size,
        user: Option<String>,
    ) -> Self {
        Self { command: Some(command), user, pty: Some(SizeBody { cols, rows }), ..Self::default() }
    }
}

impl SizeBody {
    /// The size, if a terminal can have it; `field` is where it stands.
    pub fn parse(self, field: &str) -> Result<Size, Error> {
        let Self { cols, rows } = self;
        for (name, value) in [("cols", cols), ("rows", rows)] {
            if value == 0 {
                return Err(Error::field(format!("{field}{name}"), "1 to 65535"));
            }
        }
        Ok(Size { cols, rows })
    }
}

/// Process that was checked and can be started.
#[derive(Clone, Debug)]
pub struct ProcessRequest {
    program: Program,
    stdin: bool,
    pty: Option<Size>,
    timeout_ms: Option<u64>,
    tag: Option<String>,
}

impl ProcessRequest {
    /// Checks a request.
    pub fn parse(body: ProcessBody) -> Result<Self, Error> {
        let ProcessBody { command, argv, cwd, env, user, stdin, pty, timeout_ms, tag } = body;
        let mut errors = Vec::new();
        let program = Program::parse(Words { command, argv, cwd, env, user }, &mut errors);
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        if timeout_ms.is_some_and(|it| !(1..=LONGEST_TIMEOUT_MS).contains(&it)) {
            refuse("timeoutMs", "1 to 2592000000");
        }
        if tag.as_ref().is_some_and(|it| !(1..=LONGEST_TAG).contains(&it.len())) {
            refuse("tag", "1 to 256 bytes");
        }
        let Some(program) = program.filter(|_| errors.is_empty()) else { return Err(Error::fields(errors)) };
        let pty = pty.map(|it| it.parse("pty.")).transpose()?;
        Ok(Self { program, stdin, pty, timeout_ms, tag })
    }

    /// The process with the sandbox's variables too; its own override them.
    #[must_use]
    pub(crate) fn within(&self, env: &Env) -> Self {
        Self { program: self.program.within(env), ..self.clone() }
    }

    /// What the project's own daemon runs.
    pub(crate) fn spec(&self) -> Spec {
        let Self { program, stdin, pty, timeout_ms, tag } = self;
        Spec { stdin: *stdin, pty: *pty, timeout_ms: *timeout_ms, tag: tag.clone(), ..program.spec() }
    }

    /// Text of the request that is the same however its JSON was spelled.
    pub(crate) fn canonical(&self) -> String {
        json!(["process", self.spec()]).to_string()
    }
}
