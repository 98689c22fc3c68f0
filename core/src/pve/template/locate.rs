//! Locating a template and proving whose it is.

use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        inventory::Inventory,
        marks::{Mark, Reading, Role, Want},
    },
    sandbox::id::SandboxId,
};

/// For so long a VM's first disk may be copied.
const COPY_SECONDS: i64 = 3600;

/// Finds a snapshot and proves that it is the caller's.
pub(crate) async fn find<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<(String, Config, Mark), Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    let mut node = id.node.clone();
    let mut config = None;
    if !node.is_empty() {
        config = cluster.send(cluster.pve.guest(&node, id.kind(), id.vmid).config()).await.ok();
    }
    if config.is_none() {
        let inventory = Inventory::read(cluster).await?;
        // A guest of another kind of that number is a stranger.
        let guest = inventory.guest(id.vmid).filter(|it| it.kind == id.kind());
        let Some(guest) = guest else {
            inventory.believe(cluster).await?;
            return Err(absent());
        };
        guest.row.node.clone_into(&mut node);
        config = Some(cluster.send(cluster.pve.guest(&node, id.kind(), id.vmid).config()).await?);
    }
    let config = config.ok_or_else(absent)?;
    let age = (cluster.now() - id.nonce.birth()).whole_seconds();
    if config.is_unknown_yet() && (0..COPY_SECONDS).contains(&age) {
        let text = format!("PVE copies the disk of {id} and tells nothing else yet; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(5));
    }
    match Reading::of(id.vmid, &config) {
        Reading::Intent(mark) | Reading::Committed(mark)
            if mark.nonce == id.nonce
                && mark.role == Role::Template
                && mark.want != Want::Gone
                && mark.is_seen_by(caller, &cluster.settings.deployment) =>
        {
            Ok((node, config, mark))
        }
        _ => Err(absent()),
    }
}
