//! `PVE_IP_POOL_CIDR`: claiming a VMID claims its address.

use std::{net::Ipv4Addr, str::FromStr};

use crate::vmid::{Vmid, VmidRange};

/// Larger pools would be more than there are VMIDs by default; they are used in part.
const LARGEST: u32 = 1 << 20;

/// A bijection between the first VMIDs of a range and the usable addresses of a network.
#[derive(Clone, Debug)]
pub struct IpPool {
    prefix: u8,
    first_vmid: u32,
    /// Offset of the first usable address, and the usable ones' count before reserved ones are left out.
    base: u32,
    usable: u32,
    /// Sorted.
    reserved: Vec<u32>,
    capacity: u32,
}

/// Addresses that are others': `10.0.0.5`, `10.0.0.10-10.0.0.20`, `10.0.1.0/24`, separated by spaces or commas.
#[derive(Clone, Debug, Default)]
pub struct Reserved(Vec<(u32, u32)>);

impl FromStr for Reserved {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "addresses, FIRST-LAST ranges or networks, such as 10.0.0.5 10.0.0.10-10.0.0.20";
        let number = |it: &str| it.parse::<Ipv4Addr>().map(u32::from).map_err(|_| BAD);
        let entries = text.split([' ', ',']).filter(|it| !it.is_empty());
        let parsed = entries.map(|entry| {
            if let Some((first, last)) = entry.split_once('-') {
                let (first, last) = (number(first)?, number(last)?);
                return if first <= last { Ok((first, last)) } else { Err(BAD) };
            }
            if entry.contains('/') {
                let (base, prefix) = network(entry).ok_or(BAD)?;
                return Ok((base, base | host_mask(prefix)));
            }
            number(entry).map(|it| (it, it))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

impl IpPool {
    /// Of the addresses of `cidr`; network, broadcast, gateway and reserved ones are left out.
    pub fn new(
        cidr: &str,
        gateway: Option<Ipv4Addr>,
        reserved: &Reserved,
        range: VmidRange,
    ) -> Result<Self, &'static str> {
        let (network, prefix) = network(cidr).ok_or("an IPv4 network, such as 10.100.0.0/24")?;
        if prefix == 32 {
            return Err("a network of more than one address, such as 10.100.0.0/24");
        }
        if !cidr.starts_with(&format!("{}/", Ipv4Addr::from(network))) {
            return Err("a network, not a host in it: its bits behind the prefix are 0, as in 10.100.0.0/24");
        }
        let size = u64::from(host_mask(prefix)) + 1;
        // A /31 and a /32 have neither network nor broadcast address (RFC 3021).
        let (base, usable) = match prefix {
            31 | 32 => (network, size),
            _ => (network + 1, size - 2),
        };
        let usable = u32::try_from(usable.min(u64::from(LARGEST))).unwrap_or(LARGEST);
        let gateway = gateway.map(|it| (u32::from(it), u32::from(it)));
        let mut left_out = Vec::new();
        for (first, last) in reserved.0.iter().copied().chain(gateway) {
            let first = first.max(base);
            let last = last.min(base + (usable.max(1) - 1));
            for address in (first..=last).take(usable as usize) {
                if let Err(at) = left_out.binary_search(&address) {
                    left_out.insert(at, address);
                }
            }
        }
        let free = usable - u32::try_from(left_out.len()).unwrap_or(usable).min(usable);
        let vmids = u32::from(range.last()) - u32::from(range.first()) + 1;
        let capacity = free.min(vmids);
        if capacity == 0 {
            return Err("leaves no address for a sandbox: is all of it reserved?");
        }
        Ok(Self { prefix, first_vmid: range.first().into(), base, usable, reserved: left_out, capacity })
    }

    /// How many sandboxes fit.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The address of a guest and the network's prefix length.
    pub fn address(&self, vmid: Vmid) -> Option<(Ipv4Addr, u8)> {
        let index = u32::from(vmid).checked_sub(self.first_vmid).filter(|it| *it < self.capacity)?;
        let mut address = self.base + index;
        for reserved in &self.reserved {
            if *reserved > address {
                break;
            }
            address += 1;
        }
        Some((address.into(), self.prefix))
    }

    /// Whether an address is of the pool's network, be it a sandbox's or not.
    pub fn is_in_network(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ self.base) & !host_mask(self.prefix) == 0
    }

    /// The guest that has an address.
    pub fn vmid(&self, address: Ipv4Addr) -> Option<Vmid> {
        let address = u32::from(address);
        let offset = address.checked_sub(self.base).filter(|it| *it < self.usable)?;
        if self.reserved.binary_search(&address).is_ok() {
            return None;
        }
        let before = u32::try_from(self.reserved.partition_point(|it| *it < address)).ok()?;
        let index = offset.checked_sub(before).filter(|it| *it < self.capacity)?;
        (self.first_vmid + index).try_into().ok()
    }
}

fn network(cidr: &str) -> Option<(u32, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let prefix = prefix.parse::<u8>().ok().filter(|it| (1..=32).contains(it))?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    Some((address & !host_mask(prefix), prefix))
}

fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(cidr: &str, gateway: Option<&str>, reserved: &str) -> Result<IpPool, &'static str> {
        let range = "200000-999999".parse().unwrap();
        IpPool::new(cidr, gateway.map(|it| it.parse().unwrap()), &reserved.parse().unwrap(), range)
    }

    fn first(pool: &IpPool) -> String {
        pool.address("200000".parse().unwrap()).unwrap().0.to_string()
    }

    #[test]
    fn the_edges_of_networks() {
        let small = pool("10.0.0.0/30", Some("10.0.0.1"), "").unwrap();
        assert_eq!((small.capacity(), first(&small)), (1, "10.0.0.2".into()));
        assert_eq!(pool("10.0.0.4/31", None, "").unwrap().capacity(), 2);
        assert!(pool("10.0.0.4/32", None, "").is_err() && pool("10.0.0.4/24", None, "").is_err());
        assert_eq!(pool("10.0.0.0/24", None, "").unwrap().capacity(), 254);
        assert_eq!(pool("10.0.0.0/8", None, "").unwrap().capacity(), 800_000);
        assert!(pool("10.0.0.0/0", None, "").is_err() && pool("10.0.0.0/33", None, "").is_err());
        assert!(pool("10.0.0.0/30", Some("10.0.0.1"), "10.0.0.2").is_err());
        let holes =
            pool("10.0.0.0/24", Some("10.0.0.1"), "10.0.0.2-10.0.0.9, 10.0.0.128/25 10.1.2.3").unwrap();
        assert_eq!((holes.capacity(), first(&holes)), (118, "10.0.0.10".into()));
    }

    proptest! {
        #[test]
        fn a_vmid_is_an_address_and_an_address_a_vmid(
            prefix in 16_u8..=30, gateway in 1_u32..60_000, holes in prop::collection::vec((0_u32..70_000, 0_u32..50), 0..8)
        ) {
            let base = u32::from(Ipv4Addr::new(10, 7, 0, 0));
            let reserved: Vec<String> = holes.iter()
                .map(|(at, many)| format!("{}-{}", Ipv4Addr::from(base + at), Ipv4Addr::from(base + at + many))).collect();
            let gateway = Ipv4Addr::from(base + gateway).to_string();
            let Ok(pool) = pool(&format!("10.7.0.0/{prefix}"), Some(&gateway), &reserved.join(" ")) else { return Ok(()) };
            let mut last = None;
            for index in 0..pool.capacity() {
                let vmid: Vmid = (200_000 + index).try_into().unwrap();
                let (address, _) = pool.address(vmid).unwrap();
                prop_assert!(last < Some(address) && address.to_string() != gateway);
                prop_assert_eq!(pool.vmid(address), Some(vmid));
                last = Some(address);
            }
            prop_assert_eq!(pool.address((200_000 + pool.capacity()).try_into().unwrap()), None);
        }
    }
}
