//! The guest agents of VMs.

use pve_edge_bed::sim::{MINIMAL, Setup, Spec, TOKEN, Version, execd::ExecLine};
use time::Duration;

use crate::{
    talk::{fails, ok, task},
    vms::{cloned, running, sim, with},
};

#[test]
fn the_agent_answers_when_it_is_configured_and_has_booted() {
    let mut sim = sim();
    cloned(&mut sim, 300);
    sim.add(Spec::vm(301).set("agent", "0").running());
    let ping = |vmid: u32| format!("POST /nodes/pve1/qemu/{vmid}/agent/ping");
    assert_eq!(fails(&mut sim, &ping(301)), "500 No QEMU guest agent configured");
    assert_eq!(fails(&mut sim, &ping(300)), "500 VM 300 is not running");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/start"), "OK");
    assert_eq!(fails(&mut sim, &ping(300)), "500 QEMU guest agent is not running");
    assert_eq!(ok(&mut sim, &ping(300)), serde_json::json!({ "result": {} }));
    let all = ok(&mut sim, "GET /nodes/pve1/qemu/300/agent/network-get-interfaces");
    let address = sim.guest(300).and_then(|guest| guest.run.as_ref()).map(|run| run.address.to_string());
    assert_eq!(all["result"][1]["ip-addresses"][0]["ip-address"].as_str(), address.as_deref());
}

#[test]
fn an_agents_process_is_told_of_once() {
    let mut sim = sim();
    sim.set_runner(|_, command| {
        let stdout = ExecLine::Stdout(format!("é {command}"));
        vec![stdout, ExecLine::Wait(std::time::Duration::from_secs(4)), ExecLine::Exit(3)]
    });
    running(&mut sim);
    let exec = "POST /nodes/pve1/qemu/300/agent/exec command=/bin/sh&command=-c&command=echo hi";
    let pid = ok(&mut sim, exec)["pid"].clone();
    let status = format!("GET /nodes/pve1/qemu/300/agent/exec-status?pid={pid}");
    assert_eq!(ok(&mut sim, &status), serde_json::json!({ "exited": 0 }));
    sim.advance(Duration::seconds(4));
    let end = serde_json::json!({ "exited": 1, "exitcode": 3, "out-data": "Ã© echo hi\n" });
    assert_eq!(ok(&mut sim, &status), end, "bytes come as characters");
    assert_eq!(fails(&mut sim, &status), format!("500 Agent error: PID {pid} does not exist"));
    let pid = ok(&mut sim, exec)["pid"].clone();
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/suspend todisk=1"), "OK");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/resume"), "OK");
    sim.advance(Duration::seconds(4));
    let status = format!("GET /nodes/pve1/qemu/300/agent/exec-status?pid={pid}");
    assert_eq!(ok(&mut sim, &status)["exited"], 1, "it survives a suspension");
    let pid = ok(&mut sim, exec)["pid"].clone();
    assert_eq!(task(&mut sim, "POST /nodes/pve1/qemu/300/status/reboot"), "OK");
    sim.advance(Duration::seconds(5));
    assert!(
        fails(&mut sim, &format!("GET /nodes/pve1/qemu/300/agent/exec-status?pid={pid}"))
            .contains("Agent error")
    );
    assert_eq!(sim.executions().values().sum::<u32>(), 3);
}

#[test]
fn an_agent_runs_real_processes_with_their_input_and_keeps_files() {
    let mut sim = sim();
    running(&mut sim);
    let pid =
        ok(&mut sim, "POST /nodes/pve1/qemu/300/agent/exec command=cat&command=-&input-data=a b")["pid"]
            .clone();
    let end = ok(&mut sim, &format!("GET /nodes/pve1/qemu/300/agent/exec-status?pid={pid}"));
    assert_eq!(end, serde_json::json!({ "exited": 1, "exitcode": 0, "out-data": "a b\n" }));
    ok(&mut sim, "POST /nodes/pve1/qemu/300/agent/file-write file=/root/x&content=hello");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/qemu/300/agent/file-read?file=/root/x")["content"], "hello");
    assert!(
        fails(&mut sim, "GET /nodes/pve1/qemu/300/agent/file-read?file=/root/y").contains("No such file")
    );
}

#[test]
fn an_agents_rights_changed_with_version_9() {
    for (version, right) in [(Version::V8, "VM.Monitor"), (Version::V9, "VM.GuestAgent.Unrestricted")] {
        let mut sim = with(Setup { version, ..Setup::default() });
        running(&mut sim);
        let token = TOKEN.split('=').next().unwrap_or("").to_owned();
        sim.grant(&token, "/", MINIMAL);
        let exec = "POST /nodes/pve1/qemu/300/agent/exec command=true";
        assert_eq!(fails(&mut sim, exec), format!("403 Permission check failed (/vms/300, {right})"));
        let user = token.split('!').next().unwrap_or("").to_owned();
        for who in [token, user] {
            sim.grant(&who, "/vms", &[right, "VM.Audit"]);
        }
        ok(&mut sim, exec);
    }
}
