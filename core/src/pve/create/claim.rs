//! The claim: a clone, which PVE executes at most once for a VMID (rule S2.3).

use time::OffsetDateTime;

use super::{
    Claimed,
    failed::clone_failed,
    queue::{Queue, chance},
    source::target,
};
use crate::{
    error::{Code, Error},
    io::{
        Io,
        pace::{self, Wait},
    },
    pve::{
        api::{PveError, config::Config, guest::NewGuest, task::Upid},
        cluster::Cluster,
        guest::{
            claimed::{RESERVE, taken_by_unknown},
            network,
            place::was_destroyed,
            reach,
            wait::ended,
        },
        inventory::{Inventory, Template},
        marks::{self, Mark, Notes, Reading},
    },
    sandbox::{id::Kind, vmid::Vmid},
};

/// Claims one of `vmids` by cloning one of `sources`, or leaves nothing behind.
pub(super) async fn claim<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    sources: &[Template],
    vmids: &[Vmid],
    intent: impl Fn(Vmid, &str, &Template) -> Mark,
    deadline: OffsetDateTime,
) -> Result<Claimed, Error> {
    let mut vmids = vmids.iter().copied();
    let mut vmid = vmids.next();
    let mut queue = Queue::new(sources, cluster.now());
    cluster.sleep(pace::arrival_delay(chance(cluster, 0)), deadline).await;
    loop {
        let source = queue.source()?.clone();
        let config = cluster.send(cluster.pve.guest(&source.node, source.kind, source.vmid).config()).await;
        let config = config.map_err(|error| of_source(error, &source))?;
        if !config.is_finished_template() {
            queue.without(&source, no_template(&source, &config))?;
            continue;
        }
        if let Some(lock) = &config.lock {
            queue.locked(cluster, lock).await?;
        } else {
            let target = target(cluster, inventory, &source, &config);
            let at = vmid.ok_or_else(|| {
                let text = "others took every VMID that was drawn; ask again";
                Error::new(Code::NoFreeVmid, text).retry_after(1)
            })?;
            let gateway = network::gateway(&config, source.vmid);
            // With a gateway that nobody has set the pool does not leave it out.
            let address = cluster.settings.ip_pool.as_ref().and_then(|it| it.address(at));
            if address.is_some() && address == gateway {
                vmid = vmids.next();
                continue;
            }
            let mark = intent(at, target.as_deref().unwrap_or(&source.node), &source);
            let mark = Mark { gateway, ..mark };
            match attempt(cluster, &source, &mark, target.as_deref(), deadline).await? {
                Attempt::Claimed(claimed) => return Ok(*claimed),
                Attempt::Taken => {
                    vmid = vmids.next();
                    continue;
                }
                Attempt::Busy(lock) => queue.busy(&source, lock.as_deref()),
            }
        }
        if cluster.now() >= deadline || cluster.left() <= RESERVE {
            return Err(queue.gave_up(cluster));
        }
        cluster.sleep(queue.patience(cluster), deadline).await;
    }
}

fn no_template(source: &Template, config: &Config) -> Error {
    if source.own.is_some() || config.template == Some(true) {
        return Error::new(Code::TemplateBusy, "this snapshot is still being made").retry_after(3);
    }
    let text = format!(
        "guest {} is tagged as a template and is none: {} template {0}",
        source.vmid,
        source.kind.tool()
    );
    Error::new(Code::NotATemplate, text)
}

enum Attempt {
    Claimed(Box<Claimed>),
    /// A stranger has that VMID.
    Taken,
    /// The source is locked again, and this is its lock.
    Busy(Option<String>),
}

/// One clone, repeated only while PVE cannot have executed it, or where repeating it is harmless (rule S2.4):
/// same VMID, same nonce.
async fn attempt<I: Io>(
    cluster: &Cluster<'_, I>,
    source: &Template,
    mark: &Mark,
    target: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<Attempt, Error> {
    let links = reach::links(cluster.settings, mark.vmid, None);
    let notes = Notes { existing: "", mark, links: &links, exec_token: None };
    let too_long = || Error::field("metadata", "is too large for the guest's description");
    let description = notes.write().ok_or_else(too_long)?;
    let hostname = reach::hostname(mark.vmid);
    let new = NewGuest {
        newid: mark.vmid,
        name: &hostname,
        description: &description,
        target,
        storage: None,
        snapname: None,
        full: false,
    };
    let mut unanswered = false;
    let mut wait = Wait::new(cluster, pace::RETRY, deadline).keeping(RESERVE);
    loop {
        let call = cluster.pve.guest(&source.node, source.kind, source.vmid).clone_to(&new);
        let node = mark.node.clone();
        let claimed = |mark: &Mark, task, seen| {
            let (node, mark) = (node.clone(), mark.clone());
            Claimed { node, mark, task, seen, cause: None }
        };
        let error = match cluster.send(call).await {
            Ok(upid) if source.kind == Kind::Lxc => {
                return Ok(Attempt::Claimed(Box::new(claimed(mark, Some(upid), true))));
            }
            Ok(upid) => {
                Wait::new(cluster, pace::CLONE, deadline).pause().await;
                return whose(cluster, &Sent { source, mark, task: Some(upid), unanswered }, deadline).await;
            }
            Err(error) => error,
        };
        if error.is_taken() {
            return whose(cluster, &Sent { source, mark, task: None, unanswered }, deadline).await;
        }
        let again = error.is_never_sent() || error.is_unanswered();
        unanswered |= error.is_unanswered();
        if error.is_unanswered() {
            // It may have been executed: then its config shows our nonce.
            if let Ok(found) =
                cluster.send(cluster.pve.guest(&mark.node, mark.kind, mark.vmid).config()).await
                && let Some(found) = ours(mark, &found.tags, &found.description)
            {
                return Ok(Attempt::Claimed(Box::new(claimed(&found, None, true))));
            }
        }
        let locked = error.lock().is_some() || error.is_lock_timeout();
        if !unanswered && locked {
            return Ok(Attempt::Busy(error.lock().map(str::to_owned)));
        }
        if !(again || locked || unanswered) {
            return Err(of_source(error, source));
        }
        if !wait.pause().await {
            // It may be executed yet: whoever asks next sees whether it was.
            return match unanswered {
                true => Ok(Attempt::Claimed(Box::new(Claimed {
                    cause: Some(error.into()),
                    ..claimed(mark, None, false)
                }))),
                false => Err(error.into()),
            };
        }
    }
}

/// A clone that was sent, and whose VMID it is now.
struct Sent<'a> {
    source: &'a Template,
    mark: &'a Mark,
    /// Of a VM's clone that PVE has accepted.
    task: Option<Upid>,
    /// Whether another one, not answered, may be executed late.
    unanswered: bool,
}

/// The VMID exists, or a VM's clone that PVE has accepted shall make it exist:
/// is it ours, a stranger's, or not known yet?
///
/// A VM's clone takes its VMID in the worker, under that VMID's lock on the node, and only where no config is
/// (qemu-server `API2/Qemu.pm` `clone_vm`); pmxcfs refuses it where another node has one. So of any number of
/// clones one makes the guest and the others end in an error and touch nothing (rule S2.4). Another VMID is
/// drawn only once ours has so ended: else both could be made.
async fn whose<I: Io>(
    cluster: &Cluster<'_, I>,
    sent: &Sent<'_>,
    deadline: OffsetDateTime,
) -> Result<Attempt, Error> {
    let Sent { source, mark, task, unanswered } = sent;
    let mut node = if task.is_some() { source.node.clone() } else { mark.node.clone() };
    let mut wait = Wait::new(cluster, pace::RETRY, deadline).keeping(RESERVE);
    loop {
        let claimed = |mark: Mark, node: &str, task, seen| {
            Attempt::Claimed(Box::new(Claimed { node: node.to_owned(), mark, task, seen, cause: None }))
        };
        let mut strange = false;
        match cluster.send(cluster.pve.guest(&node, mark.kind, mark.vmid).config()).await {
            Ok(config) => {
                if let Some(found) = ours(mark, &config.tags, &config.description) {
                    let another = found.nonce != mark.nonce;
                    // What a late clone has brought back after its deletion is nobody's to go on with.
                    if another && was_destroyed(cluster, &node, &found).await? {
                        return Ok(Attempt::Taken);
                    }
                    let task = task.clone().filter(|_| !another);
                    return Ok(claimed(found, &node, task, true));
                }
                strange = !config.is_unknown_yet();
            }
            // Of another kind, or on another node, where the same key may have made it: the listing knows.
            Err(error) if error.is_missing() => {
                let ended = ended(cluster, task.as_ref()).await;
                if let Some(Err(cause)) = &ended
                    && !cause.is_outdone()
                {
                    return Err(clone_failed(cause, mark));
                }
                if task.is_none() || ended.is_some() {
                    let inventory = Inventory::read(cluster).await?;
                    match inventory.guest(mark.vmid) {
                        Some(guest) if guest.kind != mark.kind => strange = true,
                        Some(guest) => node.clone_from(&guest.row.node),
                        None if ended.is_some() => return Ok(Attempt::Busy(None)),
                        None => {}
                    }
                }
            }
            Err(error) if matches!(&error, PveError::Refused(it) if it.status == 403) => {}
            Err(error) if cluster.now() >= deadline => return Err(error.into()),
            Err(_) => {}
        }
        let over = match task {
            Some(_) if strange => ended(cluster, task.as_ref()).await.is_some(),
            Some(_) => false,
            None => mark.kind == Kind::Lxc || !unanswered,
        };
        if strange && over {
            return Ok(Attempt::Taken);
        }
        if !wait.pause().await {
            return if !strange && (*unanswered || task.is_some()) {
                Ok(claimed((*mark).clone(), &mark.node, task.clone(), false))
            } else {
                Err(taken_by_unknown(mark.vmid))
            };
        }
    }
}

/// The mark of a guest that this request made, or one with the same key.
fn ours(mark: &Mark, tags: &Option<String>, description: &Option<String>) -> Option<Mark> {
    let reading = marks::read(mark.vmid, tags.as_deref(), description.as_deref());
    let (Reading::Intent(found) | Reading::Committed(found)) = reading else { return None };
    let same_owner = found.deployment == mark.deployment && found.team == mark.team;
    let same = found.nonce == mark.nonce || (mark.key.is_some() && found.key == mark.key);
    (same_owner && same).then_some(found)
}

/// What PVE says about the template rather than about the request.
fn of_source(error: PveError, source: &Template) -> Error {
    let Template { vmid, node, .. } = source;
    if error.is_missing() {
        return Error::new(
            Code::TemplateNotFound,
            format!("template {vmid} is not on node {node} any more; ask again"),
        )
        .retry_after(2);
    }
    if error.is_bound_to_node() {
        let text = format!("{error}; unset PVE_NODE, or put a template on that node");
        return Error::new(Code::TemplateElsewhere, text);
    }
    error.into()
}
