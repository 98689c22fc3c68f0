//! Listings of sandboxes: their filter, and their pages.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Sandbox, State};
use crate::error::Error;

/// Filter of a listing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Metadata that the sandboxes have, with these values.
    pub metadata: BTreeMap<String, String>,
    /// State that the sandboxes are in.
    pub state: Option<State>,
    /// Most sandboxes on a page.
    pub limit: usize,
    /// Last sandbox of the page before; the listing goes on after it.
    pub after: Option<String>,
}

/// A page of sandboxes, sorted by VMID; those of Morph by id.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// Sandboxes of the page.
    pub items: Vec<Sandbox>,
    /// Value for `cursor` that asks for the next page; null: this is the last page.
    pub next_cursor: Option<String>,
    /// Number of sandboxes that a filter by metadata could not judge, because their metadata did not fit their tags; they
    /// are not among the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "usize"))]
    pub unindexed: Option<usize>,
}

/// The error of a cursor that is of no listing of ours.
pub(crate) fn bad_cursor() -> Error {
    Error::field("cursor", "is the nextCursor of an earlier page")
}
