//! `cargo demo` as its users have it: its own text and the documents' lines in their shell, and its end.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
const API: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../core/docs/api.md"));

/// The last of what it prints at its start.
const STARTED: &str = "Ctrl-C ends it.";

/// A demo that runs, in a folder of its own for all that it writes.
struct Demo {
    process: Child,
    /// Not read, but open: it may print.
    _stdout: BufReader<ChildStdout>,
    text: String,
    port: u16,
    scratch: TempDir,
    logs: TempDir,
}

impl Demo {
    fn start(settings: &[(&str, &str)]) -> Self {
        let (scratch, logs) = (folder(), folder());
        let port = free_port();
        let log = File::create(logs.path().join("log")).expect("a file");
        let mut process = command(&scratch, port, settings)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the demo starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("its output"));
        let mut text = String::new();
        while !text.contains(STARTED) {
            let read = stdout.read_line(&mut text).expect("its output");
            let log = || fs::read_to_string(logs.path().join("log")).unwrap_or_default();
            assert!(read > 0, "it ended at its start: {text}{}", log());
        }
        Self { process, _stdout: stdout, text, port, scratch, logs }
    }

    /// The line by which it tells its key.
    fn key(&self) -> &str {
        let key = self.text.lines().find_map(|it| it.strip_prefix("export KEY="));
        key.and_then(|it| it.split_whitespace().next()).expect("a key")
    }

    /// Runs lines as somebody types them; curl alone is told to fail when it is answered an error.
    fn shell(&self, lines: &str) -> String {
        let script = format!("curl() {{ command curl -sS --fail-with-body -w '\\n' \"$@\"; }}\n{lines}");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .env("KEY", self.key())
            .env_remove("http_proxy")
            .output()
            .expect("bash runs");
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{lines}\n{}{}", told(&output.stdout), told(&output.stderr));
        told(&output.stdout)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.logs.path().join("log")).expect("its log")
    }

    /// Ends it as a terminal or a supervisor does.
    fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
        let status = self.process.wait().expect("its end");
        assert!(status.success(), "{status}: {}", self.log());
        let left: Vec<_> = fs::read_dir(self.scratch.path()).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Nothing of this process's own settings gets into it.
fn command(scratch: &TempDir, port: u16, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    command.env("TMPDIR", scratch.path()).env("PORT", port.to_string()).envs(settings.iter().copied());
    command
}

/// What it says instead of starting.
fn refused(settings: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = command(&folder(), free_port(), settings).output().expect("an end");
    assert!(!status.success(), "{settings:?}");
    String::from_utf8(stderr).expect("UTF-8")
}

/// It serves nothing then, and needs no settings.
#[test]
fn it_writes_the_script_that_prepares_pve() {
    let settings = [("PVE_STORAGE", "tank"), ("PVE_API_URL", "https://pve.test:8006")];
    let output = command(&folder(), free_port(), &settings).arg("pve.sh").output().expect("an end");
    let script = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && script.starts_with("#!/bin/sh\n"), "{script}");
    assert!(script.contains("storages='tank'") && script.ends_with("{ main \"$@\"; }\n"), "{script}");
}

/// The blocks of shell lines under a heading of a page.
fn blocks(page: &'static str, heading: &str) -> Vec<&'static str> {
    let (_, below) = page.split_once(&format!("## {heading}\n")).expect(heading);
    let section = below.split("\n## ").next().expect("a section");
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|it| it.split_once("```").expect("its end").0).collect()
}

/// From settings to a sandbox; the simulated PVE stands for somebody's own.
#[test]
fn the_way_to_the_first_sandbox_works_as_it_is_typed() {
    let blocks = blocks(README, "Your first sandbox");
    // What is between needs a PVE, or is the demo itself.
    let [settings, _, _, sandbox] = blocks.as_slice() else { panic!("{blocks:?}") };
    let home = folder();
    let script = format!("cd {}\n{settings}", home.path().display());
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output().expect("bash runs");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let key = told.trim().strip_prefix("your key: ").expect("a key");
    let file = home.path().join(".dev.vars");
    let mode = fs::metadata(&file).expect("settings").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read the secrets");
    let written = fs::read_to_string(file).expect("settings");
    let all: Vec<(&str, &str)> = written.lines().filter_map(|it| it.split_once('=')).collect();
    assert_eq!(all.len(), 6, "{written}");
    let (pve, ours): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.starts_with("PVE_API_"));
    assert_eq!(pve.len(), 2, "{written}");

    let demo = Demo::start(&ours);
    let here = sandbox.replace("127.0.0.1:8787", &format!("127.0.0.1:{}", demo.port));
    let told = demo.shell(&format!("cd {}/..\nKEY={key}\n{here}", env!("CARGO_MANIFEST_DIR")));
    for expected in ["\"status\":\"healthy\"", "\"exitCode\":0", "/README.md\",\"kind\":\"file\""] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
}

#[test]
fn the_apis_lines_work_as_they_are_typed() {
    let demo = Demo::start(&[]);
    let lines = blocks(API, "By example").concat();
    let lines = lines.replace("127.0.0.1:8787", &format!("127.0.0.1:{}", demo.port));
    let told = demo.shell(&lines);
    for expected in [
        "\"defaultPresetId\":",
        "\"state\":\"running\"",
        "event: exit",
        "\"status\":\"ready\"",
        // Of the sandbox that was made from the snapshot.
        "\"stdout\":\"kept\\n\"",
        "\"did\":\"paused\"",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
}

#[test]
fn the_lines_that_it_prints_work_too() {
    let demo = Demo::start(&[]);
    let from = demo.text.find("# create").expect("lines");
    let lines = demo.text[from..].split("PVE is simulated").next().expect("them");
    let told = demo.shell(lines);
    assert!(told.contains("\"exitCode\":0") && told.contains("\"state\":\"running\""), "{told}");
}

/// Waits until what was begun is `sleep` and nothing before it (a process that is becoming its program
/// has no command line for a moment), and tells its number.
const BECOME: &str = "until grep -q ^sleep /proc/$!/cmdline; do :; done; echo $!;";

/// Also what has left its process group, and what has not been answered yet.
#[test]
fn nothing_is_left_of_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&[]);
        let url = format!("http://127.0.0.1:{}/api/sandboxes", demo.port);
        let curl = r#"curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json'"#;
        let told = demo.shell(&format!(
            r#"ID=$({curl} -H 'Prefer: wait=25' -d '{{}}' {url} | sed -E 's/.*"id":"([^"]+)".*/\1/')
            {curl} -d '{{"command": "sleep 1000 >/dev/null 2>&1 & {BECOME} setsid sleep 1000 >/dev/null 2>&1 & {BECOME}"}}' {url}/$ID/exec"#
        ));
        let pids = told.split("\"stdout\":\"").nth(1).expect("output").split('"').next().expect("its end");
        let pids: Vec<_> = pids.split("\\n").filter(|it| !it.is_empty()).map(str::to_owned).collect();
        assert_eq!(pids.len(), 2, "{told}");
        let alive = |pid: &String| {
            let command =
                fs::read_to_string(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
            command.contains("sleep")
        };
        assert!(pids.iter().all(alive), "{told}");
        demo.end(signal);
        assert!(!pids.iter().any(alive), "{told}");
    }
}

#[test]
fn requests_and_sweeps_are_logged_as_the_adapters_do() {
    let mut demo = Demo::start(&[]);
    let url = format!("http://127.0.0.1:{}/api", demo.port);
    demo.shell(&format!(r#"curl {url}/health; curl -H "Authorization: Bearer $KEY" -X POST {url}/gc"#));
    demo.end(Signal::TERM);
    let log = demo.log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|it| serde_json::from_str(it).expect("each line is JSON")).collect();
    let answer = lines.iter().find(|it| it["span"]["path"] == "/api/health" && it["message"] == "answer");
    assert_eq!(answer.map(|it| &it["status"]), Some(&200.into()), "{log}");
    assert!(lines.iter().any(|it| it["message"] == "sweep" && it["result"].as_str().is_some()), "{log}");
    assert!(!log.contains(demo.key()), "{log}");

    let mut quiet = Demo::start(&[("RUST_LOG", "off")]);
    quiet.shell(&format!("curl http://127.0.0.1:{}/api/health", quiet.port));
    quiet.end(Signal::TERM);
    assert_eq!(quiet.log(), "");
}

#[test]
fn it_does_not_start_with_wrong_settings() {
    for (settings, told) in [
        (&[("PORT", "0")][..], "PORT is wrong: a port number, 1 to 65535"),
        (&[("PORT", "99999")], "PORT is wrong: a port number, 1 to 65535"),
        (&[("PVE_NODE", "\"hidden\"")], "PVE_NODE still has its quotes around it"),
        (&[("EDGE_CORS_ORIGINS", "hidden")], "EDGE_CORS_ORIGINS is wrong"),
        (&[("RUST_LOG", "a=hidden")], "RUST_LOG is wrong"),
    ] {
        let said = refused(settings);
        assert!(said.contains(told) && !said.contains("hidden") && !said.contains("PUBLIC_DOMAIN"), "{said}");
    }
}
