//! Expressions (RE2) of addresses, ports and names, each with one spelling, to be anchored by whoever takes them.

use std::net::Ipv4Addr;

/// A port, 1 to 65535.
pub(super) const PORT: &str =
    "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]";

/// A VMID, 100 to 999999999.
pub(super) const VMID: &str = "[1-9][0-9]{2,8}";

/// A host in lower case, with or without a port.
pub(super) const HOST: &str = "[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?";

/// Digits of an IP address of either version.
pub(super) const IP: &str = "[0-9a-fA-F][0-9a-fA-F:.]{1,44}|::[0-9a-fA-F:.]{0,43}";

/// Any number of an address.
const ANY: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// All addresses of a block.
pub(super) fn block(base: u32, prefix: u8) -> String {
    let numbers =
        Ipv4Addr::from(base).octets().into_iter().zip([0_u8, 8, 16, 24]).map(|(first, before)| match prefix
            .saturating_sub(before)
        {
            0 => ANY.to_owned(),
            8.. => first.to_string(),
            bits => {
                let last = first | (u8::MAX >> bits);
                let all: Vec<String> = (first..=last).map(|it| it.to_string()).collect();
                format!("(?:{})", all.join("|"))
            }
        });
    numbers.collect::<Vec<_>>().join("\\.")
}

/// All addresses of some rows of addresses, each from its first to its last.
pub(super) fn rows(rows: &[(u32, u32)]) -> String {
    let blocks = rows.iter().flat_map(|(first, last)| blocks(*first, *last));
    blocks.map(|(base, prefix)| block(base, prefix)).collect::<Vec<_>>().join("|")
}

/// Blocks that a row of addresses falls into, the largest that there are.
fn blocks(first: u32, last: u32) -> Vec<(u32, u8)> {
    let mut found = Vec::new();
    let mut next = Some(first);
    while let Some(base) = next.filter(|it| *it <= last) {
        let fits = |size: &u8| {
            let mask = u32::MAX.checked_shr(u32::from(*size)).unwrap_or(0);
            base & mask == 0 && mask <= last - base
        };
        let prefix = (0..=32).find(fits).unwrap_or(32);
        found.push((base, prefix));
        next = base
            .checked_add(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0))
            .and_then(|it| it.checked_add(1));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> u32 {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    #[test]
    fn blocks_are_spelled_out() {
        assert_eq!(block(ip("10.1.2.3"), 32), "10\\.1\\.2\\.3");
        assert_eq!(block(ip("10.1.2.252"), 30), "10\\.1\\.2\\.(?:252|253|254|255)");
        assert_eq!(block(ip("10.2.0.0"), 15), format!("10\\.(?:2|3)\\.{ANY}\\.{ANY}"));
        assert_eq!(rows(&[]), "");
        assert_eq!(rows(&[(ip("10.0.0.7"), ip("10.0.0.8"))]), "10\\.0\\.0\\.7|10\\.0\\.0\\.8");
        assert_eq!(blocks(0, u32::MAX), [(0, 0)]);
    }

    proptest! {
        #[test]
        fn blocks_are_the_row_and_nothing_else(first: u32, more in 0_u32..100_000) {
            let last = first.saturating_add(more);
            let mut at = u64::from(first);
            for (base, prefix) in blocks(first, last) {
                prop_assert_eq!(u64::from(base), at);
                at += 1 << (32 - prefix);
            }
            prop_assert_eq!(at, u64::from(last) + 1);
        }
    }
}
