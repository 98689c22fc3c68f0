//! Holding a visitor while a sandbox comes up, and waking one that sleeps.
//!
//! A sandbox is asked for its state only when nothing listens at its port. Waking is for who means it: an open tab that
//! connects again and again would undo every pause.

use std::time::Duration;

use super::{
    Answer, Gateway, Visit,
    relay::{Outgoing, Sent, no_road},
};
use crate::{
    error::{Code, Error},
    io::{Io, NetError, deadline::Deadline, pace},
    sandbox::{State, visit::Rest},
};

/// How long a person sees nothing before a page says what is happening.
const PERSON: Duration = Duration::from_secs(3);

/// How long a program waits.
const PROGRAM: Duration = Duration::from_secs(20);

/// Outgoing requests that are kept for the request itself.
const KEPT: u32 = 3;

impl<I: Io> Gateway<'_, '_, I> {
    /// Answers a visitor whose request nothing in the sandbox took, and sends it again when the sandbox has come up.
    ///
    /// 1. PVE says what the sandbox does. One that has been running for a while does not listen at this port.
    /// 2. One that sleeps is woken, where the visitor means that. Of many at once one starts it.
    /// 3. The others look at its mark until it has come up, or their time is over. A start that somebody has begun and left
    ///    is begun again, by one of those who mean it.
    /// 4. Then the request is sent, which no attempt before has reached anybody with.
    pub(super) async fn hold<E>(
        &self,
        visit: &Visit,
        mut outgoing: Box<Outgoing<I::Upload>>,
        failure: NetError,
    ) -> Result<Answer<E, I::Body>, Error> {
        let (provider, id) = (self.provider, &visit.identity.id);
        let patience = if visit.asking.is_browser { PERSON } else { PROGRAM };
        let deadline = Deadline::new(provider, provider.now() + patience).keeping(KEPT);
        let up = || closed(self.door.port, &failure);
        self.rouse(visit, outgoing.is_repeatable(), up, deadline).await?;
        if !outgoing.is_repeatable() {
            return Err(starting());
        }
        let mut told = starting();
        let mut wait = deadline.paced(pace::VISIT);
        provider.io.sleep(self.jitter()).await;
        loop {
            match provider.rest(id).await.map_err(|it| self.absent(it))? {
                Rest::Up | Rest::JustUp => match outgoing.send(self).await? {
                    Sent::Answered(answer) => return Ok(answer),
                    Sent::NotThere(again, _) => {
                        outgoing = again;
                        told = not_listening(self.door.port);
                    }
                },
                // Whoever has begun to start it is gone.
                Rest::Left if visit.carries_on() => {
                    provider.wake(id, deadline).await.map_err(|it| self.absent(it))?;
                }
                _ => {}
            }
            if !wait.pause().await {
                return Err(told);
            }
        }
    }

    /// What a visitor is told of a sandbox whose address is not known: by DHCP only one that runs has one. One that sleeps
    /// is woken, where the visitor means that.
    pub(super) async fn without_address(&self, visit: &Visit, is_repeatable: bool) -> Error {
        if self.settings().guest_network.is_none() {
            return no_road();
        }
        let deadline = Deadline::new(self.provider, self.provider.now() + PERSON).keeping(KEPT);
        match self.rouse(visit, is_repeatable, no_road, deadline).await {
            Ok(()) => starting(),
            Err(error) => error,
        }
    }

    /// Looks at a sandbox that has not taken a request, and wakes one that sleeps, where the visitor means that. `up` is what
    /// is wrong with one that is up.
    async fn rouse(
        &self,
        visit: &Visit,
        is_repeatable: bool,
        up: impl FnOnce() -> Error,
        deadline: Deadline<'_, I>,
    ) -> Result<(), Error> {
        let (provider, id) = (self.provider, &visit.identity.id);
        self.memory.forget(self.door.vmid);
        match provider.rest(id).await.map_err(|it| self.absent(it))? {
            Rest::Up => Err(up()),
            Rest::Failed(why) => {
                let text = format!("the sandbox is in state error ({why}): its owner starts or deletes it");
                Err(Error::new(Code::Asleep, text))
            }
            Rest::Asleep(state) if !visit.wakes() => Err(asleep(state, "")),
            Rest::Asleep(state) if !is_repeatable => {
                Err(asleep(state, "; a request with so large a body does not wake it"))
            }
            Rest::Asleep(_) => provider.wake(id, deadline).await.map_err(|it| self.absent(it)),
            Rest::Left if visit.carries_on() => {
                provider.wake(id, deadline).await.map_err(|it| self.absent(it))
            }
            Rest::JustUp | Rest::ComingUp | Rest::Left => Ok(()),
        }
    }

    /// What a visitor is told whose sandbox is gone by now.
    fn absent(&self, error: Error) -> Error {
        match error.code() {
            Code::NotFound | Code::Condemned => Error::new(Code::Gone, "it was deleted, or its time is over"),
            _ => error,
        }
    }

    /// Some time that differs between requests which came together.
    fn jitter(&self) -> Duration {
        let [chance, ..] = self.provider.draw();
        Duration::from_millis(200 + u64::from(chance) * 2)
    }
}

fn closed(port: u16, failure: &NetError) -> Error {
    let text = format!(
        "the sandbox runs, and takes no connection at port {port} ({failure}): start the server there, listening on 0.0.0.0 \
         and not on localhost alone"
    );
    Error::new(Code::PortClosed, text).retry_after(2)
}

fn asleep(state: State, why: &str) -> Error {
    let text = match state {
        State::Paused => format!("the sandbox is paused: open its page anew, or resume it{why}"),
        _ => format!("the sandbox is stopped: open its page anew, or start it{why}"),
    };
    Error::new(Code::Asleep, text)
}

fn not_listening(port: u16) -> Error {
    let text = format!("the sandbox has just come up, and nothing listens at its port {port} yet: ask again");
    Error::new(Code::Starting, text).retry_after(2)
}

fn starting() -> Error {
    Error::new(Code::Starting, "the sandbox is coming up: ask again").retry_after(2)
}
