//! The claim: a clone, which PVE executes at most once for a VMID (rule S2.3).

use super::{
    Claimed,
    daemon::TemplatesDaemon,
    failed::clone_failed,
    queue::{Queue, chance},
    source::target,
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::{PveError, config::Config, guest::NewGuest, task::Upid},
        cluster::Cluster,
        guest::{
            Located,
            claimed::{is_same_claim, taken_by_unknown},
            hello::NO_KEY,
            located::was_destroyed,
            network, reach,
            wait::end_of_task,
        },
        inventory::{Inventory, Template},
        marks::{Mark, Notes},
        reserve,
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
    deadline: Deadline<'_, I>,
) -> Result<Claimed, Error> {
    let mut vmids = vmids.iter().copied();
    let mut vmid = vmids.next();
    let mut queue = Queue::new(sources, cluster.now());
    deadline.pause(pace::arrival_delay(chance(cluster, 0))).await;
    loop {
        let source = queue.source()?.clone();
        let config = cluster.send(cluster.pve.guest(&source.node, source.kind, source.vmid).config()).await;
        let config = config.map_err(|error| of_source(error, &source))?;
        if !source.is_still(&config) {
            queue.without(&source, another(&source))?;
            continue;
        }
        if !config.is_finished_template() {
            queue.without(&source, no_template(&source, &config))?;
            continue;
        }
        let daemon = TemplatesDaemon::of(source.vmid, &config);
        if !daemon.is_known(cluster) {
            queue.without(
                &source,
                Error::new(Code::GuestKeys, format!("of template {}, {NO_KEY}", source.vmid)),
            )?;
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
            let mark = daemon.of_sandbox(Mark { gateway, ..mark });
            match attempt(cluster, &source, &mark, target.as_deref(), deadline).await? {
                Attempt::Claimed(claimed) => return Ok(*claimed),
                Attempt::Taken => {
                    vmid = vmids.next();
                    continue;
                }
                Attempt::Busy(lock) => queue.busy(&source, lock.as_deref()),
            }
        }
        if deadline.keeping(reserve::CLAIM).is_over() {
            return Err(queue.gave_up(cluster));
        }
        deadline.pause(queue.patience(cluster)).await;
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

/// The listing is older than the config.
fn another(source: &Template) -> Error {
    let text =
        format!("guest {} is another one by now than the template that was listed; ask again", source.vmid);
    Error::new(Code::TemplateNotFound, text).retry_after(2)
}

/// The result of an attempt to clone.
enum Attempt {
    Claimed(Box<Claimed>),
    /// A stranger has that VMID.
    Taken,
    /// The source is locked again, and this is its lock.
    Busy(Option<String>),
}

/// The clone that an attempt sends, as often as it has to.
struct Sent<'a> {
    source: &'a Template,
    mark: &'a Mark,
    /// The task of a VM's clone that PVE has accepted.
    task: Option<Upid>,
    /// Whether a clone that was not answered may be executed late.
    unanswered: bool,
}

/// The step that follows on a clone that PVE has not accepted.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The VMID exists: find out whose it is.
    Identify,
    /// The source is locked: queue for it again.
    Queue,
    /// Send the same clone again.
    Again,
    /// PVE refuses it.
    Fail,
}

/// Decides from PVE's error; `unanswered` says whether this clone, or one before it, may be executed late.
fn decide(error: &PveError, unanswered: bool) -> Next {
    let locked = error.is_locked();
    if error.is_taken() {
        Next::Identify
    } else if locked && !unanswered {
        Next::Queue
    } else if locked || unanswered || error.is_never_sent() {
        Next::Again
    } else {
        Next::Fail
    }
}

/// One clone, repeated only while PVE cannot have executed it, or where repeating it is harmless: same
/// VMID, same nonce (rule S2.4).
async fn attempt<I: Io>(
    cluster: &Cluster<'_, I>,
    source: &Template,
    mark: &Mark,
    target: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Attempt, Error> {
    let description = description(cluster, mark)?;
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
    let mut sent = Sent { source, mark, task: None, unanswered: false };
    let mut wait = deadline.keeping(reserve::CLAIM).paced(pace::RETRY);
    loop {
        let call = cluster.pve.guest(&source.node, source.kind, source.vmid).clone_to(&new);
        let error = match cluster.send(call).await {
            Ok(upid) if source.kind == Kind::Lxc => {
                return Ok(claimed(mark.clone(), &mark.node, Some(upid), true));
            }
            Ok(upid) => {
                deadline.paced(pace::CLONE).pause().await;
                sent.task = Some(upid);
                return identify(cluster, &sent, deadline).await;
            }
            Err(error) => error,
        };
        sent.unanswered |= error.may_be_executed();
        match decide(&error, sent.unanswered) {
            Next::Identify => return identify(cluster, &sent, deadline).await,
            Next::Queue => return Ok(Attempt::Busy(error.lock().map(str::to_owned))),
            Next::Fail => return Err(of_source(error, source)),
            Next::Again => {}
        }
        // It may have been executed: then its config shows our nonce.
        if error.may_be_executed()
            && let Ok(config) = cluster.send(cluster.guest(&mark.node, mark).config()).await
            && let Some(found) =
                Located::of(&mark.node, mark.vmid, config).filter(|it| is_same_claim(mark, &it.mark))
        {
            return Ok(claimed(found.mark, &mark.node, None, true));
        }
        if !wait.pause().await {
            if !sent.unanswered {
                return Err(error.into());
            }
            // It may be executed yet: whoever asks next sees whether it was.
            let (node, mark) = (mark.node.clone(), mark.clone());
            let cause = Some(error.into());
            return Ok(Attempt::Claimed(Box::new(Claimed { node, mark, task: None, seen: false, cause })));
        }
    }
}

/// The description of a clone: the intent.
fn description<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> Result<String, Error> {
    let links = reach::links(cluster.settings, mark.vmid, None);
    let notes = Notes { existing: "", mark, links: &links, exec_token: None };
    notes.write().ok_or_else(|| Error::field("metadata", "is too large for the guest's description"))
}

fn claimed(mark: Mark, node: &str, task: Option<Upid>, seen: bool) -> Attempt {
    Attempt::Claimed(Box::new(Claimed { node: node.to_owned(), mark, task, seen, cause: None }))
}

/// The result of a look at the VMID at which a clone was to make a guest.
enum Look {
    /// A guest of this request, or of one with the same key.
    Ours(Box<Mark>),
    /// A guest of this key that its owner has deleted, and that a late clone has made again (rule S2.6).
    Deleted,
    /// Another's guest.
    Stranger,
    /// A guest that does not tell yet whose it is, or nothing.
    Unknown,
    /// No guest, and no clone that could make one.
    Nothing,
}

/// Finds out whose a VMID is that exists, or that a VM's clone which PVE has accepted is to make.
///
/// A VM's clone takes its VMID in the worker, under that VMID's lock on the node, and only where no config
/// is (qemu-server `API2/Qemu.pm` `clone_vm`); pmxcfs refuses it where another node has one. So of any number
/// of clones one makes the guest and the others end in an error and touch nothing (rule S2.4). Another VMID
/// is drawn only once ours has so ended: else both could be made.
async fn identify<I: Io>(
    cluster: &Cluster<'_, I>,
    sent: &Sent<'_>,
    deadline: Deadline<'_, I>,
) -> Result<Attempt, Error> {
    let Sent { source, mark, task, unanswered } = sent;
    let mut node = if task.is_some() { source.node.clone() } else { mark.node.clone() };
    let mut wait = deadline.keeping(reserve::CLAIM).paced(pace::RETRY);
    loop {
        let look = look(cluster, sent, &mut node, deadline).await?;
        let is_strange = matches!(look, Look::Stranger);
        match look {
            Look::Ours(found) => {
                let task = task.clone().filter(|_| found.nonce == mark.nonce);
                return Ok(claimed(*found, &node, task, true));
            }
            Look::Deleted => return Ok(Attempt::Taken),
            Look::Nothing => return Ok(Attempt::Busy(None)),
            Look::Stranger if sent.is_over(cluster).await => return Ok(Attempt::Taken),
            Look::Stranger | Look::Unknown => {}
        }
        if !wait.pause().await {
            return match !is_strange && (*unanswered || task.is_some()) {
                true => Ok(claimed((*mark).clone(), &mark.node, task.clone(), false)),
                false => Err(taken_by_unknown(mark.vmid)),
            };
        }
    }
}

impl Sent<'_> {
    /// Whether no clone of ours can make the guest any more.
    async fn is_over<I: Io>(&self, cluster: &Cluster<'_, I>) -> bool {
        match &self.task {
            Some(task) => end_of_task(cluster, Some(task)).await.is_some(),
            None => self.mark.kind == Kind::Lxc || !self.unanswered,
        }
    }
}

/// Looks at the VMID of a clone. `node` follows a guest that a listing shows on another node.
async fn look<I: Io>(
    cluster: &Cluster<'_, I>,
    sent: &Sent<'_>,
    node: &mut String,
    deadline: Deadline<'_, I>,
) -> Result<Look, Error> {
    let mark = sent.mark;
    let config = match cluster.send(cluster.guest(node, mark).config()).await {
        Ok(config) => config,
        Err(error) if error.is_missing() => return look_at_listing(cluster, sent, node).await,
        Err(error) if !error.is_forbidden() && deadline.has_passed() => return Err(error.into()),
        Err(_) => return Ok(Look::Unknown),
    };
    let unknown = config.is_unknown_yet();
    let Some(found) = Located::of(node, mark.vmid, config).filter(|it| is_same_claim(mark, &it.mark)) else {
        return Ok(if unknown { Look::Unknown } else { Look::Stranger });
    };
    if found.mark.nonce != mark.nonce && was_destroyed(cluster, node, &found.mark).await? {
        return Ok(Look::Deleted);
    }
    Ok(Look::Ours(Box::new(found.mark)))
}

/// Looks for a guest that its node does not know: of another kind, or on another node, where the same key
/// may have made it. The listing tells.
async fn look_at_listing<I: Io>(
    cluster: &Cluster<'_, I>,
    Sent { mark, task, .. }: &Sent<'_>,
    node: &mut String,
) -> Result<Look, Error> {
    let ended = end_of_task(cluster, task.as_ref()).await;
    if let Some(Err(cause)) = &ended
        && !cause.is_outdone()
    {
        return Err(clone_failed(cause, mark));
    }
    if task.is_some() && ended.is_none() {
        return Ok(Look::Unknown);
    }
    let inventory = Inventory::read(cluster).await?;
    match inventory.guest(mark.vmid) {
        Some(guest) if guest.kind != mark.kind => return Ok(Look::Stranger),
        Some(guest) => node.clone_from(&guest.row.node),
        None if ended.is_some() => return Ok(Look::Nothing),
        None => {}
    }
    Ok(Look::Unknown)
}

/// PVE's error about the template rather than about the request.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pve::api::Refusal;

    #[test]
    fn a_clone_is_sent_again_only_for_the_same_vmid() {
        let refused = |status, text: &str| {
            PveError::Refused(Refusal { status, message: text.to_owned(), errors: Vec::new() })
        };
        for (error, before, after) in [
            (refused(500, "CT 200 already exists on node 'pve1'"), Next::Identify, Next::Identify),
            (refused(500, "unable to create CT 200: File exists"), Next::Identify, Next::Identify),
            (refused(500, "CT is locked (disk)"), Next::Queue, Next::Again),
            (refused(500, "can't lock file '/x' - got timeout"), Next::Queue, Next::Again),
            (refused(595, ""), Next::Again, Next::Again),
            (refused(500, "storage 'x' is not online"), Next::Fail, Next::Again),
        ] {
            assert_eq!(decide(&error, false), before, "{error}");
            // One that may be executed late is never given up for another VMID.
            assert_eq!(decide(&error, true), after, "{error}");
        }
    }
}
