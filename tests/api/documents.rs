//! The pages: their links, and what they say of codes, settings and rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use crate::tidy::{root, sources};
use pve_edge_core::{
    error::Code,
    pve::privileges::{AGENTS, BRIDGE, GUESTS, NODES, STORAGE_SEEN, STORAGE_SPACE},
    settings::{SETTINGS, Takes, Unset},
};

/// Markdown files of the repository, by their path in it.
fn pages() -> BTreeMap<PathBuf, String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    let read = |name: &str| Some((PathBuf::from(name), fs::read_to_string(root().join(name)).ok()?));
    names.lines().filter_map(read).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        within ^= fence;
        !within && !fence
    })
}

/// A line without what stands in backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Anchors of a page's headings, as GitHub and rustdoc make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|it| it.starts_with('#')).map(|it| it.trim_start_matches('#').trim());
    let kept = |it: &char| it.is_alphanumeric() || " -_".contains(*it);
    headings.map(|it| it.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// What a page's labels stand for.
fn labels(text: &str) -> BTreeMap<String, String> {
    let definition = |line: &str| {
        let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
        Some((label.to_owned(), target.to_owned()))
    };
    prose(text).filter_map(definition).collect()
}

/// Where a page's links lead, those by labels included.
fn targets(name: &str, text: &str) -> Vec<String> {
    let labels = labels(text);
    let mut found = Vec::new();
    for line in prose(text).filter(|it| !it.starts_with('[') || !it.contains("]: ")) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().expect("a part");
            found.push(target.to_owned());
        }
        for (at, _) in line.match_indices("][") {
            let label = line[at + 2..].split(']').next().expect("a part");
            let target = labels.get(label).unwrap_or_else(|| panic!("{name}: nothing defines [{label}]"));
            found.push(target.clone());
        }
    }
    found
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => assert!(plain.pop(), "{} leaves the repository", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() >= 14, "{:?}", pages.keys());
    let mut count = 0;
    for (name, text) in &pages {
        for target in targets(&name.display().to_string(), text) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match file {
                "" => name.clone(),
                file => plain(&name.parent().expect("a folder").join(file)),
            };
            assert!(root().join(&path).exists(), "{}: no file {target}", name.display());
            let page = pages.get(&path);
            let has = anchor.is_empty() || page.is_some_and(|it| anchors(it).contains(anchor));
            assert!(has, "{}: no heading {target}", name.display());
        }
    }
    assert!(count > 100, "{count}");
}

/// In rustdoc a label leads to the module of the same page.
#[test]
fn labels_lead_to_the_same_place_in_rustdoc() {
    let source = page("core/src/docs.rs");
    let mut known = BTreeMap::new();
    for line in source.lines() {
        let line = line.trim_start_matches('"');
        if let Some((label, path)) = line.strip_prefix('[').and_then(|it| it.split_once("]: crate::docs::")) {
            let (module, anchor) = path.split_once('#').unwrap_or((path, ""));
            let anchor = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
            known.insert(label.to_owned(), format!("{}.md{anchor}", module.replace('_', "-")));
        }
    }
    let mut used = BTreeSet::new();
    for (name, text) in pages().into_iter().filter(|(name, _)| name.starts_with("core/docs")) {
        let file = name.file_name().expect("a name").display().to_string();
        assert!(source.contains(&format!("\"{file}\"")), "core/src/docs.rs lacks {file}");
        for (label, target) in labels(&text) {
            assert_eq!(known.get(&label), Some(&target), "{file}: [{label}]");
            used.insert(label);
        }
    }
    assert_eq!(known.into_keys().collect::<BTreeSet<_>>(), used);
}

/// rustdoc takes a block without a language for a test in Rust.
#[test]
fn every_block_says_its_language() {
    for (name, text) in pages() {
        let fences = text.lines().map(str::trim_start).filter(|it| it.starts_with("```"));
        for (at, fence) in fences.enumerate() {
            let opens = at % 2 == 0;
            assert_eq!(opens, fence.len() > 3, "{}: {fence}", name.display());
        }
    }
}

#[test]
fn the_readme_can_be_read_in_one_sitting() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}

/// Each row of its tables is a code as the API has it, and no code is missing.
#[test]
fn troubleshooting_has_every_code() {
    let text = page("core/docs/troubleshooting.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [code, status, again, _, _] = cells.as_slice() else { return None };
        let code = code.strip_prefix('`')?.strip_suffix('`')?;
        Some((code.to_owned(), status.parse().expect("a status"), *again == "yes"))
    });
    let told: Vec<(String, u16, bool)> = rows.collect();
    let known = Code::ALL.iter().map(|it| it.row());
    let known: BTreeSet<_> =
        known.map(|(name, status, _, again, _)| (name.to_owned(), status, again)).collect();
    assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), known);
    assert_eq!(told.len(), known.len(), "a code is told twice");
}

/// The table of settings as the page has it.
fn table() -> String {
    let mut table = String::from("| | what it sets | takes | where it is not set |\n|---|---|---|---|\n");
    for it in SETTINGS {
        let takes = match it.takes {
            // Forms with a URL in them would become links.
            Takes::Text(form) => form.split(' ').map(quoted).collect::<Vec<_>>().join(" "),
            takes => takes.to_string(),
        };
        let unset = match it.unset {
            Unset::Needed => "**needed**".to_owned(),
            Unset::Default(value) => format!("`{value}`"),
            Unset::Means(means) => means.to_owned(),
        };
        table.push_str(&format!("| `{}` | {} | {takes} | {unset} |\n", it.name, it.sets));
    }
    table
}

fn quoted(word: &str) -> String {
    match word.strip_suffix(',').unwrap_or(word) {
        url if url.contains("://") => word.replace(url, &format!("`{url}`")),
        "*" => "`*`".to_owned(),
        _ => word.to_owned(),
    }
}

/// With `UPDATE_EXPECT=1` it is written.
#[test]
fn settings_are_told_as_they_are_read() {
    let name = "core/docs/settings.md";
    let text = page(name);
    let (before, rest) = text.split_once("<!-- settings -->\n").expect("its begin");
    let (told, after) = rest.split_once("<!-- /settings -->").expect("its end");
    let table = table();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = format!("{before}<!-- settings -->\n{table}<!-- /settings -->{after}");
        return fs::write(root().join(name), text).expect("the page is written");
    }
    assert_eq!(told, table, "UPDATE_EXPECT=1 writes the table of {name}");
}

/// The table of privileges names those that health asks for and the script grants, and no others.
#[test]
fn privileges_are_told_as_they_are_granted() {
    let text = page("core/docs/prepare-pve.md");
    let rows = text.lines().filter(|it| it.starts_with("| `Edge"));
    let told: Vec<(&str, BTreeSet<&str>)> = rows
        .map(|row| {
            let mut quoted = row.split('`').skip(1).step_by(2);
            (quoted.next().expect("a role"), quoted.filter(|it| !it.starts_with('/')).collect())
        })
        .collect();
    let granted: [(&str, &[&str]); 5] = [
        ("Edge", &GUESTS),
        ("Edge", &AGENTS),
        ("EdgeStorage", &[STORAGE_SEEN, STORAGE_SPACE]),
        ("EdgeNetwork", &[BRIDGE]),
        ("EdgeNode", &[NODES]),
    ];
    let granted = granted.map(|(role, privileges)| (role, privileges.iter().copied().collect()));
    assert_eq!(told, granted);
}

/// Rules that a text cites: `rule S2.4`, `rules S2.4 and S4.1`.
fn cited(text: &str) -> BTreeSet<String> {
    let is_rule = |word: &&str| {
        let number = word.strip_prefix(['S', 'P']).and_then(|it| it.split_once('.'));
        number.is_some_and(|(a, b)| [a, b].iter().all(|it| !it.is_empty() && it.parse::<u8>().is_ok()))
    };
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '.'));
    words.map(|it| it.trim_matches('.')).filter(is_rule).map(str::to_owned).collect()
}

/// Rules that a page sets up, each once and in order.
fn rules(name: &str) -> Vec<String> {
    let text = page(name);
    let rules = text.lines().filter_map(|it| it.strip_prefix("**")?.split(' ').next());
    rules.filter(|it| cited(it).len() == 1).map(str::to_owned).collect()
}

#[test]
fn rules_that_are_cited_exist() {
    let (state, platforms) = (rules("core/docs/state.md"), rules("core/docs/platforms.md"));
    let known: BTreeSet<String> = state.iter().chain(&platforms).cloned().collect();
    assert_eq!(known.len(), state.len() + platforms.len(), "a rule is there twice");
    let mut cites = BTreeSet::new();
    for folder in ["core/src", "worker/src", "lambda/src", "tests/bed", "tests/api"] {
        for (name, text) in sources(&root().join(folder)) {
            let comments = text.lines().map(str::trim).filter(|it| it.starts_with("//"));
            let found = cited(&comments.collect::<Vec<_>>().join("\n"));
            let unknown: Vec<_> = found.difference(&known).collect();
            assert!(unknown.is_empty(), "{name} cites {unknown:?}");
            cites.extend(found);
        }
    }
    assert!(cites.len() >= 60, "the code cites {} rules", cites.len());
    for (name, text) in pages() {
        let unknown: Vec<_> = cited(&text).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{} cites {unknown:?}", name.display());
    }
}
