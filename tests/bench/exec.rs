//! `exec` end to end: through the local server, the Worker on workerd and the function in Lambda's emulator, beside the
//! same calls to the same daemon without them.

use std::{path::Path, process::ExitCode, time::Instant};

use pve_edge_core::access::secret::Keyring;
use pve_edge_tests::{DEPLOYMENT, Pve, Rig, Target};
use serde_json::{Value, json};

use crate::guest::client::{Client, world};

/// Commands of each kind, one after the other in turn.
const TIMES: usize = 100;

/// Measures all platforms, with this program as the daemon.
pub(crate) async fn main(program: &Path) -> ExitCode {
    println!("\n`true` by exec, medians of {TIMES}, in turn with the daemon's own calls");
    for target in [Target::Local, Target::Workerd, Target::Lambda] {
        if let Err(why) = measure(target, program).await {
            println!("  {}: {why}", target.name());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(target: Target, program: &Path) -> Result<(), String> {
    let rig = Rig::start(Pve::Simulator, target, program).await?;
    let client = rig.client();
    let shown = client.ask("POST", "/api/sandboxes", &json!({})).await.json(201);
    let id = shown["id"].as_str().ok_or("a sandbox has no id")?;
    let services = shown["services"].as_array().ok_or("a sandbox has no services")?;
    let exec = services.iter().find(|it| it["name"] == "exec").and_then(|it| it["url"].as_str());
    let base = exec.ok_or("a sandbox has no daemon")?.to_owned();
    let guest: Vec<&str> = id.splitn(4, '-').take(3).collect();
    let (world, secrets) = (world()?, Keyring::parse(rig.edge_secret())?);
    let direct = Client::new(&world, base, &guest.join("-"), &secrets, DEPLOYMENT).await?;
    let path = format!("/api/sandboxes/{id}/exec");
    let (mut through, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let start = Instant::now();
        let outcome = client.ask("POST", &path, &json!({"command": "true"})).await.json(200);
        through.push(start.elapsed().as_secs_f64() * 1e3);
        if outcome["exitCode"] != 0 {
            return Err(outcome.to_string());
        }
        let start = Instant::now();
        direct.run("true").await?;
        without.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (through, without) = (median(through), median(without));
    println!(
        "        {:<18} {through:.1} ms, the daemon alone {without:.1} ms: {:.1} ms more, {:.1} times",
        target.name(),
        through - without,
        through / without
    );
    client.ask("DELETE", &format!("/api/sandboxes/{id}"), &Value::Null).await;
    Ok(())
}

pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
