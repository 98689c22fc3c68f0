//! What lies between `dtach` and the terminal in the container: it may lose bytes, and others type there, too.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Shared,
    faults::{At, LostInput, LostOutput},
    locked,
};
use crate::sim::Rng;

/// Bytes of output in one go that are never lost.
const SAFE: u64 = 8 << 10;
/// A pause that ends a burst.
const PAUSE: Duration = Duration::from_millis(50);
/// Largest piece of output that is lost.
const PIECE: u64 = 4096;

/// The relay of one session.
pub(super) struct Relay {
    settings: Shared,
    input: u64,
    output: u64,
    burst: Burst,
    lost_output: Option<(LostOutput, Rng)>,
    lost_input: Option<(LostInput, Rng)>,
    /// What other people have typed, and has not come yet.
    human: VecDeque<u8>,
}

/// Output without input or a pause in it.
struct Burst {
    length: u64,
    last: Instant,
    pieces: u32,
    /// How much of a piece that is lost is still to come.
    losing: usize,
}

impl Burst {
    fn new() -> Self {
        Self { length: 0, last: Instant::now(), pieces: 0, losing: 0 }
    }
}

impl Relay {
    /// One that has passed nothing.
    pub(super) fn new(settings: Shared) -> Self {
        let human = VecDeque::new();
        let mut relay = Self {
            settings,
            input: 0,
            output: 0,
            burst: Burst::new(),
            lost_output: None,
            lost_input: None,
            human,
        };
        relay.look_for_people();
        relay
    }

    /// What comes in of a packet.
    pub(super) fn typed(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        self.input += packet.len() as u64;
        self.burst = Burst::new();
        let fault = locked(&self.settings).faults.lost_input;
        if fault != self.lost_input.as_ref().map(|(fault, _)| *fault) {
            self.lost_input = fault.map(|it| (it, Rng::new(it.seed)));
        }
        if let Some((fault, rng)) = &mut self.lost_input
            && !packet.is_empty()
            && rng.below(fault.one_in.max(1)) == 0
        {
            let from = rng.below(packet.len() as u64) as usize;
            let length = 1 + rng.below((packet.len() - from) as u64) as usize;
            packet.drain(from..from + length);
        }
        self.look_for_people();
        packet
    }

    /// What comes out of a block.
    pub(super) fn printed(&mut self, block: &[u8]) -> Vec<u8> {
        if self.burst.last.elapsed() > PAUSE {
            self.burst = Burst::new();
        }
        self.choose();
        self.output += block.len() as u64;
        self.burst.length += block.len() as u64;
        self.burst.last = Instant::now();
        let lost = self.burst.losing.min(block.len());
        self.burst.losing -= lost;
        self.look_for_people();
        block.get(lost..).unwrap_or_default().to_vec()
    }

    /// Whether another piece begins to be missing here.
    fn choose(&mut self) {
        let fault = locked(&self.settings).faults.lost_output;
        if fault != self.lost_output.as_ref().map(|(fault, _)| *fault) {
            self.lost_output = fault.map(|it| (it, Rng::new(it.seed)));
        }
        let burst = &mut self.burst;
        if let Some((fault, rng)) = &mut self.lost_output
            && burst.length > SAFE
            && burst.losing == 0
            && burst.pieces < fault.pieces
            && rng.below(2) == 0
        {
            burst.pieces += 1;
            burst.losing = 1 + rng.below(PIECE) as usize;
        }
    }

    /// What somebody else has typed.
    pub(super) fn human(&mut self) -> &mut VecDeque<u8> {
        &mut self.human
    }

    fn look_for_people(&mut self) {
        let (input, output) = (self.input, self.output);
        let is_due = |at: At| match at {
            At::Input(place) => input >= place,
            At::Output(place) => output >= place,
        };
        for human in locked(&self.settings).faults.humans.extract_if(.., |it| is_due(it.at)) {
            self.human.extend(human.bytes);
        }
    }
}
