//! Problems with settings.

use std::fmt;

/// Problem with a setting. Its text never has a value of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the setting, or of a variable that looks like one.
    pub name: String,
    /// What is wrong with it, as the end of a sentence that begins with the name.
    pub why: String,
    /// Whether it has no value, so that a new one takes nothing away.
    pub is_missing: bool,
}

impl Problem {
    /// One with the value that a setting has.
    pub(super) fn wrong(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), why: why.to_owned(), is_missing: false }
    }

    /// One of a setting that has no value.
    pub(crate) fn missing(name: &str, why: String) -> Self {
        Self { name: name.to_owned(), why, is_missing: true }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.why)
    }
}
