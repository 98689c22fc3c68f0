//! Index tags: name, source and metadata for listings, as numbered chunks of
//! lower-case base32: `pe1m{chunk}-{chunks}.{base32}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Mark;
use crate::text::base32::{base32, from_base32};

/// Longer tags are no trouble to PVE, but to whoever looks at them.
const CHUNK: usize = 80;

#[derive(Serialize, Deserialize)]
struct Index {
    complete: bool,
    template: Option<u32>,
    snapshot: Option<String>,
    /// Of a template: the sandbox that it is a snapshot of.
    source: Option<String>,
    name: Option<String>,
    metadata: BTreeMap<String, String>,
}

/// As much as fits `budget` bytes, separators counted: what it was made of, then the name, then metadata, the
/// shortest entries first (rule S1.6).
pub(super) fn write(mark: &Mark, budget: usize) -> Vec<String> {
    let whole = Index {
        complete: true,
        template: mark.template.map(u32::from),
        snapshot: mark.snapshot.as_ref().map(ToString::to_string),
        source: mark.source.as_ref().map(ToString::to_string),
        name: mark.name.clone(),
        metadata: mark.metadata.clone(),
    };
    if let Some(tags) = fitting(&whole, budget) {
        return tags;
    }
    let bare = Index { complete: false, source: None, name: None, metadata: BTreeMap::new(), ..whole };
    let mut best = bare;
    let Some(mut tags) = fitting(&best, budget) else { return Vec::new() };
    let mut grow = |add: &dyn Fn(&mut Index), remove: &dyn Fn(&mut Index)| {
        add(&mut best);
        match fitting(&best, budget) {
            Some(more) => tags = more,
            None => remove(&mut best),
        }
    };
    let source = mark.source.as_ref().map(ToString::to_string);
    grow(&|index| index.source.clone_from(&source), &|index| index.source = None);
    grow(&|index| index.name.clone_from(&mark.name), &|index| index.name = None);
    let mut entries: Vec<_> = mark.metadata.iter().collect();
    entries.sort_by_key(|(key, value)| (key.len() + value.len(), *key));
    for (key, value) in entries {
        let add = |index: &mut Index| drop(index.metadata.insert(key.clone(), value.clone()));
        grow(&add, &|index| drop(index.metadata.remove(key)));
    }
    tags
}

fn fitting(index: &Index, budget: usize) -> Option<Vec<String>> {
    let text = base32(&postcard::to_allocvec(index).ok()?);
    let chunks: Vec<&str> =
        text.as_bytes().chunks(CHUNK).filter_map(|it| std::str::from_utf8(it).ok()).collect();
    let count = chunks.len();
    let tags: Vec<String> =
        chunks.iter().enumerate().map(|(at, chunk)| format!("pe1m{at}-{count}.{chunk}")).collect();
    (tags.iter().map(|it| it.len() + 1).sum::<usize>() <= budget).then_some(tags)
}

/// Fills in what the index says, and says whether that is all there is. A chunk missing means that nothing is
/// known, never a part (rule S1.6).
pub(super) fn read(tags: &str, mark: &mut Mark) -> bool {
    let Some(index) = decode(tags) else { return false };
    mark.template = index.template.and_then(|it| it.try_into().ok());
    mark.snapshot = index.snapshot.and_then(|it| it.parse().ok());
    mark.name = index.name;
    mark.source = index.source.and_then(|it| it.parse().ok());
    mark.metadata = index.metadata;
    index.complete
}

fn decode(tags: &str) -> Option<Index> {
    let chunks: Vec<(usize, usize, &str)> = super::split(tags).filter_map(chunk).collect();
    let mut text = String::new();
    for wanted in 0..chunks.len() {
        let (_, of, part) = chunks.iter().find(|(at, ..)| *at == wanted)?;
        if *of != chunks.len() {
            return None;
        }
        text.push_str(part);
    }
    postcard::from_bytes(&from_base32(&text)?).ok()
}

fn chunk(tag: &str) -> Option<(usize, usize, &str)> {
    let rest = tag.get(..4).filter(|it| it.eq_ignore_ascii_case("pe1m")).and_then(|_| tag.get(4..))?;
    let (numbers, text) = rest.split_once('.')?;
    let (at, of) = numbers.split_once('-')?;
    Some((at.parse().ok()?, of.parse().ok()?, text))
}
