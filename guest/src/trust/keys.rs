//! Keys that the guest obeys, as the file has them now.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use pve_edge_guest_protocol::keys::KeyFile;

/// Largest file of keys.
const LARGEST_FILE: u64 = 64 << 10;

/// File of keys, which is read again as soon as it is another one: so a key that was added is obeyed at once, and one
/// that was removed is not.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    seen: Option<Version>,
    text: String,
    file: KeyFile,
}

/// Device, inode, size and time of change: they differ when a file was written or replaced.
type Version = (u64, u64, u64, i64, i64);

impl Keys {
    /// The keys of a file, which may be missing for now.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, text: String::new(), file: KeyFile::default() }
    }

    /// The keys. A file that cannot be read has none.
    pub fn read(&mut self) -> &KeyFile {
        self.refresh();
        &self.file
    }

    /// The file's content.
    pub fn text(&mut self) -> &str {
        self.refresh();
        &self.text
    }

    fn refresh(&mut self) {
        let version = self.version().ok();
        if version.is_none() || version != self.seen {
            self.text = self.content().unwrap_or_default();
            self.file = KeyFile::parse(&self.text);
            self.seen = version;
        }
    }

    fn version(&self) -> io::Result<Version> {
        let file = self.path.metadata()?;
        Ok((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    }

    fn content(&self) -> io::Result<String> {
        let mut text = String::new();
        File::open(&self.path)?.take(LARGEST_FILE).read_to_string(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pve_edge_guest_protocol::keys::EdgeKey;

    use super::*;

    #[test]
    fn a_file_that_was_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut keys = Keys::new(path.clone());
        assert!(keys.read().lines.is_empty());
        let line = |seed| EdgeKey::new(&[seed; 32]).line("home").to_string();
        for (text, number) in
            [(line(1), 1), (format!("{}\n{}", line(1), line(2)), 2), (line(2), 1), (String::new(), 0)]
        {
            // As a person would: in place; as the edge would: by another file.
            fs::write(&path, &text).unwrap();
            assert_eq!((keys.read().lines.len(), keys.text()), (number, text.as_str()));
            let new = path.with_extension("new");
            fs::write(&new, line(3)).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(keys.text(), line(3));
        }
        fs::remove_file(&path).unwrap();
        assert!(keys.read().lines.is_empty());
    }
}
