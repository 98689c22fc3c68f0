//! How long real tasks and answers take.

use time::Duration;

use super::{
    Kind, Setup, Sim,
    reply::{ANSWER, Reply},
    wire::Call,
};

/// How long answers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// 5 ms each.
    Alike,
    /// As they were measured on PVE 9.2 with real containers.
    Measured,
}

impl Setup {
    /// As tasks, answers and connections were measured on PVE 9.2 with real containers.
    pub fn measured() -> Self {
        let millis = Duration::milliseconds;
        Self {
            clone_secs: millis(500),
            source_lock_secs: Some(millis(900)),
            start_secs: millis(3000),
            boot: millis(160),
            connect_every: Some(Duration::SECOND),
            stop_secs: millis(1300),
            kill_secs: Some(millis(400)),
            destroy_secs: millis(1200),
            answers: Answers::Measured,
            ..Self::default()
        }
    }
}

impl Sim {
    /// How long a stop takes that asks nobody.
    pub(crate) fn kill_secs(&self) -> Duration {
        self.setup.kill_secs.unwrap_or(self.setup.stop_secs)
    }

    /// The reply, as late as PVE gives it.
    pub(crate) fn timed(&self, call: &Call, reply: Reply) -> Reply {
        match (self.setup.answers, call.endpoint) {
            (Answers::Measured, Some(endpoint)) if reply.delay == ANSWER => {
                let running = self.guests.get(&call.vmid()).is_some_and(|it| it.run.is_some());
                let delay = measured(endpoint.method, endpoint.path, call.kind() == Kind::Lxc && running);
                Reply { delay: Duration::milliseconds(delay), ..reply }
            }
            _ => reply,
        }
    }
}

/// Milliseconds; of a running container `lxc-info` and its kind take most of them.
fn measured(method: &str, path: &str, running: bool) -> i64 {
    let last = path.rsplit('/').next().unwrap_or("");
    match (method, last) {
        ("GET", "resources") => 6,
        ("GET", "current") if running => 80,
        ("GET", "interfaces") if running => 76,
        ("GET", "lxc") => 134,
        ("GET", _) if path.contains("/tasks/") => 20,
        ("GET", _) => 3,
        _ => 94,
    }
}
