//! What PVE makes of tags, and who may change which.

use std::collections::BTreeSet;

use super::{Sim, reply::Fail};

/// `,`, `;`, white space and NUL separate tags on input.
pub(crate) const SEPARATORS: [char; 7] = [',', ';', ' ', '\t', '\n', '\r', '\0'];

/// All tags and locks of the cluster travel in one message of this size [pve-cluster `IPCC.xs`].
const IPC: usize = 1 << 20;

/// The part of `datacenter.cfg` that is about tags.
#[derive(Clone, Debug)]
pub(crate) struct Datacenter {
    pub(crate) case_sensitive: bool,
    pub(crate) config_order: bool,
    /// `user-allow`: `free`, `existing`, `list` or `none`.
    pub(crate) user_allow: String,
    pub(crate) user_list: BTreeSet<String>,
    pub(crate) registered: BTreeSet<String>,
}

impl Default for Datacenter {
    fn default() -> Self {
        Self {
            case_sensitive: false,
            config_order: false,
            user_allow: "free".into(),
            user_list: BTreeSet::new(),
            registered: BTreeSet::new(),
        }
    }
}

impl Datacenter {
    /// As PVE stores what was sent [pve-guest-common `GuestHelpers.pm`].
    pub(crate) fn normalised(&self, sent: &str) -> String {
        let mut tags = Vec::<String>::new();
        for tag in sent.split(SEPARATORS).filter(|tag| !tag.is_empty()) {
            let tag = if self.case_sensitive { tag.to_owned() } else { tag.to_lowercase() };
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if !self.config_order {
            tags.sort();
        }
        if tags.is_empty() { " ".into() } else { tags.join(";") }
    }
}

impl Sim {
    /// Refuses changes of tags that the token may not make.
    pub(crate) fn assert_tags(&self, token: &str, old: &str, new: &str) -> Result<(), Fail> {
        self.guest_properties()?;
        let set = |text: &str| -> BTreeSet<String> {
            text.split(SEPARATORS).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
        };
        let (old, new) = (set(old), set(new));
        let admin = self.may(token, "/", &["Sys.Modify"]);
        for tag in old.symmetric_difference(&new) {
            if !admin && !self.is_free(tag) {
                let what = format!("/, Sys.Modify for modifying tag '{tag}'");
                return Err(Fail::permission(what));
            }
        }
        Ok(())
    }

    /// `allowed-tags` of `GET /cluster/options`.
    pub(crate) fn allowed_tags(&self) -> BTreeSet<String> {
        let used = self.guests.values().flat_map(|guest| guest.tags()).map(str::to_owned);
        match self.datacenter.user_allow.as_str() {
            "free" | "existing" => used.chain(self.datacenter.registered.iter().cloned()).collect(),
            "list" => self.datacenter.user_list.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// Tags and locks of all guests, while they fit into one message.
    pub(crate) fn guest_properties(&self) -> Result<usize, Fail> {
        let size = self.guests.values().map(|guest| {
            let part = |key: &str| guest.config.get(key).map_or(0, |value| key.len() + value.len() + 6);
            12 + part("tags") + part("lock")
        });
        let total = 2 + size.sum::<usize>();
        // PVE's own words for this are the text of errno; it is an error either way.
        if total > IPC { Err(Fail::die("ipcc_send_rec[13] failed: Message too long")) } else { Ok(total) }
    }

    fn is_free(&self, tag: &str) -> bool {
        if self.datacenter.registered.contains(tag) {
            return false;
        }
        match self.datacenter.user_allow.as_str() {
            "free" => true,
            "existing" => self.guests.values().any(|guest| guest.tags().contains(&tag)),
            "list" => self.datacenter.user_list.contains(tag),
            _ => false,
        }
    }
}
