//! The template of VMs from which another one is built.

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{cluster::Cluster, inventory::Template, marks::Base},
};

/// Refuses what cannot be built in a copy of it, before anything is claimed: all of it goes through the guest agent, and
/// root has no part in it.
pub(super) async fn check<I: Io>(
    cluster: &Cluster<'_, I>,
    base: &Base,
    source: &Template,
) -> Result<(), Error> {
    let Template { vmid, node, kind, .. } = source;
    for (field, value) in [("features", &base.features), ("hookscript", &base.hookscript)] {
        if !value.is_empty() {
            return Err(Error::field(field, format!("is for containers, and {vmid} is a template of VMs")));
        }
    }
    let is_built_in = base.build.as_ref().is_some_and(|it| it.guest);
    if !base.execd && !is_built_in {
        let fix = "root puts no daemon into a VM: leave it out for the project's own one, which is built in, or say \
                   included where the template has one";
        return Err(Error::field("execd", fix));
    }
    if base.build.is_none() {
        return Ok(());
    }
    let config = cluster.send(cluster.pve.guest(node, *kind, *vmid).config()).await?;
    if config.has_agent() {
        return Ok(());
    }
    let text = format!(
        "template {vmid} has no guest agent, through which it is built: install qemu-guest-agent in it and set its \
         option, qm set {vmid} --agent 1"
    );
    Err(Error::new(Code::GuestAgentMissing, text))
}
