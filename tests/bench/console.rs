//! Commands through the console of a container in which nothing is installed, whose terminal loses bytes: through each
//! platform, one after the other with random input, and from many clients at once from nothing; through the Worker also
//! with PVE 40 ms away, and what a template takes that is built there.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use pve_edge_tests::{Pve, Rig, Target, client::Client, cluster::BARE};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::exec::median;

/// Commands one after the other.
const TIMES: usize = 100;
/// Clients at once, commands of each, and rounds.
const CLIENTS: (usize, usize, usize) = (8, 12, 3);
/// A round trip to a PVE that is far away.
const FAR: Duration = Duration::from_millis(40);
/// Bytes of the output that is timed, and of the input.
const OUTPUT: usize = 1 << 20;
const INPUT: usize = 128 << 10;

/// Measures all platforms.
pub(crate) async fn main(program: &Path) -> ExitCode {
    println!("\ncommands through a console that loses bytes");
    let asked = std::env::args().nth(3);
    let all = [
        (Target::Local, Duration::ZERO),
        (Target::Workerd, Duration::ZERO),
        (Target::Workerd, FAR),
        (Target::Lambda, Duration::ZERO),
    ];
    for (target, far) in
        all.into_iter().filter(|(it, _)| asked.as_deref().is_none_or(|asked| asked == it.name()))
    {
        if let Err(why) = measure(target, far, program).await {
            println!("  {}: {why}", target.name());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(target: Target, far: Duration, program: &Path) -> Result<(), String> {
    let rig = Rig::start_in(Pve::Simulator, target, program, (24, far)).await?;
    println!("  {}, PVE {} ms away", target.name(), far.as_millis());
    let client = rig.client();
    build(&rig).await?;
    let path = create(client, &json!({"templateVmid": BARE})).await?;
    first(&rig, &path).await?;
    let mut taken = Vec::new();
    for number in 0..TIMES {
        let input = noise(number, number * 300);
        let start = Instant::now();
        let request = json!({"command": "tee /dev/stderr; exit 7", "stdin": STANDARD.encode(&input), "encoding": "base64"});
        let outcome = exec(client, &path, &request).await?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        let is_right = |stream: &str| outcome[stream].as_str() == Some(&*STANDARD.encode(&input));
        if outcome["exitCode"] != 7 || !is_right("stdout") || !is_right("stderr") {
            return Err(format!("command {number} is wrong"));
        }
    }
    let small = timed(client, &path, "true").await?;
    let lossy = rates(client, &path).await?;
    delete(client, &path).await;
    let path = create(client, &json!({})).await?;
    let daemon = timed(client, &path, "true").await?;
    delete(client, &path).await;
    let crowd = together(client).await?;
    rig.cluster().lose_nothing();
    let path = create(client, &json!({"templateVmid": BARE})).await?;
    let whole = rates(client, &path).await?;
    delete(client, &path).await;
    let slowest = crowd.iter().copied().fold(0.0, f64::max);
    println!(
        "    {TIMES} of {TIMES} with random input right, {:.0} ms median\n    `true` {small:.0} ms, by the daemon {daemon:.0} ms\n    {lossy}, where \
         the console loses nothing {whole}\n    {} commands of {} clients at once, each run once, {:.0} ms median, {slowest:.0} ms \
         at most",
        median(taken),
        crowd.len(),
        CLIENTS.0,
        median(crowd),
    );
    Ok(())
}

/// The first command of a container, in which no hub is.
async fn first(rig: &Rig, path: &str) -> Result<(), String> {
    let (start, before) = (Instant::now(), rig.cluster().requests());
    exec(rig.client(), path, &json!({"command": "true"})).await?;
    let requests = rig.cluster().requests().zip(before).map(|(after, before)| after - before);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!("    the first `true` {ms:.0} ms, with {} requests to PVE", requests.unwrap_or_default());
    Ok(())
}

/// A template of one in which nothing is, with a package, a script and the daemon.
async fn build(rig: &Rig) -> Result<(), String> {
    let (start, before) = (Instant::now(), rig.cluster().requests());
    let body = json!({"fromTemplate": BARE, "preset": "1vcpu_1gb_9gb", "packages": ["jq"], "run": "sleep 1"});
    let begun = rig.admin().ask("POST", "/api/templates", &body).await;
    let path = begun.header("location").to_owned();
    let (mut asked, mut last) = (1, begun.text());
    while !last.contains("\"ready\"") {
        if start.elapsed() > Duration::from_secs(300) || last.contains("\"failed\"") {
            return Err(format!("a template is not built: {last}"));
        }
        sleep(Duration::from_millis(500)).await;
        last = rig.admin().ask("GET", &path, &Value::Null).await.text();
        asked += 1;
    }
    let requests = rig.cluster().requests().zip(before).map(|(after, before)| after - before);
    println!(
        "    a template with a package, a script of 1 s and the daemon: {:.0} s, {asked} requests to the API, {} to PVE",
        start.elapsed().as_secs_f64(),
        requests.unwrap_or_default()
    );
    rig.admin().ask("DELETE", &path, &Value::Null).await;
    Ok(())
}

/// How fast output and input are.
async fn rates(client: &Client, path: &str) -> Result<String, String> {
    let (output, input) = (output(client, path).await?, input(client, path).await?);
    Ok(format!("output {output:.0} kB/s, input {input:.0} kB/s"))
}

/// kB of output a second.
async fn output(client: &Client, path: &str) -> Result<f64, String> {
    let start = Instant::now();
    let command = format!("head -c {OUTPUT} /dev/zero | tr '\\0' x");
    let outcome = exec(client, path, &json!({"command": command})).await?;
    if outcome["stdout"].as_str().map(str::len) != Some(OUTPUT) {
        return Err("output is missing".to_owned());
    }
    Ok(OUTPUT as f64 / start.elapsed().as_secs_f64() / 1e3)
}

/// kB of input a second.
async fn input(client: &Client, path: &str) -> Result<f64, String> {
    let bytes = noise(TIMES, INPUT);
    let start = Instant::now();
    let request = json!({"command": "sha256sum", "stdin": STANDARD.encode(&bytes), "encoding": "base64"});
    let outcome = exec(client, path, &request).await?;
    if outcome["stdout"] != STANDARD.encode(format!("{:x}  -\n", Sha256::digest(&bytes))) {
        return Err(format!("input is wrong: {outcome}"));
    }
    Ok(INPUT as f64 / start.elapsed().as_secs_f64() / 1e3)
}

/// Each command makes a folder, which fails a second time; the milliseconds of each.
async fn together(client: &Client) -> Result<Vec<f64>, String> {
    let (clients, commands, rounds) = CLIENTS;
    let mut taken = Vec::new();
    for round in 0..rounds {
        let path = &create(client, &json!({"templateVmid": BARE})).await?;
        let all = (0..clients).map(async |number| {
            let mut taken = Vec::new();
            for command in 0..commands {
                let name = format!("{round}.{number}.{command}");
                let start = Instant::now();
                let outcome =
                    exec(client, path, &json!({"command": format!("mkdir {name} && echo {name}")})).await?;
                if outcome["stdout"] != format!("{name}\n") {
                    return Err(format!("{name}: {outcome}"));
                }
                taken.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok(taken)
        });
        for told in join_all(all).await {
            taken.extend(told?);
        }
        delete(client, path).await;
    }
    Ok(taken)
}

/// The path of commands of a new sandbox.
async fn create(client: &Client, body: &Value) -> Result<String, String> {
    let shown = client.ask("POST", "/api/sandboxes", body).await.json(201);
    let id = shown["id"].as_str().ok_or("a sandbox has no id")?;
    Ok(format!("/api/sandboxes/{id}/exec"))
}

async fn delete(client: &Client, path: &str) {
    client.ask("DELETE", path.trim_end_matches("/exec"), &Value::Null).await;
}

async fn exec(client: &Client, path: &str, request: &Value) -> Result<Value, String> {
    let answer = client.ask("POST", path, request).await;
    if answer.status == 200 { Ok(answer.json(200)) } else { Err(answer.text()) }
}

/// Median of some runs, in milliseconds.
async fn timed(client: &Client, path: &str, command: &str) -> Result<f64, String> {
    let mut taken = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        exec(client, path, &json!({"command": command})).await?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(taken))
}

/// Bytes of which no two parts are alike.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let block = |at: usize| <[u8; 32]>::from(Sha256::digest([seed.to_be_bytes(), at.to_be_bytes()].concat()));
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}
