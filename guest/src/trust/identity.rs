//! Which sandbox this guest is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::identity::HardwareAddress;

/// How the guest knows which sandbox it is: by the hardware address of a network card.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Folder of the network cards: `/sys/class/net`.
    pub cards: PathBuf,
}

impl Identity {
    /// Whether the guest is the sandbox `id` of one of these deployments.
    pub fn is<'a>(&self, id: &str, deployments: impl Iterator<Item = &'a str>) -> bool {
        self.address(id, deployments).is_some()
    }

    /// The hardware address by which it is.
    pub(super) fn address<'a>(
        &self,
        id: &str,
        deployments: impl Iterator<Item = &'a str>,
    ) -> Option<HardwareAddress> {
        let wanted: Vec<_> = deployments.map(|it| HardwareAddress::of(it, id)).collect();
        addresses(&self.cards).find(|it| wanted.contains(it))
    }
}

/// The addresses of all network cards. Some have none, or a longer one.
fn addresses(folder: &Path) -> impl Iterator<Item = HardwareAddress> {
    let cards = fs::read_dir(folder).into_iter().flatten().flatten();
    cards.filter_map(|card| fs::read_to_string(card.path().join("address")).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_card_with_the_address_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let address = HardwareAddress::of("home", "pvelxc-1-a").to_string().to_lowercase();
        for (card, address) in [("lo", "00:00:00:00:00:00"), ("ib0", "nonsense"), ("eth0", &address)] {
            fs::create_dir(folder.path().join(card)).unwrap();
            fs::write(folder.path().join(card).join("address"), format!("{address}\n")).unwrap();
        }
        fs::write(folder.path().join("bonding_masters"), "").unwrap();
        let cards = Identity { cards: folder.path().to_owned() };
        assert!(cards.is("pvelxc-1-a", ["work", "home"].into_iter()));
        assert!(!cards.is("pvelxc-1-a", ["work"].into_iter()));
        assert!(!cards.is("pvelxc-1-b", ["home"].into_iter()));
        assert!(!Identity { cards: "/nowhere".into() }.is("pvelxc-1-a", ["home"].into_iter()));
    }
}
