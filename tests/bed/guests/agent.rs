//! The guest agent of a VM: what it starts are real processes, too.

use std::{
    io,
    process::Stdio,
    sync::{Arc, OnceLock},
};

use tokio::io::AsyncWriteExt;

use super::{GuestState, Guests, execd};
use crate::sim::{
    agent::{Host, Output},
    execd::Program,
};

impl Guests {
    /// Starts what the agents of a simulated PVE are asked to start.
    pub fn agent_host(&self) -> Host {
        // The simulator keeps this, and the guests keep the simulator.
        let shared = Arc::downgrade(&self.shared);
        Arc::new(move |vmid, program| {
            let left = Arc::new(OnceLock::new());
            let (kept, guests) = (left.clone(), shared.upgrade().map(|shared| Self { shared }));
            // Not at once: who asks has locked the simulator, and guests look into it.
            tokio::spawn(async move {
                let found = guests.as_ref().and_then(|guests| Some((guests, guests.running(vmid)?)));
                let output = match found {
                    Some((guests, guest)) => run(guests, vmid, &guest, program).await,
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                let failed = |error: io::Error| Output {
                    err: error.to_string().into(),
                    code: 127,
                    ..Output::default()
                };
                let _ = kept.set(output.unwrap_or_else(failed));
            });
            left
        })
    }
}

async fn run(guests: &Guests, vmid: u32, guest: &GuestState, program: Program) -> io::Result<Output> {
    let arguments: Vec<&str> = program.arguments.iter().map(String::as_str).collect();
    let before = guests.words_before(vmid, guest, &arguments)?;
    let arguments: Vec<&str> = before.iter().map(String::as_str).chain(arguments).collect();
    let (mut child, _) = execd::spawn(guests, vmid, guest, &arguments, Stdio::piped())?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whether the program reads it is its own affair.
        let _ = stdin.write_all(program.input.unwrap_or_default().as_bytes()).await;
    }
    let left = child.wait_with_output().await?;
    Ok(Output { out: left.stdout, err: left.stderr, code: execd::code(left.status) })
}
