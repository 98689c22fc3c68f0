//! Scripts for `sh` that do something with files, as a user. Each of them is the body of [`super::super::script::as_user`].
//!
//! What the kernel does not do is told by the words of the program that has tried it, and [`exit::NO`]. What is told of
//! files stands between marks that nobody can guess, because names and links have any characters.

use pve_edge_guest_protocol::file::{At, List, Mkdir, Placing, Range, Remove};

use super::{LIMIT, SMALL};
use crate::{
    sandbox::file::{Archive, Reading, condition::Condition},
    text::shell::quote,
};

/// Exit codes by which a script says why it did nothing, or not all.
pub(super) mod exit {
    /// The words say why.
    pub(in super::super) const NO: i32 = 70;
    /// The words say why, and something was changed.
    pub(in super::super) const PARTLY: i32 = 71;
    /// A program is missing that packs.
    pub(in super::super) const LACKS: i32 = 72;
    /// The archive is larger than what goes through a console.
    pub(in super::super) const TOO_LARGE: i32 = 73;
    /// There is no such user.
    pub(in super::super) const NO_USER: i32 = 126;
}

/// Words of our own, beside those of the kernel.
pub(super) mod words {
    pub(in super::super) const CHANGED: &str = "it is another file";
    pub(in super::super) const OTHER_BYTES: &str = "other bytes have come";
    pub(in super::super) const BAD_ARCHIVE: &str = "a bad archive";
}

/// Blocks of 512 bytes that an archive may have while it is packed; where a shell counts larger ones, it is so many of these.
const PACKED: u64 = LIMIT * 2 / 512;

/// What all scripts begin with; `M` is the mark. The programs' words are read in English, whatever the user's language is.
const BEGIN: &str = r#"set -f; umask 022; LC_ALL=C QUOTING_STYLE=literal; export LC_ALL QUOTING_STYLE
F="/$M/%f %s %u %g %i %Y %Z %y %z %U %G/$M>%n/$M>%N/$M;"
no() { printf %s "$1"; exit 70; }
partly() { printf %s "$1"; exit 71; }
words() { k=${1#"/$M/"} s=$2 t=$5-$2-$6${9#*:*:??}-$7${12#*:*:??}; }
there() { k= t=; r=$(stat -c "$F" "$n" 2>&1) || case $r in *'No such file or directory') return;; *) no "$r";; esac; words $r; }
told() { there; [ -n "$k" ] || no "$r"; printf '%s\n%s\n' "$HOME" "$r"; exit 0; }
enter() {
  cd -P "$1" 2>/dev/null && return
  e=$(stat -L -c %F "$1" 2>&1) || no "$e"
  [ -d "$1" ] || no 'Not a directory'; no 'Permission denied'
}
folders() { [ -d "$1" ] || e=$(mkdir -p "$1" 2>&1) || case $e in *'File exists') no 'Not a directory';; *) no "$e";; esac; }
file() {
  e=$(stat -L -c %F "$1" 2>&1) || no "$e"
  [ -d "$1" ] && no 'Is a directory'
  [ -f "$1" ] || no 'No such device or address'
  [ -r "$1" ] || no 'Permission denied'
}
put() {
  e=$(mv -fT "$1" "$2" 2>&1) && return
  # That of busybox replaces no link to a folder.
  [ -h "$2" ] && [ -d "$2" ] && rm -f "$2" && e=$(mv -fT "$1" "$2" 2>&1) || case $e in *'same file') ;; *) no "$e";; esac
}
turn() { [ -r . ] && command -v flock >/dev/null && exec 9<. && flock 9; }
take() {
  e=$({ cat >"$1"; } 2>&1) || no "$e"
  s=$(sha256sum <"$1"); [ "${s%% *}.$(($(wc -c <"$1")))" = "$2" ] || no 'other bytes have come'
}
"#;

/// A mark, and what all scripts begin with.
fn begin(mark: &str) -> String {
    format!("M={mark}\n{BEGIN}")
}

/// A path as a word: absolute, or below the user's home.
fn word(path: &str) -> String {
    if path.starts_with('/') { quote(path) } else { format!("\"$HOME\"/{}", quote(path)) }
}

/// A path's folder and the name in it; `None` where it ends with no name.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (folder, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("", path),
    };
    (!matches!(name, "" | "." | "..")).then_some((folder, name))
}

/// Enters the folder of a path, and calls the name in it `n`.
fn leaf((folder, name): (&str, &str)) -> String {
    format!("enter {}; n=./{}\n", word(folder), quote(name))
}

/// The pattern of ETags that a condition names.
fn pattern(condition: &Condition) -> String {
    match condition {
        Condition::Any => "?*".into(),
        Condition::Tags(tags) if tags.is_empty() => "''".into(),
        Condition::Tags(tags) => tags.iter().map(|it| quote(it)).collect::<Vec<_>>().join("|"),
    }
}

/// Refuses what has another ETag than this one, or than any.
fn must_match(etag: Option<&str>) -> String {
    let Some(etag) = etag else { return String::new() };
    let etag = if etag == "*" { "?*".into() } else { quote(etag) };
    format!("case $t in {etag}) ;; *) no '{}';; esac\n", words::CHANGED)
}

/// Tells what is at a path.
pub(super) fn stat(mark: &str, path: &str) -> String {
    format!("{}n={}; told\n", begin(mark), word(path))
}

/// Tells of a regular file, and behind a mark its bytes, or those of a range: as [`super::said::content`] wants them.
pub(super) fn read(mark: &str, reading: &Reading) -> String {
    let Reading { at, range, if_range, if_match, if_none_match, is_head } = reading;
    let mut script = format!("{}p={}; file \"$p\"; exec <\"$p\"\n", begin(mark), word(&at.path));
    script.push_str("r=$(stat -L -c \"$F\" /proc/self/fd/0 2>&1) || no \"$r\"; words $r\n");
    if let Some(condition) = if_match {
        script.push_str(&format!(
            "case $t in {}) ;; *) no '{}';; esac\n",
            pattern(condition),
            words::CHANGED
        ));
    }
    script.push_str("printf '%s\\n%s\\n' \"$HOME\" \"$r\"\n");
    if *is_head {
        return script;
    }
    if let Some(condition) = if_none_match {
        script.push_str(&format!("case $t in {}) exit 0;; esac\n", pattern(condition)));
    }
    script.push_str("f=0 l=$s\n");
    if let Some(range) = range {
        let of = if_range.as_ref().map_or_else(|| "*".into(), |it| it.single().map_or("''".into(), quote));
        script.push_str(&format!("case $t in {of}) {};; esac\n", narrow(*range)));
    }
    script.push_str(&format!(
        "printf \"/$M/\"\n\
         if [ $s = 0 ]; then head -c {most}\n\
         elif [ $s -le {SMALL} ]; then head -c {}\n\
         elif [ $l -le {LIMIT} ]; then dd bs=65536 skip=$((f / 65536)) 2>/dev/null | tail -c +$((f % 65536 + 1)) | head -c $l; fi\n",
        SMALL + 1,
        most = LIMIT + 1,
    ));
    script
}

/// Sets offset and length of what a range wants; a length of 0 where it begins behind the end.
fn narrow(range: Range) -> String {
    // Of numbers that a shell has.
    let most = i64::MAX.unsigned_abs();
    match range {
        Range::From { first, last } => {
            let (first, length) =
                (first.min(most), last.map_or(most, |it| it.saturating_sub(first)).saturating_add(1));
            let length = length.min(most);
            format!(
                "if [ {first} -lt $s ]; then f={first} l=$((s - {first})); [ {length} -lt $l ] && l={length}; else l=0; fi"
            )
        }
        Range::Last { bytes } => {
            let bytes = bytes.min(most);
            format!("[ {bytes} -lt $s ] && f=$((s - {bytes})) l={bytes}")
        }
    }
}

/// Puts the input into a file, if it has this digest and length.
pub(super) fn write(mark: &str, (at, mkdirs): ((&str, &str), bool), placing: &Placing, sum: &str) -> String {
    let Placing { mode, if_match, if_none } = placing;
    let mut check = "there; case $k in 4???) no 'Is a directory';; esac\n".to_owned();
    if *if_none {
        check.push_str("[ -z \"$k\" ] || no 'File exists'\n");
    }
    check.push_str(&must_match(if_match.as_deref()));
    let mkdirs = if mkdirs { format!("folders {}\n", word(at.0)) } else { String::new() };
    let again = if if_match.is_some() { format!("turn\n{check}") } else { String::new() };
    let mode = match mode {
        Some(mode) => format!("m={mode:o}"),
        None => "m=644; case $k in 8???) m=$(printf %o $((0x$k & 4095)));; esac".into(),
    };
    let put = if *if_none {
        "e=$(ln -T \"$a\" \"$n\" 2>&1) || case $e in *'File exists') no \"$e\";; *)\n\
         e=$(mv -nT \"$a\" \"$n\" 2>&1) || no \"$e\"; [ ! -e \"$a\" ] || no 'File exists';; esac\n\
         rm -f \"$a\"\n"
    } else {
        "put \"$a\" \"$n\"\n"
    };
    format!(
        "{}{mkdirs}{}{check}umask 077; a=./.pve-edge-$M; trap 'rm -f \"$a\"' EXIT; take \"$a\" {sum}\n\
         {again}{mode}\n\
         e=$(chmod $m \"$a\" 2>&1) || no \"$e\"\n{put}told\n",
        begin(mark),
        leaf(at),
    )
}

/// Lists a folder: what is in it, and a mark at the end. A line more is told than is wanted, if it is there.
pub(super) fn list(mark: &str, list: &List, room: u64) -> String {
    format!(
        "{}enter {}; [ -r . ] || no 'Permission denied'\n\
         printf '%s\\n' \"$HOME\"\n\
         {{ find . -mindepth 1 -maxdepth {} -exec stat -c \"$F\" {{}} +; printf \"/$M/.\"; }} 2>/dev/null | \
         head -n {} | head -c {room}\nexit 0\n",
        begin(mark),
        word(&list.path),
        list.depth,
        list.most + 1,
    )
}

/// Makes a folder.
pub(super) fn mkdir(mark: &str, Mkdir { path, mode, parents, .. }: &Mkdir) -> String {
    let parents = match (parents, split(path)) {
        (true, Some((folder, _))) => format!("folders {}\n", word(folder)),
        _ => String::new(),
    };
    let (path, mode) = (word(path), mode.unwrap_or(0o755));
    format!(
        "{}{parents}n={path}; [ -d \"$n\" ] || e=$(mkdir -m {mode:o} \"$n\" 2>&1) || [ -d \"$n\" ] || no \"$e\"\ntold\n",
        begin(mark)
    )
}

/// Gives something another path, in the same file system.
pub(super) fn rename(mark: &str, from: (&str, &str), to: (&str, &str), overwrite: bool) -> String {
    let how = if overwrite {
        "case $w,$k in *, | 4???,4???) ;; 4???,*) no 'Not a directory';; *,4???) no 'Is a directory';; esac\n\
         put \"$a\" \"$b\"\n"
    } else {
        "[ -z \"$k\" ] || no 'File exists'\n\
         e=$(mv -nT \"$a\" \"$b\" 2>&1) || no \"$e\"; [ ! -e \"$a\" ] && [ ! -h \"$a\" ] || no 'File exists'\n"
    };
    format!(
        "{}enter {}; b=$PWD/{}; v=$(stat -c %d . 2>&1) || no \"$v\"\n\
         {}a=$n; there; w=$k; [ -n \"$k\" ] || no \"$r\"\n\
         [ \"$(stat -c %d \"$a\")\" = \"$v\" ] || no 'Invalid cross-device link'\n\
         n=$b; there\n{how}told\n",
        begin(mark),
        word(to.0),
        quote(to.1),
        leaf(from),
    )
}

/// Removes what is at a path.
pub(super) fn remove(mark: &str, at: (&str, &str), Remove { recursive, if_match, .. }: &Remove) -> String {
    let turn = if if_match.is_some() { "turn; " } else { "" };
    let folder = if *recursive {
        "[ -w . ] || no 'Permission denied'; e=$(rm -rf \"$n\" 2>&1) || partly \"$e\""
    } else {
        "e=$(rmdir \"$n\" 2>&1) || no \"$e\""
    };
    format!(
        "{}{}{turn}there\n{}[ -n \"$k\" ] || no \"$r\"\n\
         case $k in 4???) {folder};; *) e=$(rm -f \"$n\" 2>&1) || no \"$e\";; esac\n",
        begin(mark),
        leaf(at),
        must_match(if_match.as_deref()),
    )
}

/// Looks for the programs that an archive needs, and makes a file `a` of our own.
fn archiver(Archive { gzip }: Archive) -> String {
    let gzip = if gzip { " && command -v gzip >/dev/null" } else { "" };
    format!(
        "command -v tar >/dev/null{gzip} || exit {}\na=$(mktemp 2>&1) || no \"$a\"; trap 'rm -f \"$a\"' EXIT\n",
        exit::LACKS
    )
}

/// The letter by which `tar` compresses.
fn letter(Archive { gzip }: Archive) -> &'static str {
    if gzip { "z" } else { "" }
}

/// Tells the archive of a folder's content, or of a file.
pub(super) fn pack(mark: &str, At { path, .. }: &At, archive: Archive) -> String {
    let (gzip, archiver) = (letter(archive), archiver(archive));
    let file = match split(path) {
        Some(at) => {
            format!("file \"$p\"; {}set -- \"${{n#./}}\"; h=h", leaf(at).trim_end().to_owned() + "; ")
        }
        None => "no 'Not a directory'".into(),
    };
    format!(
        "{}{archiver}p={}; h=\n\
         if [ -d \"$p\" ]; then enter \"$p\"; [ -r . ] || no 'Permission denied'; set +f\n\
         set -- *; [ -e \"$1\" ] || [ -h \"$1\" ] || shift\n\
         set -- .[!.]* \"$@\"; [ -e \"$1\" ] || [ -h \"$1\" ] || shift\n\
         set -- ..?* \"$@\"; [ -e \"$1\" ] || [ -h \"$1\" ] || shift\n\
         else {file}; fi\n\
         if [ $# = 0 ]; then e=$(head -c 1024 /dev/zero 2>&1 >\"$a\") || no \"$e\"{}\n\
         else e=$(ulimit -f {PACKED}; exec tar -c{gzip}${{h}}f \"$a\" -- \"$@\" 2>&1); c=$?\n\
         [ $(wc -c <\"$a\") -le {LIMIT} ] || exit {}\n\
         case $c,$e in 0,* | 1,*' as we read it'*) ;; *) no \"$e\";; esac; fi\n\
         cat \"$a\"; exit 0\n",
        begin(mark),
        word(path),
        if archive.gzip { "; e=$(gzip \"$a\" 2>&1) && mv \"$a.gz\" \"$a\" || no \"$e\"" } else { "" },
        exit::TOO_LARGE,
    )
}

/// Unpacks the input into a folder, if it has this digest and length; tells entries and bytes.
pub(super) fn unpack(mark: &str, At { path, .. }: &At, mkdirs: bool, archive: Archive, sum: &str) -> String {
    let (gzip, archiver) = (letter(archive), archiver(archive));
    let mkdirs = if mkdirs { format!("folders {}\n", word(path)) } else { String::new() };
    format!(
        "{}{archiver}{mkdirs}enter {}; [ -w . ] || no 'Permission denied'; take \"$a\" {sum}\n\
         l=$(tar -t{gzip}f \"$a\" 2>&1) && v=$(tar -t{gzip}vf \"$a\" 2>/dev/null) || no '{bad}'\n\
         while IFS= read -r x; do case $x/ in ../* | */../* | *\" leading '../\"*) no '{bad}';; esac; done <<:\n$l\n:\n\
         c=0 b=0\n\
         while read -r m o s x; do\n\
         [ -n \"$m\" ] && c=$((c + 1)); case $m,$s in -*,*[!0-9]* | -*,) ;; -*) b=$((b + s));; esac\n\
         done <<:\n$v\n:\n\
         e=$(tar -x{gzip}opf \"$a\" 2>&1) || partly \"$e\"\n\
         echo $c $b\n",
        begin(mark),
        word(path),
        bad = words::BAD_ARCHIVE,
    )
}
