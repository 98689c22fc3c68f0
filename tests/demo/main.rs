//! `cargo demo`: the API on loopback, with a simulated PVE whose guests run
//! commands as ordinary processes; or, with `PVE_API_URL` or `MORPH_API_KEY`, before a real one.

mod simulated;
mod sweeps;
mod welcome;

use std::{io, net::Ipv4Addr, process::ExitCode, sync::Arc};

use hex::encode as hex;
use pve_edge_bed::{
    guests::{self, Daemon, Guests},
    serve::{Api, serve},
    sim::server::{Server, lock},
};
use pve_edge_core::{api::Pairs, io::Platform};
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    // The guests' daemon is this program, too.
    guests::part().unwrap_or_else(serve_until_stopped)
}

#[tokio::main]
async fn serve_until_stopped() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), String> {
    let script = match std::env::args().nth(1).as_deref() {
        Some("pve.sh") => Some(api(Api::PLATFORM, &from_environment())?.setup_script()),
        Some("proxy.sh") => Some(api(Api::PLATFORM, &from_environment())?.proxy_script()?),
        _ => None,
    };
    if let Some(script) = script {
        print!("{script}");
        return Ok(());
    }
    let stop = stop().map_err(|error| format!("signals: {error}"))?;
    log()?;
    let mut settings = from_environment();
    let port = port()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("127.0.0.1:{port}: {error}; PORT chooses another"))?;
    let key = key(&mut settings);
    let guests = match set(&settings, "PVE_API_URL") || set(&settings, "MORPH_API_KEY") {
        true => None,
        false => Some(simulate(&mut settings, port).await?),
    };
    let (guests, _pve) = guests.unzip();
    // Guests of a simulated PVE are behind a simulated proxy, which finds them on every system.
    let platform = Platform { in_guest_network: guests.is_none(), ..Api::PLATFORM };
    let api = Arc::new(api(platform, &settings)?);
    if !api.misconfigured().is_empty() {
        let problems: String = api.misconfigured().iter().map(|it| format!("\n  {it}")).collect();
        return Err(format!(
            "cannot start:{problems}\n`cargo demo pve.sh` writes the script that prepares PVE"
        ));
    }
    welcome::print(port, key.as_deref(), guests.is_some());
    let (sweeper, proxy) = (api.clone(), guests.clone());
    let handler = move |request| {
        let (api, proxy) = (api.clone(), proxy.clone());
        async move {
            let request = match &proxy {
                None => request,
                Some(guests) => match guests.proxy(request).await {
                    Ok(reply) => return reply,
                    Err(request) => *request,
                },
            };
            api.answer(request).await
        }
    };
    let sweeps = tokio::spawn(sweeps::every(sweeps::PERIOD, async move || sweeper.sweep().await));
    serve(listener, handler, stop).await;
    sweeps.abort();
    if let Some(guests) = guests {
        guests.close();
    }
    Ok(())
}

fn api(platform: Platform, settings: &Pairs) -> Result<Api, String> {
    Api::on(platform, settings).map_err(|error| format!("trusted roots: {error}"))
}

/// Logs what the adapters log, as they do: one JSON object a line. `RUST_LOG` says how much of it.
fn log() -> Result<(), String> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|it| !it.trim().is_empty());
    let wrong =
        |_| "RUST_LOG is wrong: a level, such as info, warn or off, or TARGET=LEVEL by commas".to_owned();
    let targets = wanted.as_deref().unwrap_or("info").parse::<Targets>().map_err(wrong)?;
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::registry().with(lines.with_writer(io::stderr).with_filter(targets)).init();
    Ok(())
}

/// Everything that is set: core knows which names are its own.
fn from_environment() -> Pairs {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

fn set(settings: &Pairs, name: &str) -> bool {
    settings.iter().any(|(set, value)| set == name && !value.trim().is_empty())
}

fn value<'s>(settings: &'s Pairs, name: &str) -> &'s str {
    settings.iter().find(|(set, _)| set == name).map_or("", |(_, value)| value)
}

/// Sets what the environment leaves open.
fn default(settings: &mut Pairs, name: &str, value: String) {
    if !set(settings, name) {
        settings.retain(|(empty, _)| empty != name);
        settings.push((name.to_owned(), value));
    }
}

fn port() -> Result<u16, String> {
    match std::env::var("PORT") {
        Ok(port) => match port.parse() {
            Ok(0) | Err(_) => Err("PORT is wrong: a port number, 1 to 65535".to_owned()),
            Ok(port) => Ok(port),
        },
        Err(_) => Ok(8787),
    }
}

/// A fresh key, unless the environment has keys.
fn key(settings: &mut Pairs) -> Option<String> {
    if set(settings, "EDGE_API_KEYS") {
        return None;
    }
    let key = format!("demo-{}", random::<16>());
    let hash = hex(Sha256::digest(&key));
    default(settings, "EDGE_API_KEYS", format!("demo:{hash}:admin"));
    Some(key)
}

async fn simulate(settings: &mut Pairs, port: u16) -> Result<(Guests, Server), String> {
    let pve =
        simulated::start(&random::<16>()).await.map_err(|error| format!("the simulated PVE: {error}"))?;
    default(settings, "EDGE_SECRET", random::<32>());
    default(settings, "EDGE_DEPLOYMENT", "demo".to_owned());
    default(settings, "PVE_PUBLIC_DOMAIN", format!("http://localhost:{port}"));
    for (name, value) in pve.settings {
        default(settings, name, value);
    }
    let guests = Guests::new(pve.inventory, daemon(settings)?);
    let wrong = |wrong| format!("EDGE_SECRET {wrong}");
    guests.admit(value(settings, "EDGE_SECRET"), value(settings, "EDGE_DEPLOYMENT")).map_err(wrong)?;
    {
        let mut sim = lock(&pve.sim);
        sim.set_agent_host(guests.agent_host());
        sim.set_disk_host(guests.disk_host());
        sim.set_console_host(guests.console_host());
    }
    Ok((guests, pve.server))
}

/// The daemon of templates, which obeys this deployment.
fn daemon(settings: &Pairs) -> Result<Option<Daemon>, String> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    Daemon::new(program, value(settings, "EDGE_SECRET"), value(settings, "EDGE_DEPLOYMENT"))
        .map_err(|wrong| format!("EDGE_SECRET {wrong}"))
        .map(Some)
}

fn random<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    hex(bytes)
}

/// Ends when this process is asked to: guests' processes must not outlive it.
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
