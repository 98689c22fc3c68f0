//! Keys: the edge signs calls with one for each secret it lists, and a guest has the public halves in a file.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Name of a key: 16 hexadecimal digits of the hash of its public half.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The name of a public key.
    pub fn of(key: &VerifyingKey) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(key.as_bytes()));
        Self(hex::encode([a, b, c, d, e, f, g, h]))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key of the edge, which signs calls; its `Debug` shows the name alone.
#[derive(Clone)]
pub struct EdgeKey {
    id: KeyId,
    key: SigningKey,
}

impl EdgeKey {
    /// The key of a seed, which is derived from one secret of the deployment.
    pub fn new(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        Self { id: KeyId::of(&key.verifying_key()), key }
    }

    /// Name of the key.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The line that a guest's file of keys has for it.
    pub fn line(&self, deployment: &str) -> KeyLine {
        KeyLine { deployment: deployment.to_owned(), id: self.id.clone(), key: self.key.verifying_key() }
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.key
    }
}

impl fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EdgeKey({})", self.id)
    }
}

/// Line of a guest's file of keys: `{deployment} {base64url of the public key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// Deployment for which the key speaks.
    pub deployment: String,
    /// Name of the key.
    pub id: KeyId,
    pub(crate) key: VerifyingKey,
}

impl KeyLine {
    /// Reads one line.
    pub fn parse(line: &str) -> Option<Self> {
        let (deployment, key) = line.trim().split_once(' ')?;
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(key.trim()).ok()?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())?;
        let is_label = !deployment.is_empty() && deployment.bytes().all(|it| it.is_ascii_graphic());
        is_label.then(|| Self { deployment: deployment.to_owned(), id: KeyId::of(&key), key })
    }
}

impl fmt::Display for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.deployment, URL_SAFE_NO_PAD.encode(self.key.as_bytes()))
    }
}

/// A guest's file of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFile {
    /// Lines, in the file's order.
    pub lines: Vec<KeyLine>,
}

impl KeyFile {
    /// Reads a file. Empty lines, comments (`#`) and lines that are no key are passed over.
    pub fn parse(text: &str) -> Self {
        Self { lines: text.lines().filter_map(KeyLine::parse).collect() }
    }

    /// The file with exactly these keys of one deployment, and the other deployments' lines as they were.
    #[must_use]
    pub fn with(&self, deployment: &str, keys: impl IntoIterator<Item = KeyLine>) -> Self {
        let others = self.lines.iter().filter(|line| line.deployment != deployment).cloned();
        Self { lines: keys.into_iter().chain(others).collect() }
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_keeps_the_lines_of_other_deployments() {
        let (old, new, other) = (EdgeKey::new(&[1; 32]), EdgeKey::new(&[2; 32]), EdgeKey::new(&[3; 32]));
        let text = format!("# keys\n\n{}\n{}\nnonsense\n", old.line("home"), other.line("work"));
        let file = KeyFile::parse(&text);
        assert_eq!(file.lines.len(), 2);
        let after = file.with("home", [new.line("home")]);
        assert_eq!(after.to_string(), format!("{}\n{}\n", new.line("home"), other.line("work")));
        assert_eq!(KeyFile::parse(&after.to_string()), after);
    }

    #[test]
    fn a_key_that_proves_nothing_is_no_key() {
        let weak = URL_SAFE_NO_PAD.encode([0; 32]);
        assert_eq!(KeyLine::parse(&format!("home {weak}")), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_prints_back(text in "(?s).{0,200}") {
            let file = KeyFile::parse(&text);
            prop_assert_eq!(KeyFile::parse(&file.to_string()), file);
        }
    }
}
