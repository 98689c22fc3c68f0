//! What the cluster really holds, past every API.

use crate::stage::{Answer, Stage};
use pve_edge_bed::sim::{Guest, Kind, Sim};
use pve_edge_core::pve::marks::{self, Mark, Reading};

/// What a guest's own config says about it.
pub(crate) fn reading(guest: &Guest) -> Reading {
    let vmid = guest.vmid.try_into().expect("PVE's VMIDs are VMIDs");
    marks::read(vmid, guest.config.get("tags"), guest.config.description.as_deref())
}

/// The mark of a guest of deployment `prod`, committed or not.
pub(crate) fn mark(guest: &Guest) -> Option<Mark> {
    reading(guest).mark().filter(|it| it.deployment == "prod").cloned()
}

/// The mark of a committed guest of deployment `prod`.
pub(crate) fn committed(guest: &Guest) -> Option<Mark> {
    match reading(guest) {
        Reading::Committed(mark) if mark.deployment == "prod" => Some(mark),
        _ => None,
    }
}

/// All committed guests of deployment `prod`.
pub(crate) fn all_committed(sim: &Sim) -> Vec<Mark> {
    sim.guests().filter_map(committed).collect()
}

/// A 200 or 201 that shows a running sandbox is no lie: it runs, it is
/// committed, and a container's exec daemon refuses everyone but us.
pub(crate) fn assert_honest(stage: &Stage, answer: &Answer) {
    // Snapshots have a status.
    if answer.json()["status"].is_string() {
        return;
    }
    if !matches!(answer.status, 200 | 201) || answer.state() != "running" {
        assert!(answer.status != 201, "201 and not running: {answer:?}");
        return;
    }
    let id = answer.id();
    if stage.is_on_morph() {
        return crate::morph::assert_runs(stage, &id);
    }
    let vmid = crate::stage::vmid_of(&id);
    let sim = stage.world.sim();
    let transcript = || stage.told();
    let guest = sim.guest(vmid).unwrap_or_else(|| panic!("{id} is not there\n{}", transcript()));
    let mark = committed(guest).unwrap_or_else(|| panic!("{id} is not committed\n{}", transcript()));
    assert!(id.contains(&mark.nonce.to_string()), "{id} is another's");
    let run = guest.run.as_ref().unwrap_or_else(|| panic!("{id} does not run\n{}", transcript()));
    // Into a VM there is no way but PVE's, and a daemon of ours obeys nobody but us.
    let shut = guest.kind == Kind::Qemu
        || guest.keys.is_some()
        || run.token.as_ref().is_some_and(|it| it.len() == 64);
    assert!(shut, "{id} lets everyone in");
    assert!(run.ready <= sim.now(), "{id} has not booted");
}
