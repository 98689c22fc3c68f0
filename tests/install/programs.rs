//! Programs for guests, as `guest/build` has put them into a folder, and folders of others.

use std::{fs, io::Write, path::PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/dist");
const ARCHS: [&str; 2] = ["x86_64", "aarch64"];

/// A folder of programs.
pub(crate) struct Programs {
    /// Version in the manifest.
    pub(crate) version: String,
    /// The folder.
    pub(crate) folder: PathBuf,
    _made: Option<TempDir>,
}

impl Programs {
    /// Those that are built.
    pub(crate) fn built() -> Result<Self, String> {
        let text = fs::read(format!("{DIST}/manifest.json")).map_err(|error| format!("{DIST}: {error}"))?;
        let manifest: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let version = manifest["version"].as_str().ok_or("the manifest has no version")?.to_owned();
        Ok(Self { version, folder: DIST.into(), _made: None })
    }

    /// The next version: the same programs with a byte behind their end.
    pub(crate) fn next(&self) -> Result<Self, String> {
        self.copied("0.0.0-next", |bytes| bytes.push(0), true).map_err(|error| error.to_string())
    }

    /// Programs that are not those of their manifest.
    pub(crate) fn tampered(&self) -> Result<Self, String> {
        self.copied("0.0.0-tampered", |bytes| bytes.push(0), false).map_err(|error| error.to_string())
    }

    /// Whether these are the bytes of its program for this machine.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        let program = self.folder.join(&self.version).join(std::env::consts::ARCH);
        fs::read(program).is_ok_and(|it| it == bytes)
    }

    fn copied(&self, version: &str, change: fn(&mut Vec<u8>), told: bool) -> std::io::Result<Self> {
        let made = TempDir::new()?;
        let folder = made.path().join(version);
        fs::create_dir(&folder)?;
        let mut manifest = json!({"version": version});
        for arch in ARCHS {
            let before = fs::read(self.folder.join(&self.version).join(arch))?;
            let mut after = before.clone();
            change(&mut after);
            fs::File::create(folder.join(arch))?.write_all(&after)?;
            let of = if told { &after } else { &before };
            manifest[arch] = json!({"sha256": hex::encode(Sha256::digest(of)), "bytes": after.len()});
        }
        fs::write(made.path().join("manifest.json"), manifest.to_string())?;
        Ok(Self { version: version.to_owned(), folder: made.path().into(), _made: Some(made) })
    }
}
