//! Words of a shell, and names of its variables.

/// Variables that no command may set: shells keep the first six read-only, and `POSIXLY_CORRECT` makes bash end a
/// script at such an error.
const RESERVED_VARIABLES: [&str; 7] =
    ["UID", "EUID", "PPID", "BASHOPTS", "BASH_VERSINFO", "SHELLOPTS", "POSIXLY_CORRECT"];

/// Functions of scripts for people: `tell`, `die` and `consent`. They take the script's name from `self`, and from `yes`
/// whether it may do things unasked.
pub(crate) const ASKING: &str = include_str!("shell/asking.sh");

/// Says why a variable cannot have this name; `None` when it can.
pub fn name_error(name: &str) -> Option<&'static str> {
    if RESERVED_VARIABLES.contains(&name) {
        return Some("is the shell's own, and cannot be set");
    }
    let plain = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    let is_name = plain && !name.is_empty() && !name.starts_with(|it: char| it.is_ascii_digit());
    (!is_name).then_some("names are letters, digits and _, and do not begin with a digit")
}

/// Quotes a text, so that a shell takes it as one word whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
