//! Runs scenarios, and tells how they went.

use std::{path::Path, time::Instant};

use futures_util::{StreamExt, stream};

use super::{
    client::Heard,
    log::Log,
    rig::{Pve, Rig},
    scenarios::{ALL, Scenario},
    target::Target,
};

/// What is tested against what.
#[derive(Clone, Copy, Debug)]
pub struct Combination {
    /// The PVE.
    pub pve: Pve,
    /// What serves the API before it.
    pub target: Target,
}

/// How many scenarios went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As they should.
    pub passed: u32,
    /// Otherwise.
    pub failed: u32,
}

/// Runs every scenario whose name has `filter` in it, and prints a line for each. `program` plays the daemon in guests.
pub async fn run(combination: Combination, filter: &str, program: &Path) -> Tally {
    let Combination { pve, target } = combination;
    let place = format!("{} on {}", target.name(), pve.name());
    let mut tally = Tally::default();
    let start = Instant::now();
    let rig = match Rig::start(pve, target, program).await {
        Ok(rig) => rig,
        Err(why) => {
            tally.tell(&place, "starts", Err(why));
            return tally;
        }
    };
    println!("-- {place}: started in {:.1} s", start.elapsed().as_secs_f64());
    let before = rig.cluster.strangers().await;
    let wanted = ALL.iter().filter(|it| it.name.contains(filter) && it.applies(target));
    // They share two cores with what they test, and in this process mostly wait.
    let at_once = if target == Target::Local { 16 } else { 6 };
    let named = |it: &'static Scenario| {
        let running = attempt((it.run)(rig.world.clone()));
        async move { (it.name, running.await) }
    };
    let mut outcomes = stream::iter(wanted.map(named)).buffer_unordered(at_once);
    while let Some((name, (outcome, seconds))) = outcomes.next().await {
        tally.tell(&place, &format!("{name}  ({seconds:.1} s)"), outcome);
    }
    drop(outcomes);
    tally.tell(&place, "others' guests are as they were", unchanged(&rig, before).await);
    if filter.is_empty() {
        tally.tell(&place, "no secret in any answer or log", no_secret_of(&rig));
    }
    println!("-- {place}: {:.1} s", start.elapsed().as_secs_f64());
    if tally.failed > 0
        && let Ok(folder) = rig.log.keep(&format!("{}-{}", target.name(), pve.name()))
    {
        println!("-- {place}: logs are in {}", folder.display());
    }
    tally
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub(super) fn tell(&mut self, place: &str, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {place}: {name}");
            }
            Err(why) => {
                self.failed += 1;
                println!("FAILED  {place}: {name}\n        {}", why.replace('\n', "\n        "));
            }
        }
    }
}

/// Whether a scenario passes, or why not, and how many seconds it takes.
pub(super) async fn attempt(
    scenario: impl Future<Output = ()> + Send + 'static,
) -> (Result<(), String>, f64) {
    let start = Instant::now();
    let outcome = tokio::spawn(scenario).await;
    let why = |error: tokio::task::JoinError| match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => shorten(text),
            (_, Some(text)) => shorten(text),
            _ => "a panic".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    (outcome.map_err(why), start.elapsed().as_secs_f64())
}

/// Megabytes of output are no help.
fn shorten(text: &str) -> String {
    let short: String = text.chars().take(2000).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// Compares what is not ours with what it was, once PVE is done with our clones.
async fn unchanged(rig: &Rig, before: Result<Vec<String>, String>) -> Result<(), String> {
    let before = before?;
    let mut after = Vec::new();
    for _ in 0..50 {
        after = rig.cluster.strangers().await?;
        if after == before {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
    Err(changed.map(|(before, after)| format!("{before}\nis now\n{after}")).collect::<Vec<_>>().join("\n"))
}

fn no_secret_of(rig: &Rig) -> Result<(), String> {
    // A search for nothing would find nothing.
    if rig.cluster.exec_tokens().is_empty() {
        return Err("there is no exec token".to_owned());
    }
    no_secret(&rig.log, &rig.heard, &rig.secrets())
}

/// Whether none of these was answered or logged.
pub(super) fn no_secret(log: &Log, heard: &Heard, secrets: &[String]) -> Result<(), String> {
    let texts = log.texts().map_err(|error| error.to_string())?;
    if texts.iter().all(|(_, text)| text.is_empty()) {
        return Err("nothing was logged at all".to_owned());
    }
    let mut found = Vec::new();
    for (at, secret) in secrets.iter().enumerate() {
        if heard.has(secret) {
            found.push(format!("secret {at} is in an answer"));
        }
        for (name, text) in &texts {
            if let Some(line) = line_with(text, secret) {
                found.push(format!("secret {at} is in the log of {name}: {}", line.replace(secret, "…")));
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

fn line_with(text: &[u8], part: &str) -> Option<String> {
    if !super::client::contains(text, part.as_bytes()) {
        return None;
    }
    let text = String::from_utf8_lossy(text);
    text.lines().find(|line| line.contains(part)).map(shorten)
}
