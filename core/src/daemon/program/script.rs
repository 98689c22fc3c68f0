//! The script that installs the daemon in a guest: what is this deployment's, before what is the same everywhere.

use pve_edge_guest_protocol::{PORT, keys::KeyLine};

use super::manifest::{Arch, Manifest};
use crate::text::shell::quote;

/// The script without what its deployment gives it.
const BODY: &str = include_str!("install.sh");

/// Writes the script; with a program `inside` it fetches nothing.
pub(crate) fn script(
    base: &str,
    deployment: &str,
    keys: impl IntoIterator<Item = KeyLine>,
    manifest: &Manifest,
    inside: Option<(Arch, Vec<u8>)>,
) -> String {
    let keys: String = keys.into_iter().map(|line| format!("{line}\n")).collect();
    let set = [
        ("edge", base.to_owned()),
        ("deployment", deployment.to_owned()),
        ("keys", keys),
        ("version", manifest.version.clone()),
        ("x86_64", manifest.program(Arch::X86_64).sha256.clone()),
        ("aarch64", manifest.program(Arch::Aarch64).sha256.clone()),
        ("port", PORT.to_string()),
        ("port_hex", format!("{PORT:04X}")),
        ("inside", inside.as_ref().map(|(arch, _)| arch.to_string()).unwrap_or_default()),
    ];
    let set: String = set.into_iter().map(|(name, value)| format!("{name}={}\n", quote(&value))).collect();
    let (head, rest) = BODY.split_once("# SETTINGS\n").unwrap_or(("", BODY));
    let (body, start) = rest.split_once("# PROGRAM\n").unwrap_or((rest, ""));
    let program = inside.map(|(_, bytes)| program(&bytes)).unwrap_or_default();
    [head, &set, body, &program, start].concat()
}

/// A function of the shell that prints the program.
fn program(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / 76 + 64);
    lines.push_str("embedded() {\n    base64 -d <<'END'\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(76).unwrap_or((rest, ""));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines.push_str("END\n}\n");
    lines
}
