//! Paths, as they come in a call.

use std::{
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use pve_edge_guest_protocol::answer::{Code, Refusal};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, statat},
    io::Errno,
};

use super::{part::Actor, refuse};
use crate::layout::OWN_FOLDER;

/// Characters that a path may have.
const LONGEST: usize = 4096;

impl Actor {
    /// A path from the root: one that does not begin there is below the user's home.
    pub(super) fn path(&self, path: &str) -> Result<PathBuf, Refusal> {
        let bad = |words: &str| Err(refuse::refusal(Code::BadPath, Path::new(path), words));
        if path.is_empty() {
            return bad("a path is needed");
        }
        if path.contains('\0') {
            return bad("a path has no NUL");
        }
        if path.chars().nth(LONGEST).is_some() {
            return bad("a path has at most 4,096 characters");
        }
        let inner = path.strip_prefix(OWN_FOLDER).filter(|it| it.is_empty() || it.starts_with('/'));
        Ok(match self.own.as_ref().zip(inner) {
            Some((own, inner)) => own.join(inner.trim_start_matches('/')),
            None => self.user.path(path),
        })
    }
}

/// Place of something in its folder. The folder is opened, and stays the same whatever happens to the path.
pub(super) struct Leaf {
    /// Folder.
    pub(super) folder: OwnedFd,
    /// Name in it.
    pub(super) name: OsString,
    /// Path as a whole.
    pub(super) path: PathBuf,
}

impl Leaf {
    /// Finds the folder of a path. Its last component may be missing, and is not followed if it is a link.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let (parent, name) = split(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, parent, flags, Mode::empty()).map_err(refuse::at(parent))?;
        Ok(Self { folder, name, path: path.to_owned() })
    }

    /// What is there.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Refusal> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(refuse::at(&self.path)(errno)),
        }
    }
}

/// Splits a path into its folder and the name in it.
pub(super) fn split(path: &Path) -> Result<(&Path, OsString), Refusal> {
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) if !ends_in_dot(path) => Ok((parent, name.to_owned())),
        _ => Err(refuse::refusal(Code::BadPath, path, "a path that ends with a name is needed")),
    }
}

/// Whether the last component is `.`, which [`Path`] leaves out.
fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let end = bytes.iter().rposition(|it| *it != b'/').map_or(0, |it| it + 1);
    bytes.get(..end).is_some_and(|it| it.ends_with(b"/."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_split_at_its_last_name() {
        for (path, parent, name) in [
            ("/a", "/", "a"),
            ("/a/b", "/a", "b"),
            ("/a/b//", "/a", "b"),
            ("/a/../b", "/a/..", "b"),
            ("/a/\n", "/a", "\n"),
        ] {
            assert_eq!(split(Path::new(path)).unwrap(), (Path::new(parent), name.into()), "{path}");
        }
        for path in ["/", "/a/..", "/a/.", "/a/./", "//", "/."] {
            assert_eq!(split(Path::new(path)).unwrap_err().code, Code::BadPath, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_split_is_joined_to_the_same(path in "/[a./\n]{0,12}") {
            let path = Path::new(&path);
            if let Ok((parent, name)) = split(path) {
                prop_assert_eq!(parent.join(name), path);
            }
        }
    }
}
