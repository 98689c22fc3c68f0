//! Tickets, and what ends a connection.

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::stage::{GETTY, Pass, Stage, VMID, eventually};
use crate::sim::server::lock;

async fn status(stage: &Stage, pass: &Pass) -> u16 {
    match stage.open(pass).await {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_for_one_path_and_port_and_a_while() {
    let stage = Stage::new().await;
    let pass = stage.pass(VMID).await;
    let other = stage.pass(GETTY).await;
    assert_eq!((pass.port.as_str(), other.port.as_str()), ("5900", "5901"));
    let (_open, answer) = stage.opened(&pass).await.expect("a websocket");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "binary");
    assert!(!answer.headers().contains_key("sec-websocket-extensions"));
    let wrong = Pass { ticket: "PVEVNC:00000000::x".into(), ..pass.clone() };
    let of_another = Pass { vmid: GETTY, ..pass.clone() };
    let elsewhere = Pass { port: other.port.clone(), ..pass.clone() };
    let all = [&wrong, &of_another, &elsewhere];
    let statuses = futures_util::future::join_all(all.map(|it| status(&stage, it))).await;
    assert_eq!(statuses, [401, 401, 401]);
    let late = lock(&stage.sim).now() + time::Duration::seconds(41);
    lock(&stage.sim).advance_to(late);
    assert_eq!(status(&stage, &other).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused() {
    let stage = Stage::new().await;
    let pass = stage.pass(VMID).await;
    lock(&stage.sim).grant("edge@pve", "/vms", &["VM.Audit"]);
    assert_eq!(status(&stage, &pass).await, 403);
    assert_eq!(stage.call("POST", &format!("/nodes/pve1/lxc/{VMID}/termproxy"), "").await.0, 403);
}

/// A worker takes one connection, and nobody is at the port after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_used_once() {
    let stage = Stage::new().await;
    let pass = stage.pass(VMID).await;
    let first = stage.open(&pass).await.expect("a websocket");
    let again = stage.open(&pass).await;
    assert!(again.is_err() && !matches!(again, Err(Error::Http(_))), "{again:?}");
    assert_eq!(stage.exit(&pass.upid), None);
    drop(first);
    eventually("the worker ends", || stage.exit(&pass.upid).is_some()).await;
    assert!(stage.open(&pass).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_while_its_connection_does() {
    let stage = Stage::new().await;
    let (idle, pass) = (stage.pass(VMID).await, stage.pass(VMID).await);
    let mut terminal = stage.ask(&pass).await;
    terminal.until("OK").await;
    let late = lock(&stage.sim).now() + time::Duration::seconds(11);
    lock(&stage.sim).advance_to(late);
    assert!(stage.exit(&idle.upid).is_some_and(|it| it.contains("failed: exit code 1")));
    assert_eq!(stage.exit(&pass.upid), None);
    drop(terminal);
    eventually("the worker ends", || stage.exit(&pass.upid).as_deref() == Some("OK")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_line_is_not_let_in() {
    let stage = Stage::new().await;
    let pass = stage.pass(VMID).await;
    let mut terminal = stage.silent(&pass).await;
    terminal.send(format!("root@pam:{}\n", pass.ticket)).await;
    assert_eq!(terminal.rest().await, "");
    eventually("the worker fails", || stage.exit(&pass.upid).is_some_and(|it| it != "OK")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_large_messages_end_the_connection() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    let most = "2".repeat(128 << 10);
    terminal.send(most.as_str()).await;
    assert_eq!(terminal.run("echo on").await, "on\n");
    // The connection may end before all of it is written.
    let _ = terminal.socket.send(Message::binary(format!("{most}2"))).await;
    terminal.rest().await;

    let mut terminal = stage.enter(VMID).await;
    terminal.send("3").await;
    terminal.rest().await;
    assert_eq!(stage.enter(VMID).await.run("echo on").await, "on\n");
}

/// Frames are cut and joined anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_messages_make_messages() {
    let stage = Stage::new().await;
    let pass = stage.pass(VMID).await;
    let mut terminal = stage.silent(&pass).await;
    let command = " echo on''ly\n";
    let all =
        format!("{}:{}\n1:100:40:2{}", pass.user, pass.ticket, format_args!("0:{}:{command}", command.len()));
    for piece in all.as_bytes().chunks(7) {
        terminal.send(piece).await;
    }
    terminal.until("only\r\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_input_than_waits_ends_the_connection() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    // Otherwise the terminal passes over what is too much for a line.
    terminal.types(" stty raw -echo; printf 'rea''dy'; exec sleep 1000\n").await;
    terminal.until("ready").await;
    let text = "x".repeat(120 << 10);
    for _ in 0..7 {
        // The connection may end before all of it is written.
        let message = Message::binary(format!("0:{}:{text}", text.len()));
        let _ = terminal.socket.send(message).await;
    }
    terminal.rest().await;
}
