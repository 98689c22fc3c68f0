//! Opening terminals in a sandbox.

use http::HeaderMap;
use pve_edge_guest_protocol::{
    Unique,
    answer::Done,
    call::Operation,
    process::{self, Named, Spec},
};

use super::{Runner, begin, start::Names, told};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Answer, Io},
    pve::{cluster::Cluster, ready::ready, within::deadline},
    sandbox::{
        channel::Channel,
        id::SandboxId,
        process::{Decoder, Encoding},
        terminal::TerminalRequest,
    },
};

/// Opens a terminal in a sandbox, on a websocket with the headers `opening`.
pub(super) async fn terminal<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &TerminalRequest,
    opening: &HeaderMap,
) -> Result<Answer<I::Body>, Error> {
    let found = ready(cluster, caller, id).await?;
    let (wanted, runner) = match request {
        TerminalRequest::Process(process, after) => {
            let after = Decoder::new(process.0, Encoding::Base64, after).after();
            let wanted = process::Terminal { process: process.0, after, hangup: false };
            (wanted, Runner::of(cluster, &found).await?)
        }
        TerminalRequest::Shell(shell) => {
            let env = found.mark.environment(&cluster.settings.secrets)?;
            let names = Names::own(Unique(cluster.draw()));
            // Its terminal may never be opened, or end without a word of the daemon's.
            let spec = Spec { hangup: true, ..found.mark.defaults.spec(shell.within(&env).spec()) };
            let (shell, runner) = begin(cluster, &found, names, &spec, true).await?;
            let after = process::After::Start;
            (process::Terminal { process: shell.process, after, hangup: true }, runner)
        }
    };
    if let Err(failure) = runner.knows_all() {
        return Err(told(cluster, &found, failure).await);
    }
    let Runner::Daemon(mut daemon) = runner else { return Err(Channel::Terminal.lacks("a terminal")) };
    let failure = match daemon.terminal(wanted.clone(), opening, deadline(cluster)).await {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    if wanted.hangup {
        // Nobody would find the shell again. One that is not reached now ends with the sandbox.
        let forget = Operation::Forget(Named { process: wanted.process });
        let _ = daemon.ask::<Done>(&forget, &[], deadline(cluster)).await;
    }
    Err(told(cluster, &found, failure).await)
}
