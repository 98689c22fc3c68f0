//! Which calls are obeyed.

mod model;

use pve_edge_guest_protocol::{
    answer::{Health, Hello},
    call::Operation,
};

use super::daemon::Daemon;

#[tokio::test]
async fn a_signed_call_is_obeyed() {
    let daemon = Daemon::start().await;
    let health = daemon.health().await;
    assert_eq!(health.keys, [daemon.key.id().to_string()]);
    let hello: Hello = daemon.ask(Operation::Hello {}, "").await.unwrap();
    assert_eq!(hello.boot, health.boot);
    assert_eq!(hello.keys, format!("{}\n", daemon.key.line("home")));
    let renewed: Health = daemon.ask(Operation::Renew {}, "").await.unwrap();
    assert_ne!(renewed.boot, health.boot);
    assert_ne!(renewed.session, health.session);
    assert_eq!(daemon.health().await, renewed);
    let hello: Hello = daemon.ask(Operation::Hello {}, "").await.unwrap();
    assert_eq!(hello.boot, renewed.boot);
    daemon.kill().await;
    let after = daemon.health().await;
    assert_eq!(after.boot, renewed.boot);
    assert_ne!(after.session, renewed.session);
}
