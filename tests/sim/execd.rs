use std::time::Duration;

use http::Request;
use pve_edge_bed::sim::{
    Setup, Sim, Spec, Version,
    execd::{ExecLine, Piece},
};

use crate::talk::{TEMPLATE, cloned, ok, sim, task};

fn exec(sim: &mut Sim, token: &str, body: &str) -> Option<String> {
    let request = Request::post("https://port-39375-vm-200.example.com/exec")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body.as_bytes().to_vec())
        .expect("a request");
    let answer = sim.exec(200, &request)?;
    let show = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Piece::Wait(wait) => format!("{wait:?}\n"),
        Piece::Cut => "cut\n".into(),
    };
    Some(format!("{} {}", answer.status, answer.pieces.iter().map(show).collect::<String>()))
}

fn start(sim: &mut Sim) {
    assert_eq!(task(sim, "POST /nodes/pve1/lxc/200/status/start"), "OK");
    sim.advance(time::Duration::seconds(1));
}

#[test]
fn the_token_is_what_env_held_at_the_start() {
    let mut sim = sim();
    sim.set_runner(|vmid, command| vec![ExecLine::Stdout(format!("{vmid} {command}")), ExecLine::Exit(0)]);
    cloned(&mut sim, 200);
    assert_eq!(exec(&mut sim, "t", r#"{"command":"ls"}"#), None, "nobody listens");
    ok(&mut sim, "PUT /nodes/pve1/lxc/200/config env=CMUX_EXECD_AUTH_TOKEN=t");
    start(&mut sim);
    let good = "200 {\"data\":\"200 ls\",\"type\":\"stdout\"}\n{\"code\":0,\"type\":\"exit\"}\n";
    assert_eq!(exec(&mut sim, "t", r#"{"command":"ls"}"#).as_deref(), Some(good));
    assert_eq!(
        exec(&mut sim, "x", r#"{"command":"ls"}"#).as_deref(),
        Some("401 {\"error\":\"Unauthorized\"}\n")
    );
    assert_eq!(sim.executions().get(&(200, "ls".into())), Some(&1));
}

#[test]
fn without_a_token_everybody_comes_in() {
    let mut sim = sim();
    sim.set_runner(|_, _| vec![ExecLine::Exit(0)]);
    cloned(&mut sim, 200);
    start(&mut sim);
    assert!(exec(&mut sim, "any", r#"{"command":"ls"}"#).is_some_and(|text| text.starts_with("200")));
}

#[test]
fn the_line_in_the_description_needs_the_hook_script() {
    let token = "ab".repeat(32);
    for (hooked, status) in [(true, "401"), (false, "200")] {
        let mut sim = Sim::new(Setup { version: Version::V8, ..Setup::default() });
        sim.set_runner(|_, _| vec![ExecLine::Exit(0)]);
        sim.add(Spec::template(TEMPLATE).set("hookscript", if hooked { "local:snippets/x" } else { "" }));
        cloned(&mut sim, 200);
        let line = format!("PUT /nodes/pve1/lxc/200/config description=x\ncmux-execd-auth-token={token}");
        ok(&mut sim, &line);
        start(&mut sim);
        assert!(exec(&mut sim, "x", r#"{"command":"ls"}"#).is_some_and(|text| text.starts_with(status)));
        assert!(exec(&mut sim, &token, r#"{"command":"ls"}"#).is_some_and(|text| text.starts_with("200")));
    }
}

#[test]
fn real_commands_share_a_folder_and_lose_blank_lines() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    start(&mut sim);
    exec(&mut sim, "", r#"{"command":"printf 'a\\n\\nb' > f"}"#);
    let seen = exec(&mut sim, "", r#"{"command":"cat f; echo e >&2; exit 3"}"#).expect("an answer");
    assert_eq!(
        seen,
        "200 {\"data\":\"a\",\"type\":\"stdout\"}\n{\"data\":\"b\",\"type\":\"stdout\"}\n{\"data\":\"e\",\"type\":\"stderr\"}\n{\"code\":3,\"type\":\"exit\"}\n"
    );
    let late = exec(&mut sim, "", r#"{"command":"sleep 5","timeout_ms":50}"#).expect("an answer");
    assert_eq!(
        late,
        "200 {\"message\":\"timeout after 50ms\",\"type\":\"error\"}\n{\"code\":124,\"type\":\"exit\"}\n"
    );
}

#[test]
fn a_closure_may_wait_and_break_off() {
    let mut sim = sim();
    sim.set_runner(|_, _| vec![ExecLine::Wait(Duration::from_secs(2)), ExecLine::Cut]);
    cloned(&mut sim, 200);
    start(&mut sim);
    assert_eq!(exec(&mut sim, "", r#"{"command":"x"}"#).as_deref(), Some("200 2s\ncut\n"));
    let limited = exec(&mut sim, "", r#"{"command":"x","timeout_ms":500}"#);
    assert!(limited.is_some_and(|text| text.contains("timeout after 500ms")));
}
