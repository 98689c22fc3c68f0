//! Starting a process, at most once.

use std::time::Duration;

use pve_edge_guest_protocol::{
    Unique,
    answer::Code as Refused,
    call::Digest256,
    process::{Spec, Start},
};

use super::runner::Runner;
use crate::{
    access::secret::{Key, Keyring},
    daemon::CallFailure,
    error::{Code, Error},
    io::Io,
    pve::within::deadline,
    sandbox::process::Process,
};

/// Pauses before a start that was not answered is sent again.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// Names that a process may have, the one to start it by first: the others are those that the same key gave under older
/// secrets of `EDGE_SECRET`, while it is rotated.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<Start>);

impl Names {
    /// A name of its own.
    pub(super) fn own(process: Unique) -> Self {
        Self(vec![Start { process, keyed: None }])
    }

    /// The names that an `Idempotency-Key` gives in the sandbox `guest`; `canonical` is the request, however it was
    /// spelled.
    pub(super) fn keyed(
        secrets: &Keyring,
        deployment: &str,
        guest: &str,
        key: &str,
        canonical: &str,
    ) -> Self {
        let start = |secret: &Key| {
            let name = secret.hmac("process", &[deployment, guest, key]);
            let digest = secret.hmac("process-request", &[deployment, guest, canonical]);
            let process = Unique(name.first_chunk().copied().unwrap_or_default());
            Start { process, keyed: Some(Digest256(digest)) }
        };
        Self(secrets.all().map(start).collect())
    }

    /// Whether a key has given them.
    pub(super) fn are_keyed(&self) -> bool {
        self.0.iter().any(|it| it.keyed.is_some())
    }

    /// The name of a process that is there already, or else the first one.
    async fn find<I: Io>(self, runner: &mut Runner<'_, I>) -> Result<Start, CallFailure> {
        for start in self.0.iter().skip(1) {
            match runner.process(start.process).await {
                Ok(_) => return Ok(start.clone()),
                Err(CallFailure::Refused(refusal)) if refusal.code == Refused::NoSuchProcess => {}
                Err(failure) => return Err(failure),
            }
        }
        self.0.into_iter().next().ok_or(CallFailure::NoKey)
    }
}

/// Starts a process, or finds the one that was started under the same key. A start that was not answered is sent again
/// with the process's name, which is given once, as long as the guest was not restarted meanwhile: what was
/// started before that may have run.
pub(super) async fn start<I: Io>(
    runner: &mut Runner<'_, I>,
    names: Names,
    spec: &Spec,
    is_kept: bool,
) -> Result<Process, CallFailure> {
    let start = names.find(runner).await?;
    let mut pauses = PAUSES.into_iter();
    let mut unanswered = None;
    loop {
        let until = deadline(runner.invocation());
        let failure = match runner.start(&start, spec, is_kept, until).await {
            Ok(process) => return Ok(process),
            Err(failure) => failure,
        };
        let may_have_run = matches!(failure, CallFailure::Unanswered(_) | CallFailure::Foreign { .. });
        match &unanswered {
            None if !may_have_run => return Err(failure),
            // Only the restart says more than that nothing was answered.
            Some(_) if matches!(failure, CallFailure::Restarted) => return Err(failure),
            Some(first) if !failure.is_passing() => return Err(CallFailure::clone(first)),
            Some(_) => {}
            None => {
                runner.pin(runner.boot());
                unanswered = Some(failure);
            }
        }
        let invocation = runner.invocation();
        match (pauses.next().filter(|pause| invocation.now() + *pause < invocation.end()), &unanswered) {
            (None, Some(first)) => return Err(first.clone()),
            (pause, _) => invocation.io.sleep(pause.unwrap_or_default()).await,
        }
    }
}

/// The error of a start; one that is not proved to have run nothing says so.
pub(super) fn failed(failure: CallFailure) -> Error {
    let is_cut = matches!(failure, CallFailure::Unanswered(_) | CallFailure::Foreign { .. });
    let said = failure.to_string();
    match Error::from(failure) {
        _ if is_cut => Error::new(
            Code::ExecCut,
            format!("{said}; the command may or may not have been run, and is not run again by itself"),
        ),
        error => error,
    }
}
