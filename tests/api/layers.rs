//! The layers of core: nothing names a thing above itself.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

use crate::tidy::{root, sources};

/// Core's modules, top down. Those of a line are siblings, which never name each other. Names without
/// a folder have their place already.
const LAYERS: [&[&str]; 12] = [
    &["api"],
    &["gateway", "tunnel"],
    &["provider"],
    &["pve", "morph"],
    &["daemon"],
    &["settings"],
    &["sandbox"],
    &["access"],
    &["io"],
    &["text"],
    &["error"],
    &["docs"],
];

/// What a source file names: its module, and the paths of this crate in it.
type Named = (Vec<String>, BTreeSet<Vec<String>>);

#[test]
fn nothing_names_a_thing_above_itself() {
    let mut upwards = Vec::new();
    for (module, paths) in core() {
        for path in paths {
            let (Some(from), Some(to)) = (layer(module.first()), layer(path.first())) else { continue };
            if to < from || (to == from && module.first() != path.first()) {
                upwards.push(format!("{} names {}", module.join("::"), path.join("::")));
            }
        }
    }
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}

#[test]
fn each_module_of_core_is_in_a_layer() {
    for (module, _) in core() {
        let top = module.first();
        assert!(top.is_none() || layer(top).is_some(), "{top:?} is in no layer of LAYERS");
    }
}

/// Files that name each other in a circle are read together, so they stand in one folder.
#[test]
fn no_circle_of_imports_is_larger_than_a_folder() {
    let files = core();
    let modules: BTreeSet<&[String]> = files.iter().map(|(module, _)| module.as_slice()).collect();
    // The file that a path leads into, or the folder that it is the top of.
    let file = |path: &[String]| (1..=path.len()).rev().find_map(|end| modules.get(&path[..end]).copied());
    let mut names: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (module, paths) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let to = paths.iter().filter_map(|path| file(path)).filter(|to| *to != module.as_slice());
        names.entry(module).or_default().extend(to);
    }
    let reached: BTreeMap<_, _> = names.keys().map(|start| (*start, reached(&names, start))).collect();
    for (one, seen) in &reached {
        for other in seen.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(one))) {
            let (one_in, other_in) = (folder(&modules, one), folder(&modules, other));
            assert_eq!(one_in, other_in, "{} and {} name each other", one.join("::"), other.join("::"));
        }
    }
}

/// All files that are named by `start`, or by what it names.
fn reached<'a>(
    names: &BTreeMap<&'a [String], BTreeSet<&'a [String]>>,
    start: &'a [String],
) -> BTreeSet<&'a [String]> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(at) = next.pop() {
        next.extend(names.get(at).into_iter().flatten().copied().filter(|it| seen.insert(*it)));
    }
    seen
}

/// The folder that a file stands in; the file at the top of a folder belongs to that.
fn folder<'a>(modules: &BTreeSet<&[String]>, module: &'a [String]) -> &'a [String] {
    let is_top = modules.iter().any(|it| it.len() > module.len() && it.starts_with(module));
    if is_top { module } else { &module[..module.len() - 1] }
}

fn layer(module: Option<&String>) -> Option<usize> {
    LAYERS.iter().position(|names| module.is_some_and(|it| names.contains(&it.as_str())))
}

/// All files of core.
fn core() -> Vec<Named> {
    let src = root().join("core/src");
    let files = sources(&src).into_iter().map(|(name, text)| {
        let relative = name.strip_prefix(&*src.to_string_lossy()).expect("below core/src");
        let relative = relative.trim_start_matches('/').trim_end_matches(".rs");
        let module: Vec<String> = relative.split('/').filter(|it| *it != "lib").map(str::to_owned).collect();
        let mut paths = BTreeSet::new();
        collect(text.parse().expect("it is Rust"), &module, &mut paths);
        (module, paths)
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() > 100, "{} files", files.len());
    files
}

/// Collects the paths that begin with `crate` or `super`, in `use` and elsewhere.
fn collect(tokens: TokenStream, module: &[String], found: &mut BTreeSet<Vec<String>>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut inner: Option<Ident> = None;
    let mut previous = String::new();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => {
                // The body of `mod name { … }` is one level further in.
                let mut module = module.to_vec();
                module.extend(
                    inner.take().filter(|_| group.delimiter() == Delimiter::Brace).map(|it| it.to_string()),
                );
                collect(group.stream(), &module, found);
            }
            TokenTree::Ident(ident) if *ident == "crate" || *ident == "super" => {
                let start = match ident == "super" {
                    true => module.split_last().map(|(_, up)| up.to_vec()).unwrap_or_default(),
                    false => Vec::new(),
                };
                tree(&mut tokens, start, found);
            }
            TokenTree::Ident(ident) if previous == "mod" => inner = Some(ident.clone()),
            _ => {}
        }
        previous = token.to_string();
    }
}

/// Follows one path, or a tree of them, after its first word.
fn tree(
    tokens: &mut std::iter::Peekable<proc_macro2::token_stream::IntoIter>,
    mut path: Vec<String>,
    found: &mut BTreeSet<Vec<String>>,
) {
    loop {
        // `::`
        for _ in 0..2 {
            match tokens.peek() {
                Some(TokenTree::Punct(it)) if it.as_char() == ':' => drop(tokens.next()),
                _ => {
                    found.insert(path);
                    return;
                }
            }
        }
        match tokens.next() {
            Some(TokenTree::Ident(ident)) if ident == "super" => drop(path.pop()),
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group)) => {
                let mut parts = group.stream().into_iter().peekable();
                while let Some(part) = parts.next() {
                    if let TokenTree::Ident(ident) = part {
                        let mut path = path.clone();
                        path.extend((ident != "self").then(|| ident.to_string()));
                        tree(&mut parts, path, found);
                    }
                }
                return;
            }
            _ => {
                found.insert(path);
                return;
            }
        }
    }
}
