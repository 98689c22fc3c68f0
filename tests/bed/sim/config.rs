//! A guest's config file, as `/etc/pve/nodes/N/lxc/ID.conf` holds it.

use std::{collections::BTreeMap, fmt::Write as _};

use sha2::{Digest as _, Sha256};

use super::Kind;

/// Options and sections of one config file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The comment block on top, decoded; `None` without one.
    pub description: Option<String>,
    /// `key: value` lines.
    pub options: BTreeMap<String, String>,
    /// `[pve:pending]`: new values, `None` for a removal.
    pub pending: BTreeMap<String, Option<String>>,
    /// `[name]` sections.
    pub snapshots: BTreeMap<String, Config>,
}

impl Config {
    /// An option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// Whether an option is `1`.
    pub fn is(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// The lock that PVE shows.
    pub fn lock(&self) -> Option<&str> {
        self.get("lock")
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.options.insert(key.into(), value.into());
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.options.remove(key);
    }

    /// Waits for a start, unless it is so already [pve-guest-common `AbstractConfig.pm` cleanup_pending].
    pub(crate) fn pend(&mut self, key: &str, value: Option<String>) {
        if self.options.get(key) == value.as_ref() {
            self.pending.remove(key);
        } else {
            self.pending.insert(key.into(), value);
        }
    }

    /// What a start does first, that of a suspended VM too.
    pub(crate) fn apply_pending(&mut self) {
        for (key, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => self.set(&key, value),
                None => self.unset(&key),
            }
        }
    }

    /// What an API read returns: a container's description has one newline
    /// at its end, however many were written [pve-container `LXC/Config.pm`];
    /// a VM's has no white space there [qemu-server `QemuServer.pm` parse_vm_config].
    pub(crate) fn description_read(&self, kind: Kind) -> Option<String> {
        let text = self.description.as_deref()?;
        match kind {
            Kind::Lxc => Some(format!("{}\n", text.trim_end_matches('\n'))),
            Kind::Qemu => Some(text.trim_end().to_owned()),
        }
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = self.section();
        if !self.pending.is_empty() {
            text.push_str("\n[pve:pending]\n");
            for (key, value) in &self.pending {
                let _ = match value {
                    Some(value) => writeln!(text, "{key}: {}", shown(value)),
                    None => writeln!(text, "delete: {key}"),
                };
            }
        }
        for (name, snapshot) in &self.snapshots {
            let _ = write!(text, "\n[{name}]\n{}", snapshot.section());
        }
        text
    }

    /// Forty digits that change with any byte of the file.
    pub fn digest(&self) -> String {
        let hash = Sha256::digest(self.text().as_bytes());
        hash.iter().take(20).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn section(&self) -> String {
        let mut text = String::new();
        for line in self.description.iter().flat_map(|text| text.trim_end_matches('\n').split('\n')) {
            let _ = writeln!(text, "#{}", encoded(line));
        }
        for (key, value) in &self.options {
            let _ = writeln!(text, "{key}: {}", shown(value));
        }
        text
    }
}

/// Comment lines carry `%`, `:`, control and non-ASCII bytes percent-encoded.
fn encoded(line: &str) -> String {
    line.bytes().fold(String::new(), |mut text, byte| {
        let plain = (b' '..0x7f).contains(&byte) && byte != b'%' && byte != b':';
        let _ = if plain { write!(text, "{}", char::from(byte)) } else { write!(text, "%{byte:02X}") };
        text
    })
}

/// NUL, which separates the entries of `env`, would not survive a text file.
fn shown(value: &str) -> String {
    value.replace('\0', "\\0").replace('\n', "\\n")
}
