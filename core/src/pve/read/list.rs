//! Listing sandboxes, from one listing of PVE (rule S6.3). What its tags cannot tell is read exactly, as far
//! as a few reads go.

use time::OffsetDateTime;

use super::show;
use crate::{
    access::keys::Caller,
    error::Error,
    io::Io,
    pve::{
        cluster::Cluster,
        guest::{Located, reach},
        inventory::{Guest, Inventory},
        marks::{
            Listed, Mark, Phase, Want,
            lifetime::{self, Time},
            state::{never_came_up, state},
        },
        reserve,
    },
    sandbox::{
        Sandbox, Sizes, State,
        listing::{Filter, Page, bad_cursor},
        vmid::Vmid,
    },
};

/// A listing's status may be older than what was done to the guest, or another's that had its VMID
/// (rule S6.3).
pub(super) const FRESH_SECONDS: i64 = 15;
/// The expiry in a tag may be so much earlier than the description's.
const TAG_SLACK_SECONDS: i64 = 60;
/// Number of sandboxes that are read exactly for one page (rule S6.4).
const FEW: u32 = 8;

/// Whether a sandbox passes a filter, by its tags.
enum Judged {
    No,
    Yes,
    /// They may tell an old expiry, or those of a snapshot.
    Unsure,
    /// The metadata that is asked for did not fit the tags.
    Unindexed,
}

/// The caller's sandboxes.
pub async fn list<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
    let after: Option<Vmid> =
        filter.after.as_deref().map(str::parse).transpose().map_err(|_| bad_cursor())?;
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let deployment = &cluster.settings.deployment;
    let mine = |guest: &&Guest| {
        let is_next = after.is_none_or(|after| guest.vmid > after);
        is_next && guest.ours.as_ref().is_some_and(|it| it.mark.is_seen_by(caller, deployment))
    };
    let (mut items, mut next_cursor, mut last) = (Vec::new(), None, None);
    let (mut reads, mut unindexed) = (FEW, 0);
    for guest in inventory.guests.iter().filter(mine) {
        let Some(listed) = &guest.ours else { continue };
        let is_offline = !inventory.is_online(&guest.row.node);
        let mut known = listed.clone();
        let mut judged = judge(cluster, guest, &known, filter, is_offline, false);
        if matches!(judged, Judged::Unsure | Judged::Unindexed)
            && items.len() < filter.limit
            && !is_offline
            && reads > 0
            && cluster.left() > reserve::LIST
        {
            reads -= 1;
            if let Some(mark) = read_exactly(cluster, guest, &known.mark).await {
                known = Listed { mark, complete: true };
                judged = judge(cluster, guest, &known, filter, is_offline, true);
            }
        }
        if !matches!(judged, Judged::No) && items.len() == filter.limit {
            next_cursor = last.map(|it: Vmid| it.to_string());
            break;
        }
        match judged {
            Judged::Yes | Judged::Unsure => items.push(show_listed(cluster, guest, &known, is_offline)),
            Judged::Unindexed => unindexed += 1,
            Judged::No => {}
        }
        last = Some(guest.vmid);
    }
    let unindexed = (!filter.metadata.is_empty()).then_some(unindexed);
    Ok(Page { items, next_cursor, unindexed })
}

fn judge<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &Guest,
    Listed { mark, complete }: &Listed,
    filter: &Filter,
    is_offline: bool,
    exact: bool,
) -> Judged {
    let (now, kept) = (cluster.now(), cluster.settings.limits.stopped_max_seconds);
    let may_be_old = mark.doing.is_some() && !exact;
    // A deletion's mark is no snapshot's.
    if mark.want == Want::Gone && !may_be_old {
        return Judged::No;
    }
    let over = |at| lifetime::time(mark, at, kept) == Time::Over;
    let slack = if exact { 0 } else { TAG_SLACK_SECONDS };
    if !may_be_old && over(now - time::Duration::seconds(slack)) {
        return Judged::No;
    }
    if filter.state.is_some_and(|it| it != state_of(guest, mark, is_offline, now)) && !may_be_old {
        return Judged::No;
    }
    let differs = |(key, value): (&String, &String)| mark.metadata.get(key).is_some_and(|it| it != value);
    let lacks = |key: &String| !mark.metadata.contains_key(key);
    if filter.metadata.iter().any(differs) && !may_be_old {
        return Judged::No;
    }
    if filter.metadata.keys().any(lacks) || (may_be_old && !filter.metadata.is_empty()) {
        return if *complete && !may_be_old { Judged::No } else { Judged::Unindexed };
    }
    if over(now) || may_be_old { Judged::Unsure } else { Judged::Yes }
}

/// The mark in the guest's own config, if it is still that sandbox's.
async fn read_exactly<I: Io>(cluster: &Cluster<'_, I>, guest: &Guest, known: &Mark) -> Option<Mark> {
    let call = cluster.pve.guest(&guest.row.node, guest.kind, guest.vmid).config();
    let config = cluster.send(call).await.ok()?;
    let found = Located::of(&guest.row.node, guest.vmid, config)?;
    (found.committed && found.mark.nonce == known.nonce).then_some(found.mark)
}

/// The state of a guest that nobody asks PVE about.
fn state_of(guest: &Guest, mark: &Mark, is_offline: bool, now: OffsetDateTime) -> State {
    let running = guest.row.status == "running";
    let unknown = guest.row.status == "unknown" || guest.row.status.is_empty();
    if is_offline {
        State::Error
    } else if guest.row.lock.as_deref() == Some("suspended") {
        State::Paused
    } else if mark.settled_for(now) < FRESH_SECONDS {
        state(mark, mark.want == Want::On && mark.phase == Phase::Ready, now)
    } else {
        match state(mark, running || (unknown && mark.want == Want::On), now) {
            // While PVE works on it nobody can write that it came up.
            State::Error if never_came_up(mark) && guest.row.lock.is_some() => State::Creating,
            state => state,
        }
    }
}

pub(super) fn show_listed<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &Guest,
    Listed { mark, complete }: &Listed,
    is_offline: bool,
) -> Sandbox {
    let state = state_of(guest, mark, is_offline, cluster.now());
    let at = reach::addresses(cluster.settings, (guest.vmid, None), None, None);
    let mut sandbox = show(cluster, mark, &guest.row.node, state, at, sizes(guest, mark));
    sandbox.state_may_be_stale = true;
    sandbox.metadata_incomplete = !complete || mark.doing.is_some();
    if is_offline {
        sandbox.problem = Some(format!("node-offline: node {} is offline", guest.row.node));
    } else if !is_proved(cluster, mark) {
        sandbox.state = State::Error;
        sandbox.problem = Some(
            "no secret of EDGE_SECRET proves its id, and each request for it is 404: was the one that made it \
             removed?"
                .into(),
        );
    } else if state == State::Error && sandbox.problem.is_none() {
        sandbox.problem = Some("it did not come up; GET it for the cause".into());
    }
    sandbox
}

fn is_proved<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> bool {
    mark.nonce.proved_by(&cluster.settings.secrets, &mark.deployment, mark.kind, mark.vmid).is_some()
}

/// The sizes in the listing; of a new guest, which it does not know yet, those in the preset's name.
fn sizes(guest: &Guest, mark: &Mark) -> Sizes {
    let preset = mark.snapshot.as_ref().and_then(|it| it.preset()?.preset.sizes());
    let whole = |bytes: Option<u64>, unit: u64| {
        let units = bytes.filter(|it| *it > 0)?.div_ceil(unit);
        u32::try_from(units).ok()
    };
    Sizes {
        cpu: whole(guest.row.maxcpu, 1).or(preset.map(|it| it.cores)),
        memory: whole(guest.row.maxmem, 1 << 20).or(preset.map(|it| it.memory_mib)),
        disk: whole(guest.row.maxdisk, 1 << 30).or(preset.map(|it| it.disk_gib)),
    }
}
