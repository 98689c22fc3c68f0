//! Networks, and the addresses in them that are others'.

use std::{net::Ipv4Addr, str::FromStr};

/// Addresses that no sandbox gets: `10.0.0.5`, `10.0.0.10-10.0.0.20`, `10.0.1.0/24`, separated by spaces or commas.
#[derive(Clone, Debug, Default)]
pub struct Reserved(pub(super) Vec<(u32, u32)>);

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
                let (base, prefix) = block(entry).ok_or(BAD)?;
                return Ok((base, base | host_mask(prefix)));
            }
            number(entry).map(|it| (it, it))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

/// Network in which guests are, and nothing else but what is known to be others'.
#[derive(Clone, Debug)]
pub struct GuestNetwork {
    base: u32,
    prefix: u8,
    /// First and last of addresses that are no guest's.
    others: Vec<(u32, u32)>,
}

impl GuestNetwork {
    /// The network `cidr`, without its own first and last address, its gateway and reserved ones.
    pub fn new(cidr: &str, gateway: Option<Ipv4Addr>, reserved: &Reserved) -> Result<Self, &'static str> {
        let (base, prefix) = network(cidr)?;
        if !(8..=30).contains(&prefix) {
            return Err("a network of guests, from /8 to /30");
        }
        let last = base | host_mask(prefix);
        let gateway = gateway.map(u32::from).map(|it| (it, it));
        let others = [(base, base), (last, last)].into_iter().chain(gateway);
        Ok(Self::of(base, prefix, others.chain(reserved.0.iter().copied())))
    }

    pub(super) fn of(base: u32, prefix: u8, others: impl Iterator<Item = (u32, u32)>) -> Self {
        let end = base | host_mask(prefix);
        let within = others.map(|(first, last)| (first.max(base), last.min(end)));
        Self { base, prefix, others: within.filter(|(first, last)| first <= last).collect() }
    }

    /// Base address and prefix length.
    pub fn block(&self) -> (u32, u8) {
        (self.base, self.prefix)
    }

    /// First and last of each row of addresses in the network that are no guest's.
    pub fn others(&self) -> &[(u32, u32)] {
        &self.others
    }

    /// Whether an address may be a guest's.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        let is_within = (address ^ self.base) & !host_mask(self.prefix) == 0;
        is_within && !self.others.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Whether an address is of the network, be it a guest's or not.
    pub fn is_in_network(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ self.base) & !host_mask(self.prefix) == 0
    }
}

/// Parses a network as settings have it: its bits behind the prefix are 0.
pub(super) fn network(cidr: &str) -> Result<(u32, u8), &'static str> {
    let (base, prefix) = block(cidr).ok_or("an IPv4 network, such as 10.100.0.0/24")?;
    if prefix < 32 && !cidr.starts_with(&format!("{}/", Ipv4Addr::from(base))) {
        return Err("a network, not a host in it: its bits behind the prefix are 0, as in 10.100.0.0/24");
    }
    Ok((base, prefix))
}

/// Parses a network into its base address and its prefix length.
fn block(cidr: &str) -> Option<(u32, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let prefix = prefix.parse::<u8>().ok().filter(|it| (1..=32).contains(it))?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    Some((address & !host_mask(prefix), prefix))
}

/// Mask of the bits of an address that name the host.
pub(super) fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}
