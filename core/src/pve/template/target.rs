//! Where a template is made: node, storages and bridge, as far as nobody says.

use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::{cluster::Resource, config::Config},
        cluster::Cluster,
        inventory::{Inventory, Template},
    },
    sandbox::{id::Kind, template::TemplateRequest, vmid::Vmid},
};

/// Where.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) node: String,
    /// What is made there.
    pub(super) kind: Kind,
    /// Of the container.
    pub(super) storage: String,
    /// Of its archive.
    pub(super) archives: String,
    pub(super) bridge: String,
}

/// The template that is to be copied.
pub(super) fn source<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    caller: &Caller,
    vmid: Vmid,
) -> Result<Template, Error> {
    let (settings, deployment) = (cluster.settings, &cluster.settings.deployment);
    let offered = inventory.templates(settings).into_iter().find(|it| it.vmid == vmid);
    let found = offered.or_else(|| inventory.plain_template(settings, vmid));
    let is_seen = |it: &Template| it.own.as_ref().is_none_or(|mark| mark.is_seen_by(caller, deployment));
    let none = || Error::field("fromTemplate", format!("no template has the VMID {vmid}"));
    let found = found.filter(is_seen).ok_or_else(none)?;
    if !inventory.is_online(&found.node) {
        return Err(Error::new(Code::NodeOffline, format!("node {} is offline", found.node)).retry_after(30));
    }
    Ok(found)
}

/// Where a copy of a template is made: beside it. Refuses what nothing could be cloned from afterwards.
pub(super) async fn beside<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    source: &Template,
    storage: Option<&str>,
) -> Result<Target, Error> {
    let config = still(cluster, source).await?;
    let Template { node, kind, .. } = source;
    let of_node = |name: &str| inventory.storages(node).find(|it| it.storage.as_deref() == Some(name));
    if let Some(asked) = storage
        && of_node(asked).is_none_or(|it| !it.takes_disks(*kind))
    {
        return Err(Error::field(
            "storage",
            format!("node {node} has no such storage for disks of these guests"),
        ));
    }
    let names = storage.map_or_else(|| config.storages(), |asked| vec![asked]);
    // Of a storage that the token does not see nothing is known.
    if let Some(name) =
        names.into_iter().find(|name| of_node(name).is_some_and(|it| !it.makes_linked_clones(*kind)))
    {
        let text = format!(
            "storage {name} makes no linked clones, so that no sandbox could be made of the copy: name another"
        );
        return Err(Error::new(Code::LinkedCloneUnsupported, text));
    }
    let (node, kind) = (node.clone(), *kind);
    Ok(Target { node, kind, storage: String::new(), archives: String::new(), bridge: String::new() })
}

/// The config of a template that is copied next. The listing may be older: its VMID may be somebody's guest by now (rule
/// S2.2).
pub(super) async fn still<I: Io>(cluster: &Cluster<'_, I>, source: &Template) -> Result<Config, Error> {
    let Template { vmid, node, kind, .. } = source;
    let config = cluster.send(cluster.pve.guest(node, *kind, *vmid).config()).await?;
    if source.is_still(&config) && config.is_finished_template() {
        return Ok(config);
    }
    Err(Error::field("fromTemplate", format!("no template has the VMID {vmid}")))
}

/// What the request says, else the settings, else what has most room.
pub(super) async fn target<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    request: &TemplateRequest,
) -> Result<Target, Error> {
    let node = request.node.as_ref().or(cluster.settings.node.as_ref());
    if let Some(node) = node {
        let known = inventory.nodes().any(|it| it.node == **node);
        if !known {
            return Err(Error::field("node", format!("the cluster has no node {node}")));
        }
        if !inventory.is_online(node) {
            return Err(Error::new(Code::NodeOffline, format!("node {node} is offline")).retry_after(30));
        }
    }
    let of_node = |it: &&Resource| node.is_none_or(|node| *node == it.node);
    let on = |content| storages(inventory, content).filter(of_node);
    let asked = request.storage.as_ref().or(cluster.settings.storage.as_ref());
    let fits = |it: &&Resource| asked.is_none_or(|asked| it.storage.as_ref() == Some(asked));
    let archives_of = |node: &str| {
        let wanted = request.template_storage.as_ref();
        let mut here = on("vztmpl").filter(|it| it.node == node).collect::<Vec<_>>();
        here.retain(|it| wanted.is_none_or(|wanted| it.storage.as_ref() == Some(wanted)));
        here.into_iter().max_by_key(|it| it.free()).and_then(|it| it.storage.clone())
    };
    if asked.is_some() && on("rootdir").find(fits).is_none() {
        let known: Vec<&str> = on("rootdir").filter_map(|it| it.storage.as_deref()).collect();
        let text = format!("no such storage for containers (rootdir) there; there are: {}", known.join(", "));
        return Err(Error::field("storage", text));
    }
    let disks: Vec<&Resource> =
        on("rootdir").filter(fits).filter(|it| it.makes_linked_clones(Kind::Lxc)).collect();
    if disks.is_empty() {
        let text = "no storage for containers (rootdir) that the token sees there makes linked clones: lvmthin, \
                    zfspool, rbd and btrfs do";
        return Err(Error::new(Code::LinkedCloneUnsupported, text));
    }
    let with_archives = disks.into_iter().filter_map(|it| Some((it, archives_of(&it.node)?)));
    let Some((disk, archives)) = with_archives.max_by_key(|(it, _)| it.free()) else {
        return Err(match &request.template_storage {
            Some(_) => Error::field("templateStorage", "no such storage for templates (vztmpl) there"),
            None => Error::new(
                Code::PveForbidden,
                "the token sees no storage for templates (content vztmpl): give it Datastore.Audit and \
                 Datastore.AllocateTemplate on one",
            ),
        });
    };
    let bridge = match request.bridge.as_ref().or(cluster.settings.bridge.as_ref()) {
        Some(bridge) => bridge.clone(),
        None => bridge(cluster, &disk.node).await?,
    };
    let storage = disk.storage.clone().unwrap_or_default();
    Ok(Target { node: disk.node.clone(), kind: Kind::Lxc, storage, archives, bridge })
}

/// Those of online nodes that take such content.
fn storages<'a>(inventory: &'a Inventory, content: &'static str) -> impl Iterator<Item = &'a Resource> {
    let takes = move |it: &&Resource| it.kind == "storage" && it.status == "available" && it.takes(content);
    inventory.others.iter().filter(takes).filter(|it| inventory.is_online(&it.node))
}

async fn bridge<I: Io>(cluster: &Cluster<'_, I>, node: &str) -> Result<String, Error> {
    let all = cluster.send(cluster.pve.bridges(node)).await?;
    let names: Vec<&str> = all.iter().filter_map(|it| it.get("iface")?.as_str()).collect();
    let first = names.iter().find(|it| **it == "vmbr0").or(names.first());
    first.map(|it| (*it).to_owned()).ok_or_else(|| {
        let text = format!("the token sees no bridge of node {node}: give it SDN.Use on one, or name it");
        Error::new(Code::PveForbidden, text)
    })
}
