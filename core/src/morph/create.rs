//! Creating a sandbox: one request makes an instance that says whose it is,
//! then whatever is missing is done, by whoever asks for it.
//!
//! Morph's call makes another instance each time, so it is sent once. One that
//! was not answered is looked for by its nonce. Two requests with one
//! Idempotency-Key may both make one; of all that carry the key the oldest is
//! the sandbox. Times of creation have whole seconds, so each looks a second
//! after its own was made: whatever is made later is younger. Whoever made
//! another removes it.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Cloud,
    finish::finish,
    instance::{Instance, action, listed},
    record::{Record, refuse_reserved},
    refusal::bad_answer,
    source::{Source, source},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        OnExpiry,
        creation::{CreateRequest, Key},
        quota::{Used, admitted, allow},
    },
};

/// Until everything that can be as old as what exists now does exist.
const SECOND: Duration = Duration::from_millis(1100);

/// What a creation came to.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub instance: Instance,
    /// Whether it can be used.
    pub ready: bool,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// Morph has no stopped state.
pub(super) fn on_expiry(asked: Option<OnExpiry>) -> Result<OnExpiry, Error> {
    match asked.unwrap_or_default() {
        OnExpiry::Stop => Err(Error::new(
            Code::Unsupported,
            "Morph stops nothing without deleting it: onExpiry pause keeps files and memory",
        )),
        other => Ok(other),
    }
}

/// Creates a sandbox, or answers the one that the same key made before.
pub async fn create<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    refuse_reserved(request.metadata.keys())?;
    on_expiry(request.on_expiry)?;
    admitted(cloud, &cloud.settings.deployment, caller).await?;
    let all = listed(cloud, &[]).await?;
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
        && let Some(found) = oldest(&all, caller.team.as_str(), &key.hash.to_string())
    {
        let made = match found.is_committed() {
            true => found.clone(),
            false => settled(cloud, found).await?,
        };
        return replay(cloud, key, made, deadline).await;
    }
    let used = used(&all, caller, cloud.now());
    let source = source(cloud, caller, request).await?;
    allow(&used, caller.team.as_str(), source.asked, &cloud.settings.limits)?;
    let record = record(cloud, caller, request, key.as_ref(), &source);
    let made = claim(cloud, request, &source, &record, deadline).await?;
    if let Some(key) = &key {
        let winner = settled(cloud, &made).await?;
        if winner.id != made.id {
            // The listing has just shown that it is ours, and that nobody was told of it.
            if let Err(error) = cloud.send(cloud.morph.stop(&made.id)).await {
                tracing::info!(%error, "a second instance of a key is left to the sweep");
            }
            return replay(cloud, key, winner, deadline).await;
        }
    }
    let (instance, ready) = finish(cloud, made, true, deadline).await?;
    Ok(Created { instance, ready, replayed: false })
}

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

/// Of all that a team's key has made, the one that is its sandbox.
pub(super) fn oldest<'a>(all: &'a [Instance], team: &str, key: &str) -> Option<&'a Instance> {
    let mine =
        all.iter().filter(|it| it.record.get("key") == Some(key) && it.record.get("team") == Some(team));
    mine.min_by_key(|it| (it.created, &it.id))
}

/// The sandbox of a key that has made this instance, once nothing older can appear.
pub(super) async fn settled<I: Io>(cloud: &Cloud<'_, I>, made: &Instance) -> Result<Instance, Error> {
    let of = |name| made.record.get(name).unwrap_or_default();
    let (team, key) = (of("team"), of("key"));
    cloud.io.sleep(SECOND).await;
    let all = listed(cloud, &[("key", key)]).await?;
    oldest(&all, team, key).cloned().ok_or_else(|| {
        Error::new(Code::Conflict, "it was deleted while it was being made; ask again").retry_after(1)
    })
}

fn used(all: &[Instance], caller: &Caller, now: OffsetDateTime) -> Used {
    let mut used = Used::default();
    let live = |it: &&Instance| !it.is_over(now) && it.condemned().is_none();
    for it in all.iter().filter(|it| it.record.get("team") == Some(caller.team.as_str())).filter(live) {
        used.vcpus += it.vcpus;
        used.memory += it.memory;
        used.disk += it.disk.div_ceil(1024);
        used.ages.push(it.age(now));
    }
    used
}

fn record<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&Key>,
    source: &Source,
) -> Record {
    let newest = cloud.settings.secrets.newest();
    let mut record = Record::new(cloud, caller, request.metadata.clone());
    for (name, value) in [
        ("onExpiry", Some(action(request.on_expiry.unwrap_or_default()).to_owned())),
        ("name", request.name.clone()),
        ("source", Some(source.shown.to_string())),
        ("key", key.map(|it| it.hash.to_string())),
        ("body", key.and_then(Key::body)),
        ("secret", Some(newest.name().to_owned())),
    ] {
        record.set(name, value);
    }
    let env = request.env.seal(newest, &record.whose());
    record.set("env", env);
    if let Ok(ttl) = request.ttl(&cloud.settings.limits) {
        record.set_span(ttl);
    }
    record
}

/// The one request that makes it. Where its answer is lost, the nonce tells
/// what came of it; it is never sent again.
async fn claim<I: Io>(
    cloud: &Cloud<'_, I>,
    request: &CreateRequest,
    source: &Source,
    record: &Record,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let seconds = request.ttl(&cloud.settings.limits)?.after(0);
    let action = action(request.on_expiry.unwrap_or_default());
    let body = json!({"metadata": record.json(), "ttl_seconds": seconds, "ttl_action": action});
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
        if let Some(made) = listed(cloud, &[("nonce", nonce)]).await.ok().and_then(|it| it.into_iter().next())
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
