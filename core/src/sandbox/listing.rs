//! Listings: what is asked for, and a page of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Sandbox, State};
use crate::error::Error;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// All of them must be there, with these values.
    pub metadata: BTreeMap<String, String>,
    /// Only these.
    pub state: Option<State>,
    /// At most so many.
    pub limit: usize,
    /// Only those after the last one of an earlier page.
    pub after: Option<String>,
}

/// A page of sandboxes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// By VMID; of Morph by id.
    pub items: Vec<Sandbox>,
    /// For the next page.
    pub next_cursor: Option<String>,
    /// Of a listing by metadata: how many sandboxes could not be judged, and are not among the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unindexed: Option<usize>,
}

/// The page that it names is of no listing of ours.
pub(crate) fn bad_cursor() -> Error {
    Error::field("cursor", "is the nextCursor of an earlier page")
}
