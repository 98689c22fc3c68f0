//! What is written is read back, whatever PVE and its admins do to it.

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::{
    access::secret::Keyring,
    sandbox::{OnExpiry, Sizes, creation::KeyHash, id::Kind, nonce::Origin},
};

fn vmid(number: u32) -> Vmid {
    number.try_into().unwrap()
}

fn claimed(deployment: &str, team: &str, vmid: Vmid, kind: Kind, origin: Origin) -> Mark {
    let secrets = Keyring::parse(&"k".repeat(32)).unwrap();
    let nonce = origin.nonce(secrets.newest(), deployment, kind, vmid);
    Mark::claimed(deployment, team, vmid, kind, nonce)
}

prop_compose! {
    fn a_mark()(
        deployment in "[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?",
        team in "[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?",
        number in 100_u32..=999_999_999,
        birth in 1_700_000_000_i64..3_000_000_000,
        dice in any::<[u8; 4]>(),
        node in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?",
        expires in prop::option::of(1_700_000_000_i64..4_000_000_000),
        (on_expiry, want, phase, kind, key) in (0_usize..3, 0_usize..4, 0_usize..3, 0_usize..2, prop::option::of(any::<[u8; 5]>())),
        (was_ready, source, changed) in (any::<bool>(), any::<bool>(), prop::option::of(1_700_000_000_i64..4_000_000_000)),
        name in prop::option::of("\\PC{1,40}"),
        metadata in prop::collection::btree_map("\\PC{1,12}", any::<String>(), 0..5),
    ) -> Mark {
        let birth = OffsetDateTime::from_unix_timestamp(birth).unwrap();
        Mark {
            node, expires,
            on_expiry: [OnExpiry::Delete, OnExpiry::Stop, OnExpiry::Pause][on_expiry],
            want: [Want::On, Want::Off, Want::Paused, Want::Gone][want],
            phase: [Phase::Committed, Phase::Ready, Phase::Error][phase],
            was_ready, changed,
            source: source.then(|| "pvelxc_4vcpu_6gb_32gb_v2".parse().unwrap()),
            key: key.map(KeyHash), secret: Some("ab12".into()), name,
            template: Some(vmid(9000)), snapshot: "pvelxc_4vcpu_6gb_32gb_v1".parse().ok(),
            sizes: Sizes { cpu: Some(4), memory: None, disk: Some(32) },
            metadata,
            ..claimed(&deployment, &team, vmid(number), [Kind::Lxc, Kind::Qemu][kind], Origin::new(birth, dice))
        }
    }
}

/// As PVE stores tags: by default lower-cased, de-duplicated and sorted
/// (pve-guest-common `GuestHelpers.pm`).
fn stored(tags: &str, case_sensitive: bool, config_order: bool) -> String {
    let mut all: Vec<String> = tags
        .split(';')
        .map(|it| if case_sensitive { it.to_owned() } else { it.to_ascii_lowercase() })
        .collect();
    if !config_order {
        all.sort();
    }
    all.dedup();
    all.join(";")
}

fn notes(mark: &Mark, existing: &str) -> String {
    Notes { existing, mark, links: &[("vscode".into(), "https://x.example".into())], exec_token: None }
        .write()
        .unwrap()
}

proptest! {
    #[test]
    fn tags_survive_pves_three_ways_to_store_them(mark in a_mark(), case in any::<bool>(), order in any::<bool>()) {
        let written = tags("Web;prod", &mark, mark.expires, 4096, false);
        for tag in written.split(';') {
            let fine = |at: usize, it: u8| it.is_ascii_alphanumeric() || it == b'_' || (at > 0 && b"-+.".contains(&it));
            prop_assert!(tag.bytes().enumerate().all(|(at, it)| fine(at, it)), "{}", tag);
        }
        let read = listed(mark.vmid, &stored(&written, case, order)).unwrap();
        prop_assert!(read.complete);
        let shown = Mark { secret: None, sizes: Sizes::default(), ..mark };
        prop_assert_eq!(read.mark, shown);
    }

    #[test]
    fn tags_stay_within_their_budget(mark in a_mark(), budget in 180_usize..600) {
        let written = tags("", &mark, mark.expires, budget, false);
        prop_assert!(written.len() < budget, "{}", written);
        let read = listed(mark.vmid, &written).unwrap();
        // As much as fits, and each entry whole; where the index does not fit at all, nothing is known.
        prop_assert!(read.mark.metadata.iter().all(|(key, value)| mark.metadata.get(key) == Some(value)));
        let told = |it: &Mark| (it.metadata.clone(), it.name.clone(), it.source.clone());
        let whole = told(&read.mark) == told(&mark);
        prop_assert_eq!(read.complete, whole && written.contains("pe1m"));
    }

    #[test]
    fn notes_keep_the_mark_and_the_admins_words(mark in a_mark(), words in "[a-zA-Z *#\n]{0,60}") {
        let first = notes(&mark, &words);
        // LXC reads back exactly one newline at the end.
        let again = notes(&mark, &format!("{}\n", first.trim_end()));
        prop_assert_eq!(&first, &again);
        prop_assert!(again.contains(words.trim()));
        let head = tags("", &mark, mark.expires, 4096, false);
        match read(mark.vmid, Some(&head), Some(&again)) {
            Reading::Committed(read) => prop_assert_eq!(read, mark),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn marks_of_another_vmid_were_inherited_and_count_for_nothing(mark in a_mark()) {
        let other = vmid(if u32::from(mark.vmid) == 100 { 101 } else { 100 });
        let (head, text) = (tags("", &mark, mark.expires, 4096, false), notes(&mark, ""));
        prop_assert!(listed(other, &head).is_none());
        prop_assert!(matches!(read(other, Some(&head), Some(&text)), Reading::Foreign));
    }

    #[test]
    fn no_text_is_mistaken_for_a_mark_or_breaks_the_reader(text in any::<String>(), tags in "[a-z0-9;.]{0,80}") {
        prop_assert!(read(vmid(100), Some(&tags), Some(&text)).mark().is_none());
    }

    #[test]
    fn what_is_ours_is_rewritten_and_what_is_others_stays(mark in a_mark()) {
        let once = tags("zoo;edge-template;pvelxc_4vcpu_6gb_32gb_v1;prod", &mark, mark.expires, 4096, false);
        let twice = tags(&once, &mark, mark.expires, 4096, false);
        prop_assert_eq!(&once, &twice);
        prop_assert!(once.starts_with("zoo;prod;pe1.") && template(&once).is_none());
    }
}

fn example() -> Mark {
    let birth = OffsetDateTime::from_unix_timestamp(1_764_000_000).unwrap();
    Mark {
        node: "pve1".into(),
        expires: Some(1_764_003_600),
        phase: Phase::Committed,
        secret: Some("ab12".into()),
        name: Some("build*1".into()),
        template: Some(vmid(9000)),
        metadata: [("task".to_owned(), "7".to_owned())].into(),
        ..claimed("prod", "blue", vmid(200_123), Kind::Lxc, Origin::new(birth, [1, 2, 3, 4]))
    }
}

/// The formats are read by other versions: a change here is a new format.
#[test]
fn the_formats() {
    let mark = example();
    assert_eq!(
        tags("web", &mark, mark.expires, 256, false),
        "web;pe1.prod.200123.NONCE.blue.1764003600.dnc.0.pve1.0;edge-prod-sandbox;pe1m0-1.INDEX"
            .replace("NONCE", "abusjaiaaebagbhb2zsovtvi")
            .replace("INDEX", "aea2qrqaaaaqoytvnfwgikrraechiyltnmato")
    );
    let line = r#"{"pve-edge":1,"deployment":"prod","vmid":200123,"nonce":"NONCE","team":"blue","node":"pve1","expires":1764003600,"onExpiry":"delete","want":"on","phase":"committed","secret":"ab12","name":"build*1","template":9000,"metadata":{"task":"7"}}"#;
    assert_eq!(notes(&mark, "").lines().last(), Some(&*line.replace("NONCE", "abusjaiaaebagbhb2zsovtvi")));
    assert!(notes(&mark, "").starts_with("<!-- pve-edge -->\n**Sandbox build\\*1**, made by pve-edge\n"));
}

#[test]
fn fields_of_a_newer_version_are_kept() {
    let text = notes(&example(), "").replace("\"want\":\"on\"", "\"want\":\"on\",\"colour\":{\"a\":[1]}");
    let head = tags("", &example(), None, 256, false);
    let Reading::Committed(mark) = read(vmid(200_123), Some(&head), Some(&text)) else { panic!() };
    assert!(notes(&mark, &text).contains(r#""colour":{"a":[1]}"#));
}

#[test]
fn a_missing_chunk_is_no_metadata_and_not_half_of_it() {
    let mut mark = example();
    mark.metadata.insert("long".into(), "x".repeat(150));
    let all = tags("", &mark, mark.expires, 2048, false);
    let less: Vec<&str> = all.split(';').filter(|it| !it.starts_with("pe1m1-")).collect();
    let read = listed(mark.vmid, &less.join(";")).unwrap();
    assert!(!read.complete && read.mark.metadata.is_empty() && read.mark.team == "blue");
}

#[test]
fn the_shortest_metadata_is_indexed_and_the_rest_is_known_to_be_missing() {
    let mut mark = example();
    mark.metadata = [("long", "x".repeat(150)), ("task", "7".into()), ("pr", "12".into())]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let read = listed(mark.vmid, &tags("", &mark, mark.expires, 256, false)).unwrap();
    let keys: Vec<&str> = read.mark.metadata.keys().map(String::as_str).collect();
    assert_eq!(
        (keys, read.complete, read.mark.name.as_deref()),
        (vec!["pr", "task"], false, mark.name.as_deref())
    );
}

#[test]
fn an_admin_who_empties_the_notes_erases_nothing_that_matters() {
    let mark = example();
    let head = tags("", &mark, mark.expires, 256, false);
    let Reading::Committed(read) = read(mark.vmid, Some(&head), Some("mine now\n")) else { panic!() };
    assert_eq!((&read.team, read.expires, &read.metadata), (&mark.team, mark.expires, &mark.metadata));
    assert!(notes(&read, "mine now\n").contains("mine now"));
}

#[test]
fn tags_and_notes_that_contradict_each_other_are_left_alone() {
    let (mark, mut other) = (example(), example());
    other.team = "red".into();
    let head = tags("", &other, None, 256, false);
    assert!(matches!(read(mark.vmid, Some(&head), Some(&notes(&mark, ""))), Reading::Contradiction));
    let two = format!("{head};{}", tags("", &mark, None, 256, false));
    assert!(listed(mark.vmid, &two).is_none());
}

#[test]
fn long_notes_lose_our_words_before_the_admins() {
    let text = notes(&example(), &"x".repeat(7850));
    assert!(text.chars().count() < 8192 && text.contains(&"x".repeat(7850)) && !text.contains("made by"));
    let mark = example();
    let full = Notes { existing: &"x".repeat(8100), mark: &mark, links: &[], exec_token: None };
    assert!(full.write().is_none());
}

#[test]
fn the_exec_token_of_old_pves_is_kept_in_the_notes() {
    let mark = example();
    let with = Notes { existing: "", mark: &mark, links: &[], exec_token: Some("cafe") }.write().unwrap();
    assert!(with.contains("\ncmux-execd-auth-token=cafe\n") && notes(&mark, &with).contains("=cafe\n"));
}

#[test]
fn fields_of_newer_versions_are_kept() {
    let text = notes(&example(), "").replace("{\"pve-edge\":1,", "{\"pve-edge\":1,\"later\":[1],");
    let reading = read(example().vmid, None, Some(&text));
    let mark = reading.mark().unwrap();
    assert_eq!(mark.other["later"], serde_json::json!([1]));
    assert!(notes(mark, &text).contains("\"later\":[1]"));
}
