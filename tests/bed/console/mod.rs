//! Consoles of simulated containers, as PVE has them: `termproxy` before `dtach` before one terminal for each container,
//! which all who open it share, with an ordinary shell of this system in it.

mod device;
pub mod faults;
mod frame;
mod getty;
mod outlet;
mod protocol;
mod pty;
mod relay;
mod session;
mod termproxy;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::session::Client;
pub(crate) use self::{
    pty::Shell,
    session::Session,
    termproxy::{Visit, not_running, serve},
};

/// How the consoles of one simulated PVE behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Root's shell, with its arguments: what a new session starts.
    pub shell: Vec<String>,
    /// Whether new shells are kept by the real `dtach`, which has to be there, and not by what does the same here. Its
    /// clients end with the container, and say nothing then.
    pub real_dtach: bool,
    /// What goes wrong.
    pub faults: faults::Faults,
}

impl Default for Settings {
    fn default() -> Self {
        Self { shell: vec!["sh".to_owned()], real_dtach: false, faults: faults::Faults::default() }
    }
}

/// The settings, as all sessions see them from now on.
pub(crate) type Shared = Arc<Mutex<Settings>>;

/// The settings, for a moment.
pub(crate) fn locked(settings: &Shared) -> MutexGuard<'_, Settings> {
    settings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is behind a console: the container's `cmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// A shell of root's.
    Shell,
    /// A getty, which wants a password.
    Getty,
}

/// What is asked of a [`Host`].
pub struct Order {
    /// Which container.
    pub vmid: u32,
    /// What a new session starts.
    pub login: Login,
    /// How consoles behave.
    pub(crate) settings: Shared,
}

/// Opens the consoles of containers that run somewhere; an error is what the terminal shows instead.
pub type Host = Arc<dyn Fn(Order) -> Result<Client, String> + Send + Sync>;
