//! Power actions (start, stop, reboot, pause, resume, rollback): their requests and their answers.

use serde::{Deserialize, Serialize};

use super::Shown;
use crate::error::Error;

pub(crate) const DEFAULT_TIMEOUT: u32 = 20;

const LONGEST_TIMEOUT: u32 = 600;

/// Part of a sandbox that a pause keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Keeps {
    /// The memory: processes go on where they were.
    Memory,
    /// The files: processes end.
    Disk,
}

/// Options of a stop or a reboot.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StopBody {
    /// Whether the guest is stopped hard, without being asked to shut down first; false by default.
    pub force: bool,
    /// Seconds that the guest may take to shut down before it is stopped hard; 20 by default.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = LONGEST_TIMEOUT)))]
    pub timeout_seconds: Option<u32>,
}

/// Options of a pause.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PauseBody {
    /// Part that must be kept; where it cannot be, nothing is paused (422 `unsupported`). By default the memory of a VM,
    /// and the files of a container.
    pub keeps: Option<Keeps>,
}

/// Time of a sandbox that is started, resumed or extended.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct StartBody {
    /// Seconds from now until the sandbox expires; null: never. Without it the sandbox gets the span that was given last,
    /// and never less than was left.
    #[serde(deserialize_with = "crate::sandbox::fields::seconds")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::lifetime::TtlSeconds>"))]
    pub ttl_seconds: Option<Option<u64>>,
}

/// Effect of a power action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// The sandbox was started.
    Started,
    /// The sandbox was resumed with its memory.
    Resumed,
    /// The sandbox was stopped.
    Stopped,
    /// The sandbox was rebooted.
    Rebooted,
    /// The sandbox was paused.
    Paused,
    /// The sandbox was rolled back to a snapshot.
    RolledBack,
    /// Nothing: the sandbox was in that state already.
    Nothing,
}

/// Outcome of a power action.
#[derive(Clone, Debug)]
pub struct Powered {
    /// Effect of the action.
    pub did: Did,
    /// Whether the sandbox has reached its new state; otherwise the provider still works on it.
    pub finished: bool,
    /// Part of the sandbox that a pause has kept.
    pub keeps: Option<Keeps>,
    /// Sandbox after the action.
    pub shown: Shown,
}

impl StopBody {
    /// Seconds that the guest may take to shut down, checked against their bounds.
    pub fn timeout(&self) -> Result<u32, Error> {
        let seconds = self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        if (1..=LONGEST_TIMEOUT).contains(&seconds) {
            Ok(seconds)
        } else {
            Err(Error::field("timeoutSeconds", format!("1 to {LONGEST_TIMEOUT}")))
        }
    }
}

/// Snapshot to roll a sandbox back to.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RollbackBody {
    /// Id of a snapshot that the sandbox keeps.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::KeptId"))]
    pub snapshot: String,
}
