//! Files of a sandbox, through its daemon.

mod guest;

use pve_edge_bed::sim::execd::{Piece, Streamed};
use pve_edge_core::io::Platform;
use pve_edge_guest_protocol::file::{Change, Changed, Entry, ListLine};

use self::guest::{Sandbox, described, entry, line, text};
use crate::stage::prelude::*;

/// A body that is larger than one call takes.
const LARGE: usize = 3 << 20;

fn code(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap_or_default())
}

/// Pieces of a body, of so many bytes in all.
fn pieces(bytes: usize) -> Vec<Piece> {
    vec![b'x'; bytes].chunks(1 << 20).map(|it| Piece::Bytes(it.to_vec())).collect()
}

#[test]
fn a_file_is_written_and_read() {
    let sandbox = Sandbox::new();
    let written = sandbox.put("?path=/a.txt&mode=0600&mkdirs=true", "hello");
    assert_eq!((written.status, &written.json()["mode"]), (200, &json!("0600")), "{written:?}");
    assert_eq!(written.json()["etag"], written.header("etag"));
    let read = sandbox.get("?path=/a.txt");
    assert_eq!((read.status, &*read.body), (200, "hello"));
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "5"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("etag", written.header("etag")),
    ] {
        assert_eq!(read.header(name), value, "{name}");
    }
    let head = sandbox.stage.ask(Ask::head(sandbox.path("?path=/a.txt")));
    assert_eq!((head.status, head.header("content-length"), &*head.body), (200, "5", ""));
    assert_eq!(sandbox.guest().asked, ["write", "read", "read"]);
}

#[test]
fn a_large_file_is_staged_and_committed_with_the_edges_own_digest() {
    let sandbox = Sandbox::new();
    let written = sandbox.stage.ask(Ask::put(sandbox.path("?path=/big")).pieces(pieces(LARGE)));
    assert_eq!((written.status, &written.json()["size"]), (200, &json!(LARGE)), "{written:?}");
    assert_eq!(sandbox.guest().asked, ["stage", "commit"]);
    // A body without a length is staged too, however small it is.
    assert_eq!(sandbox.stage.ask(Ask::put(sandbox.path("?path=/small")).bytes("a")).status, 200);
    assert_eq!(sandbox.guest().asked[2..], ["stage", "commit"]);
    assert_eq!(sandbox.guest().files["/small"], b"a");
}

#[test]
fn of_a_body_that_breaks_off_nothing_is_in_place() {
    let sandbox = Sandbox::new();
    sandbox.guest().files.insert("/a".into(), b"old".to_vec());
    for length in [Some(5), Some(LARGE), None] {
        let ask = Ask::put(sandbox.path("?path=/a")).pieces([Piece::Bytes(b"new".to_vec()), Piece::Cut]);
        let ask = match length {
            Some(length) => ask.header("content-length", length.to_string()),
            None => ask,
        };
        assert_eq!(code(&sandbox.stage.ask(ask)), "400 invalid-request", "{length:?}");
    }
    // One that ends before its length was reached has broken off as well.
    for length in [5, LARGE] {
        let ask =
            Ask::put(sandbox.path("?path=/a")).bytes("new").header("content-length", length.to_string());
        assert_eq!(code(&sandbox.stage.ask(ask)), "400 invalid-request", "{length}");
    }
    let guest = sandbox.guest();
    assert_eq!(guest.files["/a"], b"old");
    assert!(guest.asked.iter().all(|it| *it == "stage"), "{:?}", guest.asked);
}

#[test]
fn ranges_of_a_file() {
    let sandbox = Sandbox::new();
    sandbox.guest().files.insert("/a".into(), b"0123456789".to_vec());
    let ask = |headers: &[(&'static str, &str)]| {
        let ask = Ask::get(sandbox.path("?path=/a"));
        sandbox.stage.ask(headers.iter().fold(ask, |ask, (name, value)| ask.header(name, *value)))
    };
    for (range, body, told) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
    ] {
        let part = ask(&[("range", range)]);
        assert_eq!((part.status, &*part.body, part.header("content-range")), (206, body, told));
        assert_eq!(part.header("content-length"), body.len().to_string());
    }
    for ignored in ["bytes=4-2", "bytes=0-1,3-4", "lines=1-2"] {
        assert_eq!(ask(&[("range", ignored)]).status, 200, "{ignored}");
    }
    let behind = ask(&[("range", "bytes=10-")]);
    assert_eq!(code(&behind), "416 range-not-satisfiable");
    assert_eq!((behind.header("content-range"), &behind.json()["size"]), ("bytes */10", &json!(10)));
    let etag = ask(&[]).header("etag").to_owned();
    let of = |tag: &str| ask(&[("range", "bytes=2-4"), ("if-range", tag)]).status;
    assert_eq!((of(&etag), of("\"other\""), of("Sun, 06 Nov 1994 08:49:37 GMT")), (206, 200, 200));
}

#[test]
fn conditions_keep_updates_from_being_lost() {
    let sandbox = Sandbox::new();
    let put = |name: &'static str, value: &str| {
        let ask = Ask::put(sandbox.path("?path=/a")).bytes("x").header("content-length", "1");
        sandbox.stage.ask(ask.header(name, value))
    };
    assert_eq!(code(&put("if-match", "*")), "412 precondition-failed");
    let made = put("if-none-match", "*");
    assert_eq!(made.status, 201);
    assert_eq!(code(&put("if-none-match", "*")), "412 precondition-failed");
    let etag = made.header("etag").to_owned();
    assert_eq!((put("if-match", &etag).status, put("if-match", "*").status), (200, 200));
    assert_eq!(code(&put("if-match", "\"other\"")), "412 precondition-failed");
    assert_eq!(code(&put("if-match", &format!("W/{etag}"))), "412 precondition-failed");
    assert_eq!(code(&put("if-match", "\"a\", \"b\"")), "400 invalid-request");
    assert_eq!(code(&put("if-none-match", &etag)), "400 invalid-request");

    let get = |name: &'static str, value: &str| {
        sandbox.stage.ask(Ask::get(sandbox.path("?path=/a")).header(name, value))
    };
    let known = get("if-none-match", &etag);
    assert_eq!((known.status, &*known.body, known.header("etag")), (304, "", &*etag));
    assert_eq!(get("if-none-match", "\"other\"").status, 200);
    assert_eq!(get("if-match", &format!("\"other\", {etag}")).status, 200);
    assert_eq!(code(&get("if-match", "\"other\"")), "412 precondition-failed");
    assert_eq!(code(&get("if-match", "\"other\", \"more\"")), "412 precondition-failed");

    let remove = |value: &str| {
        sandbox.stage.ask(Ask::delete(sandbox.path("?path=/a")).header("if-match", value)).status
    };
    assert_eq!((remove("\"other\""), remove(&etag), remove(&etag)), (412, 204, 412));
}

#[test]
fn what_a_request_may_not_say() {
    let sandbox = Sandbox::new();
    for query in [
        "",
        "?path=",
        "?path=/a%00b",
        "?path=/a%FF",
        "?path=/a&path=/b",
        "?path=/a&other=1",
        "?path=/a&metadata.x=1",
        "?path=/a&user=a:b",
        "?path=/a&pack=zip",
    ] {
        assert_eq!(code(&sandbox.get(query)), "400 invalid-request", "{query}");
    }
    for query in
        ["?path=/a&mode=0888", "?path=/a&mode=77777", "?path=/a&mkdirs=yes", "?path=/a&unpack=tar&mode=0644"]
    {
        assert_eq!(code(&sandbox.put(query, "a")), "400 invalid-request", "{query}");
    }
    let put = |name: &'static str, value: &str| {
        code(&sandbox.stage.ask(Ask::put(sandbox.path("?path=/a")).bytes("a").header(name, value)))
    };
    assert_eq!(put("content-encoding", "gzip"), "415 unsupported-media-type");
    assert_eq!(put("content-range", "bytes 0-0/2"), "400 invalid-request");
    for query in ["?path=/a&depth=65", "?path=/a&depth=-1", "?path=/a&limit=0", "?path=/a&limit=10001"] {
        assert_eq!(code(&sandbox.get(&format!("/list{query}"))), "400 invalid-request", "{query}");
    }
    assert!(sandbox.guest().asked.is_empty());
}

#[test]
fn folders_are_listed_made_renamed_and_removed() {
    let sandbox = Sandbox::new();
    for name in ["/a", "/b", "/c"] {
        sandbox.put(&format!("?path={name}"), name);
    }
    let listed = sandbox.get("/list?path=/&limit=2").json();
    assert_eq!(
        (listed["items"][1]["path"].as_str(), &listed["more"]),
        (Some("/b"), &json!(true)),
        "{listed}"
    );
    let one = sandbox.get("/list?path=/c&depth=0").json();
    assert_eq!(
        (one["items"].as_array().map(Vec::len), &one["items"][0]["size"]),
        (Some(1), &json!(2)),
        "{one}"
    );
    let post = |verb: &str, body: Value| sandbox.stage.ask(Ask::post(sandbox.path(verb), body));
    assert_eq!(post("/mkdir", json!({"path": "/d", "parents": true})).json()["kind"], "directory");
    assert_eq!(post("/move", json!({"from": "/a", "to": "/e"})).json()["path"], "/e");
    assert_eq!(code(&post("/move", json!({"from": "/a", "to": "/e"}))), "404 no-such-file");
    assert_eq!(code(&post("/mkdir", json!({"path": "/d", "mode": 493}))), "400 invalid-request");
    assert_eq!(code(&post("/move", json!({"from": "/a"}))), "400 invalid-request");
    assert_eq!(sandbox.stage.ask(Ask::delete(sandbox.path("?path=/e"))).status, 204);
    assert_eq!(code(&sandbox.get("?path=/e")), "404 no-such-file");
}

#[test]
fn archives_go_in_and_out() {
    let sandbox = Sandbox::new();
    let unpacked = sandbox.put("?path=/src&unpack=tar.gz", "archive");
    assert_eq!(unpacked.json(), json!({"entries": 1, "bytes": 7}));
    assert_eq!(sandbox.guest().asked, ["stage", "unpack"]);
    sandbox.guest().files.insert("/src".into(), b"archive".to_vec());
    let packed = sandbox.get("?path=/src&pack=tar");
    assert_eq!((packed.header("content-type"), &*packed.body), ("application/x-tar", "archive"));
}

#[test]
fn changes_are_told_as_events() {
    let sandbox = Sandbox::new();
    let changed = |path: &str| Changed { path: path.into(), directory: false, bytes: None };
    let lines =
        [Change::Watching, Change::Created(changed("a")), Change::Overflow].map(|it| line(&it)).concat();
    let wait = Piece::Wait(std::time::Duration::from_secs(20));
    let pieces = |last: Vec<Piece>| {
        let first = vec![Piece::Bytes(lines.clone().into_bytes()), wait.clone()];
        Streamed { pieces: [first, last].concat(), ..text("") }
    };
    let watch = |last| {
        sandbox.guest().next = Some(pieces(last));
        sandbox.get("/watch?path=/src&recursive=true").body
    };
    let begin = "event: watching\ndata: {}\n\nevent: created\ndata: {\"path\":\"a\",\"directory\":false}\n\n\
                 event: overflow\ndata: {}\n\n: still watching\n\n";
    let gone = watch(vec![Piece::Bytes(line(&Change::Gone).into_bytes())]);
    assert_eq!(gone, format!("{begin}event: gone\ndata: {{}}\n\n"));
    let cut = watch(vec![Piece::Cut]);
    assert!(cut.starts_with(&format!("{begin}event: error\ndata: {{")), "{cut}");
    assert!(watch(Vec::new()).contains("exec-cut"));
    // What the daemon says in words that nobody knows keeps the connection open, and no more.
    let strange = watch(vec![Piece::Bytes(b"{\"event\":\"new\"}\nnonsense\n".to_vec()), Piece::Cut]);
    assert!(strange.contains(": still watching\n\n: still watching\n\nevent: error"), "{strange}");
}

/// A guest is its owner's, who may replace the daemon: what it says is told honestly, or refused.
#[test]
fn a_hostile_guest() {
    let sandbox = Sandbox::new();
    let get = |next: Streamed| {
        sandbox.guest().next = Some(next);
        sandbox.get("?path=/a")
    };
    let file = entry("/a", b"12345");
    let header = |name: &'static str, value: &'static str| {
        let mut answer = described(&file, b"12345".to_vec());
        answer.headers.insert(name, value.parse().expect("a value"));
        answer
    };
    let answer = get(header("set-cookie", "a=1"));
    assert_eq!((answer.status, answer.headers.get("set-cookie")), (200, None));
    assert_eq!(get(header("content-type", "text/html")).header("content-type"), "application/octet-stream");
    for wrong in [
        header("content-length", "6"),
        header("content-length", "-5"),
        header("edge-entry", "e30"),
        header("edge-entry", "%%%"),
        text("12345"),
    ] {
        assert_eq!(code(&get(wrong)), "502 exec-cut");
    }
    let odd = Entry { etag: "a\"b".into(), modified_ns: i64::MAX, ..file.clone() };
    let answer = get(described(&odd, b"12345".to_vec()));
    assert_eq!((answer.status, answer.headers.get("etag")), (200, None));
    for lines in [
        "",
        "nonsense\n",
        &line(&ListLine::Entry(file.clone())),
        "{\"entry\":{}}\n{\"done\":{\"more\":false}}\n",
    ] {
        sandbox.guest().next = Some(text(lines));
        assert_eq!(code(&sandbox.get("/list?path=/")), "502 exec-cut", "{lines}");
    }
    let endless = line(&ListLine::Entry(file)).repeat(200_000);
    sandbox.guest().next = Some(text(&endless));
    let answer = sandbox.get("/list?path=/");
    let (status, listed) = (answer.status, answer.json());
    assert_eq!(
        (status, &listed["more"], listed["items"].as_array().map(Vec::len)),
        (200, &json!(true), Some(1000))
    );
    sandbox.guest().next = Some(text("{}"));
    assert_eq!(code(&sandbox.put("?path=/a", "a")), "502 exec-cut");
}

/// What AWS Lambda takes and gives, without the setting.
#[test]
fn a_platform_that_does_not_stream() {
    let mut sandbox = Sandbox::new();
    sandbox.stage.platform =
        Platform { streams: false, request_bytes: Some(10), answer_bytes: 10, ..sandbox.stage.platform };
    let large = sandbox.put("?path=/a", "12345678901");
    assert_eq!((code(&large), &large.json()["limit"]), ("413 too-large".to_owned(), &json!(10)));
    assert!(sandbox.guest().asked.is_empty());
    assert_eq!(sandbox.put("?path=/a", "1234567890").status, 200);
    assert_eq!(sandbox.get("?path=/a").body, "1234567890");
    sandbox.guest().files.insert("/b".into(), b"12345678901".to_vec());
    let large = sandbox.get("?path=/b");
    assert_eq!((code(&large), &large.json()["limit"]), ("406 streaming-unavailable".to_owned(), &json!(10)));
    assert_eq!(code(&sandbox.get("?path=/b&pack=tar")), "406 streaming-unavailable");
    assert_eq!(code(&sandbox.get("/watch?path=/")), "406 streaming-unavailable");
    let head = sandbox.stage.ask(Ask::head(sandbox.path("?path=/b")));
    assert_eq!((head.status, head.header("content-length")), (200, "11"));
}

#[test]
fn a_sandbox_without_the_daemon_has_no_files() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        let answer = stage.ask(Ask::get(format!("/api/sandboxes/{id}/files?path=/a")));
        assert_eq!(code(&answer), "422 unsupported", "{answer:?}");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|it| it.contains("pve-edge-guest")),
            "{answer:?}"
        );
    }
}

#[test]
fn a_stopped_sandbox_says_so() {
    let sandbox = Sandbox::new();
    sandbox.guest().gone = Some(530);
    assert_eq!(code(&sandbox.get("?path=/a")), "502 exec-unreachable");
    sandbox.stage.world.sim_mut().set_running(vmid_of(&sandbox.id), false);
    let answer = sandbox.get("?path=/a");
    assert_eq!(code(&answer), "409 not-running", "{answer:?}");
}
