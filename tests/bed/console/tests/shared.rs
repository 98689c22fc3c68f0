//! The session that all clients of a container share.

use std::path::Path;

use tokio_tungstenite::tungstenite::Message;

use super::stage::{GETTY, Stage, Terminal, VMID, eventually, is_alive};
use crate::sim::server::lock;

const SHELLS: [&[&str]; 4] = [&["sh"], &["bash"], &["dash"], &["busybox", "sh"]];

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|it| it.join(program).exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_runs_commands() {
    for shell in SHELLS.iter().filter(|it| is_installed(it[0])) {
        let stage = Stage::with_shell(shell).await;
        let mut terminal = stage.enter(VMID).await;
        assert_eq!(terminal.run("printf 'a\\nb\\n'").await, "a\nb\n", "{shell:?}");
        let folder = terminal.run("pwd").await;
        assert!(folder.contains("pve-edge-guest-"), "{folder}");
        let environment = terminal.run("env").await;
        assert!(!environment.contains("\nHOME=") && !environment.contains("TERM="), "{environment}");
        assert!(environment.contains("PVE_EDGE_RUN=/"), "{environment}");
        assert!(terminal.run("tty").await.starts_with("/dev/pts/"));
        terminal.send("1:132:43:").await;
        assert_eq!(terminal.run("stty size").await, "43 132\n", "{shell:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_share_one_shell_which_survives_them() {
    let stage = Stage::new().await;
    let mut one = stage.enter(VMID).await;
    let pid = one.run("X=kept; echo $$").await;
    let mut two = stage.enter(VMID).await;
    assert_eq!(two.run("echo $$ $X").await, format!("{} kept\n", pid.trim()));
    one.until(" kept\r\r\n").await;
    // Nothing of it is seen later: there is no scrollback.
    drop((one, two));
    let mut three = stage.enter(VMID).await;
    assert_eq!(three.run("echo $$ $X").await, format!("{} kept\n", pid.trim()));
    assert_eq!(three.seen.matches(" kept").count(), 1, "{}", three.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads_is_thrown_away() {
    let stage = Stage::new().await;
    let mut one = stage.enter(VMID).await;
    one.run("stty -echo").await;
    let folder = one.run("pwd").await;
    one.types(" echo 'rea''dy'; until [ -e go ]; do sleep 0.01; done; echo un''seen; touch done\n").await;
    one.until("ready").await;
    drop(one);
    let folder = Path::new(folder.trim());
    let tasks = || lock(&stage.sim).tasks().iter().filter(|it| it.exit.is_none()).count();
    eventually("nobody is there", || tasks() == 0).await;
    std::fs::write(folder.join("go"), "").expect("a file");
    eventually("it is done", || folder.join("done").exists()).await;
    let mut two = stage.enter(VMID).await;
    two.run("true").await;
    assert!(!two.seen.contains("unseen"), "{}", two.seen);
}

/// Pieces of eight bytes stay whole, however the clients' input mixes.
#[tokio::test(flavor = "multi_thread")]
async fn input_comes_in_packets() {
    let stage = Stage::new().await;
    let mut reader = stage.enter(VMID).await;
    reader.run("stty -echo").await;
    reader.types(" echo 'rea''dy'; head -n 200 >lines; echo 'e''nd'\n").await;
    reader.until("ready").await;
    let mut writers: Vec<Terminal> = Vec::new();
    for _ in 0..2 {
        writers.push(stage.enter(VMID).await);
    }
    let [one, two] = &mut writers[..] else { panic!("two") };
    let (a, b) = ("aaaaaaa\n".repeat(100), "bbbbbbb\n".repeat(100));
    tokio::join!(one.types(&a), two.types(&b));
    reader.until("end\r\r\n").await;
    let counted = reader.run("sort lines | uniq -c").await;
    assert_eq!(counted.split_whitespace().collect::<Vec<_>>(), ["100", "aaaaaaa", "100", "bbbbbbb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_detaches_alone() {
    let stage = Stage::new().await;
    let mut one = stage.enter(VMID).await;
    let mut two = stage.enter(VMID).await;
    // In the middle of a packet it is a byte as any other.
    two.types(" stty quit undef; echo 'be''gin'; head -c 2 | od -An -tx1; echo 'e''nd'\n").await;
    two.until("begin").await;
    two.types("x\x1c\n").await;
    assert!(two.until("end").await.contains("78 1c"), "{}", two.seen);
    one.types("\x1c").await;
    assert!(one.rest().await.ends_with("\x1b[999H\r\n[detached]\r\n"));
    assert_eq!(two.run("echo on").await, "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_shell() {
    let stage = Stage::new().await;
    let (mut one, two) = (stage.enter(VMID).await, stage.enter(VMID).await);
    let pid = one.run("echo $$").await;
    one.types(" exit\n").await;
    let end = "\x1b[999H\r\n[EOF - dtach terminating]\r\n";
    assert!(one.rest().await.ends_with(end) && two.rest().await.ends_with(end));
    let mut next = stage.enter(VMID).await;
    assert_ne!(next.run("echo $$").await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_the_container() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    let memory = terminal.run("echo $PVE_EDGE_RUN").await;
    let background = terminal.run("sh -c 'setsid sleep 1000 >/dev/null & echo $!'").await;
    let shell = terminal.run("echo $$").await;
    assert!(is_alive(&shell) && is_alive(&background) && Path::new(memory.trim()).exists());
    lock(&stage.sim).set_running(VMID, false);
    assert!(terminal.rest().await.ends_with("[EOF - dtach terminating]\r\n"));
    eventually("ended", || !is_alive(&shell) && !is_alive(&background)).await;
    eventually("forgotten", || !Path::new(memory.trim()).exists()).await;

    lock(&stage.sim).set_running(VMID, true);
    let shell = stage.enter(VMID).await.run("echo $$").await;
    stage.guests.close();
    eventually("ended", || !is_alive(&shell)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_getty_lets_nobody_in_until_the_container_starts_with_a_shell() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(GETTY).await;
    terminal.until("vm login: ").await;
    terminal.types("root\n").await;
    assert_eq!(terminal.until("Password: ").await, "root\r\r\n");
    terminal.types("secret\r").await;
    assert_eq!(terminal.until("vm login: ").await, "\r\r\nLogin incorrect\r\r\n");

    let config = format!("/nodes/pve1/lxc/{GETTY}/config");
    assert_eq!(stage.call("PUT", &config, "cmode=shell").await.0, 200);
    let mut other = stage.enter(GETTY).await;
    other.types("x").await;
    terminal.until("x").await;
    lock(&stage.sim).set_running(GETTY, false);
    terminal.rest().await;
    lock(&stage.sim).set_running(GETTY, true);
    assert_eq!(stage.enter(GETTY).await.run("echo in").await, "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_has_no_console() {
    let stage = Stage::new().await;
    lock(&stage.sim).set_running(VMID, false);
    let text = stage.enter(VMID).await.rest().await;
    assert!(
        text.contains("Failed to get init pid") && text.ends_with("[EOF - dtach terminating]\r\n"),
        "{text}"
    );
}

/// Where it is installed, the real one shows whether what is here in its place does the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_dtach_does_the_same() {
    if !is_installed("dtach") {
        eprintln!("skipped: there is no dtach");
        return;
    }
    let stage = Stage::new().await;
    lock(&stage.sim).console().real_dtach = true;
    let mut one = stage.enter(VMID).await;
    let shell = one.run("X=kept; echo $$").await;
    let mut two = stage.enter(VMID).await;
    assert_eq!(two.run("echo $$ $X").await, format!("{} kept\n", shell.trim()));
    one.until(" kept\r\r\n").await;
    one.types("\x1c").await;
    assert!(one.rest().await.contains("[detached]"));
    drop(two);
    let mut three = stage.enter(VMID).await;
    assert_eq!(three.run("echo $$ $X").await, format!("{} kept\n", shell.trim()));
    three.types(" exit\n").await;
    assert!(three.rest().await.contains("[EOF - dtach terminating]"));
    let mut four = stage.enter(VMID).await;
    let shell = four.run("echo $$").await;
    lock(&stage.sim).set_running(VMID, false);
    // Here it ends with the container, and says nothing.
    four.rest().await;
    eventually("ended", || !is_alive(&shell)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered() {
    let stage = Stage::new().await;
    let mut terminal = stage.enter(VMID).await;
    let ping = Message::Ping("there?".into());
    futures_util::SinkExt::send(&mut terminal.socket, ping).await.expect("it is taken");
    assert_eq!(terminal.run("echo on").await, "on\n");
}

/// Its root is this machine's, of which it can change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_stays_in_the_container() {
    let stage = Stage::new().await;
    let name = format!("/etc/pve-edge-{}", std::process::id());
    let mut terminal = stage.enter(VMID).await;
    terminal.run(&format!("echo its own >{name}; rm /etc/os-release")).await;
    assert!(!Path::new(&name).exists() && Path::new("/etc/os-release").exists());
    // The shell of a next session is in the same root, and so is one after a start.
    terminal.types(" exit\n").await;
    terminal.rest().await;
    let look = format!("cat {name}; ls /etc/os-release 2>/dev/null");
    assert_eq!(stage.enter(VMID).await.run(&look).await, "its own\n");
    lock(&stage.sim).set_running(VMID, false);
    eventually("stopped", || stage.guests.roots() == 0).await;
    lock(&stage.sim).set_running(VMID, true);
    assert_eq!(stage.enter(VMID).await.run(&look).await, "its own\n");
    stage.guests.close();
    assert_eq!(stage.guests.roots(), 0);
}
