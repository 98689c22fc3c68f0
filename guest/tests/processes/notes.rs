//! Notes of starts under a key: how many there may be, and of which guest.

use std::time::{Duration, SystemTime};

use pve_edge_guest_protocol::{
    Unique,
    answer::Code,
    call::Digest256,
    process::{Start, State},
};

use super::line;
use crate::daemon::{Daemon, unique};

fn keyed(process: Unique, key: &[u8]) -> Start {
    Start { process, keyed: Some(Digest256::of(key)) }
}

/// Fills the folder of notes: each is of a process that has ended, as it was this long ago, and of some guest.
fn fill(daemon: &Daemon, age: Duration, guest: Option<&str>) {
    let folder = daemon.path("state/started");
    std::fs::create_dir_all(&folder).unwrap();
    let digest = serde_json::to_value(Digest256::of(b"old")).unwrap();
    let note = serde_json::json!({ "digest": digest, "boot": Unique([1; 16]), "guest": guest }).to_string();
    for number in 0..4096_u32 {
        let path = folder.join(format!("{number:032x}"));
        std::fs::write(&path, &note).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

fn notes(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.path("state/started")).unwrap().count()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_oldest_note_of_what_has_ended_makes_room_after_an_hour() {
    let daemon = Daemon::start().await;
    let spec = line("exec sleep 100");
    fill(&daemon, 59 * MINUTE, None);
    let refusal = daemon.start_again(keyed(unique(), b"key"), &spec).await.unwrap_err();
    assert_eq!(refusal.code, Code::TooManyKeys);
    // The oldest of all runs still.
    let running = unique();
    std::fs::remove_file(daemon.path(&format!("state/started/{:032x}", 0))).unwrap();
    daemon.start_again(keyed(running, b"key"), &spec).await.unwrap();
    let age = |name: String, age| {
        let file = std::fs::File::options().write(true).open(daemon.path(&format!("state/started/{name}")));
        file.unwrap().set_modified(SystemTime::now() - age).unwrap();
    };
    age(running.to_string(), 120 * MINUTE);
    age(format!("{:032x}", 7), 61 * MINUTE);
    daemon.start_again(keyed(unique(), b"key"), &spec).await.unwrap();
    assert_eq!(notes(&daemon), 4096);
    assert!(!daemon.path(&format!("state/started/{:032x}", 7)).exists());
    assert!(daemon.path(&format!("state/started/{running}")).exists());
    let refusal = daemon.start_again(keyed(unique(), b"key"), &spec).await.unwrap_err();
    assert_eq!(refusal.code, Code::TooManyKeys);
}

#[tokio::test]
async fn notes_of_another_guest_go_and_its_own_stay() {
    let mut daemon = Daemon::start().await;
    let own = keyed(unique(), b"own");
    daemon.start_again(own.clone(), &line("true")).await.unwrap();
    fill(&daemon, MINUTE, Some("02:00:00:00:00:01"));
    daemon.restart_guest().await;
    daemon.start_again(keyed(unique(), b"key"), &line("true")).await.unwrap();
    assert_eq!(notes(&daemon), 2);
    assert_eq!(daemon.start_again(own, &line("true")).await.unwrap().state, State::Lost);
}
