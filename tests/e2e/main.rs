//! The end-to-end suite: every platform against every PVE.
//!
//! `e2e [PVE] [PLATFORM] [WORD…]`: all combinations, or those of one PVE (`morph`
//! is the stand-in of Morph Cloud, `pipe` the pipe to upstreams) or one platform; all scenarios, or those with
//! the word in their names.

use std::{io, process::ExitCode};

use pve_edge_bed::guests::part;
use pve_edge_tests::{Combination, Pve, Tally, Target, morph, pipe, run};
use tokio::signal::unix::{SignalKind, signal};

const PVES: [Pve; 2] = [Pve::Simulator, Pve::Fakepve];
const TARGETS: [Target; 4] = [Target::Local, Target::Workerd, Target::Lambda, Target::LambdaStreaming];
fn main() -> ExitCode {
    // The daemon in guests is this program, too.
    part().unwrap_or_else(run_all)
}

#[tokio::main]
async fn run_all() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let stop = match stop() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    // What is dropped when it is interrupted ends its processes.
    let tally = tokio::select! {
        tally = all(&words) => tally,
        () = stop => {
            eprintln!("interrupted");
            return ExitCode::FAILURE;
        }
    };
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all(words: &[String]) -> Tally {
    let is = |name: &str| words.iter().any(|word| word == name);
    let pves: Vec<_> = PVES.into_iter().filter(|pve| is(pve.name())).collect();
    let targets: Vec<_> = TARGETS.into_iter().filter(|target| is(target.name())).collect();
    let known = |word: &str| {
        [morph::NAME, pipe::NAME].contains(&word)
            || PVES.iter().any(|pve| pve.name() == word)
            || TARGETS.iter().any(|target| target.name() == word)
    };
    let filter = words.iter().find(|word| !known(word)).map_or("", String::as_str);
    let targets = if targets.is_empty() { TARGETS.to_vec() } else { targets };
    let any = pves.is_empty() && !is(morph::NAME) && !is(pipe::NAME);
    let pves = if any { PVES.to_vec() } else { pves };
    let program = std::env::current_exe().unwrap_or_default();
    let on = async |targets: Vec<Target>| {
        let mut tally = Tally::default();
        for pve in pves.iter().copied() {
            for &target in &targets {
                tally.add(run(Combination { pve, target }, filter, &program).await);
            }
        }
        if any || is(morph::NAME) {
            for &target in &targets {
                tally.add(morph::run(target, filter).await);
            }
        }
        if any || is(pipe::NAME) {
            for &target in &targets {
                tally.add(pipe::run(target, filter).await);
            }
        }
        tally
    };
    // Scenarios mostly wait: what serves them takes the cores in turn.
    let (local, emulated): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|&target| target == Target::Local);
    let (workerd, lambda) = emulated.into_iter().partition(|&target| target == Target::Workerd);
    let (mut tally, others, more) = tokio::join!(on(local), on(workerd), on(lambda));
    tally.add(others);
    tally.add(more);
    tally
}

fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
