//! Secrets of the deployment, and the tokens, codes and ciphertexts that are derived from them.

use std::fmt;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};
use hmac::{Hmac, Mac};
use pve_edge_guest_protocol::keys::EdgeKey;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Length of ChaCha20's nonce, which must never occur twice under one key (RFC 8439).
const UNIQUE: usize = 12;

/// Secret text, which its `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One secret of `EDGE_SECRET`, and its name.
#[derive(Clone, Debug)]
pub struct Key {
    name: String,
    secret: Secret,
}

impl Key {
    /// Name of the secret in marks: four hexadecimal digits of its hash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Token that the exec daemon of one sandbox expects of us: 64 hexadecimal digits in lower case.
    pub fn exec_token(&self, deployment: &str, vmid: u32, nonce: &str) -> String {
        hex::encode(self.hmac("execd", &[deployment, &vmid.to_string(), nonce]))
    }

    /// Key with which this deployment signs calls to the daemons in its guests.
    pub fn guest_key(&self, deployment: &str) -> EdgeKey {
        EdgeKey::new(&self.hmac("guest-sign", &[deployment]))
    }

    /// Key by which the proxy beside PVE knows this deployment: 64 hexadecimal digits in lower case.
    pub fn proxy_key(&self, deployment: &str) -> String {
        hex::encode(self.hmac("proxy", &[deployment]))
    }

    /// HMAC-SHA-256 of a label and parts, each with its length before it.
    pub fn hmac(&self, label: &str, parts: &[&str]) -> [u8; 32] {
        hmac(self.secret.expose().as_bytes(), &[&[label], parts].concat())
    }

    /// HMAC-SHA-256 of the parts of an id, under a key that is for ids alone.
    pub(crate) fn id_hmac(&self, parts: &[&str]) -> [u8; 32] {
        hmac(&self.hmac("ids", &[]), parts)
    }

    /// Encrypts a text so that a change is noticed, under a key that is for these parts alone. The nonce is derived from
    /// the text: the same text is encrypted to the same bytes, and no two texts share a nonce.
    pub fn seal(&self, label: &str, parts: &[&str], text: String) -> Option<Vec<u8>> {
        let key = self.hmac(label, parts);
        let unique: [u8; 32] = self.hmac("unique", &[label, &hex::encode(key), &text]);
        let unique = unique.get(..UNIQUE)?;
        let sealed = ChaCha20Poly1305::new(&key.into()).encrypt(unique.into(), text.as_bytes()).ok()?;
        Some([unique, &sealed].concat())
    }

    /// Decrypts a text that [`Key::seal`] has encrypted; `None` when that was by another key, for other parts, or the
    /// bytes were changed since.
    pub fn open(&self, label: &str, parts: &[&str], sealed: &[u8]) -> Option<Vec<u8>> {
        let (unique, sealed) = sealed.split_at_checked(UNIQUE)?;
        ChaCha20Poly1305::new(&self.hmac(label, parts).into()).decrypt(unique.into(), sealed).ok()
    }
}

fn hmac(key: &[u8], parts: &[&str]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// All secrets of `EDGE_SECRET`, the newest first: while it is rotated, the older ones still prove and open.
#[derive(Clone, Debug)]
pub struct Keyring {
    newest: Key,
    older: Vec<Key>,
}

impl Keyring {
    /// Parses secrets that are separated by spaces or commas, each of 32 bytes or more.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHORT: &str = "each secret has 32 bytes or more, such as `openssl rand -hex 32` prints";
        let mut keys = Vec::new();
        for secret in text.split([' ', ',', '\n', '\t']).filter(|it| !it.is_empty()) {
            if secret.len() < 32 {
                return Err(SHORT);
            }
            let hash = hex::encode(Sha256::digest(format!("pve-edge key name\0{secret}")));
            let name = hash.get(..4).unwrap_or_default().to_owned();
            keys.push(Key { name, secret: Secret::new(secret) });
        }
        let mut keys = keys.into_iter();
        let newest = keys.next().ok_or(SHORT)?;
        Ok(Self { newest, older: keys.collect() })
    }

    /// Secret under which new sandboxes are made.
    pub fn newest(&self) -> &Key {
        &self.newest
    }

    /// Secret that is listed the longest: what was set up while it was alone knows it, and what is set up now too.
    pub fn oldest(&self) -> &Key {
        self.older.last().unwrap_or(&self.newest)
    }

    /// All secrets, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        [&self.newest].into_iter().chain(&self.older)
    }

    /// All secrets, with the one that a mark names before the others.
    pub fn named_first<'a>(&'a self, name: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        let is_named = move |key: &&Key| Some(key.name.as_str()) == name;
        self.all().filter(is_named).chain(self.all().filter(move |key| !is_named(key)))
    }

    /// Hashes of a request's canonical text under each secret, the newest first.
    pub fn request_hashes(&self, canonical: &str) -> Vec<String> {
        let short = |key: &Key| {
            let hash = key.hmac("idempotent-body", &[canonical]);
            hex::encode(hash.get(..16).unwrap_or_default())
        };
        self.all().map(short).collect()
    }
}

/// Compares bytes in constant time: the duration does not tell where they differ.
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_old_tokens_and_names_tell_which() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let before = Keyring::parse(&old).unwrap();
        let after = Keyring::parse(&format!("{new}, {old}")).unwrap();
        let vmid = 200_000;
        let token = before.newest().exec_token("d", vmid, "n");
        let found: Vec<_> =
            after.named_first(Some(before.newest().name())).map(|it| it.exec_token("d", vmid, "n")).collect();
        assert_eq!(found.first(), Some(&token));
        assert_eq!(found.len(), 2);
        assert_ne!(after.newest().exec_token("d", vmid, "n"), token);
        assert!(after.request_hashes("x").contains(&before.request_hashes("x")[0]));
    }

    #[test]
    fn what_is_sealed_opens_for_the_same_alone() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let ring = Keyring::parse(&format!("{new} {old}")).unwrap();
        let keys: Vec<_> = ring.named_first(None).collect();
        let sealed = keys[1].seal("env", &["a", "b"], "hidden".into()).unwrap();
        assert_eq!(keys[1].open("env", &["a", "b"], &sealed).unwrap(), b"hidden");
        assert!(!String::from_utf8_lossy(&sealed).contains("hidden"));
        assert_eq!(keys[0].open("env", &["a", "b"], &sealed), None);
        assert_eq!(keys[1].open("env", &["a", "c"], &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys[1].open("env", &["a", "b"], &changed), None, "{at}");
            assert_eq!(keys[1].open("env", &["a", "b"], &sealed[..at]), None, "{at}");
        }
        let other = keys[1].seal("env", &["a", "b"], "hiddem".into()).unwrap();
        assert_ne!(sealed[..UNIQUE], other[..UNIQUE]);
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        let ring = Keyring::parse(&"k".repeat(32)).unwrap();
        assert_ne!(ring.newest().hmac("l", &["ab", "c"]), ring.newest().hmac("l", &["a", "bc"]));
    }

    #[test]
    fn secrets_do_not_show() {
        let ring = Keyring::parse(&"s3cr3t-".repeat(8)).unwrap();
        assert!(!format!("{ring:?}").contains("s3cr3t"));
        assert!(Keyring::parse("short").is_err() && Keyring::parse("").is_err());
    }
}
