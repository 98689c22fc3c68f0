//! Clients of one console, in virtual time: their requests meet each other in the terminal.

use std::time::Duration;

use futures_util::future::join_all;
use pve_edge_guest_protocol::{
    Unique,
    process::{Event, Spec},
};
use time::OffsetDateTime;

use self::bus::{Bus, Faults};
use super::Console;
use crate::{
    access::secret::Secret,
    daemon::CallFailure,
    error::{Code, Error},
    io::{Io, Platform, invocation::Invocation},
    pve::{
        api::{Pve, config::Config},
        guest::Located,
        marks::Mark,
    },
    sandbox::{id::Kind, process::Place},
};

mod broken;
mod bus;
mod followers;
mod guest;
mod proof;
mod scripts;
mod shells;

/// Hardware address of the guest.
const ADDRESS: &str = "BC:24:11:AA:00:01";
/// As the API lets a start take.
const TIME: Duration = Duration::from_secs(25);
/// Clients at once, and commands of each.
const CROWD: (u8, u8) = (8, 12);
/// One packet of input in so many loses a byte, and one line of output.
const LOSS: (Option<u64>, Option<u64>) = (Some(2000), Some(100));

/// Runs a command as the API does, of a script of some length, which is its output too.
async fn command(bus: &Bus, client: u8, number: u8, length: usize) -> Result<Vec<u8>, CallFailure> {
    let mut seed = [client; 32];
    seed[1] = number;
    seed[2..10].copy_from_slice(&bus.seed().to_be_bytes());
    let mut console = console(bus, seed);
    let invocation = console.invocation();
    let (process, until) = (Unique(invocation.draw()), invocation.now() + TIME);
    let text = format!("{client}.{number} {}", "x".repeat(length));
    let spec = Spec { argv: Some(vec![text]), ..Spec::default() };
    console.run(process, &spec, false, until).await?;
    console.find(process, until).await?;
    let mut output = Vec::new();
    let mut following = console.take().follow(process, Place::default(), None, false);
    while let Some(lines) = following.next().await {
        for line in lines.map_err(CallFailure::Unanswered)? {
            if let Event::Out { data, .. } = line.event {
                output.extend(data.0);
            }
        }
    }
    Ok(output)
}

fn console(bus: &Bus, seed: [u8; 32]) -> Console<Bus> {
    let invocation = Invocation::new(bus.clone(), "test", platform(), seed);
    let pve = Pve::new("http://pve", &Secret::new("t".to_owned()), None).expect("a header");
    let mut config = Config::default();
    config.net0 = Some(format!("name=eth0,bridge=vmbr0,hwaddr={ADDRESS},ip=dhcp"));
    let found = Located { node: "node".into(), config, mark: mark('a'), committed: true };
    Console::new(&invocation, &pve, &found)
}

/// Of a sandbox of which others are told apart by a letter.
fn mark(letter: char) -> Mark {
    let nonce = letter.to_string().repeat(24).parse().unwrap();
    Mark::claimed("d", "t", "200000".parse().unwrap(), Kind::Lxc, nonce)
}

fn platform() -> Platform {
    Platform {
        name: "test",
        max_wait: TIME,
        requests: 50,
        answer_bytes: 1 << 20,
        request_bytes: None,
        streams: true,
        upgrades: false,
        private_network: true,
        in_guest_network: true,
        unverified_tls: false,
    }
}

#[test]
fn a_piece_that_is_lost_is_sent_again_however_much_others_are_told() {
    let bus =
        Bus::new(Faults { lost_puts: 1, chatter: Some(Duration::from_millis(90)), ..Faults::default() });
    let told = bus.run(command(&bus, 1, 0, 100));
    assert!(told.is_ok(), "{told:?}");
    let at = bus.now() - OffsetDateTime::UNIX_EPOCH;
    assert!(at < Duration::from_secs(2), "{at}");
}

#[test]
fn a_crowd_that_begins_at_once_is_served_and_nobody_waits_for_long() {
    let mut times = Vec::new();
    for seed in 0..12 {
        let (length, is_shell) = ([0, 500, 1400][seed as usize % 3], seed % 2 == 0);
        times.extend(crowd(length, is_shell, seed));
    }
    times.sort();
    // While each waited for a time of its own, one command of a hundred took more than half of what the API allows.
    let late = times.get(times.len() * 99 / 100).expect("commands");
    assert!(*late < TIME / 4, "{late}");
}

/// Has a crowd run its commands, each of which is run once and answers with its own bytes; how long each took.
fn crowd(length: usize, is_shell: bool, seed: u64) -> Vec<time::Duration> {
    let (lost_input, lost_output) = LOSS;
    let bus = Bus::new(Faults { lost_input, lost_output, is_shell, seed, ..Faults::default() });
    let (clients, commands) = CROWD;
    let all = (0..clients).map(async |client| {
        let mut times = Vec::new();
        for number in 0..commands {
            let begun = bus.now();
            let output = command(&bus, client, number, length).await;
            let output = output.unwrap_or_else(|error| panic!("{seed}: {client}.{number}: {error:?}"));
            let ran = bus.guest(|it| it.ran().iter().filter(|it| ***it == output).count());
            assert_eq!(ran, 1, "{seed}: {client}.{number}");
            let word = format!("{client}.{number} ");
            assert!(String::from_utf8_lossy(&output).contains(&word), "{seed}: the output is another's");
            times.push(bus.now() - begun);
        }
        times
    });
    let times = bus.run(join_all(all)).concat();
    assert_eq!(bus.guest(|it| it.ran().len()), times.len(), "{seed}");
    times
}

#[test]
fn whoever_does_not_get_through_is_told_that_nothing_was_run() {
    let bus = Bus::new(Faults { lost_puts: u32::MAX, ..Faults::default() });
    let failure = bus.run(command(&bus, 1, 0, 100)).expect_err("nothing gets through");
    assert!(failure.is_never_executed() && failure.is_passing(), "{failure:?}");
    assert_eq!(Error::from(failure).code(), Code::ConsoleInUse);
    assert_eq!(bus.guest(|it| it.ran().len()), 0);
}
