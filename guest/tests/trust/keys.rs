//! The file of keys: nothing listens before it is there, and it counts as it is now.

use std::{fs, io::Read, process::Stdio};

use pve_edge_guest_protocol::{
    answer::{Code, Hello},
    call::Operation,
    keys::EdgeKey,
};
use tokio::net::TcpStream;

use crate::daemon::{Daemon, command, free_address};

#[tokio::test]
async fn a_key_that_was_added_is_obeyed_and_one_that_was_removed_is_not() {
    let mut daemon = Daemon::start().await;
    let hello = async |daemon: &Daemon| daemon.ask::<Hello>(Operation::Hello {}, "").await;
    assert!(hello(&daemon).await.is_ok());
    daemon.key = EdgeKey::new(&[8; 32]);
    assert_eq!(hello(&daemon).await.unwrap_err().code, Code::Unauthorized);
    daemon.write_keys();
    assert!(hello(&daemon).await.is_ok());
    assert_eq!(daemon.health().await.keys, [daemon.key.id().to_string()]);
    daemon.key = EdgeKey::new(&[7; 32]);
    assert_eq!(hello(&daemon).await.unwrap_err().code, Code::Unauthorized);
    fs::remove_file(daemon.path("keys")).unwrap();
    assert!(daemon.health().await.keys.is_empty());
}

#[tokio::test]
async fn nothing_listens_before_the_keys_are_there() {
    let daemon = Daemon::spawn(None, &[]);
    // It is running as soon as it has made its folder.
    while !daemon.path("run/boot").exists() {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(daemon.address).await.is_err());
    assert_eq!(daemon.serve(), None);
    daemon.write_keys();
    daemon.wait().await;
    assert!(daemon.ask::<Hello>(Operation::Hello {}, "").await.is_ok());
}

#[test]
fn what_it_waits_for_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(&folder, free_address())
        .args(["--", "sh", "-c", "sleep 2.5; exit 5"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let keys = folder.path().join("keys");
    assert_eq!(told, format!("pve-edge-guest: waiting for the keys: {} is missing\n", keys.display()));
}
