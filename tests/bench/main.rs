//! Measures what the design promises: requests to PVE as counts, time as a
//! ratio to what PVE itself works, and core's own CPU.

mod bed;
mod console;
mod exec;
mod gateway;
mod guest;
mod report;
mod tape;

use std::{process::ExitCode, time::Instant};

use bed::Bed;
use futures_util::future::join_all;
use pve_edge_bed::floor;
use pve_edge_tests::Pve;
use report::Report;
use serde_json::{Value, json};

/// Guests besides the usual ones: sandboxes in the simulator, others' in fakepve.
const FEW: u32 = 50;
const MANY: u32 = 1000;
const LISTED: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("cpu"), _) => return cpu().await,
        (Some("guest"), Some(program)) => return guest::main(program.into()).await,
        (Some("exec"), Some(program)) => return exec::main(program.as_ref()).await,
        (Some("gateway"), Some(program)) => return gateway::main(program.as_ref()).await,
        (Some("console"), Some(program)) => return console::main(program.as_ref()).await,
        _ => {}
    }
    let mut report = Report::default();
    for pve in [Pve::Simulator, Pve::Fakepve] {
        println!("\n{}, clone, start and destroy 1 s each", pve.name());
        if let Err(why) = measure(pve, &mut report).await {
            report.over += 1;
            println!("  {why}");
        }
    }
    println!("\nsimulator in virtual time, tasks and answers as measured on PVE 9.2, beside a floor");
    match floor::measure() {
        Ok(lines) => lines.iter().for_each(|line| report.beside(line)),
        Err(why) => {
            report.over += 1;
            println!("  {why}");
        }
    }
    report.end()
}

/// Prints core's own CPU in milliseconds, and the requests, of a creation, a read and a listing of 100: what
/// `tests/bench/compare` runs of two builds in turn.
async fn cpu() -> ExitCode {
    match core_cpu().await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn core_cpu() -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bed = Bed::new(Pve::Simulator, folder.path(), LISTED).await?;
    let created = bed.ask("POST", "/api/sandboxes", json!({})).await;
    let id = created.body["id"].as_str().ok_or_else(|| created.body.to_string())?.to_owned();
    let got = bed.ask("GET", &format!("/api/sandboxes/{id}"), Value::Null).await;
    let listed = bed.ask("GET", "/api/sandboxes?limit=100", Value::Null).await;
    let mut line = String::new();
    for (name, taken) in [("create", &created), ("get", &got), ("list", &listed)] {
        line += &format!("{name} {:.4} {} ", bed.cpu(taken, 200).await, taken.requests);
    }
    Ok(line)
}

async fn measure(pve: Pve, report: &mut Report) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bed = Bed::new(pve, folder.path(), FEW).await?;
    let created = bed.ask("POST", "/api/sandboxes", json!({})).await;
    let id = created.body["id"].as_str().ok_or_else(|| created.body.to_string())?.to_owned();
    let path = format!("/api/sandboxes/{id}");
    report.asked("create, cold", &created, 201, 9, Some(1.25 * 2.0));
    let got = bed.ask("GET", &path, Value::Null).await;
    report.asked("get", &got, 200, 3, None);
    let ran = bed.ask("POST", &format!("{path}/exec"), json!({"command": "true"})).await;
    report.asked("exec", &ran, 200, 1, None);
    let few = bed.ask("GET", "/api/sandboxes", Value::Null).await;
    report.asked("list, 50 guests", &few, 200, 1, None);
    eight(&bed, report).await;
    // Each of these is a single-sandbox request.
    for (name, taken) in [("create", &created), ("get", &got), ("exec", &ran)] {
        report.cpu(&format!("core's CPU: {name}"), bed.cpu(taken, 300).await, 1.0);
    }
    let deleted = bed.ask("DELETE", &path, Value::Null).await;
    // A task of 1 s takes one look more than a real one.
    report.asked("delete, running", &deleted, 204, 5, None);
    drop(bed);
    let bed = Bed::new(pve, folder.path(), MANY).await?;
    let many = bed.ask("GET", "/api/sandboxes?limit=5000", Value::Null).await;
    report.asked("list, 1000 guests", &many, 200, 1, None);
    let shown = many.body["items"].as_array().map_or(0, Vec::len);
    if pve == Pve::Simulator && shown != MANY as usize {
        return Err(format!("{shown} of {MANY} sandboxes are listed"));
    }
    let cpu = bed.cpu(&many, 50).await;
    report.cpu("core's CPU: list, for each 100 guests", cpu / f64::from(MANY / 100), 1.0);
    Ok(())
}

/// PVE clones a container once at a time: eight clones and a start are what it works.
async fn eight(bed: &Bed, report: &mut Report) {
    let start = Instant::now();
    let made = join_all((0..8).map(|_| bed.ask("POST", "/api/sandboxes", json!({})))).await;
    let seconds = start.elapsed().as_secs_f64();
    let ready = made.iter().filter(|it| it.status == 201).count();
    let (most, all) =
        made.iter().map(|it| it.requests).fold((0, 0), |(most, all), it| (most.max(it), all + it));
    // Each within one request of its client; twice serial cloning is the longest that any may wait.
    report.line(
        "8 creates at once",
        &format!("{ready} of 8, {all} requests (at most {most} each), {seconds:.2} s for 9 s"),
        "8, 18 s",
        ready == 8 && seconds <= 18.0,
    );
}
