//! Getting and listing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::{Sandbox, World};

pub(super) async fn a_sandbox_is_shown_whole(world: World) {
    let metadata = json!({"branch": "main", "Ünï cöde": "🦀 \"quoted\" \\ <b>&amp;", "empty": ""});
    let body =
        json!({"name": "Ada's #1 <script>", "metadata": metadata, "onExpiry": "stop", "ttlSeconds": 900});
    let sandbox = world.sandbox(body).await;
    let answer = sandbox.get().await;
    let shown = answer.json(200);
    assert_eq!(shown, sandbox.shown);
    assert_eq!(answer.header("etag"), sandbox.etag);
    assert_eq!((&shown["metadata"], &shown["name"]), (&metadata, &json!("Ada's #1 <script>")), "{shown}");
    assert_eq!((&shown["onExpiry"], &shown["team"]), (&json!("stop"), &json!("blue")), "{shown}");
    for time in ["createdAt", "expiresAt"] {
        assert!(shown[time].as_str().is_some_and(|it| it.ends_with('Z')), "{shown}");
    }
    // Nothing but the whole id leads to it; the node at its end is a hint.
    let id = sandbox.id();
    let nonce = id.split('-').nth(2).expect("a nonce");
    let (short, other) = (&nonce[1..], format!("{}{}", &nonce[1..], &nonce[..1]));
    for id in [id.replace(nonce, short), id.replace(nonce, &other), id.to_uppercase()] {
        world.blue.get(&format!("/api/sandboxes/{id}")).await.problem(404, "not-found");
    }
    sandbox.drop().await;
}

pub(super) async fn metadata_selects(world: World) {
    let one = world.sandbox(json!({"name": "one", "metadata": {"list": "a", "n": "1"}})).await;
    let two = world.sandbox(json!({"name": "two", "metadata": {"list": "a", "n": "2", "ü b": "c&d"}})).await;
    assert_eq!(listed(&world, "metadata.list=a").await, ids([&one, &two]));
    assert_eq!(listed(&world, "metadata.list=a&metadata.n=2").await, ids([&two]));
    assert_eq!(listed(&world, "metadata.list=a&metadata.%C3%BC%20b=c%26d").await, ids([&two]));
    assert_eq!(listed(&world, "metadata=list=a&metadata=n%3D2").await, ids([&two]));
    assert_eq!(listed(&world, "metadata.list=a&metadata.n=3").await, ids([]));
    assert_eq!(listed(&world, "metadata.list=a&state=paused").await, ids([]));
    let page = world.blue.get("/api/sandboxes?metadata.list=a&metadata.n=1").await.json(200);
    let item = &page["items"][0];
    for member in ["id", "vmid", "node", "name", "metadata", "expiresAt", "snapshotId", "templateVmid"] {
        assert_eq!(item[member], one.shown[member], "{member}");
    }
    assert_eq!(page["nextCursor"], Value::Null);
    one.drop().await;
    two.drop().await;
}

async fn listed(world: &World, query: &str) -> BTreeSet<String> {
    let page = world.blue.get(&format!("/api/sandboxes?{query}")).await.json(200);
    let items = page["items"].as_array().expect("items");
    items.iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
}

fn ids<const N: usize>(sandboxes: [&Sandbox; N]) -> BTreeSet<String> {
    sandboxes.iter().map(|it| it.id().to_owned()).collect()
}

pub(super) async fn pages_are_complete_and_do_not_overlap(world: World) {
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.sandbox(json!({"metadata": {"pages": "yes"}})).await);
    }
    let mut found = Vec::new();
    let mut query = "metadata.pages=yes&limit=2".to_owned();
    loop {
        let page = world.blue.get(&format!("/api/sandboxes?{query}")).await.json(200);
        let items = page["items"].as_array().expect("items");
        assert!((1..=2).contains(&items.len()), "{page}");
        found.extend(items.iter().map(|it| it["id"].as_str().expect("an id").to_owned()));
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("metadata.pages=yes&limit=2&cursor={cursor}"),
            None => break,
        }
        assert!(found.len() < 4, "{found:?}");
    }
    let wanted: BTreeSet<_> = made.iter().map(|it| it.id().to_owned()).collect();
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (3, wanted));
    for sandbox in made {
        sandbox.drop().await;
    }
}

pub(super) async fn an_admin_sees_all_teams(world: World) {
    let blue = world.sandbox(json!({"metadata": {"teams": "both"}})).await;
    let answer = world.red.ask("POST", "/api/sandboxes", &json!({"metadata": {"teams": "both"}})).await;
    let red = Sandbox::of(&world.red, &answer, 201);
    let page = world.admin.get("/api/sandboxes?metadata.teams=both").await.json(200);
    let teams: BTreeSet<_> =
        page["items"].as_array().expect("items").iter().map(|it| &it["team"]).map(Value::to_string).collect();
    assert_eq!(teams, BTreeSet::from(["\"blue\"".to_owned(), "\"red\"".to_owned()]), "{page}");
    assert_eq!(world.admin.get(&red.path("")).await.json(200)["team"], "red");
    world.admin.ask("DELETE", &red.path(""), &Value::Null).await.empty(204);
    red.get().await.problem(404, "not-found");
    blue.drop().await;
}
