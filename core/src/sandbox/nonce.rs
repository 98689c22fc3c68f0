//! Nonces: the part of an id that no other guest ever had, and that proves which deployment gave the id out (rule S1.10).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use super::{id::Kind, vmid::Vmid};
use crate::{
    access::secret::{Key, Keyring, constant_time_eq},
    io::{Io, invocation::Invocation},
    text::base32::{base32, from_base32},
};

/// Bytes of an authentication code: with 2^48 codes, guessing one takes as many requests.
const CODE: usize = 6;

/// Second and 32 random bits of a request, which all nonces that it gives out have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin([u8; 9]);

impl Origin {
    /// The origin of what `invocation` gives out.
    pub(crate) fn of<I: Io>(invocation: &Invocation<I>) -> Self {
        let [a, b, c, d, ..] = invocation.seed;
        Self::new(invocation.born(), [a, b, c, d])
    }

    /// The origin of a request that came at `birth`; `dice` are random.
    pub fn new(birth: OffsetDateTime, dice: [u8; 4]) -> Self {
        let [_, _, _, a, b, c, d, e] = birth.unix_timestamp().to_be_bytes();
        let [p, q, r, s] = dice;
        Self([a, b, c, d, e, p, q, r, s])
    }

    /// The nonce that this request gives to one guest, with the code that proves it.
    pub fn nonce(self, key: &Key, deployment: &str, kind: Kind, vmid: Vmid) -> Nonce {
        Nonce { origin: self, code: self.code(key, deployment, kind, vmid) }
    }

    fn code(self, key: &Key, deployment: &str, kind: Kind, vmid: Vmid) -> [u8; CODE] {
        let parts = [deployment, kind.name(), &vmid.to_string(), &self.to_string()];
        let [a, b, c, d, e, f, ..] = key.id_hmac(&parts);
        [a, b, c, d, e, f]
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

/// A guest's birth second, 32 random bits, and a code over both, its deployment, kind and VMID,
/// as 24 letters and digits that PVE's lower-casing of tags leaves alone. Its team is not in
/// the code: admins see all teams' guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce {
    origin: Origin,
    code: [u8; CODE],
}

impl Nonce {
    /// Origin of the request that gave the nonce out.
    pub fn origin(self) -> Origin {
        self.origin
    }

    /// Time at which the nonce was given out, to the second.
    pub fn birth(self) -> OffsetDateTime {
        let [a, b, c, d, e, ..] = self.origin.0;
        let seconds = i64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The secret under which this deployment gave it to the guest `vmid`; `None` for a nonce
    /// that was made up, or whose secret is not listed any more. Each code is compared in constant time.
    pub fn proved_by<'a>(
        self,
        secrets: &'a Keyring,
        deployment: &str,
        kind: Kind,
        vmid: Vmid,
    ) -> Option<&'a Key> {
        secrets.all().find(|key| constant_time_eq(&self.origin.code(key, deployment, kind, vmid), &self.code))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&[&self.origin.0[..], &self.code].concat()))
    }
}

impl FromStr for Nonce {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = from_base32(text).ok_or("a nonce is base32")?;
        let [a, b, c, d, e, p, q, r, s, code @ ..] =
            <[u8; 9 + CODE]>::try_from(bytes).map_err(|_| "a nonce is 24 characters")?;
        Ok(Self { origin: Origin([a, b, c, d, e, p, q, r, s]), code })
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        Keyring::parse(text).unwrap()
    }

    #[test]
    fn a_nonce_is_proved_for_its_own_guest_alone() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let (before, after, without) = (ring(&old), ring(&format!("{new} {old}")), ring(&new));
        let birth = OffsetDateTime::from_unix_timestamp(1_764_000_000).unwrap();
        let [one, other] = [200_000_u32, 200_001].map(|it| Vmid::try_from(it).unwrap());
        let origin = Origin::new(birth, [1, 2, 3, 4]);
        let nonce = origin.nonce(before.newest(), "prod", Kind::Lxc, one);
        let proved =
            |secrets, deployment, kind, vmid| nonce.proved_by(secrets, deployment, kind, vmid).is_some();
        assert_eq!((nonce.birth(), nonce.origin()), (birth, origin));
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        assert!(proved(&before, "prod", Kind::Lxc, one) && proved(&after, "prod", Kind::Lxc, one));
        assert_eq!(
            nonce.proved_by(&after, "prod", Kind::Lxc, one).map(Key::name),
            Some(before.newest().name())
        );
        assert!(!proved(&without, "prod", Kind::Lxc, one));
        assert!(!proved(&before, "pro", Kind::Lxc, one));
        assert!(!proved(&before, "prod", Kind::Qemu, one));
        assert!(!proved(&before, "prod", Kind::Lxc, other));
        let next = origin.nonce(before.newest(), "prod", Kind::Lxc, other);
        assert!(next != nonce && next.origin() == nonce.origin());
    }

    /// Ids outlive the version that gave them out: another code is another format.
    #[test]
    fn the_code_of_a_known_secret() {
        let origin = Origin::new(OffsetDateTime::from_unix_timestamp(1_764_000_000).unwrap(), [1, 2, 3, 4]);
        let vmid = Vmid::try_from(200_123).unwrap();
        let nonce = origin.nonce(ring(&"k".repeat(32)).newest(), "prod", Kind::Lxc, vmid);
        assert_eq!(nonce.to_string(), "abusjaiaaebagbhb2zsovtvi");
    }
}
