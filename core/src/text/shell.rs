//! Words and names of variables, as shells take them.

/// Variables that shells keep read-only, and one that makes bash end a script at its first such error.
const OF_THE_SHELL: [&str; 7] =
    ["UID", "EUID", "PPID", "BASHOPTS", "BASH_VERSINFO", "SHELLOPTS", "POSIXLY_CORRECT"];

/// What is wrong with the name of a variable.
pub fn name_error(name: &str) -> Option<&'static str> {
    if OF_THE_SHELL.contains(&name) {
        return Some("is the shell's own, and cannot be set");
    }
    let plain = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    let fine = plain && !name.is_empty() && !name.starts_with(|it: char| it.is_ascii_digit());
    (!fine).then_some("names are letters, digits and _, and do not begin with a digit")
}

/// As one word for a shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
