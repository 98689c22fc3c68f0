//! Why the kernel would not do something with a path, as a refusal that names the path.

use std::path::Path;

use pve_edge_guest_protocol::answer::{Code, Refusal};
use rustix::io::Errno;

/// Characters of a path in a detail.
const SHOWN: usize = 300;

/// Makes a refusal of an error of something that was tried at a path.
pub(super) fn at(path: &Path) -> impl Fn(Errno) -> Refusal {
    move |errno| {
        let (code, words) = meaning(errno);
        Refusal::new(code, format!("{}: {words}", shown(path)))
    }
}

/// The same for errors of std.
pub(super) fn io_at(path: &Path) -> impl Fn(std::io::Error) -> Refusal {
    move |error| match Errno::from_io_error(&error) {
        Some(errno) => at(path)(errno),
        None => refusal(Code::Failed, path, error),
    }
}

/// A refusal that names a path.
pub(super) fn refusal(code: Code, path: &Path, words: impl std::fmt::Display) -> Refusal {
    Refusal::new(code, format!("{}: {words}", shown(path)))
}

/// A path in a detail: in one line, and not too long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

fn meaning(errno: Errno) -> (Code, String) {
    let (code, words) = match errno {
        Errno::NOENT => (Code::NoSuchFile, "nothing is there"),
        Errno::NOTDIR => (Code::NotADirectory, "it is not a folder, or leads through something that is none"),
        Errno::ISDIR => (Code::NotAFile, "it is a folder"),
        Errno::EXIST => (Code::Exists, "something is there already"),
        Errno::NOTEMPTY => (Code::Exists, "the folder is not empty"),
        Errno::ACCESS | Errno::PERM => (Code::NotPermitted, "the user may not do this"),
        Errno::ROFS => (Code::NotPermitted, "the file system is read-only"),
        Errno::NAMETOOLONG => (Code::BadPath, "the path, or a name in it, is too long"),
        Errno::LOOP => (Code::BadPath, "the path leads through too many links"),
        Errno::INVAL => (Code::BadPath, "the file system does not take this path for that"),
        Errno::NOSPC => (Code::DiskFull, "no room is left on the disk"),
        Errno::DQUOT => (Code::DiskFull, "the user's share of the disk is used up"),
        Errno::FBIG => (Code::DiskFull, "the file system takes no file of this size"),
        Errno::MLINK => (Code::DiskFull, "the folder takes no more entries"),
        Errno::BUSY | Errno::TXTBSY => (Code::NotPermitted, "it is in use"),
        Errno::AGAIN => (Code::Busy, "another process holds it"),
        Errno::MFILE | Errno::NFILE => (Code::Busy, "too many files are open, or folders nested"),
        Errno::NOMEM => (Code::Busy, "the guest has no memory left"),
        Errno::XDEV => (Code::Unsupported, "the two paths are on different file systems"),
        Errno::OPNOTSUPP | Errno::NOSYS => (Code::Unsupported, "the file system cannot do this"),
        Errno::NXIO | Errno::NODEV => (Code::NotAFile, "it is a device or a socket"),
        _ => return (Code::Failed, errno.to_string()),
    };
    (code, words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_in_one_line_and_not_too_long() {
        let refusal = at(Path::new("/a\nb"))(Errno::NOSPC);
        assert_eq!(refusal.detail, "\"/a\\nb\": no room is left on the disk");
        assert_eq!(refusal.code, Code::DiskFull);
        let long = "ä".repeat(4000);
        assert_eq!(at(Path::new(&long))(Errno::NOENT).detail.matches('ä').count(), SHOWN);
    }

    #[test]
    fn an_error_without_words_of_its_own_has_the_kernels() {
        assert_eq!(at(Path::new("/a"))(Errno::IO).code, Code::Failed);
    }
}
