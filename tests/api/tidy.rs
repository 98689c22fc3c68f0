//! What the source itself must keep to.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use expect_test::expect;

/// The repository's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the workspace")
}

/// Names of the packages that core stands on, for a target.
fn tree(target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "pve-edge-core", "-e", "normal", "--prefix", "none"])
        .args(["--target", target, "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// A new dependency of core is a decision: it goes into every Worker.
#[test]
fn core_stands_on_these() {
    let names: Vec<String> = tree("wasm32-unknown-unknown").into_iter().collect();
    expect!["aead base32 base64 block-buffer bytes cfg-if chacha20 chacha20poly1305 cipher cobs crypto-common curve25519-dalek deranged digest ed25519 ed25519-dalek form_urlencoded futures-channel futures-core futures-task futures-util generic-array hex hmac http httpdate inout itoa memchr num-conv once_cell opaque-debug percent-encoding pin-project-lite poly1305 postcard powerfmt proc-macro2 pve-edge-core pve-edge-guest-protocol quote serde serde_core serde_derive serde_json sha2 signature slab subtle syn thiserror thiserror-impl time time-core tracing tracing-attributes tracing-core typenum unicode-ident universal-hash zeroize zmij"].assert_eq(&names.join(" "));
}

/// Nothing in it can open a socket, read a clock, roll dice or import from a host.
#[test]
fn core_reaches_no_host() {
    for target in ["wasm32-unknown-unknown", "x86_64-unknown-linux-gnu"] {
        let tree = tree(target);
        for banned in [
            "getrandom",
            "rand",
            "js-sys",
            "wasm-bindgen",
            "web-sys",
            "tokio",
            "mio",
            "libc",
            "regex",
            "reqwest",
            "hyper",
        ] {
            assert!(!tree.contains(banned), "{banned} is in core's tree for {target}");
        }
    }
}

/// Each adapter can be read in one sitting, and so can each file.
#[test]
fn adapters_stay_small_and_files_too() {
    for (folder, most) in [("worker/src", 800), ("lambda/src", 600)] {
        let lines: usize = sources(&root().join(folder)).iter().map(|(_, text)| code_lines(text)).sum();
        assert!(lines <= most, "{folder} has {lines} lines of code");
    }
    for folder in ["core/src", "worker/src", "lambda/src", "tests"] {
        for (name, text) in sources(&root().join(folder)) {
            let lines = text.lines().count();
            assert!(lines < 400, "{name} has {lines} lines");
        }
    }
}

#[test]
fn secrets_of_developers_are_not_committed() {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect(".gitignore");
    assert!(ignored.lines().any(|it| it.trim() == ".dev.vars"), "{ignored}");
    let output =
        Command::new("git").args(["ls-files", "*.dev.vars", ".dev.vars"]).current_dir(root()).output();
    assert!(output.is_ok_and(|it| it.stdout.is_empty()));
}

/// `marks` alone formats and parses what is kept; `pve` alone makes its URLs.
#[test]
fn formats_have_one_home() {
    for (name, text) in sources(&root().join("core/src")) {
        let at_home = name.contains("/marks") || name.ends_with("tests.rs");
        assert!(at_home || !text.contains("\"pe1"), "{name} speaks of tags");
        let of_pve = name.contains("/pve");
        assert!(of_pve || !text.contains("/api2/"), "{name} makes a PVE URL");
    }
}

/// Rust files below a folder, with their text.
pub(crate) fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
        }
    }
    found
}

fn code_lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with("//")).count()
}
