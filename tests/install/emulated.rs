//! The arm64 program on this machine.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Child, Command},
};

use pve_edge_core::access::secret::Keyring;
use pve_edge_guest_protocol::identity::HardwareAddress;

use super::{
    Check, PORT,
    guest::{Guest, SANDBOX},
    programs::Programs,
    served::SECRET,
};

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The part that answers calls answers one under qemu. The others start each other, which qemu alone cannot.
pub(crate) async fn answers() -> Check {
    let failed = |error: std::io::Error| error.to_string();
    let programs = Programs::built()?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let keys = Keyring::parse(SECRET)?.newest().guest_key("prod").line("prod");
    fs::write(folder.path().join("keys"), format!("{keys}\n")).map_err(failed)?;
    // As `run` leaves it.
    fs::write(folder.path().join("boot"), format!("{}\n", "0a".repeat(16))).map_err(failed)?;
    let card = folder.path().join("cards/eth0");
    fs::create_dir_all(&card).map_err(failed)?;
    fs::write(card.join("address"), HardwareAddress::of("prod", SANDBOX).to_string()).map_err(failed)?;
    let listener = TcpListener::bind(("127.0.0.1", PORT)).map_err(failed)?;
    let child = Command::new("qemu-aarch64-static")
        .arg(programs.folder.join(&programs.version).join("aarch64"))
        .arg("serve")
        .arg("--cards")
        .arg(folder.path().join("cards"))
        .arg("--keys")
        .arg(folder.path().join("keys"))
        .arg("--run-dir")
        .arg(folder.path())
        .arg("--state-dir")
        .arg(folder.path())
        .stdin(OwnedFd::from(listener))
        .spawn()
        .map_err(failed)?;
    let _running = Running(child);
    Guest::new("prod")?.hello().await
}
