//! The pool of addresses that `PVE_IP_POOL_CIDR` sets: a request that claims a VMID claims its address (rule S7.2).

use std::net::Ipv4Addr;

use super::network::{GuestNetwork, Reserved, host_mask, network};
use crate::sandbox::vmid::{Vmid, VmidRange};

/// Number of addresses that are used of a larger network; by default there are fewer VMIDs.
const LARGEST: u32 = 1 << 20;

/// Number of addresses up to which the proxy beside PVE has a table of them.
const LARGEST_TABLE: u32 = 4096;

/// Pool in which the first VMIDs of a range have the host addresses of a network, in their order. Settings change which
/// addresses may be given, and never which VMID has which.
#[derive(Clone, Debug)]
pub struct IpPool {
    prefix: u8,
    first_vmid: u32,
    /// First host address.
    base: u32,
    /// Number of VMIDs that have an address.
    size: u32,
    /// Addresses that no sandbox gets, the gateway's among them.
    reserved: Reserved,
}

impl IpPool {
    /// The pool of the host addresses of `cidr`; the gateway and reserved addresses are not given.
    pub fn new(
        cidr: &str,
        gateway: Option<Ipv4Addr>,
        reserved: &Reserved,
        range: VmidRange,
    ) -> Result<Self, &'static str> {
        let (network, prefix) = network(cidr)?;
        if prefix == 32 {
            return Err("a network of more than one address, such as 10.100.0.0/24");
        }
        let all = u64::from(host_mask(prefix)) + 1;
        // A /31 has neither network nor broadcast address (RFC 3021).
        let (base, hosts) = if prefix == 31 { (network, all) } else { (network + 1, all - 2) };
        let hosts = u32::try_from(hosts.min(u64::from(LARGEST))).unwrap_or(LARGEST);
        let vmids = u32::from(range.last()) - u32::from(range.first()) + 1;
        let size = hosts.min(vmids);
        let gateway = gateway.map(|it| (u32::from(it), u32::from(it)));
        let reserved = Reserved(reserved.0.iter().copied().chain(gateway).collect());
        let pool = Self { prefix, first_vmid: range.first().into(), base, size, reserved };
        if (base..base + size).any(|it| pool.gives(it.into())) {
            Ok(pool)
        } else {
            Err("leaves no address for a sandbox: is all of it reserved?")
        }
    }

    /// Whether the proxy beside PVE has a table of the addresses: a larger one is slow to look a VMID up in.
    pub fn is_tabled(&self) -> bool {
        self.size <= LARGEST_TABLE
    }

    /// Number of VMIDs that have an address, be it one that may be given or not.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The pool's network, in which everything but what a sandbox may be given is others'.
    pub fn guest_network(&self) -> GuestNetwork {
        let first = self.base & !host_mask(self.prefix);
        let last = first | host_mask(self.prefix);
        let before = self.base.checked_sub(1).filter(|it| *it >= first).map(|it| (first, it));
        let after = (self.base + self.size <= last).then_some((self.base + self.size, last));
        let others = before.into_iter().chain(after).chain(self.reserved.0.iter().copied());
        GuestNetwork::of(first, self.prefix, others)
    }

    /// Prefix length of the network.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Address of a VMID, be it one that may be given or not.
    pub fn address(&self, vmid: Vmid) -> Option<Ipv4Addr> {
        let index = u32::from(vmid).checked_sub(self.first_vmid).filter(|it| *it < self.size)?;
        Some((self.base + index).into())
    }

    /// Whether a sandbox may be given the address: a VMID has it, and it is not reserved.
    pub fn gives(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        let has_vmid = address.checked_sub(self.base).is_some_and(|it| it < self.size);
        has_vmid && !self.reserved.0.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Whether the address of a VMID may be given to a sandbox.
    pub fn serves(&self, vmid: Vmid) -> bool {
        self.address(vmid).is_some_and(|it| self.gives(it))
    }

    /// VMIDs and their addresses, those that may be given.
    pub fn given(&self) -> impl Iterator<Item = (Vmid, Ipv4Addr)> {
        let vmids = (0..self.size).filter_map(|it| Vmid::try_from(self.first_vmid + it).ok());
        vmids.filter_map(|it| Some((it, self.address(it).filter(|at| self.gives(*at))?)))
    }

    /// Whether an address is of the pool's network, be it a sandbox's or not.
    pub fn is_in_network(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ self.base) & !host_mask(self.prefix) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(cidr: &str, gateway: Option<&str>, reserved: &str) -> Result<IpPool, &'static str> {
        let range = "200000-999999".parse().unwrap();
        IpPool::new(cidr, gateway.map(|it| it.parse().unwrap()), &reserved.parse().unwrap(), range)
    }

    fn given(pool: &IpPool) -> Vec<String> {
        pool.given().map(|(_, it)| it.to_string()).collect()
    }

    #[test]
    fn the_edges_of_networks() {
        assert_eq!(given(&pool("10.0.0.0/30", Some("10.0.0.1"), "").unwrap()), ["10.0.0.2"]);
        assert_eq!(given(&pool("10.0.0.4/31", None, "").unwrap()), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(pool("10.0.0.0/24", None, "").unwrap().size(), 254);
        assert_eq!(pool("10.0.0.0/8", None, "").unwrap().size(), 800_000);
        for bad in ["10.0.0.0/0", "10.0.0.0/33", "10.0.0.4/32", "10.0.0.1/24", "10.0.0.0"] {
            assert!(pool(bad, None, "").is_err(), "{bad}");
        }
        assert!(pool("10.0.0.0/30", Some("10.0.0.1"), "10.0.0.2").is_err());
        let holes =
            pool("10.0.0.0/24", Some("10.0.0.1"), "10.0.0.2-10.0.0.9, 10.0.0.128/25 10.1.2.3").unwrap();
        let given = given(&holes);
        assert_eq!((given.len(), &*given[0], &*given[117]), (118, "10.0.0.10", "10.0.0.127"));
    }

    proptest! {
        /// A gateway or an address that is reserved later moves nobody's address.
        #[test]
        fn a_vmids_address_is_the_same_whatever_is_reserved(
            prefix in 16_u8..=30, gateway in 1_u32..60_000, holes in prop::collection::vec((0_u32..70_000, 0_u32..50), 0..8)
        ) {
            let base = u32::from(Ipv4Addr::new(10, 7, 0, 0));
            let reserved: Vec<String> = holes.iter()
                .map(|(at, many)| format!("{}-{}", Ipv4Addr::from(base + at), Ipv4Addr::from(base + at + many))).collect();
            let gateway = Ipv4Addr::from(base + gateway);
            let cidr = format!("10.7.0.0/{prefix}");
            let plain = pool(&cidr, None, "").unwrap();
            let Ok(pool) = pool(&cidr, Some(&gateway.to_string()), &reserved.join(" ")) else { return Ok(()) };
            prop_assert_eq!(pool.size(), plain.size());
            for index in 0..pool.size() {
                let vmid: Vmid = (200_000 + index).try_into().unwrap();
                let address = pool.address(vmid).unwrap();
                prop_assert_eq!(u32::from(address), base + 1 + index);
                prop_assert_eq!(plain.address(vmid), Some(address));
                let at = u32::from(address) - base;
                let is_left_out = address == gateway || holes.iter().any(|(first, more)| (*first..=first + more).contains(&at));
                prop_assert_eq!(pool.serves(vmid), !is_left_out);
            }
            prop_assert_eq!(pool.address((200_000 + pool.size()).try_into().unwrap()), None);
        }
    }
}
