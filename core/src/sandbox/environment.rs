//! Environment variables of a sandbox, which are secrets of its owner (rule S7.6).
//!
//! PVE's own `env` option and the Notes are read by others than the owner, so
//! they are kept sealed in the machine line, under a key that only
//! `EDGE_SECRET` gives and that no other guest has. In clear they go to the
//! exec daemon alone: with each command, and once into a file of the guest.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::command::ExecRequest;
use crate::{
    access::secret::{Key, Keyring},
    error::{Code, Error},
    text::{
        base32::{base32, from_base32},
        shell::{name_error, quote},
    },
};

/// File of the environment in the guest.
pub const FILE: &str = "/etc/pve-edge/env";
/// First words of that file; the guest's nonce follows.
const HEADER: &str = "# pve-edge";
/// The variable that brings its text to the command that writes it.
const TEXT: &str = "PVE_EDGE_ENV";
const LONGEST_NAME: usize = 128;
/// Bytes that an environment may have as JSON.
const BYTES: usize = 3072;
/// Characters that the sealed environment and the metadata may have together; the rest of a description of 8192
/// characters is for the marks.
const TOGETHER: usize = 6400;

/// The first line of the file in the guest with this nonce.
pub(crate) fn header(nonce: &str) -> String {
    format!("{HEADER} {nonce}")
}

/// Whether a line is the first one of such a file, of whichever guest.
pub(crate) fn is_header(line: &str) -> bool {
    line.strip_prefix(HEADER).is_some_and(|it| it.starts_with(' '))
}

/// Environment variables, whose values are never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(BTreeMap<String, String>);

#[cfg(feature = "contract")]
schema!(Env {
    "type": "object",
    "description": "Environment variables.",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": LONGEST_NAME},
    "additionalProperties": {"type": "string", "pattern": r"^[^\u0000]*$"}
});

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl From<BTreeMap<String, String>> for Env {
    fn from(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }
}

impl Env {
    /// Whether there are no variables.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Problems of the variables, each with its field.
    pub fn errors(&self, metadata: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let mut errors = Vec::new();
        for (name, value) in &self.0 {
            let wrong = match name_error(name) {
                Some(wrong) => Some(wrong),
                None if name.len() > LONGEST_NAME => Some("names have at most 128 characters"),
                None if value.contains('\0') => Some("must not contain NUL"),
                None => None,
            };
            errors.extend(wrong.map(|it| (format!("env.{name}"), it.to_owned())));
        }
        let bytes = self.json().len();
        let metadata = serde_json::to_string(metadata).map_or(0, |it| it.len());
        if bytes > BYTES {
            errors.push(("env".into(), format!("{bytes} bytes as JSON, and there is room for {BYTES}")));
        } else if !self.is_empty() && bytes * 8 / 5 + metadata > TOGETHER {
            let text = "together with the metadata it is too much for a guest's description".to_owned();
            errors.push(("env".into(), text));
        }
        errors
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Seals the variables for the one guest that `guest` names; `None` when there are none.
    pub fn seal(&self, key: &Key, guest: &[&str]) -> Option<String> {
        let sealed = (!self.is_empty()).then(|| key.seal("env", guest, self.json()));
        sealed.flatten().map(|it| base32(&it))
    }

    /// Opens variables that were sealed for `guest`, under the secret that is `named` so or any other.
    pub fn open(
        sealed: Option<&str>,
        guest: &[&str],
        named: Option<&str>,
        secrets: &Keyring,
    ) -> Result<Self, Error> {
        let Some(sealed) = sealed.filter(|it| !it.is_empty()) else { return Ok(Self::default()) };
        let sealed = from_base32(sealed).unwrap_or_default();
        let opened = secrets.named_first(named).find_map(|key| key.open("env", guest, &sealed));
        opened.and_then(|it| serde_json::from_slice(&it).ok()).ok_or_else(|| {
            let text = "no EDGE_SECRET opens this sandbox's environment: was the one that made it removed, or were its \
                        Notes changed by hand?";
            Error::new(Code::EnvUnreadable, text)
        })
    }

    /// Names and values, for the one place that hands them to a shell.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    /// These variables and those of `other`, which win.
    pub(crate) fn overridden_by(&self, other: &Self) -> Self {
        let both = self.0.iter().chain(&other.0);
        Self(both.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The content of the file in a guest with this nonce.
    pub(crate) fn file(&self, nonce: &str) -> String {
        let lines = self.0.iter().map(|(name, value)| format!("{name}={}\n", quote(value)));
        format!("{}\n", header(nonce)) + &lines.collect::<String>()
    }

    /// The command that writes the file in a guest, once: later changes of its owner stay. A guest that is made of a
    /// snapshot has the former sandbox's file on its disk, which the command replaces.
    pub fn write_command(&self, nonce: &str) -> ExecRequest {
        let (header, text) = (header(nonce), self.file(nonce));
        let (header, env) = (quote(&header), Self([(TEXT.to_owned(), text)].into()));
        let (anew, env) = match self.is_empty() {
            true => (format!("'{HEADER} '*) rm -f {FILE};;"), Self::default()),
            false => (
                format!(
                    "*) umask 077; mkdir -p /etc/pve-edge && printf %s \"${TEXT}\" >{FILE}.new && mv -f {FILE}.new {FILE};;"
                ),
                env,
            ),
        };
        ExecRequest::short(
            format!("case \"$(head -n1 {FILE} 2>/dev/null)\" in {header}) ;; {anew} esac"),
            env,
        )
    }
}
