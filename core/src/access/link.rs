//! Links: URLs that open one thing of one sandbox for a minute, for browsers, which cannot send a key.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    keys::{Caller, Label},
    secret::{Keyring, constant_time_eq},
};

/// Time in which a link opens.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Bytes that a token may have: more are not looked at.
const LONGEST: usize = 1024;

/// What the authentication code of a token is for.
const LABEL: &str = "link";

/// The thing of a sandbox that a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Its terminal.
    Terminal,
}

/// Link to one thing of one sandbox, in the name of the caller who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id of the sandbox.
    pub sandbox: String,
    /// The thing that it opens.
    pub opens: Use,
    /// The caller who asked for it.
    pub caller: Caller,
    /// Unix seconds after which it opens nothing.
    pub expires: i64,
}

/// What a token says, before its authentication code.
#[derive(Serialize, Deserialize)]
struct Claim {
    sandbox: String,
    opens: Use,
    team: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
    expires: i64,
}

impl Link {
    /// The token of the link, for the query of its URL.
    pub fn token(&self, secrets: &Keyring) -> String {
        let claim = Claim {
            sandbox: self.sandbox.clone(),
            opens: self.opens,
            team: self.caller.team.to_string(),
            admin: self.caller.admin,
            expires: self.expires,
        };
        let claim = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claim).unwrap_or_default());
        let code = secrets.newest().hmac(LABEL, &[&claim]);
        format!("{claim}.{}", URL_SAFE_NO_PAD.encode(code))
    }

    /// The link of a token, if this deployment has made it under one of its secrets and it has not expired at `now`, in
    /// Unix seconds.
    pub fn of(token: &str, secrets: &Keyring, now: i64) -> Option<Self> {
        let (claim, code) = token.split_once('.').filter(|_| token.len() <= LONGEST)?;
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        secrets.all().find(|key| constant_time_eq(&key.hmac(LABEL, &[claim]), &code))?;
        let claim: Claim = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claim).ok()?).ok()?;
        let team: Label = claim.team.parse().ok()?;
        (now < claim.expires).then_some(Self {
            sandbox: claim.sandbox,
            opens: claim.opens,
            caller: Caller { team, admin: claim.admin },
            expires: claim.expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(of: &[&str]) -> Keyring {
        Keyring::parse(&of.iter().map(|it| it.repeat(32)).collect::<Vec<_>>().join(" ")).unwrap()
    }

    fn link() -> Link {
        Link {
            sandbox: "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa-pve1".into(),
            opens: Use::Terminal,
            caller: Caller { team: "blue".parse().unwrap(), admin: false },
            expires: 1000,
        }
    }

    #[test]
    fn a_link_opens_until_it_expires_also_after_a_rotation() {
        let token = link().token(&secrets(&["a"]));
        assert_eq!(Link::of(&token, &secrets(&["b", "a"]), 999), Some(link()));
        assert_eq!(Link::of(&token, &secrets(&["a"]), 1000), None);
        assert_eq!(Link::of(&token, &secrets(&["b"]), 999), None);
    }

    #[test]
    fn a_changed_token_opens_nothing() {
        let secrets = secrets(&["a"]);
        let token = link().token(&secrets);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last digit of base64 has bits that count for nothing.
            if at + 1 < token.len() {
                assert_eq!(Link::of(&changed, &secrets, 0), None, "{at}");
            }
            assert_eq!(Link::of(&token[..at], &secrets, 0), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_token_is_read_without_a_panic(token in "(?s).{0,200}") {
            prop_assert_eq!(Link::of(&token, &secrets(&["a"]), 0), None);
        }
    }
}
