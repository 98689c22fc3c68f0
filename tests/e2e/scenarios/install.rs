//! What a guest is given for its installation: a script, and programs.

use sha2::{Digest, Sha256};

use crate::{
    client::{Answer, Client},
    target::Target,
    world::World,
};

async fn get(client: &Client, path: &str) -> Answer {
    client.send(client.request("GET", path).body(Vec::new()).expect("a request")).await
}

/// Without a key; the script names the programs by their hash, and each is what it names.
pub(super) async fn the_script_and_its_programs_are_handed_out(world: World) {
    let script = get(&world.anyone, "/guest/install.sh").await;
    if script.status == 404 && world.target == Target::Local {
        // `cargo test` alone does not build them.
        assert!(script.text().contains("guest/build"), "{}", script.text());
        return;
    }
    let text = script.text();
    assert_eq!((script.status, script.header("content-type")), (200, "text/x-shellscript"));
    let version =
        text.lines().find_map(|it| it.strip_prefix("version=")).expect("a version").trim_matches('\'');
    for arch in ["x86_64", "aarch64"] {
        let program = get(&world.anyone, &format!("/guest/{version}/{arch}")).await;
        let hash = hex::encode(Sha256::digest(&program.body));
        assert_eq!((program.status, program.header("etag")), (200, &*format!("\"{hash}\"")));
        assert!(text.contains(&hash) && program.body.starts_with(b"\x7fELF"), "{arch}");
    }
    let inside = get(&world.anyone, "/guest/install.sh?arch=x86_64").await;
    assert!(inside.status == 200 && inside.body.len() > text.len() + (1 << 20), "{}", inside.body.len());
    get(&world.anyone, "/guest/0.0.0-000000000000/x86_64").await.problem(404, "unknown-path");
}
