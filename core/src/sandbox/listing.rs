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

/// A page of sandboxes, by VMID; of Morph by id.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The sandboxes.
    pub items: Vec<Sandbox>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
    /// With a filter by metadata: so many sandboxes of this page's part could not be judged, since what is asked for did
    /// not fit their tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "usize"))]
    pub unindexed: Option<usize>,
}

/// The page that it names is of no listing of ours.
pub(crate) fn bad_cursor() -> Error {
    Error::field("cursor", "is the nextCursor of an earlier page")
}
