//! Why no sandbox can be made, apart from missing privileges.

use super::Seen;
use crate::{
    error::{Code, Error},
    pve::{inventory::Template, marks::Reading},
    sandbox::{channel::Channel, id::Kind},
};

/// PVE puts tags into its listing since 7.3 (pve-manager `API2/Cluster.pm`).
const OLDEST: (u32, u32) = (7, 4);
/// Clocks that differ by so many seconds are told, and by so many do harm.
const SKEW_TOLD: u64 = 5;
const SKEW_HARMFUL: u64 = 30;

/// What is told about sandboxes that can be made all the same, beside what is wrong.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) reasons: Vec<Error>,
    pub(super) warnings: Vec<Error>,
}

impl Findings {
    pub(super) fn wrong(&mut self, code: Code, detail: impl Into<String>) {
        self.reasons.push(Error::new(code, detail));
    }

    pub(super) fn warn(&mut self, code: Code, detail: impl Into<String>) {
        self.warnings.push(Error::new(code, detail));
    }

    /// An expiry is decided by our clock, and the tasks of a guest are looked up by its birth.
    pub(super) fn clock(&mut self, skew: i64) {
        let seconds = skew.unsigned_abs();
        let which = if skew > 0 { "ahead of" } else { "behind" };
        let text = format!(
            "PVE's clock is {seconds} s {which} ours: run an NTP client on its nodes (timedatectl, chronyc \
             tracking)"
        );
        match seconds {
            _ if seconds > SKEW_HARMFUL => self.wrong(Code::ClockSkew, text),
            _ if seconds >= SKEW_TOLD => self.warn(Code::ClockSkew, text),
            _ => {}
        }
    }

    pub(super) fn version(&mut self, seen: &Seen<'_>) {
        let (major, minor) = seen.version;
        let set = seen.settings;
        let containers = seen.offers(Kind::Lxc);
        if seen.version < OLDEST {
            self.wrong(
                Code::PveUnsupported,
                format!("PVE {major}.{minor} is too old: its listing has no tags; update to 7.4 or newer"),
            );
        }
        let by_live_ip = set.public_domain.is_none() && set.ip_pool.is_none();
        if containers && by_live_ip && seen.version < (8, 1) {
            self.wrong(
                Code::PveUnsupported,
                format!(
                    "PVE {major}.{minor} does not tell the address that DHCP gave a container (8.1 does): set \
                     PVE_PUBLIC_DOMAIN or PVE_IP_POOL_CIDR, or update"
                ),
            );
        }
        if !containers || seen.version >= (9, 1) {
            return;
        }
        const HOOK: &str = "as root: pct set TEMPLATE --hookscript \
                            local:snippets/cmux-lxc-execd-token-hook.sh";
        let without =
            seen.configs.iter().filter(|(it, config)| it.kind == Kind::Lxc && config.hookscript.is_none());
        for (template, config) in without {
            let reading = Reading::of(template.vmid, config);
            let text =
                format!("template {} has no hookscript, and needs one before PVE 9.1; {HOOK}", template.vmid);
            match reading.mark().and_then(|it| it.commands) {
                Some(Channel::Guest) => {}
                Some(_) => self.wrong(Code::ExecTokenNotApplied, text),
                None => self.warn(
                    Code::ExecTokenNotApplied,
                    format!("{text}; if pve-edge-guest is in it, it needs none"),
                ),
            }
        }
        if seen.configs.is_empty() {
            let text = format!(
                "before PVE 9.1 each template of containers needs pve-edge-guest, or a hookscript; {HOOK}"
            );
            self.warn(Code::ExecTokenNotApplied, text);
        }
    }

    pub(super) fn nodes(&mut self, seen: &Seen<'_>) {
        let mut nodes = seen.inventory.nodes().peekable();
        if nodes.peek().is_some() && !nodes.any(|it| it.status == "online") {
            self.wrong(Code::NodeOffline, "no node of the cluster is online");
        }
        let Some(set) = &seen.settings.node else { return };
        if seen.inventory.nodes().all(|it| it.node != *set) {
            let text = format!("PVE_NODE names {set}, and the cluster has no such node");
            self.wrong(Code::NodeOffline, text);
        } else if !seen.inventory.is_online(set) {
            let text = format!("PVE_NODE names {set}, which is offline: start it, or unset PVE_NODE");
            self.wrong(Code::NodeOffline, text);
        }
    }

    pub(super) fn templates(&mut self, seen: &Seen<'_>) {
        let kind = seen.kind;
        let mut offered = seen.templates.iter().filter(|it| it.kind == kind).peekable();
        if offered.peek().is_none() {
            let text = format!(
                "no template of {} is offered: tag one with its snapshot id, {} set VMID --tags {}_4vcpu_6gb_32gb_v1",
                kind.provider().name(),
                kind.tool(),
                if kind == Kind::Lxc { "pvelxc" } else { "pvevm" },
            );
            self.wrong(Code::TemplateNotFound, text);
        } else if offered.all(|it| !seen.inventory.is_online(&it.node)) {
            self.wrong(
                Code::NodeOffline,
                "every node that has a template is offline: start one, or put a template on another node",
            );
        }
    }

    /// Storages that the token does not see are not in the listing.
    pub(super) fn storages(&mut self, seen: &Seen<'_>) {
        if let Some(set) = &seen.settings.storage
            && !seen.inventory.others.iter().any(|it| it.storage.as_ref() == Some(set))
        {
            self.wrong(
                Code::Misconfigured,
                format!(
                    "PVE_STORAGE names {set}, and the token sees no such storage on any node: it needs \
                     Datastore.Audit on /storage/{set}"
                ),
            );
        }
        let online = |it: &&Template| it.kind == seen.kind && seen.inventory.is_online(&it.node);
        let offered: Vec<&Template> = seen.templates.iter().filter(online).collect();
        let serves =
            |it: &&Template| seen.storages(&it.node, it.kind).any(|row| row.makes_linked_clones(it.kind));
        if offered.is_empty() || offered.iter().any(serves) {
            return;
        }
        let content = if seen.kind == Kind::Lxc { "rootdir" } else { "images" };
        self.wrong(
            Code::LinkedCloneUnsupported,
            format!(
                "no node with a template has a storage that makes linked clones and that the token sees: it \
                 needs content {content}, a type such as lvmthin, zfspool, rbd or btrfs, and for the token \
                 Datastore.Audit and Datastore.AllocateSpace on /storage/STORAGE"
            ),
        );
    }
}
