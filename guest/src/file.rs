//! Files of the guest. Whatever is done to them is done by a process `file` that becomes the user first: the kernel
//! refuses it what the user may not, and nothing is won by exchanging a path for a link in the middle.

mod archive;
mod aside;
mod channel;
mod entry;
mod list;
mod mkdir;
mod name;
mod pack;
mod part;
mod path;
mod place;
mod places;
mod process;
mod read;
mod refuse;
mod remove;
mod rename;
mod stages;
mod stat;
mod tree;
mod unpack;
mod walk;
mod watch;
mod watched;

use std::{fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    call::Operation,
    file::{Stage, Staged},
};
use tokio::time::timeout;

pub use self::part::main;
use self::{
    process::{Process, Starter},
    stages::Stages,
};
use crate::{answer, answer::Reply, layout::Layout};

/// Time for which a body is still read whose call is refused already, so that its sender sees the refusal.
const DRAINING: Duration = Duration::from_secs(30);

/// How long the next bytes of a body may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files of the guest, as the daemon hands them out: it starts a process for each call, and keeps what is staged.
pub struct Files {
    starter: Starter,
    stages: Stages,
}

impl Files {
    /// Nothing is staged yet.
    pub fn new(layout: Arc<Layout>) -> Self {
        Self { starter: Starter::new(layout), stages: Stages::default() }
    }

    /// Does what a call asks of files, all but [`Operation::Stage`]. `body` is the content for [`Operation::Write`].
    pub async fn call(&self, operation: Operation, body: Bytes) -> Reply {
        match &operation {
            Operation::Commit(args) => self.stages.settle(args.stage, args.sha256, operation.clone()).await,
            Operation::Unpack(args) => self.stages.settle(args.stage, args.sha256, operation.clone()).await,
            Operation::Write(_) => {
                let mut process = self.starter.start(&operation)?;
                process.ask(&operation).await?;
                let _ = process.send(body).await;
                let _ = process.end().await;
                process.answer().await
            }
            _ => {
                let mut process = self.starter.start(&operation)?;
                process.ask(&operation).await?;
                process.answer().await
            }
        }
    }

    /// Takes a body of any length aside. What is left of it when the sender goes away is dropped.
    pub async fn stage<B>(&self, args: Stage, mut body: B) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        let name = args.stage;
        let is_archive = args.unpack;
        let taken = async {
            let room = self.stages.room(name)?;
            let operation = Operation::Stage(args);
            let mut process = self.starter.start(&operation)?;
            process.ask(&operation).await?;
            process.ready().await?;
            let staged = take(&mut process, &mut body).await?;
            self.stages.keep(name, process, staged, is_archive, room)?;
            Ok(answer::json(&staged))
        };
        let reply = taken.await;
        if reply.is_err() {
            let _ = timeout(DRAINING, drain(&mut body)).await;
        }
        reply
    }
}

/// Sends a body to a process that is ready for it; the answer is what the process has got.
async fn take<B>(process: &mut Process, body: &mut B) -> Result<Staged, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let wrong = |why: String| Refusal::new(Code::WrongBody, why);
    loop {
        let frame =
            timeout(PATIENCE, body.frame()).await.map_err(|_| wrong("the body does not come".into()))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| wrong(format!("the body was cut: {error}")))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if process.send(bytes).await.is_err() {
            // It has given up, and says why.
            return process.read().await;
        }
    }
    let _ = process.end().await;
    process.read().await
}

async fn drain<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    while let Some(Ok(_)) = body.frame().await {}
}
