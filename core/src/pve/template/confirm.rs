//! An admin's word that root has done what only root can: PVE tells nobody what is in a container.

use super::{Confirmation, Execd, carry_on, find_own};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{
            hello::key_names,
            write::{Attempts, write},
        },
        marks::{Mark, Phase},
    },
    sandbox::{
        channel::Channel,
        id::SandboxId,
        template::{Status, Template, TemplateDaemon},
    },
};

/// An admin says that root has done what only root can: put the daemon in, and removed what is one machine's own.
pub async fn confirm<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    asked: &Confirmation,
    deadline: Deadline<'_, I>,
) -> Result<Template, Error> {
    if asked.execd != Some(Execd::Included) && asked.daemon.is_none() {
        return Err(Error::field("execd", "included, or daemon: that the daemon is in the template"));
    }
    let mut attempts = Attempts::default();
    let mut has_looked = false;
    loop {
        let found = find_own(cluster, caller, id).await?;
        let is_claimed = found.mark.phase == Phase::Claimed;
        if !is_claimed || found.mark.base.as_ref().is_none_or(|it| !it.is_for_root()) {
            let is_built = is_claimed && found.mark.base.as_ref().is_some_and(|it| it.build.is_some());
            let template = carry_on(cluster, found, deadline).await?;
            // That the console is refused may just have been found out.
            if template.status == Status::NeedsRoot && is_built && !has_looked {
                has_looked = true;
                continue;
            }
            return if is_built { not_for_root(template) } else { Ok(template) };
        }
        let keys = key_names(cluster);
        let note = |mark: &mut Mark| {
            mark.commands = asked.daemon.map(TemplateDaemon::channel).or(mark.commands);
            // Whoever puts it in puts the deployment's keys in.
            if mark.commands == Some(Channel::Guest) {
                mark.guest_keys.clone_from(&keys);
            }
            if let Some(base) = &mut mark.base {
                base.execd = true;
                base.build = None;
            }
            Ok(())
        };
        let written = write(cluster, &found, &note).await?;
        attempts.count(written.err().unwrap_or_default(), id)?;
    }
}

/// The answer to whoever confirms what is not root's to do.
fn not_for_root(template: Template) -> Result<Template, Error> {
    match template.status {
        Status::Failed => {
            let text = "this template could not be built, and is deleted: see its step and output, and ask for another";
            Err(Error::new(Code::Condemned, text))
        }
        Status::Building | Status::Downloading => {
            let text = "this template is still being built through its console, and nothing is left to root; ask again";
            Err(Error::new(Code::StillCreating, text).retry_after(3))
        }
        Status::NeedsRoot | Status::Ready => Ok(template),
    }
}
