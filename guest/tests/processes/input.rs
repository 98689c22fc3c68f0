//! Standard input, and terminals that are written to.

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::Operation,
    process::{After, Process, Resize, Size, Spec, Stdin, StdinTaken},
};

use super::{argv, line};
use crate::daemon::Daemon;

impl Daemon {
    pub(super) async fn write_stdin(
        &self,
        process: Unique,
        at: u64,
        data: impl Into<Vec<u8>>,
        end: bool,
    ) -> Result<StdinTaken, Refusal> {
        self.ask(Operation::Stdin(Stdin { process, at, end }), data.into()).await
    }

    async fn start_reader(&self, command: &str) -> Unique {
        self.start_process(Spec { stdin: true, ..line(command) }).await.unwrap().process
    }
}

#[tokio::test]
async fn bytes_are_read_once_and_in_order_however_often_they_are_sent() {
    let daemon = Daemon::start().await;
    let process = daemon.start_reader("cat").await;
    let all: Vec<u8> = (0..=255).collect();
    let taken = |at, closed| Ok(StdinTaken { at, closed });
    assert_eq!(daemon.write_stdin(process, 0, all.as_slice(), false).await, taken(256, false));
    assert_eq!(daemon.write_stdin(process, 0, all.as_slice(), false).await, taken(256, false));
    assert_eq!(daemon.write_stdin(process, 250, &all[250..], false).await, taken(256, false));
    let missing = daemon.write_stdin(process, 300, "x", false).await.unwrap_err();
    assert_eq!((missing.code, missing.at), (Code::StdinOffset, Some(256)));
    let beyond = daemon.write_stdin(process, u64::MAX, "x", true).await.unwrap_err();
    assert_eq!(beyond.code, Code::StdinOffset);
    assert_eq!(daemon.get(process).await.unwrap().stdin, Some(StdinTaken { at: 256, closed: false }));
    assert_eq!(daemon.write_stdin(process, 256, "end", true).await, taken(259, true));
    let told = daemon.follow(process, After::Start).await;
    assert_eq!(told.stdout, [all.as_slice(), b"end"].concat());
    let late = daemon.write_stdin(process, 259, "x", false).await.unwrap_err();
    assert_eq!(late.code, Code::ProcessGone);
}

#[tokio::test]
async fn much_is_taken_as_it_is_read() {
    let daemon = Daemon::start().await;
    let process = daemon.start_reader("sha256sum").await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|it| it as u8).collect();
    assert_eq!(
        daemon.write_stdin(process, 0, bytes.as_slice(), true).await,
        Ok(StdinTaken { at: 1_000_000, closed: true })
    );
    let told = daemon.follow(process, After::Start).await;
    let right = hex::encode(pve_edge_guest_protocol::call::Digest256::of(&bytes).0);
    assert!(told.text().starts_with(&right));
}

#[tokio::test]
async fn of_what_is_not_read_a_part_is_taken() {
    let daemon = Daemon::start().await;
    let process = daemon.start_reader("exec sleep 100").await;
    let first = daemon.write_stdin(process, 0, vec![7; 200_000], true).await.unwrap();
    let second = daemon.write_stdin(process, first.at, vec![7; 1000], true).await.unwrap();
    assert!(first == second && first.at < 200_000 && !first.closed);
}

#[tokio::test]
async fn an_input_that_is_closed_or_was_never_open_takes_nothing() {
    let daemon = Daemon::start().await;
    let process = daemon.start_reader("exec <&-; echo closed; sleep 100").await;
    daemon.open_lines(process, After::Start).await.until(7).await;
    assert_eq!(daemon.write_stdin(process, 0, "x", false).await.unwrap_err().code, Code::StdinClosed);
    let process = daemon.start_process(line("cat; sleep 100")).await.unwrap();
    assert_eq!(process.stdin, None);
    assert_eq!(daemon.write_stdin(process.process, 0, "x", false).await.unwrap_err().code, Code::StdinClosed);
    let told = daemon.exec(line("cat; echo at its end")).await;
    assert_eq!(told.text(), "at its end\n");
    let unknown = daemon.write_stdin(Unique([0; 16]), 0, "x", false).await.unwrap_err();
    assert_eq!(unknown.code, Code::NoSuchProcess);
}

#[tokio::test]
async fn a_terminal_is_written_to_and_resized_while_it_prints() {
    let daemon = Daemon::start().await;
    let size = Some(Size { cols: 80, rows: 24 });
    let command = "while ! read -t 0.01 x; do stty size; done; echo got $x; read y || echo end";
    let process = daemon.start_process(Spec { pty: size, ..line(command) }).await.unwrap();
    assert_eq!(process.stdin, Some(StdinTaken { at: 0, closed: false }));
    let process = process.process;
    let mut told = daemon.open_lines(process, After::Start).await.until(10).await;
    for cols in 100..140 {
        let resize = Resize { process, size: Size { cols, rows: 7 } };
        daemon.ask::<Process>(Operation::Resize(resize), "").await.unwrap();
    }
    let mut lines = daemon.open_lines(process, After::Cursor(told.cursor)).await;
    while !told.text().contains("7 139") {
        told.add(lines.next().await.unwrap());
    }
    daemon.write_stdin(process, 0, "hello\n", true).await.unwrap();
    while let Some(line) = lines.next().await {
        told.add(line);
    }
    assert!(told.text().ends_with("got hello\r\nend\r\n"), "{}", told.text());
    assert_eq!(told.gaps, 0);
    let no_terminal = daemon.start_process(argv(["sleep", "100"])).await.unwrap().process;
    let resize = Resize { process: no_terminal, size: Size { cols: 1, rows: 1 } };
    let refusal = daemon.ask::<Process>(Operation::Resize(resize), "").await.unwrap_err();
    assert_eq!(refusal.code, Code::NoTerminal);
}
