//! Writing marks: the commit of a new guest, and every later change.
//!
//! Each is one PUT of tags and description together, by digest (rule S1.5).

use std::net::Ipv4Addr;

use super::{network, reach};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, PveError, config::Config},
        cluster::Cluster,
        marks::{self, Doing, Mark, Notes, Phase, Reading, Role, Want, What, lifetime},
    },
    sandbox::id::Kind,
};

/// Environment variable by which execd gets its token.
const TOKEN_VARIABLE: &str = "CMUX_EXECD_AUTH_TOKEN";

/// Why a commit did not happen.
#[derive(Debug)]
pub enum Failure {
    /// PVE refuses it for good.
    Final(Error),
    /// Somebody else was faster, or no answer: read and go on.
    Again(PveError),
}

/// A change that was not written: somebody else was faster, or nobody knows yet.
#[derive(Debug, Default)]
pub struct Unwritten(Option<PveError>);

impl Unwritten {
    /// A write that was answered so, or not at all.
    pub fn after(error: PveError) -> Self {
        Self(Some(error).filter(|it| !it.is_digest_mismatch()))
    }

    /// What the caller is told when trying again has not helped.
    pub fn told(self, what: impl std::fmt::Display) -> Error {
        let text = match self.0 {
            None => format!("others keep changing {what}; ask again"),
            Some(cause) => format!("whether {what} was changed is not known ({cause}); ask again"),
        };
        Error::new(Code::Conflict, text).retry_after(1)
    }
}

/// A change of a mark, or why it may not be made. One type for all of them: a
/// Worker's bundle shall not have the functions here once for each.
pub type Apply<'a> = &'a (dyn Fn(&mut Mark) -> Result<(), Error> + Sync);

/// The commit: marks, sizes, network, exec token, and what a clone inherits and must not keep (rule S2.10).
/// All of it applies at once on a stopped clone.
pub async fn first<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<Mark, Failure> {
    // A guest that exists keeps its network, whatever the settings say now.
    let network = match mark.phase {
        Phase::Claimed => network::of_sandbox(cluster, config, mark).map_err(Failure::Final)?,
        _ => Vec::new(),
    };
    let at = config.with(&network).address();
    let now = cluster.now().unix_timestamp();
    let guarded = (mark.kind == Kind::Qemu).then_some(now);
    // What was stopped, and is rolled back, was stopped then.
    let changed = if mark.want == Want::On { Some(now) } else { mark.changed };
    let mark = &Mark { phase: Phase::Committed, changed, guarded, ..mark.clone() };
    let token = reach::token(cluster.settings, mark);
    let guest = cluster.pve.guest(node, mark.kind, mark.vmid);
    let (mut by_notes, mut inherited) = (false, false);
    loop {
        let token = if by_notes { Token::Notes(&token) } else { Token::Env(&token) };
        let form = form(cluster, config, mark, at, token, inherited).map_err(Failure::Final)?;
        match cluster.send(guest.set_config(&borrowed(&form, &network))).await {
            Ok(_) => return Ok(mark.clone()),
            // Before PVE 9.1 there is no `env`: the template's hookscript reads the notes.
            Err(error) if !by_notes && error.names("env") => by_notes = true,
            // A registered tag of the template's stays: nobody takes a sandbox for a template.
            Err(error) if !inherited && error.restricts_tags() => inherited = true,
            Err(error) => return Err(failure(error)),
        }
        if by_notes && config.hookscript.is_none() {
            return Err(Failure::Final(Error::new(
                Code::ExecTokenNotApplied,
                "this PVE has no `env` option (it came with 9.1) and the template has no hookscript that hands \
                 execd its token: update PVE, or on the node run pct set TEMPLATE --hookscript \
                 local:snippets/cmux-lxc-execd-token-hook.sh as root",
            )));
        }
    }
}

/// The commit of a template: nothing of the sandbox's identity, token or address stays (rule S8.3).
pub async fn template<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<(), Failure> {
    let since = cluster.now().unix_timestamp();
    let doing = Doing { what: What::Template, snapname: String::new(), memory: false, since };
    let mark = &Mark { phase: Phase::Committed, doing: Some(doing), ..mark.clone() };
    let mut form = marks_form(cluster, config, mark, None, None, false).map_err(Failure::Final)?;
    form.push(("onboot", "0".into()));
    let network = network::of_template(config, mark.kind);
    // What an image says of itself stays; the sandbox's token does not.
    if config.env.is_some() && mark.base.is_none() {
        let kept = environment(config, None);
        form.push(if kept.is_empty() { ("delete", "env".into()) } else { ("env", kept) });
    }
    match cluster
        .send(cluster.pve.guest(node, mark.kind, mark.vmid).set_config(&borrowed(&form, &network)))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(error)),
    }
}

/// Changes the mark of a committed guest (rule S1.5). Reads, applies, writes by digest, and starts over when
/// somebody else was faster.
pub async fn change<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    known: Mark,
    apply: Apply<'_>,
) -> Result<Mark, Error> {
    change_from(cluster, node, None, known, apply).await
}

/// As [`change`], beginning with a config that was just read.
pub async fn change_from<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mut config: Option<Config>,
    known: Mark,
    apply: Apply<'_>,
) -> Result<Mark, Error> {
    let guest = cluster.pve.guest(node, known.kind, known.vmid);
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let config = match config.take() {
            Some(config) => config,
            None => cluster.send(guest.config()).await?,
        };
        let reading = Reading::of(known.vmid, &config);
        let mark = match reading {
            Reading::Committed(mark) | Reading::Intent(mark) if mark.nonce == known.nonce => mark,
            _ => return Err(crate::sandbox::id::not_found(known.vmid)),
        };
        match write(cluster, node, &config, &mark, apply).await? {
            Ok(changed) => return Ok(changed),
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(format_args!("guest {}", known.vmid)))
}

/// One attempt at a change.
pub async fn write<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    apply: Apply<'_>,
) -> Result<Result<Mark, Unwritten>, Error> {
    let mut changed = mark.clone();
    apply(&mut changed)?;
    // What is paused after it was stopped was stopped then.
    let stays_stopped = lifetime::stopped_at(mark).is_some() && lifetime::stopped_at(&changed).is_some();
    if (changed.want, changed.phase) != (mark.want, mark.phase) && !stays_stopped {
        changed.changed = Some(cluster.now().unix_timestamp());
    }
    guard(cluster, config, mark, &mut changed);
    if let Some(lock) = &config.lock {
        return Err(locked(lock, mark));
    }
    let at = config.address().filter(|_| mark.role == Role::Sandbox);
    let form = marks_form(cluster, config, &changed, at, None, false)?;
    match cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).set_config(&borrowed(&form, &[]))).await
    {
        Ok(_) => Ok(Ok(changed)),
        Err(error) if error.is_digest_mismatch() => Ok(Err(Unwritten::after(error))),
        // Whether it was executed, the next read shows; writing the same again is harmless.
        Err(error) if error.is_unanswered() || error.is_never_sent() => {
            let now = cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).config()).await?;
            let reading = Reading::of(mark.vmid, &now);
            let written = reading.mark().filter(|it| **it == changed).cloned();
            Ok(written.ok_or(Unwritten::after(error)))
        }
        Err(error) => Err(match error.lock() {
            Some(lock) => locked(lock, mark),
            None => error.into(),
        }),
    }
}

/// A suspended VM can only be deleted unprotected, and its protection cannot be changed, so its pause takes
/// it off (rule S3.4): only from a VM that has been protected for so long that a DELETE from before that is
/// not executed any more. One that was protected later stays so, and is woken before it is deleted.
fn guard<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark, changed: &mut Mark) {
    if mark.kind != Kind::Qemu || mark.is_suspension() && changed.is_suspension() {
        return;
    }
    let now = cluster.now().unix_timestamp();
    if config.protection != Some(true) || changed.guarded.is_none() {
        changed.guarded = Some(now);
    }
}

/// Whether PVE shall refuse to destroy the guest. A DELETE has no digest (rule S3.1). One that is executed
/// late, after a renewal or on the VMID's next guest, finds the guest protected; who deletes takes that off
/// by digest.
fn is_protected<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> bool {
    if mark.want == Want::Gone || mark.role == Role::Template {
        return mark.want != Want::Gone;
    }
    let settled = mark.guarded.is_some_and(|at| cluster.now().unix_timestamp() - at >= LATE_SECONDS);
    !(mark.is_suspension() && settled)
}

/// PVE works on the guest and takes no changes until it is done (rule S5.5).
pub fn locked(lock: &str, mark: &Mark) -> Error {
    if lock == "suspended" {
        let text = "PVE takes no changes of a VM whose memory is on disk: resume it first, or delete it";
        return Error::new(Code::Suspended, text);
    }
    let text = format!("guest {} is locked ({lock}) while PVE works on it; ask again", mark.vmid);
    Error::new(Code::GuestLocked, text).member("lock", lock).retry_after(5)
}

enum Token<'a> {
    Env(&'a str),
    Notes(&'a str),
}

fn failure(error: PveError) -> Failure {
    if error.is_final() { Failure::Final(error.into()) } else { Failure::Again(error) }
}

fn form<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    at: Option<Ipv4Addr>,
    token: Token<'_>,
    inherited: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let in_notes = match token {
        Token::Notes(token) => Some(token),
        Token::Env(_) => None,
    };
    let mut form = marks_form(cluster, config, mark, at, in_notes, inherited)?;
    form.push(("onboot", "0".into()));
    form.push((mark.kind.name_parameter(), reach::hostname(mark.vmid)));
    if let Some(cores) = mark.sizes.cpu {
        form.push(("cores", cores.to_string()));
    }
    if let Some(memory) = mark.sizes.memory {
        form.push(("memory", memory.to_string()));
    }
    if mark.kind == Kind::Qemu {
        machine(cluster, config, mark, &mut form);
    }
    if let (Token::Env(token), Kind::Lxc) = (token, mark.kind) {
        form.push(("env", environment(config, Some(token))));
    }
    Ok(form)
}

/// Tags, description and digest: what every change writes.
fn marks_form<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    at: Option<Ipv4Addr>,
    exec_token: Option<&str>,
    inherited: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let links = reach::links(cluster.settings, mark.vmid, at);
    let existing = config.description.as_deref().unwrap_or_default();
    let notes = Notes { existing, mark, links: &links, exec_token };
    let description = notes.write().ok_or_else(|| {
        Error::new(
            Code::NotesTooLong,
            "PVE takes 8192 characters of notes: shorten the metadata, or what was written in the Notes tab",
        )
    })?;
    let mut form = vec![("description", description), ("digest", config.digest.clone())];
    // What is half made never had tags, and is given up even where PVE refuses them.
    if mark.phase != Phase::Claimed {
        form.insert(0, ("tags", tags(cluster, config, mark, inherited)));
    }
    let protected = is_protected(cluster, mark);
    if config.protection.unwrap_or(false) != protected {
        form.push(("protection", u8::from(protected).to_string()));
    }
    Ok(form)
}

fn tags<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark, inherited: bool) -> String {
    let existing = config.tags.as_deref().unwrap_or_default();
    // Tags are what the whole cluster carries around: an expiry that comes less than a minute later stays.
    let expires = match marks::tagged_expiry(mark.vmid, existing) {
        Some(Some(tagged))
            if mark.expires.is_some_and(|it| (0..=60).contains(&it.saturating_sub(tagged))) =>
        {
            Some(tagged)
        }
        _ => mark.expires,
    };
    marks::tags(existing, mark, expires, cluster.settings.limits.tag_budget, inherited)
}

/// What a VM has beside a container: sockets that multiply its cores, a size
/// that its memory may shrink to, and cloud-init. Nothing secret is in that.
fn machine<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    form: &mut Vec<(&'static str, String)>,
) {
    if mark.sizes.cpu.is_some() {
        form.push(("sockets", "1".into()));
    }
    // PVE takes no memory that is below it (qemu-server `API2/Qemu.pm` `update_vm_api`).
    let balloon = config.balloon().zip(mark.sizes.memory).filter(|(least, memory)| least > memory);
    form.extend(balloon.map(|(_, memory)| ("balloon", memory.to_string())));
    if config.has_cloud_init() {
        form.extend(cluster.settings.search_domain.clone().map(|it| ("searchdomain", it)));
    }
}

/// The template's environment, with this sandbox's token, if any.
fn environment(config: &Config, token: Option<&str>) -> String {
    let kept = config
        .env
        .as_deref()
        .unwrap_or_default()
        .split('\0')
        .filter(|it| !it.is_empty() && it.split_once('=').is_none_or(|(name, _)| name != TOKEN_VARIABLE));
    let token = token.map(|it| format!("{TOKEN_VARIABLE}={it}"));
    kept.chain(token.as_deref()).collect::<Vec<_>>().join("\0")
}

fn borrowed<'a>(
    form: &'a [(&'static str, String)],
    network: &'a [(String, String)],
) -> Vec<(&'a str, &'a str)> {
    let network = network.iter().map(|(name, value)| (&**name, &**value));
    form.iter().map(|(name, value)| (*name, &**value)).chain(network).collect()
}
