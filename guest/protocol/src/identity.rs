//! The hardware address by which a guest knows which sandbox it is.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Hardware (MAC) address of a sandbox's network card `net0`.
///
/// It is derived from the deployment and the sandbox's id, and written into the guest's config in PVE: so the daemon can
/// tell whether a call is for this guest without a file, a host name, or a first call that it would have to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

impl HardwareAddress {
    /// The address of a sandbox. `id` is its id without the node: `{provider}-{vmid}-{nonce}`.
    pub fn of(deployment: &str, id: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(b"pve-edge guest v1\0")
            .chain_update(deployment)
            .chain_update(b"\0")
            .chain_update(id)
            .finalize();
        let [first, b, c, d, e, f, ..] = <[u8; 32]>::from(hash);
        // Locally administered, and of one card: PVE refuses an address of a group.
        Self([first & 0xfc | 0x02, b, c, d, e, f])
    }
}

/// As PVE writes it: `02:00:00:00:00:00`, in upper case.
impl fmt::Display for HardwareAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{f:02X}")
    }
}

/// Error of a text that is not six bytes in hexadecimal, with colons between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address has the form 02:00:00:00:00:00")]
pub struct NotAnAddress;

/// In upper or lower case: Linux tells it in lower case.
impl FromStr for HardwareAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().filter(|it| it.len() == 2).ok_or(NotAnAddress)?;
            hex::decode_to_slice(part, std::slice::from_mut(byte)).map_err(|_| NotAnAddress)?;
        }
        if parts.next().is_some() { Err(NotAnAddress) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guests that exist have this address: it must never change.
    #[test]
    fn the_address_is_fixed_by_deployment_and_id() {
        let address = HardwareAddress::of("home", "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(address.to_string(), "96:4F:3D:E1:38:75");
        assert_ne!(address, HardwareAddress::of("work", "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa"));
        assert_ne!(address, HardwareAddress::of("home", "pvelxc-200001-aaaaaaaaaaaaaaaaaaaaaaaa"));
        assert_eq!(address.0[0] & 3, 2);
        assert_eq!(address.to_string().to_lowercase().parse(), Ok(address));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:0",
            "02-00-00-00-00-00",
            "0g:00:00:00:00:00",
        ] {
            assert_eq!(text.parse::<HardwareAddress>(), Err(NotAnAddress), "{text}");
        }
    }
}
