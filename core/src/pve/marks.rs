//! The whole persistent state: what is in a guest's tags and description.
//!
//! Nothing else may format or parse either (rule S1.11). Three things are kept:
//!
//! - the **head tag** owns the guest: deployment, VMID, nonce, team, expiry, what shall become of it. It
//!   alone is enough to own, expire and delete it (rule S1.1).
//! - **index tags** carry name, source and metadata for listings, as far as
//!   they fit the tag budget.
//! - the description's last line, the **machine line**, holds all of it as
//!   JSON, and the intent of a creation that is not finished.
//!
//! A mark counts only for the VMID that it names (rule S1.2): clone, restore and snapshot copy tags and
//! description (pve-container `API2/LXC.pm` `clone_vm`, pve-guest-common `AbstractConfig.pm`).

mod head;
mod index;
pub mod lifetime;
mod mark;
mod notes;
pub mod state;
#[cfg(test)]
mod tests;

pub use self::{
    head::{Doing, Phase, Role, Want, What},
    mark::{Base, Build, Cleaned, Mark, TakenFrom},
    notes::{EXEC_TOKEN_MARKER, Notes},
};
use super::api::config::Config;
use crate::sandbox::{id::SourceId, preset::SnapshotId, vmid::Vmid};

/// The mark that tags alone tell, for listings.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The mark, as complete as the index tags are.
    pub mark: Mark,
    /// Whether name, source and metadata are all there.
    pub complete: bool,
}

/// Reads the mark of the guest `vmid` in a listing's tags, if it has one.
pub fn listed(vmid: Vmid, tags: &str) -> Option<Listed> {
    let mut mark = head::read(vmid, tags)?;
    let complete = index::read(tags, &mut mark);
    Some(Listed { mark, complete })
}

/// The reading of a config: whose the guest is.
#[derive(Clone, Debug)]
pub enum Reading {
    /// It carries no mark.
    Foreign,
    /// It is claimed and not committed: the mark is its intent.
    Intent(Mark),
    /// It is committed.
    Committed(Mark),
    /// Tags and description name different owners; nothing may be done to it (rule S1.3).
    Contradiction,
}

impl Reading {
    /// Reads the config of the guest `vmid`.
    pub fn of(vmid: Vmid, config: &Config) -> Self {
        read(vmid, config.tags.as_deref(), config.description.as_deref())
    }

    /// The mark, committed or not.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Intent(mark) | Self::Committed(mark) => Some(mark),
            Self::Foreign | Self::Contradiction => None,
        }
    }
}

/// Reads tags and description of the guest `vmid`.
pub fn read(vmid: Vmid, tags: Option<&str>, description: Option<&str>) -> Reading {
    let tags = tags.unwrap_or_default();
    let line = description.and_then(notes::machine_line).filter(|mark| mark.vmid == vmid);
    match (head::read(vmid, tags), line) {
        (None, None) => Reading::Foreign,
        (None, Some(line)) if line.phase == Phase::Claimed => Reading::Intent(line),
        // Whoever clears the tags makes no half-made guest of it: the next change writes them again.
        (None, Some(line)) => Reading::Committed(line),
        // An admin who overwrites the notes erases nothing that matters.
        (Some(mut head), None) => {
            index::read(tags, &mut head);
            // Tags that came back with a snapshot tell an old expiry: better none.
            if head.is_doing(What::Snapshot) {
                head.expires = None;
            }
            Reading::Committed(head)
        }
        (Some(head), Some(line)) => {
            let same = head.owner() == line.owner();
            match same {
                // Want and on-expiry are written together with the line; the expiry in the tag may lag behind
                // it by a minute (rule S1.4).
                true => Reading::Committed(line),
                false => Reading::Contradiction,
            }
        }
    }
}

/// The tags of a committed guest: others' are kept, ours are rewritten (rule S1.7). `expires` is what the
/// head tag shows, which may lag behind the mark's; `inherited` keeps what a sandbox has of its template's
/// too. Its commit takes those off where PVE lets it, so what is there afterwards has to stay.
pub fn tags(existing: &str, mark: &Mark, expires: Option<i64>, budget: usize, inherited: bool) -> String {
    let role = if mark.role == Role::Template { "template" } else { "sandbox" };
    // Tags that came back by a rollback say so until it is finished, whoever else writes meanwhile.
    let came_back =
        mark.is_doing(What::Rollback) && doing_by_tag(mark.vmid, existing) == Some(What::Snapshot);
    let what = if came_back { Some(What::Snapshot) } else { mark.doing.as_ref().map(|it| it.what) };
    let mut ours = vec![head::write(mark, expires, what), format!("edge-{}-{role}", mark.deployment)];
    // A template that is a preset's version is found by that tag, once it is made.
    let version = mark.snapshot.as_ref().and_then(SourceId::preset).filter(|_| mark.role == Role::Template);
    let is_offered = !mark.is_doing(What::Template) || version == template(existing).flatten().as_ref();
    ours.extend(version.filter(|_| is_offered).map(ToString::to_string));
    let left = budget.saturating_sub(ours.iter().map(|it| it.len() + 1).sum());
    // Until then the index keeps that version for it, whatever the budget.
    let left = if is_offered { left } else { left.max(LEAST_OF_VERSION) };
    ours.extend(index::write(mark, left));
    let inherited = inherited || head::read(mark.vmid, existing).is_some();
    let stays = |tag: &str| inherited && mark.role == Role::Sandbox && is_offer(tag);
    let others = split(existing).filter(|tag| !is_ours(tag) || stays(tag)).map(str::to_owned);
    others.chain(ours).collect::<Vec<_>>().join(";")
}

/// Whether the head tag says what the mark does; up to a minute less of its time is no matter (rule S1.4).
pub fn agree(mark: &Mark, tags: &str) -> bool {
    let says = |it: &Mark| (it.want, it.on_expiry, it.phase);
    head::read(mark.vmid, tags).is_some_and(|head| {
        let near = match (head.expires, mark.expires) {
            (Some(tagged), Some(written)) => (0..=60).contains(&written.saturating_sub(tagged)),
            (one, other) => one == other,
        };
        near && says(&head) == says(mark)
    })
}

/// The expiry that the head tag shows now.
pub fn expiry_by_tag(vmid: Vmid, tags: &str) -> Option<Option<i64>> {
    head::read(vmid, tags).map(|mark| mark.expires)
}

/// What the head tag says is being done. PVE's rollback brings the tags back
/// that were there when the snapshot was taken, and keeps the description: the
/// tag in a snapshot always says [`What::Snapshot`], and so whether the rollback
/// that the description speaks of has been executed.
pub fn doing_by_tag(vmid: Vmid, tags: &str) -> Option<What> {
    head::read(vmid, tags)?.doing.map(|it| it.what)
}

/// The snapshot id by which a template is found, and whether it is offered at all.
pub fn template(tags: &str) -> Option<Option<SnapshotId>> {
    let mut offered = false;
    for tag in split(tags) {
        if let Ok(id) = tag.parse::<SnapshotId>() {
            return Some(Some(id));
        }
        offered |= tag.eq_ignore_ascii_case(TEMPLATE_TAG);
    }
    offered.then_some(None)
}

/// The version of a preset that a template is, or shall be, whosever it is.
pub fn version(vmid: Vmid, tags: &str) -> Option<SnapshotId> {
    let offered = template(tags).flatten();
    offered.or_else(|| {
        let listed = listed(vmid, tags).filter(|it| it.mark.role == Role::Template)?;
        listed.mark.snapshot?.preset().cloned()
    })
}

/// Bytes of an index that tells a version.
const LEAST_OF_VERSION: usize = 160;

/// The tag that offers a template without a preset.
pub const TEMPLATE_TAG: &str = "edge-template";

fn is_ours(tag: &str) -> bool {
    let tag = tag.to_ascii_lowercase();
    tag.starts_with("pe1.")
        || tag.starts_with("pe1m")
        || is_offer(&tag)
        || (tag.starts_with("edge-") && (tag.ends_with("-sandbox") || tag.ends_with("-template")))
}

/// Whether some deployment has marked a guest with these tags, as a sandbox or a template.
pub fn is_marked(tags: &str) -> bool {
    split(tags).any(|it| is_ours(it) && !is_offer(it))
}

/// Whether a tag offers a template.
fn is_offer(tag: &str) -> bool {
    tag.eq_ignore_ascii_case(TEMPLATE_TAG) || tag.parse::<SnapshotId>().is_ok()
}

fn split(tags: &str) -> impl Iterator<Item = &str> {
    tags.split([';', ',', ' ', '\0']).filter(|tag| !tag.is_empty())
}
