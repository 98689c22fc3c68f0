//! What the processes under test print, this one included.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// The logs of one combination: a folder of files, and what this process logs.
#[derive(Clone, Debug)]
pub struct Log {
    folder: PathBuf,
    own: Own,
    /// What this process had logged before.
    from: usize,
}

/// What this process logs: one subscriber for all that it serves.
#[derive(Clone, Debug, Default)]
struct Own(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Logs in `folder`, and what this process logs from now on.
    pub fn new(folder: &Path) -> Self {
        static OWN: OnceLock<Own> = OnceLock::new();
        // A process has one subscriber.
        let own = OWN.get_or_init(Own::subscribe).clone();
        let from = own.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        Self { folder: folder.to_owned(), own, from }
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
        let own = self.own.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = vec![("this-process".to_owned(), own.get(self.from..).unwrap_or_default().to_vec())];
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                texts.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
            }
        }
        Ok(texts)
    }
}

impl Own {
    fn subscribe() -> Self {
        let own = Self::default();
        let writer = own.clone();
        // Were there another one, the log would be empty, which is noticed.
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .try_init();
        own
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
