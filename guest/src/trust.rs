//! Trust: which calls are obeyed. Nothing here reads a clock or throws dice by itself.

mod identity;
mod keys;
mod session;

use std::{sync::Arc, time::Duration};

use pve_edge_guest_protocol::{
    Unique,
    call::{Call, CallError},
    identity::HardwareAddress,
};
use sha2::{Digest, Sha256};

pub use self::{identity::Identity, keys::Keys, session::Sessions};

/// Clock and dice of the daemon.
#[derive(Clone)]
pub struct ClockAndDice {
    /// Time since any moment, which never goes back.
    pub clock: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Draws what occurs once.
    pub dice: Arc<dyn Fn() -> Unique + Send + Sync>,
}

/// What the daemon needs to know a call that it is to obey.
#[derive(Clone)]
pub struct Trust {
    keys: Keys,
    identity: Identity,
    sessions: Sessions,
    world: ClockAndDice,
    /// Goes into all that is drawn: the kernel of a guest whose memory is a copy may throw the same dice again.
    salt: Unique,
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
    pub fn new(keys: Keys, identity: Identity, world: ClockAndDice) -> Self {
        let sessions = Sessions::new((world.clock)(), (world.dice)());
        Self { keys, identity, sessions, world, salt: Unique([0; 16]) }
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
        self.pass();
        self.sessions.take(call.session, call.call)?;
        Ok(call)
    }

    /// The hardware address by which this guest is the sandbox of a call that was taken.
    pub fn address(&mut self, to: &str) -> Option<HardwareAddress> {
        let lines = &self.keys.read().lines;
        self.identity.address(to, lines.iter().map(|line| line.deployment.as_str()))
    }

    /// The session that a call is to name now.
    pub fn session(&mut self) -> Unique {
        self.pass();
        self.sessions.current()
    }

    /// Draws a boot, which is noted, and ends all sessions, because the guest's memory may be a copy. What the edge has
    /// drawn for the `call` is in no copy.
    pub fn renew<E>(&mut self, call: Unique, note: impl FnOnce(Unique) -> Result<(), E>) -> Result<(), E> {
        self.salt = mixed(self.salt, call);
        note(self.draw())?;
        self.sessions = Sessions::new((self.world.clock)(), self.draw());
        Ok(())
    }

    /// The keys that are obeyed.
    pub fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }

    fn pass(&mut self) {
        let (dice, salt) = (&self.world.dice, self.salt);
        self.sessions.pass((self.world.clock)(), || mixed(dice(), salt));
    }

    fn draw(&self) -> Unique {
        mixed((self.world.dice)(), self.salt)
    }
}

/// What is different if one of both is.
fn mixed(a: Unique, b: Unique) -> Unique {
    let hash = <[u8; 32]>::from(Sha256::new().chain_update(a.0).chain_update(b.0).finalize());
    hash.first_chunk().map_or(a, |it| Unique(*it))
}
