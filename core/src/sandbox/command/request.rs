//! Requests to run a command, and the script that a shell gets for one.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_guest_protocol::process::{Bytes, Spec};
use serde::Deserialize;
use serde_json::json;

use crate::{
    error::Error,
    sandbox::{defaults::is_user, environment::Env, process::Encoding},
    text::shell::{name_error, quote},
};

/// Bytes that a command's script may have: `bash -c` takes 128 KiB, and the daemon adds to it.
const LONGEST: usize = 100 << 10;
const DEFAULT_TIMEOUT_MS: u64 = 300_000;
const LONGEST_TIMEOUT_MS: u64 = 3_600_000;

/// A command to run: `command` or `argv`; all of the request but `stdin` stays below 100 KiB.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExecBody {
    /// Line for bash, such as `ls -l | head`.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")))]
    command: Option<String>,
    /// Program and its arguments, which are passed as they are, such as `["ls", "-l", "/tmp"]`.
    #[cfg_attr(feature = "contract", schemars(length(min = 1), inner(regex(pattern = r"^[^\u0000]*$")), extend("not" = {"prefixItems": [{"type": "string", "maxLength": 0}]})))]
    argv: Option<Vec<String>>,
    /// Absolute path of the working directory, such as `/root`.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^/[^\u0000]*$")))]
    cwd: Option<String>,
    /// Environment variables of this command, which override the sandbox's.
    #[cfg_attr(feature = "contract", schemars(with = "Variables"))]
    env: BTreeMap<String, String>,
    /// Milliseconds after which the command is killed; 300000 by default.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = LONGEST_TIMEOUT_MS)))]
    timeout_ms: Option<u64>,
    /// Name or number of the user who runs it; root by default. Needs pve-edge-guest in the sandbox.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 64), regex(pattern = r"^[^\u0000:\n]*$"))
    )]
    user: Option<String>,
    /// Standard input, in the form that `encoding` says; without it, it is empty. Needs pve-edge-guest in the sandbox.
    stdin: Option<String>,
    /// Form of standard input and of output; `text` by default. `base64` needs pve-edge-guest in the sandbox.
    encoding: Encoding,
}

/// Environment variables of one command, in the contract.
#[cfg(feature = "contract")]
pub struct Variables;

#[cfg(feature = "contract")]
schema!(Variables {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "additionalProperties": {"type": "string", "pattern": r"^[^\u0000]*$"}
});

/// Command that was checked and can be run.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    program: Program,
    timeout_ms: u64,
    /// Bytes of its standard input.
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) encoding: Encoding,
}

impl ExecRequest {
    /// Checks a request; refuses a command that no shell could run.
    pub fn parse(body: ExecBody) -> Result<Self, Error> {
        let ExecBody { command, argv, cwd, env, user, timeout_ms, stdin, encoding } = body;
        let mut errors = Vec::new();
        let program = Program::parse(Words { command, argv, cwd, env, user }, &mut errors);
        let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !(1..=LONGEST_TIMEOUT_MS).contains(&timeout_ms) {
            errors.push(("timeoutMs".into(), "1 to 3600000".into()));
        }
        let stdin = stdin.and_then(|text| match encoding {
            Encoding::Text => Some(text.into_bytes()),
            Encoding::Base64 => {
                let bytes = STANDARD.decode(text).ok();
                if bytes.is_none() {
                    errors.push(("stdin".into(), "is not base64, which `encoding` says".into()));
                }
                bytes
            }
        });
        match program {
            Some(program) if errors.is_empty() => Ok(Self { program, timeout_ms, stdin, encoding }),
            _ => Err(Error::fields(errors)),
        }
    }

    /// A command that does nothing.
    pub fn nothing() -> Self {
        Self::short(":".into(), Env::default())
    }

    /// A short command of our own.
    pub(crate) fn short(command: String, env: Env) -> Self {
        let program = Program { line: Line::Command(command), cwd: None, env, user: None };
        Self { program, timeout_ms: 5000, stdin: None, encoding: Encoding::Text }
    }

    /// The command with the sandbox's variables too; its own override them.
    #[must_use]
    pub(crate) fn within(&self, env: &Env) -> Self {
        Self { program: self.program.within(env), ..self.clone() }
    }

    /// Time after which the daemon ends the command.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The script for a shell: see [`Program::script`].
    pub(crate) fn script(&self, limit: Option<Duration>) -> String {
        self.program.script(limit)
    }

    /// What the project's own daemon runs.
    pub(crate) fn spec(&self) -> Spec {
        let input = self.stdin.clone().map(Bytes);
        Spec { timeout_ms: Some(self.timeout_ms), input, ..self.program.spec() }
    }

    /// Text of the request that is the same however its JSON was spelled.
    pub(crate) fn canonical(&self) -> String {
        json!(["exec", self.spec(), self.encoding]).to_string()
    }

    /// Name of the first wish that only the project's own daemon fulfils.
    pub(crate) fn wish(&self) -> Option<&'static str> {
        match self {
            Self { stdin: Some(_), .. } => Some("standard input (`stdin`)"),
            Self { encoding: Encoding::Base64, .. } => Some("exact bytes (`encoding: base64`)"),
            Self { program, .. } if program.user.is_some() => Some("another user (`user`)"),
            _ => None,
        }
    }
}

/// What to run, as a client says it.
pub(crate) struct Words {
    pub(crate) command: Option<String>,
    pub(crate) argv: Option<Vec<String>>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
}

/// What to run: a line or a program, where, as which user, and with which variables.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    line: Line,
    cwd: Option<String>,
    env: Env,
    user: Option<String>,
}

#[derive(Clone, Debug)]
enum Line {
    /// Line that the command's own shell runs.
    Command(String),
    /// Program and its arguments.
    Argv(Vec<String>),
}

impl Program {
    /// Checks what a client says, and adds what is wrong with it to `errors`.
    pub(crate) fn parse(words: Words, errors: &mut Vec<(String, String)>) -> Option<Self> {
        let before = errors.len();
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        match (&words.command, &words.argv) {
            (Some(_), Some(_)) => refuse("argv", "only one of command and argv"),
            (None, None) => refuse("command", "command (a shell line) or argv (a list) is needed"),
            (Some(command), None) if command.trim().is_empty() => refuse("command", "must not be empty"),
            (None, Some(argv)) if argv.first().is_none_or(String::is_empty) => {
                refuse("argv", "must name a program first");
            }
            _ => {}
        }
        if words.cwd.as_ref().is_some_and(|it| !it.starts_with('/')) {
            refuse("cwd", "must be an absolute path");
        }
        for name in words.env.keys() {
            if let Some(wrong) = name_error(name) {
                refuse(&format!("env.{name}"), wrong);
            }
        }
        if words.user.as_ref().is_some_and(|it| !is_user(it)) {
            refuse("user", "must be a name or a number of at most 64 characters");
        }
        let line = words.command.map(Line::Command).or(words.argv.map(Line::Argv))?;
        let program = Self { line, cwd: words.cwd, env: Env::from(words.env), user: words.user };
        let script = program.script(None);
        if script.len() > LONGEST {
            refuse("command", "with argv, cwd and env it must stay below 100 KiB: put it in a file");
        }
        if script.contains('\0') {
            refuse("command", "must not contain NUL");
        }
        (errors.len() == before).then_some(program)
    }

    /// The program with the sandbox's variables too; its own override them.
    #[must_use]
    pub(crate) fn within(&self, env: &Env) -> Self {
        Self { env: env.overridden_by(&self.env), ..self.clone() }
    }

    /// What the project's own daemon runs: no shell is between it and `argv`.
    pub(crate) fn spec(&self) -> Spec {
        let (command, argv) = match &self.line {
            Line::Command(command) => (Some(command.clone()), None),
            Line::Argv(argv) => (None, Some(argv.clone())),
        };
        let env = self.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Spec { command, argv, cwd: self.cwd.clone(), env, user: self.user.clone(), ..Spec::default() }
    }

    /// The script for a shell, which sets folder and variables, and becomes the command's own shell by `exec`. So a
    /// command that cannot be parsed fails in a shell that knows nothing else, and no list of processes shows the
    /// variables from then on. `limit` lets `timeout` end the command, where nothing else can.
    fn script(&self, limit: Option<Duration>) -> String {
        let mut script = String::new();
        if let Some(cwd) = &self.cwd {
            script.push_str(&format!("cd {} || exit 1; ", quote(cwd)));
        }
        // The daemon has no HOME to offer.
        script.push_str("exec env HOME=\"${HOME:-/root}\" ");
        for (name, value) in self.env.iter() {
            script.push_str(&format!("{name}={} ", quote(value)));
        }
        // Programs are looked for before PATH is the command's.
        if let Some(limit) = limit {
            script.push_str(&format!("\"$(command -v timeout || echo timeout)\" -k 5 {} ", seconds(limit)));
        }
        script.push_str("\"$(command -v bash || command -v sh)\" -c ");
        script.push_str(&match &self.line {
            Line::Command(command) => quote(command),
            Line::Argv(argv) => quote(&argv.iter().map(|it| quote(it)).collect::<Vec<_>>().join(" ")),
        });
        script
    }
}

/// Seconds as `timeout` takes them.
fn seconds(duration: Duration) -> String {
    let (whole, part) = (duration.as_secs(), duration.subsec_millis());
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}") }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use serde_json::json;

    use super::*;

    fn parse(json: serde_json::Value) -> Result<ExecRequest, Error> {
        ExecRequest::parse(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn what_no_shell_can_run_is_refused_by_field() {
        for (body, field) in [
            (json!({}), "command"),
            (json!({"command": " "}), "command"),
            (json!({"command": "a", "argv": ["a"]}), "argv"),
            (json!({"argv": []}), "argv"),
            (json!({"command": "a", "cwd": "tmp"}), "cwd"),
            (json!({"command": "a", "env": {"A-B": "1"}}), "env.A-B"),
            (json!({"command": "a", "env": {"1A": "1"}}), "env.1A"),
            (json!({"command": "a", "timeoutMs": 0}), "timeoutMs"),
            (json!({"command": "a\0b"}), "command"),
            (json!({"argv": ["x".repeat(200_000)]}), "command"),
        ] {
            let error = parse(body.clone()).unwrap_err();
            assert!(error.detail().starts_with(field), "{body}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn words_reach_the_program_as_they_are(words in prop::collection::vec("[^\0]{0,20}", 1..5)) {
            let mut argv = vec!["printf".to_owned(), "%s\\0".to_owned()];
            argv.extend(words.iter().cloned());
            let request = parse(json!({"argv": argv, "cwd": "/", "env": {"A": words[0]}})).unwrap();
            let output = Command::new("bash").arg("-c").arg(request.script(None)).output().unwrap();
            let wanted: String = words.iter().map(|it| format!("{it}\0")).collect();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
        }
    }
}
