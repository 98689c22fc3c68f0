//! What a list shows, and what it says that it cannot tell.

use crate::stage::prelude::*;

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().into_iter().flatten();
    items.filter_map(|it| it["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn sizes_are_shown() {
    let stage = Stage::at_once();
    let answer = stage.ask(Ask::sandbox(json!({"cpu": 3, "memory": 1536, "disk": 11})));
    let shown = answer.json();
    assert_eq!((&shown["cpu"], &shown["memory"], &shown["disk"]), (&json!(3), &json!(1536), &json!(11)));
    let asked = answer.id();
    let preset = stage.created(json!({}));
    stage.world.advance(Duration::seconds(60));
    let page = stage.ask(Ask::get("/api/sandboxes")).json();
    for (id, sizes) in [(asked, [3, 1536, 11]), (preset, [1, 1024, 8])] {
        let of = |it: &Value| ["cpu", "memory", "disk"].map(|name| it[name].as_u64());
        assert_eq!(of(&stage.ask(Ask::one(&id)).json()), sizes.map(Some));
        let item = page["items"].as_array().and_then(|it| it.iter().find(|it| it["id"] == *id)).cloned();
        assert_eq!(of(&item.unwrap_or_default()), sizes.map(Some));
    }
}

#[test]
fn a_snapshot_says_what_it_was_taken_from() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let taken = stage.act(&id, "snapshots", json!({"name": "one"}));
    assert_eq!(taken.json()["sourceId"], *id, "{taken:?}");
    stage.world.settle();
    let snapshot = taken.json()["snapshotId"].as_str().unwrap_or_default().to_owned();
    assert_eq!(stage.ask(Ask::snapshot(&snapshot)).json()["sourceId"], *id);
    let all = stage.ask(Ask::get("/api/snapshots")).json();
    let row =
        all["items"].as_array().and_then(|it| it.iter().find(|it| it["snapshotId"] == *snapshot)).cloned();
    assert_eq!(row.unwrap_or_default()["sourceId"], *id, "{all}");
}

/// As much of the metadata as fits is indexed; what is not is read exactly, a few times.
#[test]
fn what_is_not_indexed_is_read_or_counted() {
    let stage = Stage::new();
    let long = "x".repeat(300);
    let all: Vec<String> = (0..12)
        .map(|nth| {
            stage.created(json!({"metadata": {"a": format!("{nth}"), "long": format!("{long}{nth}")}}))
        })
        .collect();
    let other = stage.created(json!({"metadata": {"b": "1"}}));
    stage.world.advance(Duration::seconds(60));
    // The short one is indexed, and judges.
    let (page, requests) = stage.counted(Ask::get("/api/sandboxes?metadata.a=7"));
    assert_eq!(
        (ids(&page.json()), &page.json()["unindexed"], requests),
        (vec![all[7].clone()], &json!(0), 1)
    );
    let item = page.json()["items"][0].clone();
    assert_eq!((&item["metadata"], &item["metadataIncomplete"]), (&json!({"a": "7"}), &json!(true)));
    // The long one is not: eight are read, of the others it is not known.
    let (page, requests) = stage.counted(Ask::get(format!("/api/sandboxes?metadata.long={long}3")));
    let found = ids(&page.json());
    assert!(found.is_empty() || found == [all[3].clone()], "{page:?}");
    assert_eq!((&page.json()["unindexed"], requests), (&json!(4), 9));
    assert!(!found.contains(&other));
    // Without a filter there is nothing to judge, and nothing is read.
    let (page, requests) = stage.counted(Ask::get("/api/sandboxes"));
    assert_eq!((ids(&page.json()).len(), &page.json()["unindexed"], requests), (13, &Value::Null, 1));
}
