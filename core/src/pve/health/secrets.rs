//! How many ids each secret of `EDGE_SECRET` still proves.

use super::{Seen, shortages::Findings};
use crate::{access::secret::Key, error::Code, pve::inventory::Guest, sandbox::health::OlderSecret};

/// Sandboxes, and snapshots and templates.
#[derive(Clone, Copy, Default)]
struct Count {
    sandboxes: usize,
    snapshots: usize,
}

/// What each secret but the newest still proves; a secret that proves nothing may be removed.
/// Warns of ids that none proves.
pub(super) fn older(seen: &Seen<'_>, findings: &mut Findings) -> Vec<OlderSecret> {
    let secrets = &seen.settings.secrets;
    let count = |key: Option<&Key>| {
        let name = key.map(Key::name);
        count(seen, |guest| proof(seen, guest).map(|it| it.map(Key::name)) == Some(name))
    };
    let lost = count(None);
    if lost.sandboxes + lost.snapshots > 0 {
        let text = format!(
            "no secret of EDGE_SECRET proves the ids of {} sandboxes and {} snapshots: each request for one is \
             404, and sandboxes still expire. Put the secret back that made them, behind the others, or remove \
             them in PVE",
            lost.sandboxes, lost.snapshots
        );
        findings.warn(Code::Misconfigured, text);
    }
    let older = secrets.all().skip(1).map(|key| {
        let Count { sandboxes, snapshots } = count(Some(key));
        OlderSecret { sandboxes, secret: key.name().to_owned(), snapshots }
    });
    older.collect()
}

fn count(seen: &Seen<'_>, counts: impl Fn(&Guest) -> bool) -> Count {
    let mut count = Count::default();
    for guest in seen.inventory.guests.iter().filter(|it| counts(it)) {
        count.sandboxes += usize::from(guest.ours.is_some());
        count.snapshots += usize::from(guest.snapshot.is_some());
    }
    count
}

/// The secret that proves the id of a guest of ours, if any does.
fn proof<'a>(seen: &Seen<'a>, guest: &Guest) -> Option<Option<&'a Key>> {
    let mark = &guest.ours.as_ref().or(guest.snapshot.as_ref())?.mark;
    Some(mark.nonce.proved_by(&seen.settings.secrets, &mark.deployment, mark.kind, mark.vmid))
}
