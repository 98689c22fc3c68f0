//! The claim: a guest that PVE makes at most once for a VMID.
//!
//! PVE reserves the VMID before it answers and tells whose the container is
//! only when its archive is unpacked (pve-container `API2/LXC.pm` `create_vm`).
//! A VM's clone takes the VMID in its worker alone, and one of any number of clones
//! gets it (rule S2.4).

use super::{
    creation_failed, root,
    target::{Target, still},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::{Call, guest::NewGuest, task::Upid},
        cluster::Cluster,
        guest::{
            Located,
            claimed::{is_same_claim, taken_by_unknown},
            wait::end_of_task,
        },
        inventory::Template,
        marks::{Mark, Notes},
        reserve,
    },
    sandbox::{
        id::{Kind, SandboxId},
        template::TemplateRequest,
        vmid::Vmid,
    },
};

/// What a claim came to.
pub(super) enum Claimed {
    /// It is there, and tells whose it is.
    Known(Box<Located>),
    /// PVE makes it, or may still do so.
    Unknown(SandboxId),
}

/// Claims the VMID of one of `intents`, or leaves nothing behind.
pub(super) async fn claim<I: Io>(
    cluster: &Cluster<'_, I>,
    request: &TemplateRequest,
    (target, source): (&Target, Option<&Template>),
    archive: &str,
    intents: &[Mark],
    deadline: Deadline<'_, I>,
) -> Result<Claimed, Error> {
    for mark in intents {
        let making = match source {
            Some(source) => {
                still(cluster, source).await?;
                Making::Copy(source.vmid, notes(mark)?, request.storage.clone())
            }
            None => Making::New(form(request, target, archive, mark)?),
        };
        if let Some(claimed) = attempt(cluster, &target.node, mark, &making, deadline).await? {
            return Ok(claimed);
        }
    }
    Err(Error::new(Code::NoFreeVmid, "others took every VMID that was drawn; ask again").retry_after(1))
}

/// How PVE is to make the guest.
enum Making {
    /// From an archive, with these options.
    New(Vec<(&'static str, String)>),
    /// As a copy of this template, with these notes, on another storage where one is asked for.
    Copy(Vmid, String, Option<String>),
}

impl Making {
    fn call(&self, cluster: &Cluster<'_, impl Io>, node: &str, mark: &Mark) -> Call<Upid> {
        match self {
            Self::New(form) => {
                let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
                cluster.pve.create_container(node, &form)
            }
            Self::Copy(source, notes, storage) => {
                let new = NewGuest {
                    newid: mark.vmid,
                    name: &hostname(mark.vmid),
                    description: notes,
                    target: None,
                    storage: storage.as_deref(),
                    snapname: None,
                    full: true,
                };
                cluster.pve.guest(node, mark.kind, *source).clone_to(&new)
            }
        }
    }
}

fn hostname(vmid: Vmid) -> String {
    format!("template-{vmid}")
}

/// The notes that say whose the guest is, and what is to be built in it.
fn notes(mark: &Mark) -> Result<String, Error> {
    let notes = Notes { existing: "", mark, links: &[], exec_token: None };
    notes.write().ok_or_else(|| {
        let run = mark.base.as_ref().is_some_and(|it| it.build.as_ref().is_some_and(|it| !it.run.is_empty()));
        let field = if run { "run" } else { "hookscript" };
        Error::field(field, "is too long for the guest's description")
    })
}

fn form(
    request: &TemplateRequest,
    target: &Target,
    archive: &str,
    mark: &Mark,
) -> Result<Vec<(&'static str, String)>, Error> {
    let sizes = request.sizes();
    let mut form = vec![
        ("vmid", mark.vmid.to_string()),
        ("ostemplate", archive.to_owned()),
        ("unprivileged", "1".to_owned()),
        ("rootfs", format!("{}:{}", target.storage, sizes.disk.unwrap_or_default())),
        ("hostname", hostname(mark.vmid)),
        ("description", notes(mark)?),
        ("net0", format!("name=eth0,bridge={},ip=dhcp,type=veth", target.bridge)),
    ];
    // Root's shell, through which it is built.
    if mark.base.as_ref().is_some_and(|it| it.build.is_some()) {
        form.push(("cmode", "shell".into()));
    }
    form.extend(sizes.cpu.map(|it| ("cores", it.to_string())));
    form.extend(sizes.memory.map(|it| ("memory", it.to_string())));
    // All that a token may set of them; the rest is root's.
    let nests = mark.base.as_ref().is_some_and(|it| it.features.split(',').any(|it| it == root::NESTING));
    form.extend(nests.then(|| ("features", root::NESTING.to_owned())));
    Ok(form)
}

/// One guest; `None` when a stranger has that VMID. It is asked for again
/// only where PVE cannot have made it, or where that is harmless: same VMID, same nonce.
async fn attempt<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
    making: &Making,
    deadline: Deadline<'_, I>,
) -> Result<Option<Claimed>, Error> {
    let mut sent = Sent { node, mark, task: None, unanswered: false };
    let mut wait = deadline.keeping(reserve::TEMPLATE).paced(pace::TASK);
    loop {
        let error = match cluster.send(making.call(cluster, node, mark)).await {
            Ok(task) => {
                sent.task = Some(task);
                return identify(cluster, &sent, deadline).await;
            }
            Err(error) if error.is_taken() => return identify(cluster, &sent, deadline).await,
            Err(error) => error,
        };
        sent.unanswered |= error.may_be_executed();
        // Others copy the same source, one after the other.
        if !(error.is_never_sent() || error.is_locked() || sent.unanswered) {
            return Err(error.into());
        }
        if !wait.pause().await {
            return if sent.unanswered { Ok(Some(sent.unknown())) } else { Err(error.into()) };
        }
    }
}

/// A guest that was asked for.
struct Sent<'a> {
    node: &'a str,
    mark: &'a Mark,
    /// Where PVE's answer arrived: a container's VMID is ours.
    task: Option<Upid>,
    /// Whether a request may be executed late.
    unanswered: bool,
}

impl Sent<'_> {
    fn unknown(&self) -> Claimed {
        Claimed::Unknown(self.mark.id())
    }

    /// Whether a VM's clone of ours may still take a VMID that another guest has now: another VMID is not drawn before.
    async fn may_come<I: Io>(&self, cluster: &Cluster<'_, I>) -> bool {
        self.mark.kind == Kind::Qemu
            && match &self.task {
                Some(task) => end_of_task(cluster, Some(task)).await.is_none(),
                None => self.unanswered,
            }
    }
}

/// Finds out whose a VMID is that is taken: ours, a stranger's (`None`), or not known yet.
async fn identify<I: Io>(
    cluster: &Cluster<'_, I>,
    sent: &Sent<'_>,
    deadline: Deadline<'_, I>,
) -> Result<Option<Claimed>, Error> {
    let Sent { node, mark, task, unanswered } = sent;
    let mut wait = deadline.keeping(reserve::TEMPLATE).paced(pace::TASK);
    // Unpacking takes a while.
    if task.is_some() {
        wait.pause().await;
    }
    loop {
        match cluster.send(cluster.guest(node, mark).config()).await {
            Ok(config) if !config.is_unknown_yet() => {
                let found = Located::of(node, mark.vmid, config).filter(|it| is_same_claim(mark, &it.mark));
                if found.is_some() || !sent.may_come(cluster).await {
                    return Ok(found.map(|it| Claimed::Known(Box::new(it))));
                }
            }
            Ok(_) => {}
            Err(error) if error.is_missing() => match end_of_task(cluster, task.as_ref()).await {
                // Another guest was faster: of another kind, or on another node.
                Some(Err(cause)) if mark.kind == Kind::Qemu && cause.is_outdone() && !unanswered => {
                    return Ok(None);
                }
                Some(Err(cause)) if mark.kind == Kind::Qemu && cause.is_outdone() => {}
                Some(Err(cause)) => return Err(creation_failed(&cause)),
                // Another kind of guest, or on another node.
                _ if task.is_none() && !unanswered => return Ok(None),
                _ => {}
            },
            Err(error) if error.is_forbidden() && task.is_none() => return Ok(None),
            Err(error) if error.may_be_executed() || error.is_never_sent() => {}
            Err(error) => return Err(error.into()),
        }
        if !wait.pause().await {
            return if task.is_some() || *unanswered {
                Ok(Some(sent.unknown()))
            } else {
                Err(taken_by_unknown(mark.vmid))
            };
        }
    }
}
