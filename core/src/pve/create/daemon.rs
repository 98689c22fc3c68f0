//! The daemon of a template, which its sandboxes have too.

use crate::{
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        guest::hello,
        marks::{Mark, Reading, Role},
    },
    sandbox::{channel::Channel, defaults::Defaults, vmid::Vmid},
};

/// The daemon of a template, as its mark tells it; of one without a mark nothing is known.
#[derive(Default)]
pub(super) struct TemplatesDaemon {
    commands: Option<Channel>,
    /// Names of the keys that our own daemon obeys.
    keys: Vec<String>,
    /// As which user and where it begins.
    defaults: Defaults,
}

impl TemplatesDaemon {
    /// The daemon of the template of this VMID.
    pub(super) fn of(vmid: Vmid, config: &Config) -> Self {
        let reading = Reading::of(vmid, config);
        let told = |it: &Mark| Self {
            commands: it.commands,
            keys: it.guest_keys.clone(),
            defaults: it.defaults.clone(),
        };
        reading.mark().filter(|it| it.role == Role::Template).map(told).unwrap_or_default()
    }

    /// Whether the daemon obeys a key of the deployment, as far as that is told.
    pub(super) fn is_known<I: Io>(&self, cluster: &Cluster<'_, I>) -> bool {
        self.keys.is_empty() || hello::key_names(cluster).iter().any(|it| self.keys.contains(it))
    }

    /// The mark of a sandbox that has it.
    pub(super) fn of_sandbox(self, mark: Mark) -> Mark {
        Mark { commands: self.commands, guest_keys: self.keys, defaults: self.defaults, ..mark }
    }
}
