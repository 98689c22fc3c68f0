//! Writing a mark: each change is one PUT of tags and notes together, by digest (rule S1.5).

use std::net::Ipv4Addr;

use super::{located::Located, reach};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, PveError, config::Config},
        cluster::Cluster,
        marks::{self, Mark, Notes, Phase, Role, Want, lifetime},
    },
    sandbox::id::{Kind, not_found},
};

/// So often a change is tried again that others were faster with.
const ATTEMPTS: usize = 5;

/// A change of a mark, or why it may not be made. One type for all of them, so that a Worker's bundle does
/// not have the functions here once for each.
pub type Apply<'a> = &'a (dyn Fn(&mut Mark) -> Result<(), Error> + Sync);

/// A change that was not written: somebody else was faster, or whether it was is not known yet.
#[derive(Debug, Default)]
pub struct Unwritten(Option<PveError>);

impl Unwritten {
    /// A write that PVE answered so, or not at all.
    pub fn after(error: PveError) -> Self {
        Self(Some(error).filter(|it| !it.is_digest_mismatch()))
    }

    /// The answer where trying again has not helped; `what` was to be changed.
    pub fn into_conflict(self, what: impl std::fmt::Display) -> Error {
        let text = match self.0 {
            None => format!("others keep changing {what}; ask again"),
            Some(cause) => format!("whether {what} was changed is not known ({cause}); ask again"),
        };
        Error::new(Code::Conflict, text).retry_after(1)
    }
}

/// The attempts to change one guest, five at most.
#[derive(Debug, Default)]
pub struct Attempts(usize);

impl Attempts {
    /// Counts an attempt to change `what` that was not written; after the last one that is the answer.
    pub fn count(&mut self, unwritten: Unwritten, what: impl std::fmt::Display) -> Result<(), Error> {
        self.0 += 1;
        if self.0 < ATTEMPTS { Ok(()) } else { Err(unwritten.into_conflict(what)) }
    }
}

/// Changes the mark of a guest: reads it, applies, writes by digest, and starts over when somebody else
/// was faster.
pub async fn change<I: Io>(
    cluster: &Cluster<'_, I>,
    known: &Located,
    apply: Apply<'_>,
) -> Result<Mark, Error> {
    change_from(cluster, known, None, apply).await
}

/// As [`change`], beginning with a guest that was just read, where somebody has.
pub async fn change_from<I: Io>(
    cluster: &Cluster<'_, I>,
    known: &Located,
    mut at_hand: Option<Located>,
    apply: Apply<'_>,
) -> Result<Mark, Error> {
    let mut attempts = Attempts::default();
    loop {
        let found = match at_hand.take() {
            Some(found) => found,
            None => known.read_again(cluster).await?.ok_or_else(|| not_found(known.mark.vmid))?,
        };
        match write(cluster, &found, apply).await? {
            Ok(mark) => return Ok(mark),
            Err(unwritten) => attempts.count(unwritten, format_args!("guest {}", known.mark.vmid))?,
        }
    }
}

/// One attempt at a change of the guest that was read.
pub async fn write<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    apply: Apply<'_>,
) -> Result<Result<Mark, Unwritten>, Error> {
    let Located { config, mark, .. } = found;
    let mut changed = mark.clone();
    apply(&mut changed)?;
    // What is paused after it was stopped was stopped then.
    let stays_stopped = lifetime::stopped_at(mark).is_some() && lifetime::stopped_at(&changed).is_some();
    if (changed.want, changed.phase) != (mark.want, mark.phase) && !stays_stopped {
        changed.changed = Some(cluster.now().unix_timestamp());
    }
    note_protection(cluster, config, mark, &mut changed);
    if let Some(lock) = &config.lock {
        return Err(locked(lock, mark));
    }
    let at = config.address().filter(|_| mark.role == Role::Sandbox);
    let form = marks_form(cluster, config, &changed, at, None, false)?;
    match cluster.send(found.api(cluster).set_config(&borrowed(&form, &[]))).await {
        Ok(_) => Ok(Ok(changed)),
        Err(error) if error.is_digest_mismatch() => Ok(Err(Unwritten::after(error))),
        // Whether it was executed, the next read shows; writing the same again is harmless.
        Err(error) if error.may_be_executed() || error.is_never_sent() => {
            let now = found.read_again(cluster).await?.map(|it| it.mark);
            Ok(now.filter(|it| *it == changed).ok_or(Unwritten::after(error)))
        }
        Err(error) => Err(match error.lock() {
            Some(lock) => locked(lock, mark),
            None => error.into(),
        }),
    }
}

/// The refusal of a change of a guest that PVE works on under this lock, or whose memory is on disk
/// (rules S5.4 and S5.5).
pub fn locked(lock: &str, mark: &Mark) -> Error {
    if lock == "suspended" {
        let text = "PVE takes no changes of a VM whose memory is on disk: resume it first, or delete it";
        return Error::new(Code::Suspended, text);
    }
    let text = format!("guest {} is locked ({lock}) while PVE works on it; ask again", mark.vmid);
    Error::new(Code::GuestLocked, text).member("lock", lock).retry_after(5)
}

/// Notes in a changed mark when the VM's protection is put on (rule S3.4). A suspended VM can only be
/// deleted unprotected, and its protection cannot be changed, so its pause takes it off: only from a VM
/// that has been protected for so long that a DELETE from before that is not executed any more. One that
/// was protected later stays so, and is woken before it is deleted.
fn note_protection<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark, changed: &mut Mark) {
    if mark.kind != Kind::Qemu || mark.is_suspension() && changed.is_suspension() {
        return;
    }
    let now = cluster.now().unix_timestamp();
    if config.protection != Some(true) || changed.guarded.is_none() {
        changed.guarded = Some(now);
    }
}

/// Whether PVE is to refuse to destroy the guest (rule S3.1).
fn is_protected<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> bool {
    if mark.want == Want::Gone || mark.role == Role::Template {
        return mark.want != Want::Gone;
    }
    let settled = mark.guarded.is_some_and(|at| cluster.now().unix_timestamp() - at >= LATE_SECONDS);
    !(mark.is_suspension() && settled)
}

/// Tags, description and digest: the part of a PUT that every change has.
pub(super) fn marks_form<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    at: Option<Ipv4Addr>,
    exec_token: Option<&str>,
    inherited: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let links = reach::links(cluster.settings, mark.vmid, at);
    let existing = config.description.as_deref().unwrap_or_default();
    let notes = Notes { existing, mark, links: &links, exec_token };
    let description = notes.write().ok_or_else(|| {
        Error::new(
            Code::NotesTooLong,
            "PVE takes 8192 characters of notes: shorten the metadata, or what was written in the Notes tab",
        )
    })?;
    let mut form = vec![("description", description), ("digest", config.digest.clone())];
    // What is half made never had tags, and is given up even where PVE refuses them.
    if mark.phase != Phase::Claimed {
        form.insert(0, ("tags", tags(cluster, config, mark, inherited)));
    }
    let protected = is_protected(cluster, mark);
    if config.protection.unwrap_or(false) != protected {
        form.push(("protection", u8::from(protected).to_string()));
    }
    Ok(form)
}

fn tags<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark, inherited: bool) -> String {
    let existing = config.tags.as_deref().unwrap_or_default();
    // Tags travel through the whole cluster: an expiry that comes less than a minute later stays (rule S1.4).
    let expires = match marks::expiry_by_tag(mark.vmid, existing) {
        Some(Some(tagged))
            if mark.expires.is_some_and(|it| (0..=60).contains(&it.saturating_sub(tagged))) =>
        {
            Some(tagged)
        }
        _ => mark.expires,
    };
    marks::tags(existing, mark, expires, cluster.settings.limits.tag_budget, inherited)
}

/// A form and the options of a network, as a PUT takes them.
pub(super) fn borrowed<'a>(
    form: &'a [(&'static str, String)],
    network: &'a [(String, String)],
) -> Vec<(&'a str, &'a str)> {
    let network = network.iter().map(|(name, value)| (&**name, &**value));
    form.iter().map(|(name, value)| (*name, &**value)).chain(network).collect()
}
