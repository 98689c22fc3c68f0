//! Trust: which calls are obeyed. Nothing here reads a clock or throws dice by itself.

mod identity;
mod keys;
mod session;

use std::time::Duration;

use pve_edge_guest_protocol::{
    Unique,
    call::{Call, CallError},
};

pub use self::{identity::Identity, keys::Keys, session::Sessions};

/// Clock and dice of the daemon.
pub struct ClockAndDice {
    /// Time since any moment, which never goes back.
    pub clock: Box<dyn FnMut() -> Duration + Send>,
    /// Draws what occurs once.
    pub dice: Box<dyn FnMut() -> Unique + Send>,
}

/// What the daemon needs to know a call that it is to obey.
pub struct Trust {
    keys: Keys,
    identity: Identity,
    sessions: Sessions,
    world: ClockAndDice,
}

/// Call that is not obeyed: it was not executed, and nothing else was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotObeyed {
    /// It is no call, or nobody whom the guest obeys has signed it.
    Unproved(CallError),
    /// It is for another guest.
    NotHere,
    /// It asks for something else than the path says.
    OtherOperation,
    /// Its session is over, or is another daemon's.
    OtherSession,
    /// It was taken before.
    Seen,
}

impl Trust {
    /// Begins with a new session.
    pub fn new(keys: Keys, identity: Identity, mut world: ClockAndDice) -> Self {
        let sessions = Sessions::new((world.clock)(), (world.dice)());
        Self { keys, identity, sessions, world }
    }

    /// Takes a call, once, as its two headers hold it; `operation` is the word in the path.
    pub fn take(&mut self, operation: &str, call: &str, signature: &str) -> Result<Call, NotObeyed> {
        let keys = &self.keys.read().lines;
        let (call, lines) = Call::verify(call, signature, keys).map_err(NotObeyed::Unproved)?;
        let deployments = lines.iter().map(|line| line.deployment.as_str());
        if !self.identity.is(&call.to, deployments) {
            return Err(NotObeyed::NotHere);
        }
        if call.operation.name() != operation {
            return Err(NotObeyed::OtherOperation);
        }
        self.sessions.pass((self.world.clock)(), &mut self.world.dice);
        self.sessions.take(call.session, call.call)?;
        Ok(call)
    }

    /// The session that a call is to name now.
    pub fn session(&mut self) -> Unique {
        self.sessions.pass((self.world.clock)(), &mut self.world.dice);
        self.sessions.current()
    }

    /// Draws a boot and ends all sessions, because the guest's memory may be a copy. Its random numbers may be copied as
    /// well: so what the edge has drawn for the `call` goes into all that is drawn here.
    pub fn renew<E>(&mut self, call: Unique, note: impl FnOnce(Unique) -> Result<(), E>) -> Result<(), E> {
        note(mixed((self.world.dice)(), call))?;
        self.sessions = Sessions::new((self.world.clock)(), mixed((self.world.dice)(), call));
        Ok(())
    }

    /// The keys that are obeyed.
    pub fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }
}

fn mixed(a: Unique, b: Unique) -> Unique {
    use sha2::{Digest, Sha256};
    let hash = <[u8; 32]>::from(Sha256::new().chain_update(a.0).chain_update(b.0).finalize());
    hash.first_chunk().map_or(a, |it| Unique(*it))
}
