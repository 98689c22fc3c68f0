//! Figures of the guest.

use pve_edge_guest_protocol::answer::{Code, Metrics, Refusal};

/// Measures the guest.
pub async fn measure() -> Result<Metrics, Refusal> {
    Err(Refusal::new(Code::Unsupported, "this daemon measures nothing yet"))
}
