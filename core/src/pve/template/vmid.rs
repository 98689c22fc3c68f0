//! VMIDs for templates: those that are free, and those that an `Idempotency-Key` draws.

use sha2::{Digest, Sha256};

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{cluster::Cluster, inventory::Inventory},
    sandbox::{
        creation::Key,
        vmid::{Vmid, VmidRange},
    },
};

/// VMIDs that are tried for one request.
const CANDIDATES: u32 = 4;

/// The VMIDs that a key draws.
pub(super) fn vmids_of_key<I: Io>(cluster: &Cluster<'_, I>, key: &Key) -> Vec<Vmid> {
    drawn(cluster.settings.template_range, &key.hash.0)
}

fn drawn(range: VmidRange, key: &[u8]) -> Vec<Vmid> {
    let (first, last) = (u32::from(range.first()), u32::from(range.last()));
    let one = |at: u32| {
        let mut hasher = Sha256::new();
        hasher.update(key);
        hasher.update(at.to_be_bytes());
        let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.finalize());
        (first + u32::from_be_bytes([a, b, c, d]) % (last - first + 1)).try_into().ok()
    };
    (0..CANDIDATES).filter_map(one).collect()
}

/// VMIDs to claim, in the order in which to try them (rule S7.5).
pub(super) fn candidates<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    key: Option<&Key>,
) -> Result<Vec<Vmid>, Error> {
    let [.., a, b, c, d] = cluster.seed;
    let all: Vec<Vmid> = match key {
        Some(key) => {
            vmids_of_key(cluster, key).into_iter().filter(|it| inventory.guest(*it).is_none()).collect()
        }
        None => free_vmids(cluster, inventory, u32::from_be_bytes([a, b, c, d]))
            .take(CANDIDATES as usize)
            .collect(),
    };
    if all.is_empty() { Err(no_free_vmid()) } else { Ok(all) }
}

/// The free VMIDs for templates, from the `start`-th one on.
pub(crate) fn free_vmids<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    start: u32,
) -> impl Iterator<Item = Vmid> {
    let range = cluster.settings.template_range;
    let (first, last) = (u32::from(range.first()), u32::from(range.last()));
    let size = last - first + 1;
    (0..size)
        .filter_map(move |at| Vmid::try_from(first + (start % size + at) % size).ok())
        .filter(|it| inventory.guest(*it).is_none())
}

pub(crate) fn no_free_vmid() -> Error {
    Error::new(Code::NoFreeVmid, "every VMID of PVE_TEMPLATE_RANGE is taken").retry_after(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Through the Worker, whose numbers are of other sizes, a key draws the same as through Lambda.
    #[test]
    fn a_key_draws_the_same_on_every_platform() {
        let range = "100000-199999".parse().unwrap();
        let all: Vec<u32> = drawn(range, &[0; 5]).into_iter().map(u32::from).collect();
        assert_eq!(all, [158141, 138236, 131128, 175654]);
    }
}
