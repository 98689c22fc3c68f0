//! Templates from nothing: an archive, a container of it, and that made a
//! version of a preset; or a copy of another template, of VMs too.
//!
//! The download needs no memory: whoever asks again finds the file, or the
//! task. From the claim on the container carries the intent, and whoever asks
//! next, or the sweep, does the next missing thing. What only root can do is
//! told as commands, and looked for at each step.

pub(crate) mod advance;
mod build;
mod claim;
mod confirm;
mod delete;
mod download;
mod locate;
mod machine;
mod request;
mod root;
mod target;
pub(crate) mod version;
pub(crate) mod vmid;

pub(crate) use self::{advance::discard, locate::find};
pub use self::{
    advance::{Advanced, advance},
    confirm::confirm,
    delete::delete,
};
use self::{
    claim::{Claimed, claim},
    download::{Archive, fetch},
    target::{Target, beside, source, target},
    vmid::{candidates, vmids_of_key},
};
use super::{
    api::{LATE_SECONDS, PveError},
    cluster::Cluster,
    guest::{
        Located,
        claimed::{read_claimed, taken_by_unknown},
        copied::failed_copy,
        wait::failure_of_task,
    },
    inventory::Inventory,
    marks::{Base, Mark, Role, Want},
};
pub use crate::sandbox::template::{Confirmation, Execd, TemplateRequest};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        creation::Key,
        id::{Kind, SandboxId, SourceId},
        nonce::Origin,
        template::{Built, Status, Step, Template, TemplateDaemon},
        vmid::Vmid,
    },
    text::rfc3339::stamp,
};

impl Template {
    fn building(id: &SandboxId) -> Self {
        Self {
            id: Some(id.to_string()),
            vmid: Some(id.vmid),
            node: id.node.clone(),
            preset_id: None,
            snapshot_id: None,
            status: Status::Building,
            step: Some(Step::Creating),
            output: String::new(),
            daemon: None,
            created_at: Some(stamp(id.nonce.birth())),
            archive: None,
            commands: Vec::new(),
        }
    }

    fn of(mark: &Mark, status: Status) -> Self {
        let version = mark.snapshot.as_ref().and_then(SourceId::preset);
        Self {
            preset_id: mark.base.as_ref().map(|it| it.preset.clone()),
            snapshot_id: version.filter(|_| status == Status::Ready).cloned(),
            status,
            step: None,
            daemon: mark.commands.and_then(TemplateDaemon::of),
            ..Self::building(&mark.id())
        }
    }

    fn downloading(request: &TemplateRequest, node: String, archive: String) -> Self {
        Self {
            id: None,
            vmid: None,
            node,
            preset_id: request.preset.clone(),
            snapshot_id: None,
            status: Status::Downloading,
            step: None,
            output: String::new(),
            daemon: request.daemon(),
            created_at: None,
            archive: Some(archive),
            commands: Vec::new(),
        }
    }
}

/// Makes a template, or goes on with the one that the same key began; and
/// whether it was that. Returns when it is ready, root has to do something, or
/// `deadline` has passed.
pub async fn build<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    request: &TemplateRequest,
    key: Option<(&str, &str)>,
    deadline: Deadline<'_, I>,
) -> Result<Built, Error> {
    caller.ensure_admin("presets are everybody's")?;
    let (mut base, defaults) = request.check()?;
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let key = key.map(|(key, body)| {
        Key::new(&cluster.settings.secrets, &cluster.settings.deployment, caller, "template-key", key, body)
    });
    if let Some(key) = &key
        && let Some(found) = find_replay(cluster, caller, &inventory, key, deadline).await?
    {
        let template = carry_on(cluster, found, deadline).await?;
        return Ok(Built { template, replayed: true });
    }
    inventory.room_for_tags()?;
    let copied = request.from_template.map(|vmid| source(cluster, &inventory, caller, vmid)).transpose()?;
    match copied.as_ref().filter(|it| it.kind == Kind::Qemu) {
        Some(source) => {
            // A VM in which nothing is built is not started, and as clean as the one that is copied.
            base.build = base.build.take().filter(|it| !it.is_empty());
            machine::check(cluster, &base, source).await?;
        }
        None => leave_to_root(cluster, &mut base)?,
    }
    let (target, archive) = match &copied {
        Some(source) => {
            (beside(cluster, &inventory, source, request.storage.as_deref()).await?, String::new())
        }
        None => {
            let target = target(cluster, &inventory, request).await?;
            match fetch(cluster, request, &target, deadline).await? {
                Archive::There(volid) => (target, volid),
                Archive::Underway(volid) => {
                    let template = Template::downloading(request, target.node, volid);
                    return Ok(Built { template, replayed: false });
                }
            }
        }
    };
    let vmids = candidates(cluster, &inventory, key.as_ref())?;
    let intent = |vmid| Mark {
        commands: request.channel(target.kind),
        defaults: defaults.clone(),
        ..intent(cluster, caller, &target, key.as_ref(), vmid, &base)
    };
    let intents: Vec<Mark> = vmids.into_iter().map(intent).collect();
    let claimed = claim(cluster, request, (&target, copied.as_ref()), &archive, &intents, deadline).await?;
    // A claim of another request with the same key carries that one's nonce.
    let replayed = match &claimed {
        Claimed::Known(found) => found.mark.nonce.origin() != Origin::of(cluster),
        Claimed::Unknown(_) => false,
    };
    match claimed {
        Claimed::Unknown(id) => Ok(Built { template: Template::building(&id), replayed: false }),
        Claimed::Known(found) => {
            if let Some(key) = key.as_ref().filter(|_| replayed) {
                key.check(found.mark.body.as_deref())?;
            }
            let template = carry_on(cluster, *found, deadline).await?;
            Ok(Built { template, replayed })
        }
    }
}

/// Leaves a container to root into which root alone puts anything, and what goes through its console where this
/// deployment opens no websockets.
fn leave_to_root<I: Io>(cluster: &Cluster<'_, I>, base: &mut Base) -> Result<(), Error> {
    let Some(build) = &mut base.build else { return Ok(()) };
    if cluster.io.has_links() {
        build.by_root = !base.execd && build.is_empty();
        return Ok(());
    }
    if !build.packages.is_empty() || !build.run.is_empty() {
        let text = "packages and run go through the container's console, and this deployment opens no websockets: \
                    build it by another one, or put them in by hand and say fromTemplate";
        return Err(Error::new(Code::Unsupported, text));
    }
    build.by_root = true;
    Ok(())
}

/// A template that was made from nothing; one that is still being made is carried on.
pub async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Template, Error> {
    match find_own(cluster, caller, id).await {
        Ok(found) => carry_on(cluster, found, deadline).await,
        Err(error) if error.code() == Code::StillCreating => Ok(Template::building(id)),
        Err(error) if error.code() == Code::NotFound => explain_absence(cluster, id, error).await,
        Err(error) => Err(error),
    }
}

/// Deletes one, made or half made, that no sandbox is linked to.
pub async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    find_own(cluster, caller, id).await?;
    delete(cluster, caller, id, None, deadline).await
}

/// Finds one that was made from nothing.
async fn find_own<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Located, Error> {
    caller.ensure_admin("presets are everybody's")?;
    let absent = || Error::new(Code::NotFound, format!("there is no template {id}"));
    let found = find(cluster, caller, id).await.map_err(|error| match error.code() {
        Code::NotFound => absent(),
        _ => error,
    })?;
    if found.mark.base.is_some() { Ok(found) } else { Err(absent()) }
}

/// Carries a template on that was made from nothing.
async fn carry_on<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    deadline: Deadline<'_, I>,
) -> Result<Template, Error> {
    let node = found.node.clone();
    let Advanced { mark, ready, commands, failed, step, output, .. } =
        advance(cluster, found, deadline).await?;
    let status = match (ready, failed, commands.is_empty()) {
        (true, ..) => Status::Ready,
        (_, true, _) => Status::Failed,
        (_, _, true) => Status::Building,
        (_, _, false) => Status::NeedsRoot,
    };
    let step = matches!(status, Status::Building | Status::Failed).then_some(step);
    Ok(Template { commands, node, step, output, ..Template::of(&mark, status) })
}

/// Nowhere: not made yet, made in vain, or deleted. The task tells.
async fn explain_absence<I: Io>(
    cluster: &Cluster<'_, I>,
    id: &SandboxId,
    error: Error,
) -> Result<Template, Error> {
    if !cluster.settings.template_range.contains(id.vmid) || id.node.is_empty() {
        return Err(error);
    }
    if Inventory::read(cluster).await?.guest(id.vmid).is_some() {
        return Err(error);
    }
    let since = id.nonce.birth().unix_timestamp();
    let tasks = cluster.send(cluster.pve.tasks_of(&id.node, CREATES, id.vmid, since)).await?;
    match tasks.iter().find(|it| it.is_since(CREATES, id.vmid, since)) {
        Some(task) if task.is_running() => return Ok(Template::building(id)),
        Some(task) if !task.has_succeeded() => {
            return Err(creation_failed(&failure_of_task(cluster, task).await));
        }
        Some(_) => return Err(error),
        None => {}
    }
    let kind = id.kind().destroys();
    let gone = cluster.send(cluster.pve.tasks_of(&id.node, kind, id.vmid, since)).await?;
    if gone.iter().any(|it| it.is_since(kind, id.vmid, since)) {
        return Err(error);
    }
    let cause = failed_copy(cluster, id, true).await;
    let age = cluster.now().unix_timestamp() - since;
    if (-LATE_SECONDS..LATE_SECONDS).contains(&age) {
        // It may be executed late.
        let output = cause.map(|it| it.to_string()).unwrap_or_default();
        return Ok(Template { output, ..Template::building(id) });
    }
    Err(cause.unwrap_or(error))
}

/// Type of PVE's task that makes a container of an archive.
const CREATES: &str = "vzcreate";

fn creation_failed(cause: &PveError) -> Error {
    cause.problem(Code::TaskFailed, "PVE could not make the guest")
}

/// The template that this key began before, if any.
async fn find_replay<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    inventory: &Inventory,
    key: &Key,
    deadline: Deadline<'_, I>,
) -> Result<Option<Located>, Error> {
    for guest in vmids_of_key(cluster, key).into_iter().filter_map(|it| inventory.guest(it)) {
        let Some((node, config)) = read_claimed(cluster, guest, deadline).await? else {
            // One that is there and not to be seen may be what this key made.
            match Inventory::read(cluster).await?.guest(guest.vmid) {
                Some(_) => return Err(taken_by_unknown(guest.vmid)),
                None => continue,
            }
        };
        let Some(found) = Located::of(&node, guest.vmid, config) else { continue };
        let mark = &found.mark;
        let same = mark.key == Some(key.hash) && mark.team == caller.team.as_str() && mark.base.is_some();
        if !same || !mark.is_seen_by(caller, &cluster.settings.deployment) {
            continue;
        }
        key.check(mark.body.as_deref())?;
        if mark.want == Want::Gone {
            let text = "what this Idempotency-Key made is being deleted; use a new key to make another";
            return Err(Error::new(Code::Condemned, text));
        }
        return Ok(Some(found));
    }
    Ok(None)
}

/// The mark of the guest that PVE shall make at `vmid`.
fn intent<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    target: &Target,
    key: Option<&Key>,
    vmid: Vmid,
    base: &Base,
) -> Mark {
    let (deployment, team) = (&cluster.settings.deployment, &caller.team);
    Mark {
        node: target.node.clone(),
        role: Role::Template,
        key: key.map(|it| it.hash),
        body: key.and_then(Key::request_hash),
        base: Some(base.clone()),
        ..Mark::claimed(deployment, team.as_str(), vmid, target.kind, cluster.nonce(target.kind, vmid))
    }
}
