//! The steps from a new instance to a sandbox that can be used. Each step looks at what is missing, so it may be done
//! twice and by two requests at once.

use super::{
    Cloud,
    create::find_winner,
    exec,
    instance::{Instance, Status, reread},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    sandbox::{
        address::{SERVICES, SOCKET_IO_PORT},
        environment::{Env, FILE},
        id::not_found,
    },
};

/// Requests that one round of the steps may take.
const ROUND: u32 = 12;

/// Does the missing steps until the sandbox can be used or `deadline` has passed, and tells whether it can be used. Of
/// several instances of one key only the winner goes on; `is_settled` says that this instance is known to be it.
pub(super) async fn finish<I: Io>(
    cloud: &Cloud<'_, I>,
    mut instance: Instance,
    mut is_settled: bool,
    deadline: Deadline<'_, I>,
) -> Result<(Instance, bool), Error> {
    let mut wait = deadline.keeping(ROUND).paced(pace::MORPH);
    // A commit that was not answered is not sent again: executed late, it would undo the owner's changes since.
    let mut is_commit_sent = false;
    loop {
        let now = cloud.now();
        if instance.is_committed() || !instance.is_coming_up(now) {
            let ready = instance.is_committed() && instance.status == Status::Ready;
            return Ok((instance, ready));
        }
        if instance.status == Status::Ready && !is_commit_sent {
            if !is_settled && instance.record.get("key").is_some() {
                let winner = find_winner(cloud, &instance).await?;
                if winner.id != instance.id {
                    return Err(not_found(&instance.id));
                }
            }
            is_settled = true;
            if prepare_machine(cloud, &instance).await? {
                (instance, is_commit_sent) = commit(cloud, instance).await?;
                if instance.is_committed() {
                    continue;
                }
            }
        }
        if !wait.pause().await {
            return Ok((instance, false));
        }
        instance = reread(cloud, &instance).await?;
    }
}

/// Ports that get a public name. The exec daemon's does not: Morph has a call of its own for commands.
pub(super) fn public_ports() -> impl Iterator<Item = u16> {
    let served = SERVICES.iter().filter(|(name, _)| *name != "exec").map(|(_, port)| *port);
    served.chain([SOCKET_IO_PORT])
}

/// Writes the environment into the machine and gives its services their public names; tells whether all of it is done.
async fn prepare_machine<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<bool, Error> {
    let nonce = instance.record.get("nonce").unwrap_or_default();
    let first = open_environment(cloud, instance)?.write_command(nonce);
    match exec::run_first_command(cloud, &instance.id, &first).await {
        Some(0) => {}
        Some(code) if code != 124 => {
            let text = format!("its environment could not be written to {FILE} in the machine");
            return Err(Error::new(Code::ExecFailed, text).member("sandboxId", instance.id.to_string()));
        }
        // The command ran out of its time: a machine may be slow at first.
        Some(_) | None => return Ok(false),
    }
    for port in public_ports().filter(|port| instance.url(*port).is_none()) {
        match cloud.send(cloud.morph.expose(&instance.id, port)).await {
            // Another request has named it already; the next read shows the name.
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

/// Opens the environment that the owner has given to the sandbox.
pub(super) fn open_environment<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<Env, Error> {
    let record = &instance.record;
    Env::open(record.get("env"), &record.seal_parts(), record.get("secret"), &cloud.settings.secrets)
}

/// Commits the sandbox when nothing is missing; tells whether that was sent and not answered.
async fn commit<I: Io>(cloud: &Cloud<'_, I>, instance: Instance) -> Result<(Instance, bool), Error> {
    let mut now = reread(cloud, &instance).await?;
    if now.condemned().is_some() {
        return Err(not_found(&now.id));
    }
    if now.is_committed() || public_ports().any(|port| now.url(port).is_none()) {
        return Ok((now, false));
    }
    let mut record = now.record.clone();
    record.set("phase", Some("committed".into()));
    match cloud.send(cloud.morph.set_metadata(&now.id, &record)).await {
        Ok(_) => {
            now.record = record;
            Ok((now, false))
        }
        Err(error) if error.may_be_executed() => Ok((reread(cloud, &now).await?, true)),
        Err(error) => Err(error.into()),
    }
}
