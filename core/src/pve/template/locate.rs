//! Locating a template and proving whose it is.

use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        guest::Located,
        inventory::Inventory,
        marks::{Mark, Role, Want},
    },
    sandbox::id::SandboxId,
};

/// For so long a VM's first disk may be copied.
const COPY_SECONDS: i64 = 3600;

/// Finds a template and proves that it is the caller's; anything else is 404.
pub(crate) async fn find<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Located, Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    let (node, config) = read(cluster, id).await?.ok_or_else(absent)?;
    let age = (cluster.now() - id.nonce.birth()).whole_seconds();
    if config.is_unknown_yet() && (0..COPY_SECONDS).contains(&age) {
        let text = format!("PVE copies the disk of {id} and tells nothing else yet; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(5));
    }
    let proved = |mark: &Mark| {
        mark.nonce == id.nonce
            && mark.role == Role::Template
            && mark.want != Want::Gone
            && mark.is_seen_by(caller, &cluster.settings.deployment)
    };
    Located::of(&node, id.vmid, config).filter(|it| proved(&it.mark)).ok_or_else(absent)
}

/// The guest of that VMID: its node and config, by what the id says, else by a listing.
async fn read<I: Io>(cluster: &Cluster<'_, I>, id: &SandboxId) -> Result<Option<(String, Config)>, Error> {
    if !id.node.is_empty()
        && let Ok(config) = cluster.send(cluster.pve.guest(&id.node, id.kind(), id.vmid).config()).await
    {
        return Ok(Some((id.node.clone(), config)));
    }
    let inventory = Inventory::read(cluster).await?;
    // A guest of another kind of that number is a stranger.
    let Some(guest) = inventory.guest(id.vmid).filter(|it| it.kind == id.kind()) else {
        inventory.believe(cluster).await?;
        return Ok(None);
    };
    let node = guest.row.node.clone();
    let config = cluster.send(cluster.pve.guest(&node, id.kind(), id.vmid).config()).await?;
    Ok(Some((node, config)))
}
