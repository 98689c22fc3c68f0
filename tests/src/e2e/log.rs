//! What the processes under test print, this one included.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The logs of one combination: a folder of files, and what this process logs.
#[derive(Clone, Debug)]
pub struct Log {
    folder: PathBuf,
    own: Own,
}

/// What this process logs: one subscriber for all that it serves.
#[derive(Clone, Debug, Default)]
struct Own(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Logs in `folder`; the first of them takes what this process logs.
    pub fn new(folder: &Path) -> Self {
        let own = Own::default();
        let writer = own.clone();
        // A second one in this process finds a subscriber there, and stays empty.
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .try_init();
        Self { folder: folder.to_owned(), own }
    }

    /// Where a process of that name shall write.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps all of it in `target/e2e`; where.
    pub fn keep(&self, name: &str) -> io::Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e").join(name);
        std::fs::create_dir_all(&folder)?;
        for (name, text) in self.texts()? {
            std::fs::write(folder.join(name), text)?;
        }
        folder.canonicalize()
    }

    /// All that was written so far, by name.
    pub fn texts(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let own = self.own.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut texts = vec![("this-process".to_owned(), own)];
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                texts.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
            }
        }
        Ok(texts)
    }
}

impl Write for Own {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
