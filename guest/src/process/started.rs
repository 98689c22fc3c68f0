//! Notes of the processes that were started under an `Idempotency-Key`. They stand on the disk before the process runs,
//! and outlive the guest's run: so a repeated start after a restart runs nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pve_edge_guest_protocol::{Unique, call::Digest256};
use serde::{Deserialize, Serialize};

/// Time for which a note is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Notes that are kept at most.
const MOST: usize = 4096;

/// Folder of the notes.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    folder: PathBuf,
}

/// Note of one start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) digest: Digest256,
    pub(crate) boot: Unique,
}

impl Started {
    pub(crate) fn below(state: &Path) -> Self {
        Self { folder: state.join("started") }
    }

    fn path(&self, process: Unique) -> PathBuf {
        self.folder.join(process.to_string())
    }

    /// The note of a process. One that cannot be read counts as another request's.
    pub(crate) fn find(&self, process: Unique) -> Option<Note> {
        let bytes = fs::read(self.path(process)).ok()?;
        let unreadable = Note { digest: Digest256([0; 32]), boot: Unique([0; 16]) };
        Some(serde_json::from_slice(&bytes).unwrap_or(unreadable))
    }

    /// Notes a start, so that it is on the disk when this returns.
    pub(crate) fn note(&self, process: Unique, note: &Note) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.make_room(SystemTime::now())?;
        let written = self.write(process, note);
        if written.is_err() {
            self.forget(process);
        }
        written
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

    /// Removes notes whose time is over, if there are too many; an error if there are too many still.
    fn make_room(&self, now: SystemTime) -> io::Result<()> {
        let notes: Vec<_> = fs::read_dir(&self.folder)?.flatten().collect();
        if notes.len() < MOST {
            return Ok(());
        }
        let is_old = |note: &&fs::DirEntry| {
            let modified = note.metadata().and_then(|it| it.modified()).ok();
            modified.and_then(|it| now.duration_since(it).ok()).is_some_and(|age| age >= KEPT)
        };
        let removed = notes.iter().filter(is_old).filter(|note| fs::remove_file(note.path()).is_ok()).count();
        if notes.len() - removed < MOST { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTE: Note = Note { digest: Digest256([5; 32]), boot: Unique([6; 16]) };

    #[test]
    fn a_note_is_found_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let started = Started::below(folder.path());
        let (one, other) = (Unique([1; 16]), Unique([2; 16]));
        started.note(one, &NOTE).unwrap();
        assert_eq!((started.find(one), started.find(other)), (Some(NOTE), None));
        started.forget(one);
        assert_eq!(started.find(one), None);
    }

    #[test]
    fn notes_have_a_bound_and_old_ones_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let started = Started::below(folder.path());
        fs::create_dir(&started.folder).unwrap();
        for number in 0..MOST {
            fs::write(started.folder.join(number.to_string()), "").unwrap();
        }
        let full = started.note(Unique([1; 16]), &NOTE).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(started.find(Unique([1; 16])), None);
        started.make_room(SystemTime::now() + KEPT * 2).unwrap();
        started.note(Unique([1; 16]), &NOTE).unwrap();
    }

    proptest! {
        #[test]
        fn a_note_of_any_bytes_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let started = Started::below(folder.path());
            fs::create_dir(&started.folder).unwrap();
            fs::write(started.path(Unique([1; 16])), bytes).unwrap();
            prop_assert!(started.find(Unique([1; 16])).is_some());
        }
    }
}
