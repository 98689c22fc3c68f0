//! What goes wrong with consoles: nothing, unless a test says so.

use std::collections::VecDeque;

/// Faults of the consoles of one simulated PVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Output that is lost on its way out of the container.
    pub lost_output: Option<LostOutput>,
    /// Input that is lost on its way to the terminal.
    pub lost_input: Option<LostInput>,
    /// Where the next connections end: the first is of the next one that is let in, and taken away by that.
    pub cuts: VecDeque<At>,
    /// People who type into a session, whose place each is taken away once it has typed.
    pub humans: Vec<Human>,
    /// Whether an API token is never let in, as before termproxy 2.0.3.
    pub refuses_tokens: bool,
    /// Whether the connection of a client that has detached stays open until the other end closes it.
    pub stays_detached: bool,
    /// How many of the next clients to leave stay attached, and read nothing any more.
    pub hung_clients: u32,
}

/// Loss as LXC 6 has it: after more than 8 KiB without input or a pause, pieces of at most 4096 bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostOutput {
    /// Of the dice.
    pub seed: u64,
    /// How many pieces at most in each burst.
    pub pieces: u32,
}

/// Packets that lose some of their bytes, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostInput {
    /// Of the dice.
    pub seed: u64,
    /// One packet in so many; from 1 on.
    pub one_in: u64,
}

/// A place: when so many bytes have passed of a connection, or of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Bytes that clients have typed.
    Input(u64),
    /// Bytes that clients have been shown; of a session without the line ends that are added outside.
    Output(u64),
}

/// Somebody who types into the same terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Human {
    /// When, in a session.
    pub at: At,
    /// What.
    pub bytes: Vec<u8>,
}
