//! Creation of a sandbox: one call makes an instance whose record names its owner, then the missing steps are done by
//! each request that asks for the sandbox.
//!
//! Morph's call makes another instance each time, so it is sent once, and an instance of an unanswered call is looked
//! for by its nonce. Two requests with one Idempotency-Key may both make an instance:
//!
//! 1. Each lists the instances of its key a second after its own was made. Times of creation have whole seconds, so an
//!    instance that is made after that is younger.
//! 2. The oldest instance of the key is the sandbox, and both requests answer with it.
//! 3. The request that has made another one deletes that; if it fails, a sweep does.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Cloud,
    finish::finish,
    instance::{Instance, list_instances, ttl_action},
    record::{Record, refuse_reserved},
    refusal::bad_answer,
    source::{Source, choose_source},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        OnExpiry,
        creation::{CreateRequest, Key},
        quota::{Usage, ensure_admitted, ensure_within_quota},
    },
};

/// Time after which no new instance can be as old as one that exists now.
const SECOND: Duration = Duration::from_millis(1100);

/// Outcome of a creation.
#[derive(Debug)]
pub struct Created {
    /// Instance that is the sandbox.
    pub instance: Instance,
    /// Whether the sandbox can be used.
    pub ready: bool,
    /// Whether an earlier request with the same key has made the sandbox.
    pub replayed: bool,
}

/// Refuses `stop` at the expiry: Morph has no stopped state.
pub(super) fn on_expiry(asked: Option<OnExpiry>) -> Result<OnExpiry, Error> {
    match asked.unwrap_or_default() {
        OnExpiry::Stop => Err(Error::new(
            Code::Unsupported,
            "Morph stops nothing without deleting it: onExpiry pause keeps files and memory",
        )),
        other => Ok(other),
    }
}

/// Creates a sandbox, or answers with the one that the same key has made before.
pub async fn create<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    refuse_reserved(request.metadata.keys())?;
    on_expiry(request.on_expiry)?;
    ensure_admitted(cloud, &cloud.settings.deployment, caller).await?;
    let all = list_instances(cloud, &[]).await?;
    let key = key.map(|key| {
        Key::new(
            &cloud.settings.secrets,
            &cloud.settings.deployment,
            caller,
            "idempotency-key",
            key,
            &request.canonical(),
        )
    });
    if let Some(key) = &key
        && let Some(found) = oldest_of_key(&all, caller.team.as_str(), &key.hash.to_string())
    {
        let made = match found.is_committed() {
            true => found.clone(),
            false => find_winner(cloud, found).await?,
        };
        return replay(cloud, key, made, deadline).await;
    }
    let used = used_by_team(&all, caller, cloud.now());
    let source = choose_source(cloud, caller, request).await?;
    ensure_within_quota(&used, caller.team.as_str(), source.asked, &cloud.settings.limits)?;
    let record = new_record(cloud, caller, request, key.as_ref(), &source);
    let made = make_instance(cloud, request, &source, &record, deadline).await?;
    if let Some(key) = &key {
        let winner = find_winner(cloud, &made).await?;
        if winner.id != made.id {
            // The listing has just shown that this instance is ours, and no answer has named it.
            if let Err(error) = cloud.send(cloud.morph.stop(&made.id)).await {
                tracing::info!(%error, "a second instance of a key is left to the sweep");
            }
            return replay(cloud, key, winner, deadline).await;
        }
    }
    let (instance, ready) = finish(cloud, made, true, deadline).await?;
    Ok(Created { instance, ready, replayed: false })
}

/// Answers with the sandbox that the key has made before.
async fn replay<I: Io>(
    cloud: &Cloud<'_, I>,
    key: &Key,
    made: Instance,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    key.check(made.record.get("body"))?;
    if made.is_expired(cloud.now()) || made.condemned().is_some() {
        return Err(Error::new(
            Code::Expired,
            "the sandbox that this Idempotency-Key made has expired; use a new key to make another",
        ));
    }
    let (instance, ready) = finish(cloud, made, true, deadline).await?;
    Ok(Created { instance, ready, replayed: true })
}

/// Finds the sandbox of a team's key: the oldest of all instances that the key has made.
pub(super) fn oldest_of_key<'a>(all: &'a [Instance], team: &str, key: &str) -> Option<&'a Instance> {
    let of_key =
        all.iter().filter(|it| it.record.get("key") == Some(key) && it.record.get("team") == Some(team));
    of_key.min_by_key(|it| (it.created, &it.id))
}

/// Finds the sandbox of the key that has made this instance, once no older instance of the key can appear.
pub(super) async fn find_winner<I: Io>(cloud: &Cloud<'_, I>, made: &Instance) -> Result<Instance, Error> {
    let entry = |name| made.record.get(name).unwrap_or_default();
    let (team, key) = (entry("team"), entry("key"));
    cloud.io.sleep(SECOND).await;
    let all = list_instances(cloud, &[("key", key)]).await?;
    oldest_of_key(&all, team, key).cloned().ok_or_else(|| {
        Error::new(Code::Conflict, "it was deleted while it was being made; ask again").retry_after(1)
    })
}

/// What the sandboxes of the caller's team take of its quotas.
fn used_by_team(all: &[Instance], caller: &Caller, now: OffsetDateTime) -> Usage {
    let mut used = Usage::default();
    let live = |it: &&Instance| !it.is_over(now) && it.condemned().is_none();
    for it in all.iter().filter(|it| it.record.get("team") == Some(caller.team.as_str())).filter(live) {
        used.vcpus += it.vcpus;
        used.memory += it.memory;
        used.disk += it.disk.div_ceil(1024);
        used.ages.push(it.age(now));
    }
    used
}

/// The record of a sandbox that is to be made.
fn new_record<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&Key>,
    source: &Source,
) -> Record {
    let newest = cloud.settings.secrets.newest();
    let mut record = Record::new(cloud, caller, request.metadata.clone());
    for (name, value) in [
        ("onExpiry", Some(ttl_action(request.on_expiry.unwrap_or_default()).to_owned())),
        ("name", request.name.clone()),
        ("source", Some(source.shown.to_string())),
        ("key", key.map(|it| it.hash.to_string())),
        ("body", key.and_then(Key::request_hash)),
        ("secret", Some(newest.name().to_owned())),
    ] {
        record.set(name, value);
    }
    let env = request.env.seal(newest, &record.seal_parts());
    record.set("env", env);
    if let Ok(ttl) = request.ttl(&cloud.settings.limits) {
        record.set_span(ttl);
    }
    record
}

/// Makes the instance with one call, which is never sent again. Where its answer is lost, the nonce finds the instance.
async fn make_instance<I: Io>(
    cloud: &Cloud<'_, I>,
    request: &CreateRequest,
    source: &Source,
    record: &Record,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let seconds = request.ttl(&cloud.settings.limits)?.after(0);
    let ttl_action = ttl_action(request.on_expiry.unwrap_or_default());
    let body = json!({"metadata": record.json(), "ttl_seconds": seconds, "ttl_action": ttl_action});
    let lost = match cloud.send(source.call(cloud, body)).await {
        Ok(value) => match Instance::read(&value) {
            Ok(instance) if instance.record.get("nonce") == record.get("nonce") => return Ok(instance),
            Ok(_) => bad_answer("metadata of ours"),
            Err(error) => error,
        },
        Err(error) if error.may_be_executed() => error.into(),
        Err(error) if error.is_missing() => {
            let text = format!("Morph makes no instance of {}: {error}", source.shown);
            return Err(Error::new(Code::TemplateNotFound, text));
        }
        Err(error) => return Err(error.into()),
    };
    loop {
        let nonce = record.get("nonce").unwrap_or_default();
        if let Some(made) =
            list_instances(cloud, &[("nonce", nonce)]).await.ok().and_then(|it| it.into_iter().next())
        {
            return Ok(made);
        }
        if deadline.keeping(6).is_over() {
            let text = format!(
                "{}; it may be made all the same: ask again with the same Idempotency-Key, or a sweep removes it",
                lost.detail()
            );
            return Err(Error::new(lost.code(), text).retry_after(2));
        }
        deadline.pause(Duration::from_secs(2)).await;
    }
}
