//! What a command is, and how it is told to a shell.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use serde::Deserialize;
use serde_json::json;

use super::post;
use crate::{
    environment::{Env, name_error},
    error::Error,
    io::Way,
    secret::Secret,
};

/// `bash -c` takes 128 KiB; this leaves room for what we put around it.
const LONGEST: usize = 100 << 10;
const DEFAULT_TIMEOUT_MS: u64 = 300_000;
const LONGEST_TIMEOUT_MS: u64 = 3_600_000;

/// `POST …/exec`, as it is sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExecBody {
    command: Option<String>,
    argv: Option<Vec<String>>,
    cwd: Option<String>,
    env: BTreeMap<String, String>,
    timeout_ms: Option<u64>,
}

/// A command that can be run.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    line: String,
    timeout_ms: u64,
}

impl ExecRequest {
    /// Refuses what no shell could run.
    pub fn parse(body: ExecBody) -> Result<Self, Error> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        match (&body.command, &body.argv) {
            (Some(_), Some(_)) => refuse("argv", "only one of command and argv"),
            (None, None) => refuse("command", "command (a shell line) or argv (a list) is needed"),
            (Some(command), None) if command.trim().is_empty() => refuse("command", "must not be empty"),
            (None, Some(argv)) if argv.first().is_none_or(String::is_empty) => {
                refuse("argv", "must name a program first");
            }
            _ => {}
        }
        if body.cwd.as_ref().is_some_and(|it| !it.starts_with('/')) {
            refuse("cwd", "must be an absolute path");
        }
        for name in body.env.keys() {
            if let Some(wrong) = name_error(name) {
                refuse(&format!("env.{name}"), wrong);
            }
        }
        let timeout_ms = body.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !(1..=LONGEST_TIMEOUT_MS).contains(&timeout_ms) {
            refuse("timeoutMs", "1 to 3600000");
        }
        let line = line(&body);
        if line.len() > LONGEST {
            refuse("command", "with argv, cwd and env it must stay below 100 KiB: put it in a file");
        }
        if line.contains('\0') {
            refuse("command", "must not contain NUL");
        }
        if errors.is_empty() { Ok(Self { line, timeout_ms }) } else { Err(Error::fields(errors)) }
    }

    /// A command that does nothing.
    pub fn nothing() -> Self {
        Self::ours(":".into())
    }

    /// A short command of ours.
    pub(crate) fn ours(line: String) -> Self {
        Self { line, timeout_ms: 5000 }
    }

    /// With the sandbox's own variables, which those of the command override.
    #[must_use]
    pub(crate) fn within(&self, env: &Env) -> Self {
        Self { line: env.exports() + &self.line, timeout_ms: self.timeout_ms }
    }

    /// After which the daemon ends it.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// What a shell runs.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The request that runs it.
    pub fn request(&self, base: &str, token: &Secret, way: Way) -> Request<Vec<u8>> {
        let body = json!({"command": self.line, "timeout_ms": self.timeout_ms});
        post(base, token, way, serde_json::to_vec(&body).unwrap_or_default())
    }
}

/// One line for `bash -c`. The daemon has no HOME, folder or environment of its own to offer.
fn line(body: &ExecBody) -> String {
    let mut line = String::from("export HOME=\"${HOME:-/root}\"; ");
    for (name, value) in &body.env {
        line.push_str(&format!("export {name}={}; ", quote(value)));
    }
    if let Some(cwd) = &body.cwd {
        line.push_str(&format!("cd -- {} || exit 1; ", quote(cwd)));
    }
    match (&body.command, &body.argv) {
        (Some(command), _) => line.push_str(command),
        (None, Some(argv)) => {
            let words: Vec<String> = argv.iter().map(|it| quote(it)).collect();
            line.push_str(&words.join(" "));
        }
        (None, None) => {}
    }
    line
}

/// As one word for a shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

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
            let output = Command::new("bash").arg("-c").arg(&request.line).output().unwrap();
            let wanted: String = words.iter().map(|it| format!("{it}\0")).collect();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
        }
    }
}
