//! Power: what start, stop, reboot, pause, resume and roll back are asked, and what they did.

use serde::{Deserialize, Serialize};

use super::Shown;
use crate::error::Error;

pub(crate) const DEFAULT_TIMEOUT: u32 = 20;

const LONGEST_TIMEOUT: u32 = 600;

/// What a pause keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Keeps {
    /// Processes go on where they were.
    Memory,
    /// Files; processes end.
    Disk,
}

/// How a sandbox is stopped or rebooted.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StopBody {
    /// Stop hard, without asking the guest first; false by default.
    pub force: bool,
    /// Seconds that the guest may take before it is stopped hard; 20 by default.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = LONGEST_TIMEOUT)))]
    pub timeout_seconds: Option<u32>,
}

/// How a sandbox is paused.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PauseBody {
    /// What must be kept, or nothing is paused (422 `unsupported`); by default the memory of a VM, the files of a
    /// container.
    pub keeps: Option<Keeps>,
}

/// How long a sandbox lives that is started, resumed or extended.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StartBody {
    /// The span of its time from now on; without it, the span that was given last, and never less than was left.
    #[serde(deserialize_with = "crate::sandbox::fields::seconds")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::lifetime::TtlSeconds>"))]
    pub ttl_seconds: Option<Option<u64>>,
}

/// What a power action did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
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

/// The snapshot to roll back to.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RollbackBody {
    /// Id of a snapshot that the sandbox keeps.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::KeptId"))]
    pub snapshot: String,
}
