//! Files of a sandbox, through the daemon in it.

use futures_util::{StreamExt, future::join_all};
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Duration, sleep, timeout},
};

use crate::{
    client::Answer,
    target::Target,
    world::{Sandbox, World},
};

/// Limit of what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const MIB: usize = 1 << 20;

/// Of a sandbox with another daemon.
pub(super) async fn who_cannot_says_so(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    if !sandbox.has_our_daemon() {
        sandbox.get_file("/list?path=.&depth=0").await.problem(422, "unsupported");
        sandbox.put_file("?path=file", "content").await.problem(422, "unsupported");
    }
    sandbox.drop().await;
}

impl Sandbox {
    pub(super) async fn file(
        &self,
        method: &str,
        query: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.request(method, &self.path(&format!("/files{query}")));
        if !body.is_empty() {
            request = request.header("content-length", body.len());
            // Without it Lambda's emulator takes a body for text.
            request = request.header("content-type", "application/octet-stream");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.send(request.body(body).expect("a request")).await
    }

    pub(super) async fn get_file(&self, query: &str) -> Answer {
        self.file("GET", query, Vec::new(), &[]).await
    }

    pub(super) async fn put_file(&self, query: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.file("PUT", query, body.into(), &[]).await
    }
}

/// Bytes that no compression and no guess would make.
pub(super) fn noise(bytes: usize) -> Vec<u8> {
    (0_u64..).flat_map(|it| Sha256::digest(it.to_be_bytes())).take(bytes).collect()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// As much as the platform takes and answers: 10 MB, but on Lambda.
fn largest(target: Target) -> usize {
    if target == Target::Lambda { 3_000_000 } else { 10 * MIB + 7 }
}

pub(super) async fn what_is_written_is_read(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    for content in [Vec::new(), noise(1), noise(MIB), noise(MIB + 1), noise(largest(world.target))] {
        let written = sandbox.put_file("?path=a/b/file&mkdirs=true&mode=0640", content.clone()).await;
        let entry = written.json(200);
        assert_eq!((&entry["size"], &entry["mode"]), (&json!(content.len()), &json!("0640")), "{entry}");
        let read = sandbox.get_file("?path=a/b/file").await;
        assert_eq!(
            (read.status, read.body.len(), digest(&read.body)),
            (200, content.len(), digest(&content))
        );
        assert_eq!(read.header("etag"), entry["etag"].as_str().unwrap_or_default());
        assert_eq!(read.header("content-type"), "application/octet-stream");
    }
    let name = "ä b\n+&=%\u{1f980}";
    let encoded: String = name.bytes().map(|it| format!("%{it:02X}")).collect();
    sandbox.put_file(&format!("?path={encoded}"), "odd").await.json(200);
    assert_eq!(sandbox.get_file(&format!("?path={encoded}")).await.body, b"odd");
    sandbox.get_file("?path=missing").await.problem(404, "no-such-file");
    sandbox.get_file("?path=a").await.problem(422, "not-a-file");
    assert_eq!(sandbox.file("DELETE", "?path=a&recursive=true", Vec::new(), &[]).await.status, 204);
    assert_eq!(sandbox.get_file("?path=a/b/file").await.status, 404);
    sandbox.drop().await;
}

pub(super) async fn a_part_is_read_and_an_update_is_not_lost(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let content = noise(2 * MIB);
    let first = sandbox.put_file("?path=file", content.clone()).await.header("etag").to_owned();
    let range = format!("bytes={}-{}", MIB - 3, MIB + 2);
    let part = sandbox.file("GET", "?path=file", Vec::new(), &[("range", &range)]).await;
    assert_eq!((part.status, &*part.body), (206, &content[MIB - 3..MIB + 3]));
    assert_eq!(part.header("content-range"), format!("bytes {}-{}/{}", MIB - 3, MIB + 2, 2 * MIB));
    let behind = sandbox.file("GET", "?path=file", Vec::new(), &[("range", "bytes=2097152-")]).await;
    assert_eq!(behind.problem(416, "range-not-satisfiable")["size"], json!(2 * MIB));
    let known = sandbox.file("GET", "?path=file", Vec::new(), &[("if-none-match", &first)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    // Both have read the first version: the second to write is told, and nothing is lost.
    let write = async |body: &str| {
        sandbox.file("PUT", "?path=file", body.into(), &[("if-match", &first)]).await.status
    };
    assert_eq!((write("one").await, write("two").await), (200, 412));
    assert_eq!(sandbox.get_file("?path=file").await.body, b"one");
    let new = sandbox.file("PUT", "?path=file", b"new".into(), &[("if-none-match", "*")]).await;
    assert_eq!(new.status, 412);
    let again = [("range", "bytes=0-0"), ("if-range", &first)];
    assert_eq!(sandbox.file("GET", "?path=file", Vec::new(), &again).await.body, b"one");
    sandbox.drop().await;
}

pub(super) async fn a_thousand_files_are_listed(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..1000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("folder/{number:04}"), &b"data"[..]).expect("a member");
    }
    let archive = archive.into_inner().expect("an archive");
    let unpacked = sandbox.put_file("?path=in&unpack=tar&mkdirs=true", archive).await.json(200);
    assert_eq!(unpacked["bytes"], json!(4000), "{unpacked}");
    let listed = sandbox.get_file("/list?path=in/folder").await.json(200);
    assert_eq!((items(&listed).len(), &listed["more"]), (1000, &json!(false)));
    let capped = sandbox.get_file("/list?path=in&depth=2&limit=100").await.json(200);
    assert_eq!((items(&capped).len(), &capped["more"]), (100, &json!(true)));

    let packed = sandbox.get_file("?path=in&pack=tar.gz").await;
    assert_eq!((packed.status, packed.header("content-type")), (200, "application/x-tar"));
    let mut packed = tar::Archive::new(flate2::read::GzDecoder::new(&*packed.body));
    let files = packed.entries().expect("an archive").filter(|it| {
        let it = it.as_ref().expect("a member");
        it.header().entry_type().is_file() && it.size() == 4
    });
    assert_eq!(files.count(), 1000);
    let moved = json!({"from": "in/folder", "to": "in/other"});
    let moved = sandbox.client.ask("POST", &sandbox.path("/files/move"), &moved).await.json(200);
    assert!(moved["path"].as_str().is_some_and(|it| it.ends_with("/in/other")), "{moved}");
    let made = json!({"path": "in/new/deep", "parents": true, "mode": "0700"});
    let made = sandbox.client.ask("POST", &sandbox.path("/files/mkdir"), &made).await.json(200);
    assert_eq!((&made["kind"], &made["mode"]), (&json!("directory"), &json!("0700")));
    sandbox.drop().await;
}

pub(super) fn items(listed: &Value) -> &Vec<Value> {
    listed["items"].as_array().expect("items")
}

/// Of an upload whose client leaves in the middle nothing is in place, and nothing else is disturbed.
pub(super) async fn a_cut_upload_leaves_nothing(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    if world.target == Target::Lambda {
        // A function is called with the whole body, or not at all.
        return sandbox.drop().await;
    }
    sandbox.put_file("?path=file", "old").await.json(200);
    let request =
        sandbox.client.request("PUT", &sandbox.path("/files?path=file")).body(()).expect("a request");
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let cut = async |frame: &str| {
        let authority = uri.authority().expect("a host");
        let mut stream = TcpStream::connect(authority.as_str()).await.expect("a connection");
        let head = head(uri.path_and_query().expect("a path").as_str(), authority.as_str(), &headers, frame);
        stream.write_all(head.as_bytes()).await.expect("a server");
        stream.write_all(&noise(3 * MIB)).await.expect("a server");
        drop(stream);
    };
    let chunk = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", 4 * MIB);
    let length = format!("content-length: {}\r\n\r\n", 4 * MIB);
    join_all([cut(&chunk), cut(&length)]).await;
    // What it would have become would have, by now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sandbox.get_file("?path=file").await.body, b"old");
    let listed = sandbox.get_file("/list?path=.").await.json(200);
    let sizes: Vec<_> = items(&listed).iter().filter(|it| it["size"].as_u64() > Some(MIB as u64)).collect();
    assert!(sizes.is_empty(), "{sizes:?}");
    sandbox.drop().await;
}

fn head(path: &str, host: &str, headers: &HeaderMap, frame: &str) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")));
    format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\n{}{frame}", lines.collect::<String>())
}

pub(super) async fn changes_are_watched(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let request = sandbox.client.request("GET", &sandbox.path("/files/watch?path=.&recursive=true"));
    let mut answer = sandbox.client.open(request.body(Vec::new()).expect("a request")).await;
    if world.target == Target::Lambda {
        assert_eq!(answer.status, 406);
        return sandbox.drop().await;
    }
    assert_eq!(answer.status, 200);
    let mut seen = String::new();
    let mut until = async |wanted: &str| {
        let found = timeout(PATIENCE, async {
            while !seen.contains(wanted) {
                let piece = answer.body.next().await.expect("more").expect("bytes");
                seen.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {wanted}"));
    };
    until("event: watching\n").await;
    sandbox.put_file("?path=new/file&mkdirs=true", "content").await.json(200);
    until("\"path\":\"new\"").await;
    sandbox.file("DELETE", "?path=new&recursive=true", Vec::new(), &[]).await;
    until("event: removed\n").await;
    sandbox.drop().await;
}
