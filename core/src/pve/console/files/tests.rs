use proptest::prelude::*;
use pve_edge_guest_protocol::file::Placing;

use super::*;
use crate::sandbox::file::condition::Condition;

const MARK: &str = "0a1b2c3d4e5f6071";
/// What GNU's `stat` tells of a file and a link, and busybox's of a link.
const FILE: &str = "81a0 3 0 33 77 1700000000 1700000001 2023-11-14 22:13:20.012345678 +0000 2023-11-14 22:13:21.5 +0000 \
                    root UNKNOWN/M>./a/M>./a/M;\n";
const LINK: &str = "a1ff 7 0 0 78 -1 1 1969-12-31 23:59:59 +0000 1970-01-01 00:00:01 +0000 root root/M>./b\n/M>./b\n -> /x -> \
                    //y/M;\n";
const QUOTED: &str = "a1ff 7 0 0 78 1 1 1970-01-01 00:00:01.000000000 +0000 1970-01-01 00:00:01.000000000 +0000 root \
                      root/M>./c/M>'./c' -> 'x'/M;\n";

fn told(pieces: &[&str]) -> Vec<u8> {
    let text: String = pieces.iter().map(|it| format!("/M/{it}")).collect();
    format!("/home/dev\n{text}").replace("/M", &format!("/{MARK}")).into_bytes()
}

#[test]
fn a_file_is_told_with_what_stat_knows() {
    let mut said = told(&[FILE]);
    said.extend_from_slice(format!("/{MARK}/\0bytes").as_bytes());
    let (entry, rest) = said::one(&said, MARK, "x/./a").unwrap();
    assert_eq!((&*entry.path, entry.kind, entry.size, entry.mode), ("/home/dev/x/a", Kind::File, 3, 0o640));
    assert_eq!((entry.uid, entry.gid, entry.owner.as_deref(), entry.group), (0, 33, Some("root"), None));
    assert_eq!(entry.modified_ns, 1_700_000_000_012_345_678);
    assert_eq!(entry.etag, "77-3-1700000000.012345678-1700000001.5");
    assert_eq!(said::content(rest, MARK), Some(&b"\0bytes"[..]));
    assert_eq!(said::content(b"", MARK), None);
}

#[test]
fn a_folder_is_told_whatever_the_names_in_it_are() {
    let (entries, is_all) = said::all(&told(&[FILE, LINK, QUOTED, "."]), MARK, "/").unwrap();
    let paths: Vec<_> = entries.iter().map(|it| &*it.path).collect();
    assert_eq!(paths, ["/a", "/b\n", "/c"]);
    assert!(is_all);
    let targets: Vec<_> = entries.iter().map(|it| it.target.as_deref()).collect();
    assert_eq!(targets, [None, Some("/x -> //y"), Some("x")]);
    assert_eq!(entries[1].modified_ns, -1_000_000_000);

    let cut = told(&[FILE, &LINK[..40]]);
    let (entries, is_all) = said::all(&cut, MARK, "x").unwrap();
    assert_eq!((entries.len(), is_all, &*entries[0].path), (1, false, "/home/dev/x/a"));
}

#[test]
fn what_a_program_says_has_a_meaning() {
    let code = |code, said: &str| match said::refusal(code, said.as_bytes(), "/a") {
        Some(CallFailure::Refused(refusal)) => Some(refusal.code),
        _ => None,
    };
    for (said, wanted) in [
        ("stat: cannot statx '/a': No such file or directory", Refused::NoSuchFile),
        ("sh: 3: cannot create ./.x: Permission denied\n", Refused::NotPermitted),
        ("mv: cannot move 'a' to a subdirectory of itself, 'a/b'", Refused::BadPath),
        ("rm: cannot remove '/Permission denied': Read-only file system", Refused::NotPermitted),
        ("tar: x: Cannot open: No space left on device\ntar: Exiting", Refused::DiskFull),
        ("mkdir: can't create directory '/a': File exists", Refused::Exists),
        (script::words::CHANGED, Refused::Changed),
        ("anything", Refused::Failed),
        ("", Refused::Failed),
    ] {
        assert_eq!(code(exit::NO, said), Some(wanted), "{said}");
    }
    assert_eq!(code(exit::PARTLY, "rm: x: Permission denied"), Some(Refused::Failed));
    assert_eq!(code(exit::NO_USER, ""), Some(Refused::NoSuchUser));
    assert_eq!((code(0, ""), code(1, "Permission denied")), (None, Some(Refused::Failed)));
}

fn told_of(size: u64) -> Told {
    let said = told(&[FILE]);
    let (entry, _) = said::one(&said, MARK, "/a").unwrap();
    Told { size, ..entry }
}

#[test]
fn a_part_is_of_what_was_sent() {
    let body = |size, range, bytes: &[u8]| sent(told_of(size), range, bytes).map(|it| it.body.unwrap());
    let range = |first, last| Some(Range::From { first, last });
    assert_eq!(body(5, range(1, Some(9)), b"abcde").unwrap(), b"bcde");
    assert_eq!(body(5, Some(Range::Last { bytes: 2 }), b"abcde").unwrap(), b"de");
    assert_eq!(body(0, None, b"of /proc").unwrap(), b"of /proc");
    let code = |size, range, bytes: &[u8]| body(size, range, bytes).map_err(|it| it.code());
    assert_eq!(code(5, range(5, None), b"abcde"), Err(Code::RangeNotSatisfiable));
    assert_eq!(code(LIMIT + 1, None, b""), Err(Code::TooLarge));
    assert_eq!(code(LIMIT + 1, range(0, Some(LIMIT)), b""), Err(Code::TooLarge));
    assert_eq!(code(LIMIT + 1, range(LIMIT, None), b"x"), Ok(b"x".to_vec()));
    assert_eq!(code(LIMIT + 1, range(LIMIT, None), b""), Err(Code::ExecCut));
    assert_eq!(code(0, None, &vec![0; LIMIT as usize + 1]), Err(Code::TooLarge));
}

#[test]
fn paths_are_one_word_of_a_script_each() {
    assert_eq!(script::split("a"), Some(("", "a")));
    assert_eq!(script::split("/-rf/"), Some(("/", "-rf")));
    assert_eq!(script::split("a/b c"), Some(("a", "b c")));
    for path in ["/", "..", "a/..", "a/.", "."] {
        assert_eq!(script::split(path), None, "{path}");
    }
    let placing = Placing { mode: Some(0o4711), if_match: Some("1-2".into()), if_none: false };
    let text = script::write(MARK, (("it's", "-a"), true), &placing, "00.0");
    assert!(text.contains("folders \"$HOME\"/'it'\\''s'\nenter \"$HOME\"/'it'\\''s'; n=./'-a'\n"), "{text}");
    assert!(text.contains("case $t in '1-2') ;;") && text.contains("m=4711\n"), "{text}");
}

#[test]
fn conditions_are_patterns() {
    let at = At { path: "/a".into(), user: None };
    let reading = Reading {
        at,
        range: Some(Range::Last { bytes: 7 }),
        if_range: Some(Condition::Tags(vec!["a".into(), "b".into()])),
        if_match: Some(Condition::Any),
        if_none_match: Some(Condition::Tags(vec!["it's".into()])),
        is_head: false,
    };
    let text = script::read(MARK, &reading);
    assert!(text.contains("case $t in ?*) ;; *) no"), "{text}");
    assert!(text.contains("case $t in 'it'\\''s') exit 0;; esac"), "{text}");
    // Several name no file.
    assert!(text.contains("case $t in '') [ 7 -lt $s ]"), "{text}");
}

proptest! {
    #[test]
    fn any_words_are_read_without_a_panic(said in "(/0a1b2c3d4e5f6071[/>;.]|[0-9a-f .:-]|\n){0,80}", any: Vec<u8>) {
        for said in [said.as_bytes(), &*any] {
            let _ = (said::one(said, MARK, "a"), said::all(said, MARK, "a"), said::refusal(70, said, "a"));
        }
    }

    #[test]
    fn a_path_is_split_into_what_joins_to_it(path in "[a./ -]{1,12}") {
        if let Some((folder, name)) = script::split(&path) {
            prop_assert!(!name.contains('/') && !name.is_empty());
            let joined = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let names = |path: &str| path.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!((names(&joined), joined.starts_with('/')), (names(&path), path.starts_with('/')));
        }
    }
}
