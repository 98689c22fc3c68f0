//! Installs the daemon in a root as its user does, by the script of a served API, and uses it by signed calls.
//!
//! `tests/install/run` starts it in namespaces of its own: `install KIND ROOT`, where KIND says what starts services
//! there, or `install arm64`, which has the other processor's program answer.

mod emulated;
mod guest;
mod programs;
mod root;
mod served;

use std::{fs, net::TcpListener, path::PathBuf, process::ExitCode};

use guest::Guest;
use programs::Programs;
use root::{Init, Root};
use served::Served;

/// Port of the daemon.
const PORT: u16 = pve_edge_guest_protocol::PORT;

/// Outcome of a step, and why it is not as it must be.
type Check = Result<(), String>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (kind, path) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let outcome = match &*kind {
        "arm64" => emulated::answers().await,
        kind => trial(kind, path.into()).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{kind}: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn trial(kind: &str, path: PathBuf) -> Check {
    let init = Init::parse(kind).ok_or("KIND is image, systemd, openrc, hook or neither")?;
    let root = Root::new(path);
    let programs = Programs::built()?;
    let served = Served::start("prod", &programs).await?;
    let untouched = root.list()?;
    if init == Init::Image {
        return prepared(&root, &served, &untouched);
    }
    refused(&root, &served, &programs, &untouched).await?;
    root.expect("install", &served.install(), init.told())?;
    let mut guest = Guest::new("prod")?;
    guest.hello().await?;
    guest.runs_commands().await?;
    guest.moves_files(&root).await?;
    upgraded(&root, &programs, &mut guest).await?;
    shared(&root, &served, &programs, &mut guest).await?;
    removed(&root, &served, &untouched)?;
    brought(&root, &served, &untouched).await
}

/// What fails changes nothing.
async fn refused(root: &Root, served: &Served, programs: &Programs, untouched: &[String]) -> Check {
    let unchanged = |step: &str| root.is_as_before(untouched).map_err(|why| format!("{step}: {why}"));
    let tampered = programs.tampered()?;
    let changed = Served::start("prod", &tampered).await?;
    root.expect_failure("tampered", &changed.install(), "SHA-256")?;
    unchanged("after other bytes")?;
    {
        let _other = TcpListener::bind(("0.0.0.0", PORT)).map_err(|error| error.to_string())?;
        root.expect_failure("port", &served.install(), "something else listens on port 39375")?;
        unchanged("after a port that is taken")?;
    }
    // As a disk on which the program has no room.
    let small = format!("ulimit -f 200; {}", served.install());
    root.expect_failure("disk", &small, "pve-edge-guest: ")?;
    unchanged("after a disk that is full")?;
    let slow = Served::stalling("prod", programs).await?;
    root.cut_off(&slow.install(), slow.asked()).await?;
    unchanged("after it was ended in the middle")?;
    root.expect_failure("word", &served.script("--purge"), "--remove it removes")?;
    unchanged("after a wrong word")
}

/// The next version takes the place of this one, and what runs goes on.
async fn upgraded(root: &Root, programs: &Programs, guest: &mut Guest) -> Check {
    let process = guest.start("echo before; sleep 1000").await?;
    let (boot, pid) = (guest.boot().await?, guest.pid(process).await?);
    let next = programs.next()?;
    let served = Served::start("prod", &next).await?;
    root.expect("upgrade", &served.install(), &next.version)?;
    guest.hello().await?;
    if guest.boot().await? != boot || guest.pid(process).await? != pid {
        return Err("the upgrade began another boot, or lost a process".into());
    }
    let installed = fs::read(root.path("usr/local/bin/pve-edge-guest")).map_err(|error| error.to_string())?;
    if !next.is(&installed) || root.running("run")?.iter().any(|it| it.is_replaced) {
        return Err("the upgrade left the program of before".into());
    }
    Ok(())
}

/// A second deployment has the same daemon, and each removes its own keys.
async fn shared(root: &Root, served: &Served, programs: &Programs, guest: &mut Guest) -> Check {
    let other = Served::start("other", programs).await?;
    root.expect("second deployment", &other.install(), "is installed for the deployment other")?;
    guest.hello().await?;
    root.expect("first removal", &served.script("--remove"), "stays, for other deployments")?;
    if guest.hello().await.is_ok() {
        return Err("a removed deployment is still obeyed".into());
    }
    Guest::new("other")?.hello().await?;
    root.expect("again", &served.install(), "is installed")?;
    root.expect("second removal", &other.script("--remove"), "stays, for other deployments")?;
    guest.hello().await
}

fn removed(root: &Root, served: &Served, untouched: &[String]) -> Check {
    root.expect("removal", &served.script("--remove"), "is removed")?;
    root.is_as_before(untouched)?;
    for part in ["run", "serve", "keep"] {
        if !root.running(part)?.is_empty() {
            return Err(format!("{part} still runs after the removal"));
        }
    }
    if root.runs("sleep 1000") || TcpListener::bind(("0.0.0.0", PORT)).is_err() {
        return Err("a command, or the port, outlives the removal".into());
    }
    root.expect("removal of nothing", &served.script("--remove"), "is removed")?;
    root.is_as_before(untouched)
}

/// The script that has the program in it needs no network.
async fn brought(root: &Root, served: &Served, untouched: &[String]) -> Check {
    let script = served.with_program().await?;
    root.expect_of("script with the program", "sh", &script, "is installed")?;
    Guest::new("prod")?.hello().await?;
    root.expect_of("its removal", "sh -s -- --remove", &script, "is removed")?;
    root.is_as_before(untouched)
}

/// In a system that does not run yet, as an image that is being made, nothing is started.
fn prepared(root: &Root, served: &Served, untouched: &[String]) -> Check {
    root.expect("install", &served.install(), Init::Image.told())?;
    let wanted = root.path("etc/systemd/system/multi-user.target.wants/pve-edge-guest.service");
    if fs::symlink_metadata(&wanted).is_err() || !root.running("run")?.is_empty() {
        return Err("systemd would not start it, or it was started".into());
    }
    root.unit_is_valid()?;
    root.expect("removal", &served.script("--remove"), "is removed")?;
    root.is_as_before(untouched)
}
