//! The daemon in a guest, asked as the edge asks it, on loopback: latency, throughput, memory, and what is lost when
//! connections break or the daemon is killed. Beside it, in the same run, the stand-in of cmux-execd, and `ssh`.

mod beside;
pub(crate) mod client;
mod memory;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use self::{
    beside::Beside,
    client::{Client, Guest},
    memory::{private, resident},
};
use crate::report::Report;

/// Bytes of the large output and of the large file.
const LARGE: u64 = 1 << 30;
/// Commands whose median is told.
const TIMES: u32 = 200;
/// Processes at once.
const MANY: usize = 1000;
/// Connections that break in one output.
const CUTS: u32 = 100;

/// Measures the program that the argument names.
pub(crate) async fn main(program: PathBuf) -> ExitCode {
    let mut report = Report::default();
    if let Err(why) = measure(&program, &mut report).await {
        println!("  {why}");
        return ExitCode::FAILURE;
    }
    report.end()
}

async fn measure(program: &PathBuf, report: &mut Report) -> Result<(), String> {
    println!("\nthe daemon in a guest ({})", program.display());
    let size = std::fs::metadata(program).map_err(|error| error.to_string())?.len();
    report.number("size of the program", size as f64 / 1e6, "MB", 1.5);
    let guest = Guest::start(program)?;
    let client = guest.client().await?;
    report.number("run, private", private(guest.run()) / 1e6, "MB", 0.5);
    report.number("serve, resident, idle", resident(guest.serve()?) / 1e6, "MB", 3.0);
    latency(&client, report).await?;
    throughput(&guest, &client, report).await?;
    cuts(&client, report).await?;
    killed(&guest, &client, report).await?;
    many(&guest, &client, report).await
}

/// Milliseconds of `true`, beside what else runs commands on this machine.
async fn latency(client: &Client<'_>, report: &mut Report) -> Result<(), String> {
    let ours = median(TIMES, async || client.run("true").await.map(drop)).await?;
    report.number("`true`, to its exit", ours, "ms", 5.0);
    for beside in Beside::all().await {
        match beside {
            Ok(beside) => {
                let theirs = median(beside.times(), async || beside.run("true").await).await?;
                println!("        {:<38} {theirs:.2} ms: {:.2} times ours", beside.name(), theirs / ours);
            }
            Err(why) => println!("        {why}"),
        }
    }
    Ok(())
}

/// MB/s of an output, of a file that is read and of one that is put.
async fn throughput(guest: &Guest, client: &Client<'_>, report: &mut Report) -> Result<(), String> {
    let start = Instant::now();
    let bytes = client.run(&format!("head -c {LARGE} /dev/zero")).await?;
    report.rate("output of 1 GiB", bytes, LARGE, start, 100.0);
    let file = guest.home().join("large");
    let start = Instant::now();
    let put = client.put(&file, LARGE).await?;
    report.rate("file of 1 GiB, put", put, LARGE, start, 200.0);
    let start = Instant::now();
    let read = client.read(&file).await?;
    report.rate("file of 1 GiB, read", read, LARGE, start, 200.0);
    report.number("serve, resident, after it", resident(guest.serve()?) / 1e6, "MB", 32.0);
    let _ = std::fs::remove_file(file);
    Ok(())
}

/// Follows one output over connections that break.
async fn cuts(client: &Client<'_>, report: &mut Report) -> Result<(), String> {
    let lines = 2_000_000;
    let followed = client.followed(&format!("seq {lines}"), CUTS, || Ok(())).await?;
    let whole = client::digest_of_lines(lines);
    report.line(
        &format!("output of seq {lines}, {} cuts", followed.cuts),
        if followed.digest == whole { "nothing lost, nothing doubled" } else { "not what was printed" },
        &format!("{CUTS} cuts"),
        followed.digest == whole && followed.cuts == CUTS,
    );
    Ok(())
}

/// Kills the daemon, not the process, in the middle of an output.
async fn killed(guest: &Guest, client: &Client<'_>, report: &mut Report) -> Result<(), String> {
    let lines = 500_000;
    let followed = client.followed(&format!("seq {lines}"), 1, || guest.kill()).await?;
    let holds = followed.digest == client::digest_of_lines(lines);
    let told = if holds { "nothing lost, nothing doubled" } else { "not what was printed" };
    report.line("output, the daemon killed in the middle", told, "nothing", holds);
    Ok(())
}

/// Starts many processes, and divides what their keepers take.
async fn many(guest: &Guest, client: &Client<'_>, report: &mut Report) -> Result<(), String> {
    let start = Instant::now();
    for _ in 0..MANY {
        client.start("exec sleep 600").await?;
    }
    let each = start.elapsed().as_secs_f64() * 1e3 / MANY as f64;
    let keepers = guest.keepers();
    let taken: f64 = keepers.iter().map(|pid| private(*pid)).sum();
    report.line(
        &format!("{MANY} processes at once"),
        &format!("{} keepers, {each:.2} ms to start each", keepers.len()),
        &MANY.to_string(),
        keepers.len() == MANY,
    );
    report.number("a keeper, private", taken / keepers.len() as f64 / 1e3, "kB", 150.0);
    Ok(())
}

/// The median of so many, in milliseconds.
async fn median(times: u32, run: impl AsyncFn() -> Result<(), String>) -> Result<f64, String> {
    let mut all = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        run().await?;
        all.push(start.elapsed().as_secs_f64() * 1e3);
    }
    all.sort_by(f64::total_cmp);
    Ok(all.get(all.len() / 2).copied().unwrap_or_default())
}
