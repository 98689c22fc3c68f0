//! The outgoing requests that a wait keeps back for the work after it (rule S10.5).

/// After a VMID is claimed: the look for rivals, the commit, the growth of the disk, the start, two probes, the write
/// that it came up, and what undoes it all.
pub const CLAIM: u32 = 12;
/// After a sandbox was located: the operation that it was located for.
pub const OPERATION: u32 = 12;
/// After a wait for a clone: one more look at it.
pub const CLONE: u32 = 2;
/// After a step of a sandbox that comes up: the write of its end, or what undoes it.
pub const STEP: u32 = 6;
/// After a container for a template is claimed: its commit, and the look for other templates of its version.
pub const TEMPLATE: u32 = 7;
/// After a step of a template that is being made: the removal of the snapshot that it was copied from, and its tags.
pub const TEMPLATE_STEP: u32 = 4;
/// After a rollback: the write over what came back, the start, a probe, and the write that it came up.
pub const ROLLBACK: u32 = 8;
/// After a list: nothing but the answer; some are left for what others have begun.
pub const LIST: u32 = 4;
/// For one guest in a sweep.
pub const SWEEP: u32 = 4;
