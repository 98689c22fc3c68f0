//! Bringing up an instance that was made: level-triggered, each step may be
//! done twice and by two at once.

use std::time::Duration;

use super::{
    Cloud,
    create::settled,
    exec,
    instance::{Instance, Status, again},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        address::{SERVICES, SOCKET_IO_PORT},
        environment::{Env, FILE},
        id::not_found,
    },
};

/// Requests that one look at an instance may take.
const A_LOOK: u32 = 12;

/// Does what is missing until it can be used or `deadline` has passed; whether
/// it can. Of several instances of one key only the one that is the sandbox
/// goes on: `settled` says that this was found out.
pub(super) async fn finish<I: Io>(
    cloud: &Cloud<'_, I>,
    mut instance: Instance,
    mut is_settled: bool,
    deadline: Deadline<'_, I>,
) -> Result<(Instance, bool), Error> {
    let mut pause = Duration::from_millis(500);
    // What was not answered is not said twice: it could undo, late, what its owner has changed since.
    let mut told = false;
    loop {
        let now = cloud.now();
        if instance.is_committed() || !instance.is_coming_up(now) {
            let ready = instance.is_committed() && instance.status == Status::Ready;
            return Ok((instance, ready));
        }
        if instance.status == Status::Ready && !told {
            if !is_settled && instance.record.get("key").is_some() {
                let winner = settled(cloud, &instance).await?;
                if winner.id != instance.id {
                    return Err(not_found(&instance.id));
                }
            }
            is_settled = true;
            if opens(cloud, &instance).await? {
                (instance, told) = commit(cloud, instance).await?;
                if instance.is_committed() {
                    continue;
                }
            }
        }
        if deadline.keeping(A_LOOK).is_over() {
            return Ok((instance, false));
        }
        deadline.pause(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
        instance = again(cloud, &instance).await?;
    }
}

/// Ports that are given a name: commands come by Morph's own way, so the exec daemon's is not.
pub(super) fn ports() -> impl Iterator<Item = u16> {
    let served = SERVICES.iter().filter(|(name, _)| *name != "exec").map(|(_, port)| *port);
    served.chain([SOCKET_IO_PORT])
}

/// Whether it runs commands and its services have their names.
async fn opens<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<bool, Error> {
    let nonce = instance.record.get("nonce").unwrap_or_default();
    let first = environment(cloud, instance)?.unpack(nonce);
    match exec::first(cloud, &instance.id, &first).await {
        Some(0) => {}
        Some(code) if code != 124 => {
            let text = format!("its environment could not be written to {FILE} in the machine");
            return Err(Error::new(Code::ExecFailed, text).member("sandboxId", instance.id.to_string()));
        }
        // It ran out of its time: a machine may be slow at first.
        Some(_) | None => return Ok(false),
    }
    for port in ports().filter(|port| instance.url(*port).is_none()) {
        match cloud.send(cloud.morph.expose(&instance.id, port)).await {
            // Another request was faster; the next read tells.
            Err(error) if error.is_conflict() => {}
            Err(error) if error.is_final() => {
                return Err(Error::from(error).member("sandboxId", instance.id.to_string()));
            }
            Err(_) => return Ok(false),
            Ok(_) => {}
        }
    }
    Ok(true)
}

/// What its owner has given it.
pub(super) fn environment<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<Env, Error> {
    let record = &instance.record;
    Env::open(record.get("env"), &record.whose(), record.get("secret"), &cloud.settings.secrets)
}

/// Says that it was finished, when it is; and whether that was said without an answer.
async fn commit<I: Io>(cloud: &Cloud<'_, I>, instance: Instance) -> Result<(Instance, bool), Error> {
    let mut now = again(cloud, &instance).await?;
    if now.condemned().is_some() {
        return Err(not_found(&now.id));
    }
    if now.is_committed() || ports().any(|port| now.url(port).is_none()) {
        return Ok((now, false));
    }
    let mut record = now.record.clone();
    record.set("phase", Some("committed".into()));
    match cloud.send(cloud.morph.set_metadata(&now.id, &record)).await {
        Ok(_) => {
            now.record = record;
            Ok((now, false))
        }
        Err(error) if error.may_be_executed() => Ok((again(cloud, &now).await?, true)),
        Err(error) => Err(error.into()),
    }
}
