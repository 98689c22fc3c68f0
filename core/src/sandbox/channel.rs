//! The channel by which commands and files reach a sandbox, and what can be had through it.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// Channel by which commands and files reach a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Signed calls to pve-edge-guest, the project's own daemon in the sandbox.
    Guest,
    /// The console of a container, in which nothing is installed: PVE gives it to the API token.
    Terminal,
    /// HTTP requests with a token to cmux-execd in the sandbox.
    Execd,
    /// PVE's calls of the QEMU guest agent.
    Agent,
    /// Morph Cloud's own call.
    Morph,
}

/// Capability that a channel may have beyond running a command and telling its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// A command can be given standard input.
    Stdin,
    /// A command can have a terminal.
    Pty,
    /// Files can be read and written.
    Files,
    /// A folder can be watched.
    Watch,
    /// Output that was missed can be asked for again.
    Follow,
    /// A command can go on in the background.
    Background,
    /// Output is told byte by byte, and not as whole lines of text.
    ExactBytes,
}

impl Channel {
    /// What can be had through the channel.
    pub fn capabilities(self) -> &'static [Capability] {
        use Capability::{Background, ExactBytes, Files, Follow, Pty, Stdin, Watch};
        match self {
            Self::Guest => &[Stdin, Pty, Files, Watch, Follow, Background, ExactBytes],
            Self::Terminal => &[Stdin, Files, Follow, Background, ExactBytes],
            Self::Execd | Self::Agent | Self::Morph => &[],
        }
    }

    /// Refuses what cannot be had through the channel; `what` names it, such as `a terminal`.
    pub fn needs(self, capability: Capability, what: &str) -> Result<(), Error> {
        if self.capabilities().contains(&capability) { Ok(()) } else { Err(self.lacks(what)) }
    }

    /// The refusal of what only the project's own daemon can do.
    pub fn lacks(self, what: &str) -> Error {
        let by = match self {
            Self::Guest => "pve-edge-guest",
            Self::Terminal => "the container's console",
            Self::Execd => "cmux-execd",
            Self::Agent => "the QEMU guest agent",
            Self::Morph => "Morph Cloud",
        };
        let text = format!(
            "{what} cannot be had in this sandbox, whose commands go through {by}: make the sandbox of a \
             template that has pve-edge-guest"
        );
        Error::new(Code::Unsupported, text)
    }
}
