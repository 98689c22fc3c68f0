//! Names that most tests use.

pub(crate) use pve_edge_bed::{
    sim::{Kind, Node, Setup, Sim, Spec, Storage, StorageKind, Version},
    world::{Fault, Moment, Seen, World},
};
pub(crate) use serde_json::{Value, json};
pub(crate) use time::Duration;

pub(crate) use super::{
    Answer, Ask, BOTH, SNAPSHOT, Stage, TEMPLATE, VM_TEMPLATE, echo, plain_sim, preset_of, sim_of, vmid_of,
};
