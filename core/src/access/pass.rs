//! Passes: what lets a visitor to one port of one sandbox, in a link or as a cookie.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::secret::{Keyring, constant_time_eq};

/// Bytes that a pass may have as text: more are not looked at.
const LONGEST: usize = 3000;

/// Bytes of its authentication code that are kept: half of HMAC-SHA-256's.
const CODE: usize = 16;

/// What a pass is carried in: the one is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The URL of a link, or a program's header.
    Link,
    /// The cookie of a browser that came by a link.
    Cookie,
}

impl Carrier {
    fn label(self) -> &'static str {
        match self {
            Self::Link => "service-link",
            Self::Cookie => "service-cookie",
        }
    }
}

/// Pass to one port of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Id of the sandbox.
    pub sandbox: String,
    /// Port in the guest.
    pub port: u16,
    /// Unix seconds from which on it opens nothing.
    pub expires: i64,
    /// Number of the service at the time: with another one it opens nothing.
    pub epoch: u32,
    /// Origins that may show what it opens in a frame.
    pub embed: Vec<String>,
}

/// The deployment that gives passes out, and the domain in which they count.
#[derive(Clone, Copy, Debug)]
pub struct Realm<'a> {
    /// Name of the deployment.
    pub deployment: &'a str,
    /// Domain of the guests, with its port.
    pub domain: &'a str,
}

impl Pass {
    /// The pass as text, of letters, digits and `-._` alone.
    pub fn token(&self, carrier: Carrier, secrets: &Keyring, realm: Realm<'_>) -> String {
        let embed = match self.embed.is_empty() {
            true => "-".to_owned(),
            false => format!("e{}", URL_SAFE_NO_PAD.encode(self.embed.join(" "))),
        };
        let Self { sandbox, port, expires, epoch, .. } = self;
        let claim = format!("v1.{sandbox}.{port}.{expires}.{epoch}.{embed}");
        let code = secrets.newest().hmac(carrier.label(), &[realm.deployment, realm.domain, &claim]);
        format!("{claim}.{}", URL_SAFE_NO_PAD.encode(code.get(..CODE).unwrap_or_default()))
    }

    /// The pass of a text, if this deployment gave it out for this carrier under one of its secrets and it has not expired
    /// at `now`, in Unix seconds.
    pub fn of(token: &str, carrier: Carrier, secrets: &Keyring, realm: Realm<'_>, now: i64) -> Option<Self> {
        let (claim, code) = token.rsplit_once('.').filter(|_| token.len() <= LONGEST)?;
        let code = URL_SAFE_NO_PAD.decode(code).ok().filter(|it| it.len() == CODE)?;
        let parts = [realm.deployment, realm.domain, claim];
        let is_ours = |secret: &super::secret::Key| {
            let right = secret.hmac(carrier.label(), &parts);
            constant_time_eq(right.get(..CODE).unwrap_or_default(), &code)
        };
        secrets.all().find(|secret| is_ours(secret))?;
        let mut parts = claim.split('.');
        let mut next = || parts.next();
        next().filter(|it| *it == "v1")?;
        let pass = Self {
            sandbox: next()?.to_owned(),
            port: next()?.parse().ok()?,
            expires: next()?.parse().ok()?,
            epoch: next()?.parse().ok()?,
            embed: origins(next()?)?,
        };
        (now < pass.expires).then_some(pass)
    }
}

fn origins(text: &str) -> Option<Vec<String>> {
    if text == "-" {
        return Some(Vec::new());
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text.strip_prefix('e')?).ok()?).ok()?;
    Some(text.split(' ').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Realm<'_> = Realm { deployment: "home", domain: "example.com" };

    fn secrets(of: &[&str]) -> Keyring {
        Keyring::parse(&of.iter().map(|it| it.repeat(32)).collect::<Vec<_>>().join(" ")).unwrap()
    }

    fn pass() -> Pass {
        Pass {
            sandbox: "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa-pve1".into(),
            port: 5173,
            expires: 1000,
            epoch: 3,
            embed: vec!["https://a.test".into(), "http://localhost:3000".into()],
        }
    }

    #[test]
    fn a_pass_opens_until_it_expires_also_after_a_rotation() {
        for pass in [pass(), Pass { embed: Vec::new(), ..pass() }] {
            let token = pass.token(Carrier::Link, &secrets(&["a"]), HERE);
            let read = |secrets: &Keyring, now| Pass::of(&token, Carrier::Link, secrets, HERE, now);
            assert_eq!(read(&secrets(&["b", "a"]), 999), Some(pass));
            assert_eq!(read(&secrets(&["a"]), 1000), None);
            assert_eq!(read(&secrets(&["b"]), 999), None);
        }
    }

    #[test]
    fn it_counts_for_its_carrier_and_its_realm_alone() {
        let (secrets, pass) = (secrets(&["a"]), pass());
        let token = pass.token(Carrier::Link, &secrets, HERE);
        assert_eq!(Pass::of(&token, Carrier::Cookie, &secrets, HERE, 0), None);
        for elsewhere in [Realm { deployment: "work", ..HERE }, Realm { domain: "example.org", ..HERE }] {
            assert_eq!(Pass::of(&token, Carrier::Link, &secrets, elsewhere, 0), None);
        }
    }

    #[test]
    fn a_changed_pass_opens_nothing() {
        let (secrets, token) = (secrets(&["a"]), pass().token(Carrier::Link, &secrets(&["a"]), HERE));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last digit of base64 has bits that count for nothing.
            if at + 1 < token.len() {
                assert_eq!(Pass::of(&changed, Carrier::Link, &secrets, HERE, 0), None, "{at}");
            }
            assert_eq!(Pass::of(&token[..at], Carrier::Link, &secrets, HERE, 0), None, "{at}");
        }
    }

    #[test]
    fn it_needs_no_encoding_in_a_url_or_a_cookie() {
        let token = pass().token(Carrier::Cookie, &secrets(&["a"]), HERE);
        assert!(token.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it)), "{token}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(token in "(?s).{0,200}") {
            prop_assert_eq!(Pass::of(&token, Carrier::Link, &secrets(&["a"]), HERE, 0), None);
        }
    }
}
