//! The disk of a sandbox that is larger than its preset's.

use super::{
    failed::give_up,
    step::{SETTLED_SECONDS, Why},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{Located, wait::wait},
    },
};

/// Whether a disk is as large as it shall be.
pub(super) enum Grown {
    /// The disk was large enough before.
    Already,
    /// The disk is large enough now, and that may have taken its time.
    Now,
    /// Not yet; why.
    NotYet(Why),
}

/// Grows the disk of a committed sandbox, where it is smaller than it is to be (rule S2.11). The start needs the
/// same lock, so it waits until PVE is done.
pub(super) async fn grow<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    deadline: Deadline<'_, I>,
) -> Result<Grown, Error> {
    let Located { config, mark, .. } = found;
    let Some(wanted) = mark.sizes.disk else { return Ok(Grown::Already) };
    // How large a disk is whose `size=` was left out, PVE alone knows: it is asked all the same.
    let is_large = config.disk_bytes().is_some_and(|has| has >= u64::from(wanted) << 30);
    let Some((disk, _)) = config.boot_disk().filter(|_| !is_large) else { return Ok(Grown::Already) };
    let error = match cluster.send(found.api(cluster).grow(disk, wanted)).await {
        // Before PVE 8 it is done when it answers.
        Ok(None) => return Ok(Grown::Now),
        Ok(Some(task)) => match wait(cluster, &task, deadline).await {
            Some(Ok(())) => return Ok(Grown::Now),
            Some(Err(error)) => error,
            None => {
                let text = format!("PVE grows the disk of guest {} to {wanted} GiB", mark.vmid);
                let cause = Error::new(Code::GuestLocked, text).retry_after(5);
                return Ok(Grown::NotYet(Why { cause, lasts: false }));
            }
        },
        Err(error) => error,
    };
    if error.is_large_enough() {
        return Ok(Grown::Now);
    }
    if error.is_turned_away() {
        return Err(error.into());
    }
    // A bare 500 may be a storage's bad moment: asked again while the guest is young.
    let young = !error.is_final() && mark.settled_for(cluster.now()) < SETTLED_SECONDS;
    let why = Why::from(error);
    match !why.lasts || young && matches!(why.cause.code(), Code::PveError | Code::TaskFailed) {
        true => Ok(Grown::NotYet(why)),
        false => Err(give_up(cluster, found, why.cause).await),
    }
}
