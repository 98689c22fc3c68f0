use proptest::prelude::*;

use super::*;

/// Reads an archive: its members, each with its content.
fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, Fault> {
    let mut members = Members::new(bytes);
    let mut all = Vec::new();
    while let Some(member) = members.next()? {
        let mut content = Vec::new();
        members.read_to_end(&mut content)?;
        all.push((member, content));
    }
    members.finish().map(|()| all)
}

/// Writes members as a program does that follows the format.
fn write(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
    let mut into = tar::Builder::new(Vec::new());
    for (member, content) in members {
        let path = std::str::from_utf8(member.names.as_bytes()).unwrap();
        let mut header = Header::new_gnu();
        header.set_mode(member.mode);
        header.set_size(content.len() as u64);
        header.set_mtime(member.modified.0 as u64);
        let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
        let (kind, link) = match &member.what {
            What::File(_) => (EntryType::Regular, None),
            What::Folder => (EntryType::Directory, None),
            What::Symlink(target) => (EntryType::Symlink, Some(text(target))),
            What::Link(to) => (EntryType::Link, Some(text(to.as_bytes()))),
        };
        header.set_entry_type(kind);
        match link {
            Some(link) => into.append_link(&mut header, path, link).unwrap(),
            None => into.append_data(&mut header, path, &content[..]).unwrap(),
        }
    }
    into.into_inner().unwrap()
}

fn member() -> impl Strategy<Value = (Member, Vec<u8>)> {
    let path = || prop::collection::vec("[a-z\n.]{0,3}[a-z]{1,60}", 1..5).prop_map(|it| it.join("/"));
    let names = || path().prop_map(|it| Names::read(it.as_bytes()).unwrap());
    let what = prop_oneof![
        Just(What::File(0)),
        Just(What::Folder),
        path().prop_map(|it| What::Symlink(it.into_bytes())),
        names().prop_map(What::Link),
    ];
    let content = prop::collection::vec(any::<u8>(), 0..1500);
    (names(), what, 0..0o10000_u32, 0..1_i64 << 33, content).prop_map(|(names, what, mode, time, content)| {
        let is_file = matches!(what, What::File(_));
        let content = if is_file { content } else { Vec::new() };
        let what = if is_file { What::File(content.len() as u64) } else { what };
        (Member { names, what, mode, modified: (time, 0) }, content)
    })
}

/// A record of an extension.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

#[test]
fn a_path_that_leads_up_is_none() {
    for (path, names) in [("a/b", "a/b"), ("/a//./b/", "a/b"), ("./", ""), ("", ""), ("..a/b..", "..a/b..")] {
        assert_eq!(Names::read(path.as_bytes()).unwrap().as_bytes(), names.as_bytes(), "{path}");
    }
    for path in ["..", "a/..", "../a", "a/../b", "a\0b", &"a".repeat(5000)] {
        assert_eq!(Names::read(path.as_bytes()), None);
    }
}

#[test]
fn times_have_parts_of_seconds() {
    for (text, read) in [
        ("12", Some((12, 0))),
        ("12.5", Some((12, 500_000_000))),
        ("12.0123456789", Some((12, 12_345_678))),
        ("-1.25", Some((-2, 750_000_000))),
        ("", None),
        ("x", None),
        ("1.x", None),
        ("1.-5", None),
    ] {
        assert_eq!(time(text.as_bytes()), read, "{text}");
    }
}

#[test]
fn a_long_name_is_read_only_as_far_as_it_may_be_long() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += into.len() as u64;
            into.fill(b'a');
            Ok(into.len())
        }
    }
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut endless = Endless(0);
        let input = header.as_bytes().chain(&mut endless);
        assert!(Members::new(input).next().is_err());
        assert_eq!(endless.0, 0);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in prop::collection::vec(member(), 0..6)) {
        let bytes = write(&members);
        prop_assert_eq!(read(&bytes).unwrap(), members);
    }

    #[test]
    fn a_cut_archive_is_none(members in prop::collection::vec(member(), 1..4), at in any::<prop::sample::Index>()) {
        let bytes = write(&members);
        // The first block of the end tells it.
        let cut = &bytes[..at.index(bytes.len() - 1023)];
        prop_assert!(read(cut).is_err());
    }

    #[test]
    fn a_damaged_archive_is_read_without_a_panic(
        members in prop::collection::vec(member(), 1..4),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = write(&members);
        for (at, byte) in damages {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // The sum is right again, so that the other fields are looked at.
            let header = &mut bytes[at / 512 * 512..][..512];
            let mut summed = Header::new_old();
            summed.as_mut_bytes().copy_from_slice(header);
            summed.set_cksum();
            header.copy_from_slice(summed.as_bytes());
        }
        if let Ok(members) = read(&bytes) {
            for (member, _) in members {
                prop_assert!(!member.names.as_bytes().split(|it| *it == b'/').any(|it| it == b".."));
                prop_assert_eq!(Names::read(member.names.as_bytes()), Some(member.names.clone()));
            }
        }
    }

    #[test]
    fn an_extension_is_read_as_it_was_written(path in "(?s)[^\0]{1,40}", size: u64, seconds in 0..1_i64 << 40) {
        let bytes = [
            pax("path", &path),
            pax("comment", "=\n"),
            pax("size", &size.to_string()),
            pax("mtime", &format!("{seconds}.5")),
        ].concat();
        let mut extension = Extension::default();
        extension.read_pax(&bytes).unwrap();
        prop_assert_eq!(extension.path, Some(path.into_bytes()));
        prop_assert_eq!((extension.size, extension.modified), (Some(size), Some((seconds, 500_000_000))));
    }

    #[test]
    fn any_extension_is_read_without_a_panic(bytes in "(?s)([0-9]{1,20}|[ =\n]|path|size|.){0,30}") {
        let mut extension = Extension::default();
        let _ = extension.read_pax(bytes.as_bytes());
    }
}
