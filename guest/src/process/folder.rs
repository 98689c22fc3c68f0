//! The folder that a process has in the run folder: it is there before the process runs, and ends with the guest's run.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pve_edge_guest_protocol::{Unique, call::Digest256, process::Exit};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::launch::Launch;

/// Bytes that are set aside for the file [`EXIT`].
const LARGEST_EXIT: usize = 4096;

/// Bytes of `argv` that are told.
const LONGEST_ARGV: usize = 4096;

/// Its keeper holds a lock on this file for as long as it lives.
const LOCK: &str = "lock";
const DESCRIPTION: &str = "process";
const EXIT: &str = "exit";
const LOG: &str = "log";

/// Folder of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) boot: Unique,
    /// Digest of the request that has started it, if that had a key.
    #[serde(default)]
    pub(crate) keyed: Option<Digest256>,
    /// Its number, once it runs.
    pub(crate) pid: Option<u32>,
    /// Number of its keeper, which is the keeper's while that lives; 0 until it runs, or if an older daemon has started it.
    #[serde(default)]
    pub(crate) keeper: u32,
    pub(crate) tag: Option<String>,
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) pty: bool,
    /// Milliseconds from the guest's start to the process's.
    pub(crate) started_ms: u64,
    /// Its control group, if it has one of its own.
    pub(crate) cgroup: Option<PathBuf>,
}

/// How a process has ended, and where in its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// Bytes of output that had come until then.
    pub(crate) cursor: u64,
    /// Bytes of output that had come when the last descendant was gone.
    pub(crate) end: u64,
}

impl Description {
    /// What is known of a process before it runs.
    pub(crate) fn of(launch: &Launch, boot: Unique, tag: Option<String>, keyed: Option<Digest256>) -> Self {
        Self {
            boot,
            keyed,
            pid: None,
            keeper: 0,
            tag,
            argv: shortened(&launch.argv),
            cwd: launch.cwd.to_string_lossy().into_owned(),
            user: launch.user.name.clone(),
            pty: launch.pty.is_some(),
            started_ms: uptime_ms(),
            cgroup: None,
        }
    }
}

/// What is told of arguments.
fn shortened(argv: &[String]) -> Vec<String> {
    let mut left = LONGEST_ARGV;
    let mut told = Vec::new();
    for word in argv {
        let cut = word.floor_char_boundary(left);
        told.push(word.get(..cut).unwrap_or_default().to_owned());
        left -= cut;
        if left == 0 || cut < word.len() {
            break;
        }
    }
    told
}

impl Folder {
    /// Name of the keeper's socket.
    pub(crate) const SOCKET: &str = "socket";

    /// Folder in which the folders of all processes are.
    pub(crate) fn all(run: &Path) -> PathBuf {
        run.join("processes")
    }

    /// Folder of the names of processes that have made room, of which nothing else is left.
    pub(crate) fn past(run: &Path) -> PathBuf {
        run.join("past")
    }

    /// Folder in which the folder of a process is filled before it is one of those.
    pub(crate) fn claims(run: &Path) -> PathBuf {
        run.join("claims")
    }

    pub(crate) fn of(run: &Path, process: Unique) -> Self {
        Self { path: Self::all(run).join(process.to_string()) }
    }

    /// Makes it, with what is known of the process, and with the lock, so that the process is never taken for one that is
    /// lost. It comes into its place as a whole; `None` if the place is taken.
    pub(crate) fn claim(&self, run: &Path, description: &Description) -> io::Result<Option<File>> {
        let claim = Self { path: Self::claims(run).join(self.path.file_name().unwrap_or_default()) };
        claim.remove()?;
        let claimed = claim.fill(description).and_then(|lock| match fs::rename(&claim.path, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(None),
            renamed => renamed.map(|()| Some(lock)),
        });
        if !matches!(claimed, Ok(Some(_))) {
            let _ = claim.remove();
        }
        claimed
    }

    fn fill(&self, description: &Description) -> io::Result<File> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        self.describe(description)?;
        self.lock()
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Folder for output that has no room on the disk.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Path of the keeper's socket. A socket's path has at most 107 bytes, so it leads through the open folder.
    pub(crate) fn socket(opened: &File) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), Self::SOCKET))
    }

    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Takes the lock that says that a keeper lives. It goes on to whom the file is handed.
    fn lock(&self) -> io::Result<File> {
        let file = File::create(self.path.join(LOCK))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    /// Whether the keeper lives.
    pub(crate) fn is_kept(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// Sets aside the room for [`Self::describe`] and [`Self::end`], which then work on a full file system too: what is
    /// described before becomes the room for the end, so that no process needs more of it while it starts.
    pub(crate) fn reserve(&self, description: &Description) -> io::Result<()> {
        let longest = Description { pid: Some(u32::MAX), ..description.clone() };
        self.set_aside(DESCRIPTION, serde_json::to_vec(&longest)?.len())?;
        fs::hard_link(self.path.join(DESCRIPTION), self.aside(EXIT))
    }

    /// Sets aside the room for [`Self::end`].
    pub(crate) fn reserve_end(&self) -> io::Result<()> {
        self.set_aside(EXIT, LARGEST_EXIT)
    }

    /// Notes what is known of the process.
    pub(crate) fn describe(&self, description: &Description) -> io::Result<()> {
        self.put(DESCRIPTION, description)
    }

    pub(crate) fn description(&self) -> Option<Description> {
        read(&self.path.join(DESCRIPTION))
    }

    /// Notes how the process has ended.
    pub(crate) fn end(&self, ended: &Ended) -> io::Result<()> {
        self.put(EXIT, ended)
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        read(&self.path.join(EXIT))
    }

    /// Whether the keeper has ended by itself, after the last descendant.
    pub(crate) fn is_finished(&self) -> bool {
        !self.path.join(Self::SOCKET).exists()
    }

    /// When the process has ended, or the last change in its folder before it was lost; `None` while it is kept.
    pub(crate) fn over_at(&self) -> Option<SystemTime> {
        if self.is_kept() {
            return None;
        }
        let ended = fs::metadata(self.path.join(EXIT)).or_else(|_| fs::metadata(&self.path));
        ended.and_then(|it| it.modified()).ok()
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.new"))
    }

    fn set_aside(&self, name: &str, length: usize) -> io::Result<()> {
        fs::write(self.aside(name), vec![b' '; length])
    }

    /// Puts a file in place, where room is set aside for it. All of it is read, or nothing.
    fn put(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        let file = File::options().write(true).create(true).truncate(false).open(self.aside(name))?;
        file.write_all_at(&bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        fs::rename(self.aside(name), self.path.join(name))
    }

    /// Removes what only a living keeper needs.
    pub(crate) fn tidy(&self) {
        let _ = fs::remove_file(self.path.join(Self::SOCKET));
        let _ = fs::remove_file(self.aside(EXIT));
    }

    /// Removes all that is in it, and leaves its name in another folder.
    pub(crate) fn retire(&self, past: &Path) -> io::Result<()> {
        let left = past.join(self.path.file_name().unwrap_or_default());
        fs::rename(&self.path, &left)?;
        for entry in fs::read_dir(&left)? {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            if is_folder { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
        Ok(())
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Milliseconds since the guest's start.
pub(crate) fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let duration = Duration::try_from(now).unwrap_or_default();
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
