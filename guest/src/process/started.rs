//! Notes of the processes that were started under an `Idempotency-Key`. They stand on the disk before the process runs,
//! and outlive the guest's run: so a repeated start after a restart runs nothing. A clone has those of the guest that it was
//! cloned from: they are of another guest, and are removed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::Digest256,
};
use serde::{Deserialize, Serialize};

use super::{folder::Folder, keeper::refusal};
use crate::layout::Layout;

/// Time for which a note is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Time for which a note is kept although there are too many, and the process has ended.
const KEPT_IF_FULL: Duration = Duration::from_secs(60 * 60);

/// Notes that are kept at most.
const MOST: usize = 4096;

/// Folder of the notes.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    folder: PathBuf,
    /// The run folder, which tells of each process whether it has ended.
    run: PathBuf,
    /// Whether the notes of other guests were removed since the daemon's start.
    is_swept: Arc<Mutex<bool>>,
}

/// Note of one start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) digest: Digest256,
    pub(crate) boot: Unique,
    /// Hardware address of the guest, as it is written; `None` if an older daemon has noted it.
    #[serde(default)]
    pub(crate) guest: Option<String>,
}

impl Started {
    pub(crate) fn of(layout: &Layout) -> Self {
        let (folder, run) = (layout.state.join("started"), layout.run.clone());
        Self { folder, run, is_swept: Arc::default() }
    }

    fn path(&self, process: Unique) -> PathBuf {
        self.folder.join(process.to_string())
    }

    /// The note of a process. One that cannot be read counts as another request's.
    pub(crate) fn find(&self, process: Unique) -> Option<Note> {
        let bytes = fs::read(self.path(process)).ok()?;
        let unreadable = Note { digest: Digest256([0; 32]), boot: Unique([0; 16]), guest: None };
        Some(serde_json::from_slice(&bytes).unwrap_or(unreadable))
    }

    /// Notes a start, so that it is on the disk when this returns.
    pub(crate) fn note(&self, process: Unique, note: &Note) -> Result<(), Refusal> {
        let failed = |error| match refusal("the start cannot be noted", &error) {
            Refusal { code: Code::Failed | Code::NotPermitted, detail, .. } => {
                Refusal::new(Code::DiskFull, detail)
            }
            other => other,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        note.guest.iter().for_each(|own| self.sweep(own));
        if !self.make_room(SystemTime::now()).map_err(failed)? {
            let detail =
                format!("{MOST} starts with a key are noted, of the last hour or of what still runs");
            return Err(Refusal::new(Code::TooManyKeys, detail));
        }
        let written = self.write(process, note);
        if written.is_err() {
            self.forget(process);
        }
        written.map_err(failed)
    }

    /// Removes the notes of other guests, once: only a call that was obeyed proves which guest this is.
    fn sweep(&self, own: &str) {
        let mut is_swept = self.is_swept.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_swept, true) {
            return;
        }
        for name in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let note = fs::read(name.path()).ok().and_then(|it| serde_json::from_slice::<Note>(&it).ok());
            if note.and_then(|it| it.guest).is_some_and(|guest| guest != own) {
                let _ = fs::remove_file(name.path());
            }
        }
    }

    /// Writes a note aside and renames it: who looks for it meanwhile finds none, and never half of it.
    fn write(&self, process: Unique, note: &Note) -> io::Result<()> {
        let aside = self.path(process).with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(aside, self.path(process))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Takes a note back: the process did not run.
    pub(crate) fn forget(&self, process: Unique) {
        let _ = fs::remove_file(self.path(process));
        let _ = fs::remove_file(self.path(process).with_extension("new"));
    }

    /// Removes notes whose time is over, if there are too many, or else the oldest of what has ended; whether there is room.
    fn make_room(&self, now: SystemTime) -> io::Result<bool> {
        let notes: Vec<_> = fs::read_dir(&self.folder)?.flatten().map(|it| it.path()).collect();
        if notes.len() < MOST {
            return Ok(true);
        }
        let modified = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
        let mut notes: Vec<_> = notes.into_iter().filter_map(modified).collect();
        notes.sort_unstable();
        let mut left = notes.len();
        for (at, note) in notes {
            let age = now.duration_since(at).unwrap_or_default();
            let is_over = age >= KEPT || left >= MOST && age >= KEPT_IF_FULL && self.has_ended(&note);
            if is_over && fs::remove_file(note).is_ok() {
                left -= 1;
            }
        }
        Ok(left < MOST)
    }

    /// Whether the process of a note has ended.
    fn has_ended(&self, note: &Path) -> bool {
        let process = note.file_name().and_then(|it| it.to_str()?.parse().ok());
        process.map(|it| Folder::of(&self.run, it)).is_none_or(|it| it.ended().is_some() || !it.is_kept())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTE: Note = Note { digest: Digest256([5; 32]), boot: Unique([6; 16]), guest: None };

    fn below(folder: &Path) -> Started {
        Started::of(&Layout { run: folder.join("run"), state: folder.to_owned(), ..Layout::default() })
    }

    #[test]
    fn a_note_is_found_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let started = below(folder.path());
        let (one, other) = (Unique([1; 16]), Unique([2; 16]));
        started.note(one, &NOTE).unwrap();
        assert_eq!((started.find(one), started.find(other)), (Some(NOTE), None));
        started.forget(one);
        assert_eq!(started.find(one), None);
    }

    #[test]
    fn notes_have_a_bound_and_old_ones_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let started = below(folder.path());
        fs::create_dir(&started.folder).unwrap();
        for number in 0..MOST {
            fs::write(started.folder.join(number.to_string()), "").unwrap();
        }
        let full = started.note(Unique([1; 16]), &NOTE).unwrap_err();
        assert_eq!(full.code, Code::TooManyKeys);
        assert_eq!(started.find(Unique([1; 16])), None);
        assert!(started.make_room(SystemTime::now() + KEPT_IF_FULL).unwrap());
        assert_eq!(fs::read_dir(&started.folder).unwrap().count(), MOST - 1);
        started.note(Unique([1; 16]), &NOTE).unwrap();
        assert!(started.make_room(SystemTime::now() + KEPT).unwrap());
        assert_eq!(fs::read_dir(&started.folder).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn a_note_of_any_bytes_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let started = below(folder.path());
            fs::create_dir(&started.folder).unwrap();
            fs::write(started.path(Unique([1; 16])), bytes).unwrap();
            prop_assert!(started.find(Unique([1; 16])).is_some());
        }
    }
}
