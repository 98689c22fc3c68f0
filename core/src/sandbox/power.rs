//! Power: what start, stop, reboot, pause, resume and roll back are asked, and what they did.

use serde::{Deserialize, Serialize};

use super::Shown;
use crate::error::Error;

pub(crate) const DEFAULT_TIMEOUT: u32 = 20;

const LONGEST_TIMEOUT: u32 = 600;

/// What a pause keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeps {
    /// Processes go on where they were.
    Memory,
    /// Files; processes end.
    Disk,
}

/// `POST …/stop` and `…/reboot`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StopBody {
    /// Without asking the guest first.
    pub force: bool,
    /// How long the guest may take before it is stopped hard.
    pub timeout_seconds: Option<u32>,
}

/// `POST …/pause`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PauseBody {
    /// What it must keep; without it, what the provider can.
    pub keeps: Option<Keeps>,
}

/// `POST …/start` and `…/resume`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StartBody {
    /// From now; without it the span that was given last. Never less than was left when it was stopped.
    #[serde(deserialize_with = "crate::sandbox::fields::seconds")]
    pub ttl_seconds: Option<Option<u64>>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// It was started.
    Started,
    /// It was resumed with its memory.
    Resumed,
    /// It was stopped.
    Stopped,
    /// It was rebooted.
    Rebooted,
    /// It was paused.
    Paused,
    /// It was rolled back to a snapshot.
    RolledBack,
    /// It was so already.
    Nothing,
}

/// A sandbox after a power action.
#[derive(Clone, Debug)]
pub struct Powered {
    /// What was done.
    pub did: Did,
    /// Whether it is what it was to become; otherwise the provider still works on it.
    pub finished: bool,
    /// What a pause kept.
    pub keeps: Option<Keeps>,
    /// The sandbox.
    pub shown: Shown,
}

impl StopBody {
    /// Seconds, if they can be.
    pub fn timeout(&self) -> Result<u32, Error> {
        let seconds = self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        if (1..=LONGEST_TIMEOUT).contains(&seconds) {
            Ok(seconds)
        } else {
            Err(Error::field("timeoutSeconds", format!("1 to {LONGEST_TIMEOUT}")))
        }
    }
}

/// `POST …/rollback`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackBody {
    /// One of `GET …/snapshots`.
    pub snapshot: String,
}
