//! Files of containers in which nothing is installed, through their console.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::files::{items, noise};
use crate::{
    target::Target,
    world::{Sandbox, World},
};

/// Names that a shell, or a program, may take for something else.
const ODD: [&str; 6] = ["-rf", "a b", "it's \"$HOME\" `x` \\", "ä\u{1f980}", "line\nline\n", "* ? [a] ;&"];

fn encoded(path: &str) -> String {
    path.bytes().map(|it| format!("%{it:02X}")).collect()
}

impl Sandbox {
    /// A folder of its own, by an absolute path: guests of the simulator share a home.
    async fn folder(&self) -> String {
        self.shell("mktemp -d").await.trim().to_owned()
    }

    async fn post(&self, what: &str, body: &Value) -> crate::client::Answer {
        self.client.ask("POST", &self.path(&format!("/files/{what}")), body).await
    }

    async fn clear(self, folder: &str) {
        let gone = self.file("DELETE", &format!("?path={folder}&recursive=true"), Vec::new(), &[]).await;
        assert_eq!(gone.status, 204);
        self.get_file(&format!("/list?path={folder}")).await.problem(404, "no-such-file");
        self.drop().await;
    }
}

pub(super) async fn what_is_written_is_read(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    let query = format!("?path={folder}/a/b/file");
    sandbox.put_file(&query, "x").await.problem(404, "no-such-file");
    for content in [Vec::new(), noise(1), noise(70_000), noise(300_000)] {
        let written = sandbox.put_file(&format!("{query}&mkdirs=true&mode=0640"), content.clone()).await;
        let entry = written.json(200);
        assert_eq!((&entry["size"], &entry["mode"]), (&json!(content.len()), &json!("0640")), "{entry}");
        assert_eq!((&entry["path"], &entry["kind"]), (&json!(format!("{folder}/a/b/file")), &json!("file")));
        let read = sandbox.get_file(&query).await;
        assert_eq!(read.status, 200);
        assert!(read.body == content, "{} bytes are other ones", content.len());
        assert_eq!(read.header("etag"), entry["etag"].as_str().unwrap_or_default());
        assert_eq!(read.header("content-type"), "application/octet-stream");
        let head = sandbox.file("HEAD", &query, Vec::new(), &[]).await;
        assert_eq!((head.status, head.header("content-length")), (200, &*told(&world, content.len())));
    }
    // What is replaced keeps its mode.
    assert_eq!(sandbox.put_file(&query, "kept").await.json(200)["mode"], json!("0640"));
    for name in ODD {
        let query = format!("?path={}", encoded(&format!("{folder}/odd/{name}")));
        let written = sandbox.put_file(&format!("{query}&mkdirs=true"), name).await.json(200);
        assert_eq!(
            (&written["path"], &written["mode"]),
            (&json!(format!("{folder}/odd/{name}")), &json!("0644"))
        );
        assert_eq!(sandbox.get_file(&query).await.body, name.as_bytes(), "{name:?}");
    }
    let listed = sandbox.get_file(&format!("/list?path={folder}/odd")).await.json(200);
    let mut names: Vec<_> = items(&listed).iter().map(|it| it["path"].as_str().expect("a path")).collect();
    let mut wanted: Vec<_> = ODD.iter().map(|it| format!("{folder}/odd/{it}")).collect();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    sandbox.get_file(&format!("?path={folder}/missing")).await.problem(404, "no-such-file");
    sandbox.get_file(&format!("?path={folder}/a")).await.problem(422, "not-a-file");
    sandbox.get_file(&format!("?path={folder}/a/b/file/x")).await.problem(422, "not-a-file");
    sandbox.put_file(&format!("?path={folder}/a"), "x").await.problem(422, "not-a-file");
    sandbox.shell(&format!("cd {folder}; mkfifo fifo; ln -s a link")).await;
    assert_eq!(sandbox.put_file(&format!("?path={folder}/link"), "x").await.json(200)["kind"], json!("file"));
    sandbox.get_file(&format!("?path={folder}/fifo")).await.problem(422, "not-a-file");
    assert!(!sandbox.get_file("?path=/proc/self/status").await.body.is_empty());
    sandbox.clear(&folder).await;
}

pub(super) async fn a_part_is_read_and_an_update_is_not_lost(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    let (query, content) = (format!("?path={folder}/file"), noise(200_000));
    let made = sandbox.file("PUT", &query, content.clone(), &[("if-none-match", "*")]).await;
    assert_eq!(made.status, 201);
    let first = made.header("etag").to_owned();
    let get = async |headers: &[(&str, &str)]| sandbox.file("GET", &query, Vec::new(), headers).await;
    for (range, first, last) in [
        ("bytes=65530-131080", 65530, 131_080),
        ("bytes=-5", 199_995, 199_999),
        ("bytes=199999-", 199_999, 199_999),
    ] {
        let part = get(&[("range", range)]).await;
        assert_eq!(part.status, 206);
        assert!(part.body == content[first..=last], "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/200000"));
    }
    let behind = get(&[("range", "bytes=200000-")]).await;
    assert_eq!(behind.problem(416, "range-not-satisfiable")["size"], json!(200_000));
    let known = get(&[("if-none-match", &first)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(get(&[("if-match", "\"other\"")]).await.status, 412);
    assert_eq!(get(&[("if-match", &first), ("range", "bytes=0-0")]).await.body, content[..1]);

    // Both have read the first version: the second to write is told, and nothing is lost.
    let write =
        async |body: &str| sandbox.file("PUT", &query, body.into(), &[("if-match", &first)]).await.status;
    assert_eq!((write("one").await, write("two").await), (200, 412));
    assert_eq!(get(&[]).await.body, b"one");
    let new = sandbox.file("PUT", &query, b"new".into(), &[("if-none-match", "*")]).await;
    new.problem(412, "precondition-failed");
    assert_eq!(get(&[("range", "bytes=0-0"), ("if-range", &first)]).await.body, b"one");
    assert_eq!(get(&[("range", "bytes=1-1")]).await.body, b"n");
    let remove =
        async |etag: &str| sandbox.file("DELETE", &query, Vec::new(), &[("if-match", etag)]).await.status;
    assert_eq!((remove(&first).await, remove("*").await, remove("*").await), (412, 204, 412));
    sandbox.clear(&folder).await;
}

pub(super) async fn folders_are_made_listed_and_moved(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    let made = json!({"path": format!("{folder}/new/deep"), "mode": "0700"});
    sandbox.post("mkdir", &made).await.problem(404, "no-such-file");
    let made = json!({"path": format!("{folder}/new/deep"), "parents": true, "mode": "0700"});
    for _ in 0..2 {
        let made = sandbox.post("mkdir", &made).await.json(200);
        assert_eq!((&made["kind"], &made["mode"]), (&json!("directory"), &json!("0700")));
    }
    sandbox
        .shell(&format!(
            "cd {folder}/new && touch file && ln -s 'a -> //b' link && mkdir -p deep/deeper/deepest"
        ))
        .await;
    let list = async |query: &str| {
        let listed = sandbox.get_file(&format!("/list?path={folder}/new{query}")).await.json(200);
        let paths: Vec<_> =
            items(&listed).iter().map(|it| it["path"].as_str().expect("a path").to_owned()).collect();
        (paths, listed["more"].as_bool().expect("a flag"), listed)
    };
    let (paths, more, listed) = list("").await;
    assert_eq!((paths.len(), more), (3, false), "{listed}");
    let link = items(&listed).iter().find(|it| it["kind"] == "symlink").expect("a link");
    assert_eq!(link["target"], json!("a -> //b"));
    let (paths, more, _) = list("&depth=2").await;
    assert_eq!((paths.len(), more), (4, false), "{paths:?}");
    let place = |name: &str| paths.iter().position(|it| it.ends_with(name));
    assert!(place("/deep") < place("/deeper"), "{paths:?}");
    let (paths, more, _) = list("&depth=9&limit=2").await;
    assert_eq!((paths.len(), more), (2, true), "{paths:?}");
    let (paths, more, listed) = list("/link&depth=0").await;
    assert_eq!((paths.len(), more, &listed["items"][0]["kind"]), (1, false, &json!("symlink")));
    sandbox.get_file(&format!("/list?path={folder}/new/file")).await.problem(422, "not-a-file");

    let rename = async |from: &str, to: &str, overwrite: bool| {
        let body = json!({"from": format!("{folder}/{from}"), "to": format!("{folder}/{to}"), "overwrite": overwrite});
        sandbox.post("move", &body).await
    };
    let moved = rename("new", "-other\n", false).await.json(200);
    assert_eq!(moved["path"], json!(format!("{folder}/-other\n")));
    rename("new", "x", false).await.problem(404, "no-such-file");
    sandbox.put_file(&format!("?path={folder}/one"), "one").await.json(200);
    sandbox.put_file(&format!("?path={folder}/two"), "two").await.json(200);
    rename("one", "two", false).await.problem(409, "file-exists");
    assert_eq!(rename("one", "two", true).await.json(200)["size"], json!(3));
    assert_eq!(sandbox.get_file(&format!("?path={folder}/two")).await.body, b"one");
    rename("two", "-other\n", true).await.problem(422, "not-a-file");
    rename("-other\n", "-other\n/deep/x", false).await.problem(400, "invalid-request");
    let remove =
        async |query: &str| sandbox.file("DELETE", &format!("?path={folder}/{query}"), Vec::new(), &[]).await;
    remove("-other%0A").await.problem(409, "file-exists");
    assert_eq!(remove("-other%0A/link").await.status, 204);
    remove("-other%0A/link").await.problem(404, "no-such-file");
    if world.target.streams() {
        sandbox.get_file(&format!("/watch?path={folder}")).await.problem(422, "unsupported");
    }
    sandbox.clear(&folder).await;
}

pub(super) async fn another_user_does_what_that_user_may(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    if sandbox.shell("id -u").await.trim() != "0" {
        // Of a simulator that does not run as root, nobody becomes another user.
        return sandbox.clear(&folder).await;
    }
    sandbox.shell(&format!("chmod 711 {folder}; mkdir -m 777 {folder}/open")).await;
    let query = format!("?path={folder}/open/file&user=nobody");
    let content = noise(10_000);
    let entry = sandbox.put_file(&query, content.clone()).await.json(200);
    assert_eq!((&entry["owner"], &entry["size"]), (&json!("nobody"), &json!(10_000)), "{entry}");
    assert!(sandbox.get_file(&query).await.body == content);
    sandbox.put_file(&format!("?path={folder}/file&user=nobody"), "x").await.problem(422, "file-forbidden");
    sandbox.get_file(&format!("/list?path={folder}&user=nobody")).await.problem(422, "file-forbidden");
    sandbox.put_file(&format!("?path={folder}/secret&mode=0600"), "x").await.json(200);
    sandbox.get_file(&format!("?path={folder}/secret&user=nobody")).await.problem(422, "file-forbidden");
    let query = format!("?path={folder}/open&user=nobody&recursive=true");
    sandbox.file("DELETE", &query, Vec::new(), &[]).await.problem(422, "file-forbidden");
    sandbox.get_file(&format!("?path={folder}/secret&user=nobody-at-all")).await.problem(422, "no-such-user");
    sandbox.clear(&folder).await;
}

/// An archive of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // By its bytes: the builder would not write all of these names.
        header.as_gnu_mut().expect("a header").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("a member");
    }
    archive.into_inner().expect("an archive")
}

pub(super) async fn archives_go_in_and_out(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    let content = noise(30_000);
    let plain = archive(&[("a", &content), ("-b", b"data"), (".c/d", b"deep")]);
    let query = format!("?path={folder}/in&mkdirs=true&unpack");
    let unpacked = sandbox.put_file(&format!("{query}=tar"), plain.clone()).await.json(200);
    assert_eq!(unpacked, json!({"entries": 3, "bytes": 30_008}));
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&plain).expect("memory");
    let packed = packed.finish().expect("memory");
    assert_eq!(
        sandbox.put_file(&format!("{query}=tar.gz"), packed.clone()).await.json(200)["entries"],
        json!(3)
    );
    let bad = sandbox.put_file(&format!("{query}=tar"), packed[..900].to_vec()).await;
    bad.problem(400, "invalid-request");
    let leading_out = archive(&[("fine", b"x"), ("../out", b"x")]);
    sandbox.put_file(&format!("{query}=tar"), leading_out).await.problem(400, "invalid-request");

    for format in ["tar", "tar.gz"] {
        let packed = sandbox.get_file(&format!("?path={folder}/in&pack={format}")).await;
        assert_eq!((packed.status, packed.header("content-type")), (200, "application/x-tar"));
        let mut body = packed.body.clone();
        if format == "tar.gz" {
            body.clear();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed.body), &mut body)
                .expect("gzip");
        }
        let mut packed = tar::Archive::new(&*body);
        let files = packed.entries().expect("an archive").filter_map(|it| {
            let mut it = it.expect("a member");
            let name = String::from_utf8(it.path_bytes().into_owned()).expect("text");
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut it, &mut content).expect("content");
            it.header().entry_type().is_file().then_some((name, content))
        });
        let mut files: Vec<_> = files.collect();
        files.sort_unstable();
        let names: Vec<_> = files.iter().map(|it| &*it.0).collect();
        assert_eq!(names, ["-b", ".c/d", "a"], "{format}");
        assert!(files[2].1 == content);
    }
    let file = sandbox.get_file(&format!("?path={folder}/in/-b&pack=tar")).await;
    assert!(file.body.starts_with(b"-b\0"), "{}", file.status);
    sandbox.get_file(&format!("?path={folder}/none&pack=tar")).await.problem(404, "no-such-file");
    sandbox.clear(&folder).await;
}

/// The daemon of a sandbox is not reached: what only it does is refused with that, and all else goes by the console.
pub(super) async fn they_go_by_the_console_where_the_daemon_is_not_reached(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let vmid = sandbox.shown["vmid"].as_u64().and_then(|it| it.try_into().ok());
    world.guests.unplug(vmid.expect("a VMID"));
    let folder = sandbox.folder().await;
    let query = format!("?path={folder}/file");
    let content = noise(70_000);
    let written = sandbox.put_file(&query, content.clone()).await.json(200);
    assert_eq!(written["size"], json!(content.len()));
    assert!(sandbox.get_file(&query).await.body == content, "bytes are other ones");
    assert_eq!(items(&sandbox.get_file(&format!("/list?path={folder}")).await.json(200)).len(), 1);
    if world.target.streams() {
        let watched = sandbox.get_file(&format!("/watch?path={folder}")).await;
        watched.problem(502, "exec-unreachable");
    }
    let (path, command) = (sandbox.path("/exec"), json!({"command": "true"}));
    let keyed = sandbox.client.ask_with("POST", &path, &command, &[("idempotency-key", "a")]).await;
    keyed.problem(502, "exec-unreachable");
    sandbox.drop().await;
}

pub(super) async fn what_is_too_large_is_refused(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let folder = sandbox.folder().await;
    let limit = json!(4 << 20);
    let large = sandbox.put_file(&format!("?path={folder}/file"), vec![0; (4 << 20) + 1]).await;
    assert_eq!(large.problem(413, "too-large")["limit"], limit);
    sandbox.shell(&format!("cd {folder}; head -c 5000000 /dev/zero >large; echo end >>large")).await;
    let query = format!("?path={folder}/large");
    let problem = sandbox.get_file(&query).await.problem(413, "too-large");
    assert_eq!((&problem["limit"], &problem["size"]), (&limit, &json!(5_000_004)));
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("Range")), "{problem}");
    let end = sandbox.file("GET", &query, Vec::new(), &[("range", "bytes=4999999-")]).await;
    assert_eq!((end.status, &*end.body), (206, &b"\0end\n"[..]));
    let head = sandbox.file("HEAD", &query, Vec::new(), &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*told(&world, 5_000_004)));
    let packed = sandbox.get_file(&format!("?path={folder}&pack=tar")).await;
    assert_eq!(packed.problem(413, "too-large")["limit"], limit);
    let packed = sandbox.get_file(&format!("?path={folder}&pack=tar.gz")).await;
    assert!(packed.status == 200 && packed.body.len() < 20_000);
    sandbox.clear(&folder).await;
}

pub(super) async fn it_is_measured(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let metrics = sandbox.client.get(&sandbox.path("/metrics")).await.json(200);
    let number = |name: &str| metrics[name].as_f64().expect("a number");
    assert!(number("cpus") > 0.0 && number("processes") > 0.0 && number("uptimeMs") > 0.0, "{metrics}");
    assert!(
        number("memoryUsed") <= number("memoryTotal") && number("diskUsed") <= number("diskTotal"),
        "{metrics}"
    );
    sandbox.drop().await;
}

/// The length of a body that is not sent, as the platform tells it: a Worker tells none.
fn told(world: &World, length: usize) -> String {
    if world.target == Target::Workerd { String::new() } else { length.to_string() }
}
