//! The script for a node of PVE, run by real shells.

use pve_edge_core::pve::privileges::{AGENTS, BRIDGE, GUESTS, NODES, STORAGE_SEEN, STORAGE_SPACE};

use super::{
    node::{Node, shells},
    script,
};
use crate::stage::prelude::*;

const VERSIONS: [Version; 3] = [Version::V7_4, Version::V8, Version::V9];
const SECRET: &str = "7f5ab1d0-0000-4000-8000-000000000001";

/// What a node grants after the script was run with these settings and words, by path.
pub(crate) fn granted(version: Version, set: &[(&str, &str)], words: &[&str]) -> Vec<(String, Vec<String>)> {
    let node = Node::new(version);
    let words: Vec<&str> = ["--yes"].iter().chain(words).copied().collect();
    let run = node.run(&["sh"], &script(set), &words);
    assert!(run.succeeds, "{run:?}");
    let (user, token) = (node.grants("edge@pve"), node.grants("edge@pve!api"));
    assert_eq!(user, token, "{run:?}");
    user
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_shell_reads_it() {
    let node = Node::new(Version::V9);
    for shell in shells() {
        let checked: Vec<&str> = shell.iter().copied().chain(["-n"]).collect();
        let run = node.run(&checked, &script(&[]), &[]);
        assert!(run.succeeds && run.stderr.is_empty(), "{shell:?}: {run:?}");
    }
}

/// Of a script that breaks off on its way, nothing is run.
#[test]
fn half_a_script_does_nothing() {
    let (node, script) = (Node::new(Version::V9), script(&[]));
    let whole = script.trim_end().len();
    for end in (0..whole).step_by(701).chain(whole - 20..whole) {
        node.run(&["sh"], &script[..end], &["--yes"]);
        assert_eq!(node.processes(), "", "{:?}", &script[end.saturating_sub(40)..end]);
    }
}

#[test]
fn it_grants_what_is_needed_and_no_more() {
    let guests = GUESTS.join(" ");
    let [new, old] = AGENTS;
    let storage = [STORAGE_SEEN, STORAGE_SPACE].join(" ");
    for version in VERSIONS {
        for vms in [false, true] {
            let set = [("SANDBOX_PROVIDER", if vms { "pve-vm" } else { "pve-lxc" })];
            let agent = match (vms, version) {
                (false, _) => "",
                (true, Version::V9) => new,
                (true, _) => old,
            };
            let mut expected = vec![
                ("/vms".to_owned(), words(&format!("{guests} {agent}"))),
                ("/storage/local-lvm".to_owned(), words(&storage)),
                ("/sdn/zones/localnetwork/vmbr0".to_owned(), words(BRIDGE)),
                ("/nodes".to_owned(), words(NODES)),
            ];
            expected.retain(|(path, _)| version >= Version::V8 || !path.starts_with("/sdn"));
            assert_eq!(granted(version, &set, &[]), expected, "{version:?} {vms}");
            // The same by a word, for a deployment of both kinds.
            assert!(!vms || granted(version, &[], &["--vms"]) == expected, "{version:?}");
        }
    }
}

#[test]
fn it_is_about_what_the_settings_and_its_words_name() {
    let paths = |set: &[(&str, &str)], words: &[&str]| {
        let granted = granted(Version::V9, set, words).into_iter().map(|(path, _)| path);
        granted.filter(|it| !["/vms", "/nodes"].contains(&it.as_str())).collect::<Vec<_>>().join(" ")
    };
    let set = [("PVE_STORAGE", "tank"), ("PVE_BRIDGE", "vmbr7")];
    assert_eq!(paths(&set, &[]), "/storage/tank /sdn/zones/localnetwork/vmbr7");
    assert_eq!(
        paths(&set, &["--storage", "local-lvm", "--bridge", "blue"]),
        "/storage/tank /storage/local-lvm /sdn/zones/localnetwork/vmbr7 /sdn/zones/evpn/blue"
    );
    // A vnet is in a zone of its own.
    assert_eq!(paths(&[("PVE_BRIDGE", "blue")], &[]), "/storage/local-lvm /sdn/zones/evpn/blue");
    let archives = granted(Version::V9, &[], &["--archives", "local"]);
    assert!(
        archives.contains(&("/storage/local".into(), words("Datastore.Audit Datastore.AllocateTemplate")))
    );
    assert!(archives.contains(&("/nodes".into(), words("Sys.Audit Sys.AccessNetwork"))), "{archives:?}");
    let older = granted(Version::V7_4, &[], &["--archives", "local"]);
    assert!(older.contains(&("/nodes".into(), words(NODES))), "{older:?}");
}

#[test]
fn the_token_is_the_one_of_the_settings() {
    let node = Node::new(Version::V9);
    let script = script(&[("PVE_API_TOKEN", "ci-1@pve!sand.box=old-secret")]);
    assert!(!script.contains("old-secret"));
    let run = node.run(&["sh"], &script, &["--yes"]);
    assert_eq!(run.stdout, format!("PVE_API_TOKEN=ci-1@pve!sand.box={SECRET}\n"), "{run:?}");
    assert_eq!(node.separates("ci-1@pve!sand.box"), Some(true));
}

/// The second run finds everything; a role, a token and an ACL that are there already are left as they are.
#[test]
fn it_may_be_run_again() {
    for (shell, version) in shells().iter().flat_map(|it| VERSIONS.map(|version| (it, version))) {
        let (node, script) = (Node::new(version), script(&[]));
        let first = node.run(shell, &script, &["--yes"]);
        assert!(first.succeeds, "{shell:?} {version:?}: {first:?}");
        assert_eq!(first.stdout, format!("PVE_API_TOKEN=edge@pve!api={SECRET}\n"));
        let (changes, granted) = (node.changes(), node.grants("edge@pve!api"));
        // What was done is what was told.
        let told = |it: &String| first.stderr.replace('\'', "").lines().any(|line| line == it);
        assert!(!changes.is_empty() && changes.iter().all(told), "{changes:?}\n{first:?}");
        let second = node.run(shell, &script, &["--yes"]);
        assert!(second.succeeds && second.stdout.is_empty(), "{second:?}");
        assert!(second.stderr.contains("nothing is to be done") && second.stderr.contains("--new-secret"));
        assert_eq!((node.changes(), node.grants("edge@pve!api")), (vec![], granted));
    }
}

#[test]
fn a_secret_is_printed_once_and_is_in_no_list_of_processes() {
    for shell in shells() {
        let (node, script) = (Node::new(Version::V9), script(&[]));
        let run = node.run(&shell, &script, &["--yes"]);
        assert_eq!(run.stdout.matches(SECRET).count(), 1, "{run:?}");
        assert!(!run.stderr.contains(SECRET), "{run:?}");
        assert!(!node.processes().contains("7f5ab1d0"), "{}", node.processes());
        // The new one is another, and the token has all that it had.
        let before = node.grants("edge@pve!api");
        let run = node.run(&shell, &script, &["--yes", "--new-secret"]);
        assert_eq!(
            run.stdout,
            format!("PVE_API_TOKEN=edge@pve!api={}2\n", &SECRET[..SECRET.len() - 1]),
            "{run:?}"
        );
        assert_eq!(node.grants("edge@pve!api"), before);
    }
}

/// A node whose token has more than the script gives without a word: roles of other words, and one of somebody's own.
fn node_with_more(shell: &[&str], script: &str) -> Node {
    let node = Node::new(Version::V9);
    let most = ["--yes", "--vms", "--storage", "local-lvm", "--bridge", "blue", "--archives", "local"];
    assert!(node.run(shell, script, &most).succeeds);
    let by_hand = "/pool/ci|0|EdgeNode|token|edge@pve!api\n/|1|EdgeNode|token|edge@pve!other\n";
    node.put("acl", &(node.state("acl") + by_hand));
    node
}

/// It has the roles that it had, those that somebody else gave it too, and no others; it ends when it did.
#[test]
fn a_new_secret_changes_nothing_else() {
    let script = script(&[]);
    for (shell, separated) in shells().iter().flat_map(|it| ["1", "0"].map(|separated| (it, separated))) {
        for in_place in [false, true] {
            let node = node_with_more(shell, &script);
            let token = format!("{separated}\n1893456000\nJoe's agents; $HOME\n");
            node.put("tokens/edge@pve!api", &token);
            if in_place {
                node.put("regenerates", "");
            }
            let before = node.rows();
            node.changes();
            let run = node.run(shell, &script, &["--yes", "--new-secret"]);
            assert!(run.succeeds && run.stdout.starts_with("PVE_API_TOKEN=edge@pve!api="), "{run:?}");
            assert!(run.stderr.contains("has the roles that it had"), "{run:?}");
            assert_eq!((node.rows(), node.state("tokens/edge@pve!api")), (before, token), "{run:?}");
            // Where PVE can do it in place, nothing is taken away.
            let removes = node.changes().iter().any(|it| it.starts_with("pveum user token remove"));
            assert_eq!(removes, !in_place, "{run:?}");
        }
    }
}

/// PVE took the roles away with the old token: whatever fails then, the lines that were told bring the token back.
#[test]
fn what_a_renewal_could_not_give_back_is_told() {
    let script = script(&[]);
    for shell in shells() {
        for fails in ["pveum acl modify", "pveum acl modify /vms", "pveum user token add"] {
            let node = node_with_more(&shell, &script);
            let before = node.rows();
            let run = node.run_where(&shell, &script, &["--yes", "--new-secret"], fails);
            assert!(!run.succeeds && !run.stderr.contains("Done"), "{fails}: {run:?}");
            assert_eq!(run.stdout.is_empty(), fails == "pveum user token add", "{run:?}");
            let (_, told) = run.stderr.split_once("in this order:\n").expect("lines to run");
            assert!(told.lines().all(|it| it.starts_with("pveum ")), "{run:?}");
            // A step that failed has kept no other from being tried.
            assert!(fails != "pveum acl modify /vms" || told.lines().count() == 1, "{run:?}");
            let by_hand = node.run(&shell, told, &[]);
            assert!(by_hand.succeeds, "{fails}: {by_hand:?}");
            assert_eq!(node.rows(), before, "{fails}");
        }
        let node = node_with_more(&shell, &script);
        let before = node.rows();
        let remove = "pveum user token remove";
        let run = node.run_where(&shell, &script, &["--yes", "--new-secret"], remove);
        assert!(!run.succeeds && run.stderr.contains("nothing behind it was done"), "{run:?}");
        assert_eq!(node.rows(), before);
    }
}

#[test]
fn a_lost_connection_ends_no_renewal() {
    let script = script(&[]);
    for shell in shells() {
        let node = node_with_more(&shell, &script);
        let before = node.rows();
        node.put("drops", "");
        let run = node.run(&shell, &script, &["--yes", "--new-secret"]);
        assert!(run.succeeds && run.stdout.starts_with("PVE_API_TOKEN=edge@pve!api="), "{run:?}");
        assert_eq!(node.rows(), before, "{run:?}");
    }
}

/// Nobody knows what it had: it gets what a new one gets, with a new secret and without.
#[test]
fn a_token_without_a_role_is_not_told_as_done() {
    let (whole, script) = (granted(Version::V9, &[], &[]), script(&[]));
    let renews = ["--yes", "--new-secret"];
    for (in_place, words) in [(false, &renews[..]), (true, &renews[..]), (false, &renews[..1])] {
        let node = Node::new(Version::V9);
        assert!(node.run(&["sh"], &script, &["--yes"]).succeeds);
        let acl = node.state("acl");
        let left: String =
            acl.lines().filter(|it| !it.contains("|token|")).map(|it| format!("{it}\n")).collect();
        node.put("acl", &left);
        if in_place {
            node.put("regenerates", "");
        }
        let run = node.run(&["sh"], &script, words);
        assert!(run.succeeds && run.stderr.contains("has no role"), "{words:?}: {run:?}");
        assert_eq!(node.grants("edge@pve!api"), whole, "{words:?}: {run:?}");
        assert_eq!(run.stdout.is_empty(), words.len() == 1, "{run:?}");
    }
}

/// Whichever step failed, the next run does what is missing.
#[test]
fn a_run_that_broke_off_is_finished_by_the_next() {
    let whole = granted(Version::V9, &[], &[]);
    let steps = [
        "pveum role add Edge ",
        "pveum role add EdgeStorage",
        "pveum role add EdgeNode",
        "pveum user add",
        "pveum user token add",
        "pveum acl modify /vms",
        "pveum acl modify /sdn",
        "pveum acl modify /nodes",
    ];
    for step in steps {
        let (node, script) = (Node::new(Version::V9), script(&[]));
        let broken = node.run_where(&["sh"], &script, &["--yes"], step);
        assert!(
            !broken.succeeds && broken.stderr.contains("nothing behind it was done"),
            "{step}: {broken:?}"
        );
        assert!(broken.stderr.contains("no quorum"), "{broken:?}");
        let run = node.run(&["sh"], &script, &["--yes"]);
        assert!(run.succeeds, "{step}: {run:?}");
        assert_eq!(node.grants("edge@pve!api"), whole, "{step}");
        // Once, in one of the two.
        assert_eq!(broken.stdout + &run.stdout, format!("PVE_API_TOKEN=edge@pve!api={SECRET}\n"));
    }
    let (node, script) = (Node::new(Version::V9), script(&[]));
    let blind = node.run_where(&["sh"], &script, &["--yes"], "pvesh get /access/acl");
    assert!(!blind.succeeds && blind.stderr.contains("PVE does not tell"), "{blind:?}");
    assert_eq!(node.changes(), [] as [String; 0]);
}

/// What an administrator made by hand stays; what is more than is needed is told, and a token gets its separation.
#[test]
fn what_is_there_is_completed() {
    let node = Node::new(Version::V9);
    node.put("roles/Edge", "VM.Audit\nVM.Backup\n");
    node.put("users/edge@pve", "");
    node.put("tokens/edge@pve!api", "0\n");
    node.put("acl", "/vms|0|Edge|user|edge@pve\n");
    let run = node.run(&["sh"], &script(&[]), &["--yes"]);
    assert!(run.succeeds && run.stdout.is_empty(), "{run:?}");
    assert!(run.stderr.contains("has more than pve-edge needs, which stays: VM.Backup"), "{run:?}");
    assert_eq!(node.separates("edge@pve!api"), Some(true));
    let role = node.role("Edge");
    assert!(GUESTS.iter().all(|it| role.iter().any(|has| has == it)) && role.contains(&"VM.Backup".into()));
    // It did not hold below the path.
    let changes = node.changes();
    assert!(changes.iter().any(|it| it.starts_with("pveum acl modify /vms ")), "{changes:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn it_asks_before_it_does_anything() {
    for shell in shells() {
        for typed in ["n\n", "\n", "nay\n", "\u{4}"] {
            let node = Node::new(Version::V9);
            let run = node.run_typing(&shell, &script(&[]), typed);
            assert!(
                !run.succeeds && run.stderr.contains("nothing was changed"),
                "{shell:?} {typed:?}: {run:?}"
            );
            assert_eq!((node.changes(), run.stdout.as_str()), (vec![], ""));
        }
        for typed in ["y\n", "yes\n"] {
            let node = Node::new(Version::V9);
            let run = node.run_typing(&shell, &script(&[]), typed);
            assert!(run.succeeds && !run.stdout.is_empty(), "{shell:?} {typed:?}: {run:?}");
        }
    }
    let node = Node::new(Version::V9);
    let run = node.run(&["sh"], &script(&[]), &[]);
    assert!(!run.succeeds && run.stderr.contains("add --yes"), "{run:?}");
    assert_eq!(node.changes(), [] as [String; 0]);
}

#[test]
fn what_it_cannot_do_it_says_before_it_does_anything() {
    for words in [&["--no"][..], &["--storage"], &["--storage", "a b"], &["--bridge", "--yes"], &["x"]] {
        let node = Node::new(Version::V9);
        let run = node.run(&["sh"], &script(&[]), words);
        assert!(!run.succeeds && node.processes().is_empty(), "{words:?}: {run:?}");
    }
    for (file, text, says) in [
        ("known", "VM.Audit\n", "does not know the privilege VM.Allocate"),
        ("storages", "[]\n", "no storage of PVE holds disks of guests"),
        ("storages", "[{\"content\":\"rootdir\",\"storage\":\"a;reboot\"}]\n", "characters"),
        ("bridges", "", "no bridge"),
    ] {
        let node = Node::new(Version::V9);
        node.put(file, text);
        let run = node.run(&["sh"], &script(&[]), &["--yes"]);
        assert!(!run.succeeds && run.stderr.contains(says), "{file}: {run:?}");
        assert_eq!(node.changes(), [] as [String; 0]);
    }
}
