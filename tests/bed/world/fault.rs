//! What can go wrong with a request, and who may look at it.

use std::time::Duration;

use super::{Inner, World};
use crate::sim::Sim;
use pve_edge_core::io::Way;

/// What happens to a request instead of an ordinary answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not executed; answered with this status and PVE's envelope around the text.
    Refused(u16, String),
    /// Not executed; a proxy on the way answers with this status and a page for people.
    Page(u16),
    /// Not executed, and the caller knows.
    NeverSent,
    /// Executed; the answer is lost.
    Unanswered,
    /// Executed; the caller waits until its deadline.
    Silent,
    /// The caller is told that the connection broke; executed so much later.
    Late(Duration),
    /// Held back so long, then executed and answered.
    Slow(Duration),
    /// The operation ends here, without destructors; not executed.
    Dies,
    /// The same, but executed.
    DiesAfter,
    /// The answer arrives, but its body breaks off after so many pieces.
    CutBody(usize),
}

/// A request, as hooks and fault predicates see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its number in this world, from 0.
    pub index: usize,
    /// Its number among those of its [`super::WorldIo`]'s name, from 0.
    pub nth: usize,
    /// That name.
    pub name: String,
    /// Method.
    pub method: String,
    /// Host and port.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Body, as text, secrets redacted.
    pub body: String,
    /// Which way the caller sent it.
    pub way: Option<Way>,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Just before the request is executed.
    Before,
    /// Just after, before its answer is on its way.
    After,
}

impl Seen {
    /// Whether it is a write to PVE.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && self.path.starts_with("/api2/")
    }
}

impl World {
    /// Gives request number `index` of this world a fault.
    pub fn fault_at(&self, index: usize, fault: Fault) {
        self.fault_if(move |seen| (seen.index == index).then(|| fault.clone()));
    }

    /// Asks for every request whether it has a fault; the first one that says so counts.
    pub fn fault_if(&self, which: impl FnMut(&Seen) -> Option<Fault> + 'static) {
        self.inner.borrow_mut().faults.push(Box::new(which));
    }

    /// The first request for which `which` holds gets a fault, no other.
    pub fn fault_once(&self, which: impl Fn(&Seen) -> bool + 'static, fault: Fault) {
        let mut fault = Some(fault);
        self.fault_if(move |seen| if which(seen) { fault.take() } else { None });
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.inner.borrow_mut().faults.clear();
    }

    /// Calls `hook` before and after every request is executed: a second
    /// adapter, an administrator, a backup.
    pub fn hook(&self, hook: impl FnMut(&mut Sim, Moment, &Seen) + 'static) {
        self.inner.borrow_mut().hook = Some(Box::new(hook));
    }

    /// No hook any more.
    pub fn unhook(&self) {
        self.inner.borrow_mut().hook = None;
    }

    /// Milliseconds that a request and an answer take on their way, each.
    pub fn latency(&self, least: u64, most: u64) {
        self.inner.borrow_mut().latency = (least, most);
    }
}

impl Inner {
    pub(crate) fn fault_of(&mut self, seen: &Seen) -> Option<Fault> {
        self.faults.iter_mut().find_map(|which| which(seen))
    }

    pub(crate) fn call_hook(&mut self, moment: Moment, seen: &Seen) {
        if let Some(hook) = &mut self.hook {
            hook(&mut self.sim, moment, seen);
        }
    }

    pub(crate) fn trip(&mut self) -> time::Duration {
        let (least, most) = self.latency;
        let millis = least + self.rng.below(most.saturating_sub(least) + 1);
        time::Duration::milliseconds(millis as i64)
    }
}
