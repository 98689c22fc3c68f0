//! Carrying on a template that is being made.

use time::OffsetDateTime;

use super::{root, version};
use crate::{
    error::{Code, Error},
    io::{
        Io,
        pace::{self, Wait},
    },
    pve::{
        api::{LATE_SECONDS, config::Config},
        cluster::Cluster,
        guest::{commit, place::was_destroyed},
        inventory::Inventory,
        marks::{self, Mark, Reading, Want, What},
    },
    sandbox::id::SourceId,
};

/// How far a template has come.
#[derive(Debug)]
pub struct Advanced {
    /// What we keep about it.
    pub mark: Mark,
    /// Whether it is offered.
    pub ready: bool,
    /// What root has to do before it goes on.
    pub commands: Vec<String>,
    /// Whether PVE refuses to make a template of it.
    pub refused: bool,
}

/// Does the next missing thing for a template that is being made, until it is
/// offered, root has to do something, or `deadline` has passed.
pub async fn advance<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mut config: Config,
    mut mark: Mark,
    deadline: OffsetDateTime,
) -> Result<Advanced, Error> {
    let guest = cluster.pve.guest(node, mark.kind, mark.vmid);
    let mut wait = Wait::new(cluster, pace::TASK, deadline).keeping(4);
    let (mut is_alone, mut refused) = (false, false);
    loop {
        if config.lock.is_none() {
            let reading = Reading::of(mark.vmid, &config);
            match reading {
                Reading::Committed(now) if now.nonce == mark.nonce && config.is_finished_template() => {
                    discard(cluster, node, &mark).await;
                    return offer(cluster, node, &config, now).await;
                }
                // Its disks are being made base volumes; where that was given up, once more (rule S8.5).
                Reading::Committed(now) if now.nonce == mark.nonce && config.template == Some(true) => {
                    let since = now.doing.as_ref().map_or(0, |it| it.since);
                    if cluster.now().unix_timestamp() - since >= LATE_SECONDS {
                        let disk = config.boot_disk().map(|(name, _)| name);
                        let _ = cluster.send(guest.make_template(disk)).await;
                    }
                }
                Reading::Committed(now) if now.nonce == mark.nonce && now.want == Want::On => {
                    mark = now;
                    is_alone = is_alone || alone(cluster, node, &config, &mark).await?;
                    if is_alone {
                        // It answers null, and works on.
                        let made = cluster.send(guest.make_template(None)).await;
                        refused = made.is_err_and(|it| it.is_refusal());
                    }
                }
                Reading::Intent(now) if now.nonce == mark.nonce && now.want == Want::On => {
                    let commands = settle(cluster, node, &config, &mark).await?;
                    if !commands.is_empty() {
                        return Ok(Advanced { mark, ready: false, commands, refused: false });
                    }
                }
                _ => return Err(Error::new(Code::NotFound, "the template was removed meanwhile")),
            }
        }
        if !wait.pause().await {
            return Ok(Advanced { refused, ..unfinished(mark) });
        }
        config = match cluster.send(guest.config()).await {
            Ok(config) => config,
            Err(error) if error.is_missing() => {
                discard(cluster, node, &mark).await;
                return Err(Error::new(Code::CloneFailed, "PVE could not make it: see its task log"));
            }
            Err(error) if error.is_refusal() => return Err(error.into()),
            Err(_) => return Ok(unfinished(mark)),
        };
    }
}

fn unfinished(mark: Mark) -> Advanced {
    Advanced { mark, ready: false, commands: Vec::new(), refused: false }
}

/// The commit of what was claimed, or what root has to do before it.
async fn settle<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<Vec<String>, Error> {
    let mut mark = mark.clone();
    if let Some(base) = &mark.base {
        // Its admin has deleted it, and a late request has brought it back.
        if was_destroyed(cluster, node, &mark).await? {
            return Err(Error::new(Code::Condemned, "this template was deleted"));
        }
        let commands = root::missing(cluster, node, config, &mark, base).await?;
        if !commands.is_empty() {
            return Ok(commands);
        }
        let inventory = Inventory::read(cluster).await?;
        let version = version::next(cluster, &inventory, mark.kind.provider(), &base.preset);
        mark.snapshot = Some(SourceId::Preset(version));
    }
    match commit::template(cluster, node, config, &mark).await {
        Err(commit::Failure::Final(error)) => Err(error),
        // The next look shows whether it was written.
        Ok(()) | Err(commit::Failure::Again(_)) => Ok(Vec::new()),
    }
}

/// Whether no other template has its version; else it is given another one.
async fn alone<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<bool, Error> {
    let Some(another) = version::another(cluster, mark).await? else { return Ok(true) };
    let now = cluster.now().unix_timestamp();
    // Whether it was written, the next look shows.
    let _ = commit::write(cluster, node, config, mark, &|mark| {
        mark.snapshot = Some(another.clone());
        // Its ten minutes begin anew.
        if let Some(doing) = &mut mark.doing {
            doing.since = now;
        }
        Ok(())
    })
    .await?;
    Ok(false)
}

/// The tags of a template that is made: listings tell by them that it is, and find a preset's version.
async fn offer<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: Mark,
) -> Result<Advanced, Error> {
    let version = mark.snapshot.as_ref().and_then(SourceId::preset);
    let offered = marks::template(config.tags.as_deref().unwrap_or_default()).flatten();
    if !mark.is_doing(What::Template) && (version.is_none() || version == offered.as_ref()) {
        return Ok(Advanced { mark, ready: true, commands: Vec::new(), refused: false });
    }
    let offered = commit::write(cluster, node, config, &mark, &|mark| {
        mark.doing = None;
        Ok(())
    });
    match offered.await? {
        Ok(mark) => Ok(Advanced { mark, ready: true, commands: Vec::new(), refused: false }),
        Err(_) => Ok(unfinished(mark)),
    }
}

/// Removes PVE's snapshot of the sandbox, which nothing needs any more; where
/// it stays, it does no harm but on ZFS, where it is in the way of a rollback.
pub(crate) async fn discard<I: Io>(cluster: &Cluster<'_, I>, node: &str, mark: &Mark) {
    let Some(from) = &mark.taken_from else { return };
    let guest = cluster.pve.guest(node, mark.kind, from.vmid);
    let Ok(config) = cluster.send(guest.config()).await else { return };
    let reading = Reading::of(from.vmid, &config);
    if reading.mark().is_some_and(|it| it.nonce == from.nonce) {
        let _ = cluster.send(guest.remove_snapshot(&from.snapname)).await;
    }
}
