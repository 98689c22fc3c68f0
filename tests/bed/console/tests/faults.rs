//! Each fault does what it says.

use std::{path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use super::stage::{Stage, Terminal, VMID, eventually};
use crate::{
    console::faults::{At, Faults, Human, LostInput, LostOutput},
    sim::server::lock,
};

fn set(stage: &Stage, change: impl FnOnce(&mut Faults)) {
    change(&mut lock(&stage.sim).console().faults);
}

/// Its working directory.
async fn folder(terminal: &mut Terminal) -> PathBuf {
    terminal.run("pwd").await.trim_end().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_loses_pieces() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    let whole = terminal.run("seq 20000").await;
    assert_eq!(whole.lines().count(), 20000);
    set(&stage, |it| it.lost_output = Some(LostOutput { seed: 7, pieces: 3 }));
    assert_eq!(terminal.run("seq 1000").await.lines().count(), 1000);
    // After a pause nothing is lost, and so the end is seen.
    let holed = terminal.run("seq 20000; sleep 1").await;
    assert!(holed.len() < whole.len(), "{} bytes", holed.len());
    // What came has two bytes more for each line.
    assert!(holed.starts_with(&whole[..6000]));
    set(&stage, |it| it.lost_output = None);
    assert!(terminal.run("seq 20000").await == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_lose_bytes() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    terminal.run("stty -echo").await;
    let lines = folder(&mut terminal).await.join("lines");
    let read = r#"while read -r x; do [ "$x" = stop ] && break; printf '%s\n' "$x" >>lines; done"#;
    terminal.types(&format!(" echo 'be''gin'; {read}; echo 'e''nd'\n")).await;
    terminal.until("begin").await;
    set(&stage, |it| it.lost_input = Some(LostInput { seed: 7, one_in: 2 }));
    let typed = "aaaaaaa\n".repeat(100);
    terminal.types(&typed).await;
    loop {
        terminal.types("\nstop\n").await;
        if timeout(Duration::from_millis(100), terminal.until("end")).await.is_ok() {
            break;
        }
    }
    let read = std::fs::read_to_string(lines).expect("lines");
    let count = read.matches('a').count();
    assert!((100..700).contains(&count), "{count}: {read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_at_any_byte() {
    let stage = Stage::new().await;
    let shown = [0, 1, 2, 3, 8, 9, 500];
    set(&stage, |it| it.cuts = shown.iter().map(|it| At::Output(*it)).collect());
    for length in shown {
        let mut terminal = stage.ask(&stage.pass(VMID).await).await;
        if length > 8 {
            terminal.types(" seq 1000\n").await;
        }
        let rest = terminal.rest().await;
        assert_eq!(rest.len() as u64, length, "{rest:?}");
    }
    let mut terminal = stage.enter(VMID).await;
    terminal.run("true").await;
    set(&stage, |it| it.cuts = [At::Input(6)].into());
    let mut other = stage.enter(VMID).await;
    other.types(" echo no, not this\n").await;
    other.rest().await;
    terminal.types("bu''t this\n").await;
    terminal.until("\r\nbut this\r\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_types() {
    let stage = Stage::new().await;
    set(&stage, |it| {
        it.humans = vec![
            Human { at: At::Input(6), bytes: b"one of my own lines\n".to_vec() },
            Human { at: At::Output(3000), bytes: b"yes\n".to_vec() },
        ];
    });
    let mut terminal = stage.enter(VMID).await;
    terminal.types(" cat;\n").await;
    for _ in ["echo", "cat"] {
        terminal.until("one of my own lines\r\r\n").await;
    }
    let left = || lock(&stage.sim).console().faults.humans.len();
    assert_eq!(left(), 1);
    for _ in 0..4 {
        terminal.types(&format!("{}\n", "x".repeat(500))).await;
    }
    for _ in ["echo", "cat"] {
        terminal.until("yes\r\r\n").await;
    }
    assert_eq!(left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_pve_lets_no_token_in() {
    let stage = Stage::new().await;
    set(&stage, |it| it.refuses_tokens = true);
    let pass = stage.pass(VMID).await;
    assert_eq!(stage.ask(&pass).await.rest().await, "");
    eventually("the worker fails", || stage.exit(&pass.upid).is_some_and(|it| it != "OK")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_stops_all_when_it_is_alone() {
    let stage = Stage::new().await;
    set(&stage, |it| it.hung_clients = 1);
    let mut one = stage.enter(VMID).await;
    let folder = folder(&mut one).await;
    drop(one);
    eventually("it hangs", || lock(&stage.sim).console().faults.hung_clients == 0).await;
    // Others go on beside it.
    let mut two = stage.enter(VMID).await;
    assert_eq!(two.run("seq 50000").await.lines().count(), 50000);
    two.types(" until [ -e go ]; do sleep 0.01; done; seq 90000; touch done\n").await;
    two.until("touch done").await;
    drop(two);
    let tasks = || lock(&stage.sim).tasks().iter().filter(|it| it.exit.is_none()).count();
    eventually("nobody else is there", || tasks() == 0).await;
    std::fs::write(folder.join("go"), "").expect("a file");
    sleep(Duration::from_millis(500)).await;
    assert!(!folder.join("done").exists(), "nobody takes the output");
    let mut three = stage.enter(VMID).await;
    three.until("90000").await;
    eventually("it goes on", || folder.join("done").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_client_stays_connected() {
    let stage = Stage::new().await;
    set(&stage, |it| it.stays_detached = true);
    let pass = stage.pass(VMID).await;
    let mut terminal = stage.ask(&pass).await;
    terminal.until("\x1b[J").await;
    terminal.types("\x1c").await;
    terminal.until("[detached]\r\n").await;
    assert!(timeout(Duration::from_secs(2), terminal.until("more")).await.is_err());
    assert_eq!(stage.exit(&pass.upid), None);
    drop(terminal);
    eventually("the worker ends", || stage.exit(&pass.upid).as_deref() == Some("OK")).await;
}
