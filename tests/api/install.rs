//! The daemon for guests, as a deployment hands it out: the script that installs it, and its programs.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use http::HeaderMap;
use pve_edge_bed::sim::execd::{Piece, Streamed};
use pve_edge_core::access::secret::Keyring;
use sha2::{Digest, Sha256};

use crate::stage::{plain_sim, prelude::*};

const VERSION: &str = "0.1.0-0123456789ab";

/// Stands for a program.
fn program(arch: &str) -> String {
    format!("program for {arch}\n").repeat(20)
}

/// A deployment whose adapter has these files; the manifest is of the usual programs.
fn deployed(changes: &[(&str, &str)], files: impl Fn(&str) -> Option<String> + 'static) -> Stage {
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), changes);
    stage.world.serve("assets", move |request, _| {
        let (status, body) = files(request.uri().path()).map_or((404, String::new()), |it| (200, it));
        Streamed { status, headers: HeaderMap::new(), pieces: vec![Piece::Bytes(body.into())] }
    });
    stage
}

fn built(path: &str) -> Option<String> {
    let row =
        |arch| json!({"sha256": hex::encode(Sha256::digest(program(arch))), "bytes": program(arch).len()});
    match path.strip_prefix(&format!("/{VERSION}/")) {
        Some(arch @ ("x86_64" | "aarch64")) => Some(program(arch)),
        _ if path == "/manifest.json" => {
            let (x86_64, aarch64) = (row("x86_64"), row("aarch64"));
            Some(json!({"version": VERSION, "x86_64": x86_64, "aarch64": aarch64}).to_string())
        }
        _ => None,
    }
}

/// As a guest asks: it has no key.
fn guest(path: &str) -> Ask {
    Ask::get(path).without("authorization").header("host", "edge.test")
}

/// Runs a script, and tells what it prints.
fn sh(script: &str) -> String {
    let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("its input").write_all(script.as_bytes()).expect("a script");
    let output = shell.wait_with_output().expect("an output");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What the script sets a variable to.
fn set(script: &str, name: &str) -> String {
    let (settings, _) = script.split_once("\nmain() {").expect("a function");
    sh(&format!("{settings}\nprintf %s \"${name}\""))
}

fn install(stage: &Stage, ask: Ask) -> String {
    let answer = stage.ask(ask);
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/x-shellscript"), "{answer:?}");
    answer.body
}

#[test]
fn the_script_has_what_is_public_of_its_deployment() {
    let (new, old) = ("n".repeat(32), "o".repeat(32));
    let stage = deployed(&[("EDGE_SECRET", &format!("{new} {old}"))], built);
    let script = install(&stage, guest("/guest/install.sh"));
    let keys = Keyring::parse(&format!("{new} {old}")).expect("secrets");
    let lines: String = keys.all().map(|key| format!("{}\n", key.guest_key("prod").line("prod"))).collect();
    assert_eq!((set(&script, "keys"), lines.lines().count()), (lines, 2));
    assert_eq!(set(&script, "deployment"), "prod");
    assert_eq!(set(&script, "version"), VERSION);
    assert_eq!(set(&script, "aarch64"), hex::encode(Sha256::digest(program("aarch64"))));
    assert_eq!(set(&script, "inside"), "");
    for secret in [&new, &old] {
        assert!(!script.contains(secret.as_str()));
    }
    let answer = stage.ask(guest("/guest/install.sh"));
    assert_eq!(answer.header("cache-control"), "public, max-age=60");
    assert!(stage.world.requests().iter().all(|it| it.host == "assets"), "{}", stage.told());
}

#[test]
fn its_urls_are_below_the_one_that_was_asked() {
    let stage = deployed(&[("EDGE_BASE_PATH", "/edge")], built);
    let edge = |ask| set(&install(&stage, ask), "edge");
    assert_eq!(edge(guest("/guest/install.sh")), "http://edge.test");
    assert_eq!(edge(guest("/edge/guest/install.sh")), "http://edge.test/edge");
    assert_eq!(edge(guest("/guest/install.sh").header("host", "10.0.0.1:8787")), "http://10.0.0.1:8787");
    assert_eq!(edge(guest("/guest/install.sh").header("host", "[fd00::1]:80")), "http://[fd00::1]:80");
    let behind = guest("/edge/guest/install.sh").header("x-forwarded-proto", "https");
    assert_eq!(edge(behind), "https://edge.test/edge");
    let absolute = guest("https://edge.example/guest/install.sh");
    assert_eq!(edge(absolute), "https://edge.example");
    let odd = guest("/guest/install.sh").header("x-forwarded-proto", "$(reboot)");
    assert_eq!(edge(odd), "http://edge.test");
    for host in ["", "a'b", "$(reboot)", "a b", "a/b", "user@host", "a;b", "a\u{e4}", "[", "a:b:c"] {
        let answer = stage.ask(guest("/guest/install.sh").header("host", host));
        assert_eq!(answer.refusal(), "400 invalid-request", "{host}");
    }
}

#[test]
fn the_script_may_bring_the_program_with_it() {
    let stage = deployed(&[], built);
    for arch in ["x86_64", "aarch64"] {
        let script = install(&stage, guest(&format!("/guest/install.sh?arch={arch}")));
        assert_eq!(set(&script, "inside"), arch);
        let at = script.find("\nembedded() {").expect("a function");
        let function = script[at..].trim_end().strip_suffix("{ main \"$@\"; }").expect("a start");
        assert_eq!(sh(&format!("{function}\nembedded")), program(arch));
    }
    for wrong in ["arch=i686", "arch=", "arch=x86_64&arch=x86_64", "os=linux"] {
        let answer = stage.ask(guest(&format!("/guest/install.sh?{wrong}")));
        assert_eq!(answer.refusal(), "400 invalid-request", "{wrong}");
    }
    // Other bytes than the manifest's: a build that was copied by halves.
    let mixed = deployed(&[], |path| built(path).map(|it| it.replace("program for x86_64", "other")));
    let answer = mixed.ask(guest("/guest/install.sh?arch=x86_64"));
    assert_eq!(answer.refusal(), "500 internal", "{answer:?}");
}

/// Of a script that breaks off on its way to the shell, nothing is run.
#[test]
fn half_a_script_does_nothing() {
    let stage = deployed(&[], built);
    let script = install(&stage, guest("/guest/install.sh?arch=x86_64"));
    let run = |text: &str| {
        let text = text
            .replace("\nset -eu", "\necho started; exit 1")
            .replace("    set -eu\n", "    echo started; exit\n");
        let mut shell = Command::new("sh");
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("a shell");
        // The shell may end before it has read everything.
        let _ = shell.stdin.take().expect("its input").write_all(text.as_bytes());
        String::from_utf8(shell.wait_with_output().expect("an output").stdout).expect("UTF-8")
    };
    assert_eq!(run(&script), "started\n");
    let whole = script.trim_end().len();
    for end in (0..whole).step_by(97).chain(whole.saturating_sub(40)..whole) {
        assert_eq!(run(&script[..end]), "", "{:?}", &script[end.saturating_sub(40)..end]);
    }
}

#[test]
fn a_program_is_the_same_for_ever() {
    let stage = deployed(&[], built);
    for arch in ["x86_64", "aarch64"] {
        let path = format!("/guest/{VERSION}/{arch}");
        let (got, head) = (stage.ask(guest(&path)), stage.ask(Ask::head(&path).without("authorization")));
        assert_eq!((got.status, &got.body), (200, &program(arch)));
        let digest = format!("\"{}\"", hex::encode(Sha256::digest(program(arch))));
        for answer in [&got, &head] {
            assert_eq!(answer.header("etag"), digest);
            assert_eq!(answer.header("content-length"), program(arch).len().to_string());
            assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        }
        assert_eq!((head.status, head.body.as_str()), (200, ""));
    }
    for path in ["0.1.0/x86_64", &format!("{VERSION}/i686"), &format!("{VERSION}/manifest.json"), "../x86_64"]
    {
        let answer = stage.ask(guest(&format!("/guest/{path}")));
        assert_eq!(answer.refusal(), "404 unknown-path", "{path}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(VERSION) && detail.contains("aarch64"), "{detail}");
    }
    assert!(stage.world.requests().iter().all(|it| it.host == "assets"), "{}", stage.told());
}

#[test]
fn a_deployment_without_programs_says_how_to_build_them() {
    for stage in [Stage::new(), deployed(&[], |_| None)] {
        for path in ["/guest/install.sh".to_owned(), format!("/guest/{VERSION}/x86_64")] {
            let answer = stage.ask(guest(&path));
            assert_eq!(answer.refusal(), "404 unknown-path", "{path}");
            assert!(answer.json()["detail"].to_string().contains("guest/build"), "{answer:?}");
        }
    }
}
