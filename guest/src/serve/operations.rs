//! What each operation does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Health, Hello, Refusal},
    call::{Call, Operation},
};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::cmux::Cmux;
use crate::{
    answer::{Reply, json, lines},
    boot::Boot,
    file::Files,
    metrics,
    process::Processes,
    trust::Trust,
};

/// The daemon.
pub(super) struct Daemon {
    pub(super) trust: Mutex<Trust>,
    pub(super) boot: Arc<Boot>,
    pub(super) processes: Arc<Processes>,
    pub(super) files: Files,
    pub(super) cmux: Cmux,
    /// Milliseconds after which a connection ends whose other end takes nothing of what it is sent.
    pub(super) client_ms: u32,
    /// Room for bodies, in KiB.
    pub(super) bodies: Arc<Semaphore>,
}

/// Body of a call.
pub(super) enum Given {
    /// All of it, as it was signed.
    Whole(Bytes),
    /// As it comes.
    Streamed(Incoming),
}

impl Daemon {
    pub(super) fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What anybody may know.
    pub(super) fn health(&self) -> Health {
        let mut trust = self.trust();
        let mut keys: Vec<String> = Vec::new();
        for line in &trust.keys().read().lines {
            if !keys.iter().any(|it| it == line.id.as_str()) {
                keys.push(line.id.to_string());
            }
        }
        Health { version: version(), keys, boot: self.boot.now(), session: trust.session() }
    }

    /// Does what a call asks.
    pub(super) async fn execute(&self, call: Call, body: Given) -> Reply {
        use Given::{Streamed, Whole};
        let (processes, files) = (&self.processes, &self.files);
        match (call.operation, body) {
            (Operation::Hello {}, Whole(_)) => Ok(json(&self.hello())),
            (Operation::Renew {}, Whole(_)) => told(self.renew(call.call)),
            (Operation::Start(it), Whole(body)) => {
                let spec =
                    serde_json::from_slice(&body).map_err(|_| bad("the body is not the JSON of a spec"))?;
                // What it gives is in memory now instead of it.
                drop(body);
                let guest = it.keyed.and_then(|_| self.trust().address(&call.to));
                told(processes.start(it, spec, guest).await)
            }
            (Operation::Processes {}, Whole(_)) => told(processes.list().await),
            (Operation::Process(it), Whole(_)) => told(processes.get(it).await),
            (Operation::Follow(it), Whole(_)) => Ok(lines(processes.follow(it).await?)),
            (Operation::Stdin(it), Whole(body)) => told(processes.stdin(it, body).await),
            (Operation::Signal(it), Whole(_)) => told(processes.signal(it).await),
            (Operation::Resize(it), Whole(_)) => told(processes.resize(it).await),
            (Operation::Forget(it), Whole(_)) => told(processes.forget(it).await),
            (Operation::Stage(it), Streamed(body)) => files.stage(it, body).await,
            (Operation::Metrics {}, Whole(_)) => told(metrics::measure()),
            // A proved call has the body of its operation, and a terminal is opened on the connection itself.
            (Operation::Terminal(_), _) | (_, Streamed(_)) | (Operation::Stage(_), Whole(_)) => {
                Err(bad("the call has another body"))
            }
            (operation, Whole(body)) => files.call(operation, body).await,
        }
    }

    fn hello(&self) -> Hello {
        let keys = self.trust().keys().text().to_owned();
        Hello { version: version(), boot: self.boot.now(), keys }
    }

    fn renew(&self, call: Unique) -> Result<Health, Refusal> {
        let failed = |_| Refusal::new(Code::Failed, "the boot could not be noted");
        self.trust().renew(call, |boot| self.boot.renew(boot)).map_err(failed)?;
        Ok(self.health())
    }
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadCall, why)
}

fn told<T: Serialize>(done: Result<T, Refusal>) -> Reply {
    done.map(|it| json(&it))
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
