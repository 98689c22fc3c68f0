//! Creations that cannot be finished: what is undone, and what is kept as `error`.

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::PveError,
        cluster::Cluster,
        guest::{Located, destroy::destroy, write::change},
        marks::{Mark, Phase, Want},
    },
    sandbox::{FINISH_SECONDS, id::Kind},
};

pub(super) fn clone_failed(cause: &PveError, mark: &Mark) -> Error {
    let what = format!("PVE has removed what it had made of VMID {}, nothing is left", mark.vmid);
    cause.problem(Code::CloneFailed, &what).member("undo", "nothing was left to undo")
}

pub(super) fn outdone(vmid: u32) -> Error {
    let text = format!("another request with this Idempotency-Key makes guest {vmid}; ask again");
    Error::new(Code::KeyInUse, text).retry_after(1)
}

pub(super) fn without_memory(mark: &Mark) -> Error {
    let text = format!(
        "it was rolled back and does not run: PVE could not start it with its memory, or it has ended; start \
         boots it from the snapshot's disk; see the task log of VMID {}",
        mark.vmid
    );
    Error::new(Code::StartFailed, text)
}

/// The failure of a sandbox that nobody has seen come up in its time.
pub(super) fn never_answered(mark: &Mark, running: bool) -> Error {
    let (code, what) = match (running, mark.kind) {
        (false, _) => (Code::StartFailed, "it does not run"),
        (true, Kind::Lxc) => (Code::ExecUnreachable, "its exec daemon has not answered as it should"),
        (true, Kind::Qemu) => (Code::GuestAgentMissing, "its guest agent has not answered"),
    };
    let last = mark.problem.as_ref().map(|it| format!("; before that: {it}")).unwrap_or_default();
    Error::new(code, format!("it did not come up within {FINISH_SECONDS} s: {what}{last}"))
}

/// Keeps a sandbox as `error`; its mark then.
pub(super) async fn fail<I: Io>(cluster: &Cluster<'_, I>, found: &Located, cause: Error) -> Mark {
    keep(cluster, found, &cause).await.unwrap_or_else(|_| found.mark.clone())
}

/// Writes that a sandbox has failed. Whoever has stopped it, started it again, condemned it or seen it come up meanwhile knows better.
async fn keep<I: Io>(cluster: &Cluster<'_, I>, found: &Located, cause: &Error) -> Result<Mark, Error> {
    let known = &found.mark;
    change(cluster, found, &|mark| {
        if mark.want == Want::On && mark.phase == known.phase && mark.changed == known.changed {
            mark.phase = Phase::Error;
            mark.want = Want::Off;
            mark.doing = None;
            mark.problem = Some(cause.to_string());
        }
        Ok(())
    })
    .await
}

/// Gives a sandbox up that cannot be finished: it is kept as `error` and not tried again, and the error says so.
pub(crate) async fn give_up<I: Io>(cluster: &Cluster<'_, I>, found: &Located, cause: Error) -> Error {
    let kept = keep(cluster, found, &cause).await;
    // An exec daemon that lets everyone in must not run on; another's guest may.
    let is_ours = kept.as_ref().err().is_none_or(|it| it.code() != Code::NotFound);
    if is_ours && matches!(cause.code(), Code::ExecUnprotected | Code::ExecTokenNotApplied) {
        let _ = cluster.send(found.api(cluster).stop()).await;
    }
    let id = found.mark.id().to_string();
    let fate = match kept {
        Ok(_) => "it is kept as `error` until it expires or is deleted",
        Err(_) => "it could not be marked as failed, and is looked at again by the next request for it",
    };
    Error::new(cause.code(), format!("{}; sandbox {id}: {fate}", cause.detail()))
        .member("sandboxId", id)
        .member("undo", fate)
}

/// Undoes a creation, on proof: PVE refused a step for good, and a read at this moment shows our nonce and no
/// commit (rule S2.14).
pub(super) async fn undo<I: Io>(cluster: &Cluster<'_, I>, found: &Located, cause: Error) -> Error {
    let outcome = match found.read_again(cluster).await {
        Err(error) if error.is_missing() => "it was gone already".to_owned(),
        Err(error) => format!("it could not be read ({error}); the sweep removes it"),
        Ok(Some(now)) if now.committed => "another request has committed it; it was left alone".to_owned(),
        Ok(Some(now)) => match destroy(cluster, &now).await {
            Ok(_) => "the half-made guest is being removed".to_owned(),
            Err(error) => format!("removing the half-made guest failed ({error}); the sweep removes it"),
        },
        Ok(None) => "VMID is not ours any more; it was left alone".to_owned(),
    };
    let told = Error::new(cause.code(), format!("{}; undo: {outcome}", cause.detail()));
    let told = told.member("undo", outcome);
    cause.retry_after_seconds().into_iter().fold(told, Error::retry_after)
}
