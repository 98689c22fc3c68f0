//! Defaults of a template: as which user and where commands and files begin, in all sandboxes of it.

use pve_edge_guest_protocol::{file::At, process::Spec};
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use crate::error::Error;

/// What a request to a sandbox means that does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Name or number of the user; `None`: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Folder where commands begin, and below which relative paths are; `None`: the user's home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
}

/// Bytes that the name of a user may have.
const LONGEST_USER: usize = 64;

/// Whether a text can be the name or number of a user.
pub fn is_user(text: &str) -> bool {
    (1..=LONGEST_USER).contains(&text.len()) && !text.contains(['\0', ':', '\n'])
}

/// Longest folder that a mark has room for.
const LONGEST_CWD: usize = 256;

impl Defaults {
    /// Checks what an admin says; `field` is where the members stand. What is wrong is added to `errors`.
    pub fn parse(
        user: &Option<String>,
        cwd: &Option<String>,
        field: &str,
        errors: &mut Vec<(String, String)>,
    ) -> Self {
        if user.as_ref().is_some_and(|it| !is_user(it)) {
            errors.push((format!("{field}user"), "a name or a number of the template's users".into()));
        }
        let is_folder = |it: &String| it.starts_with('/') && it.len() <= LONGEST_CWD && !it.contains('\0');
        if cwd.as_ref().is_some_and(|it| !is_folder(it)) {
            errors.push((format!("{field}cwd"), "an absolute path of at most 256 bytes".into()));
        }
        Self { user: user.clone(), cwd: cwd.clone() }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what a channel does not give.
    pub fn check(&self, channel: Option<Channel>) -> Result<(), Error> {
        match channel {
            Some(other) if !matches!(other, Channel::Guest | Channel::Terminal) && !self.is_empty() => {
                Err(other.lacks("a default `user` or `cwd`"))
            }
            _ => Ok(()),
        }
    }

    /// These, and where they say nothing, others.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self { user: self.user.or(others.user.clone()), cwd: self.cwd.or(others.cwd.clone()) }
    }

    /// A process that is begun by them, as far as its request does not say.
    pub fn spec(&self, spec: Spec) -> Spec {
        Spec { user: self.user(spec.user), cwd: spec.cwd.or_else(|| self.cwd.clone()), ..spec }
    }

    /// The place of a file that is meant.
    pub fn at(&self, at: At) -> At {
        At { path: self.path(at.path), user: self.user(at.user) }
    }

    /// The user who is meant.
    pub fn user(&self, said: Option<String>) -> Option<String> {
        said.or_else(|| self.user.clone())
    }

    /// The path that is meant.
    pub fn path(&self, said: String) -> String {
        match &self.cwd {
            Some(cwd) if !said.starts_with('/') => format!("{}/{said}", cwd.trim_end_matches('/')),
            _ => said,
        }
    }
}
