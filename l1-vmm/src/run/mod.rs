//! A run of L2: what the image brings to it, how it ends, what is counted.
//!
//! * [`L2`] enters L2, and answers each exit: [`L2::run`] returns when L2 is over.
//! * [`environment`]: what the image brings (processor, memory, TPM).
//! * [`end`]: why L2 does not run any more.
//!
//! What the machine has once is in [`crate::machine`], what each virtual processor has in [`crate::vcpu`].
//!
//! An access to the TPM window costs one TDCALL, TDG.VP.ENTER, and allocates nothing.

pub mod end;
pub mod environment;
mod statistics;

pub use crate::machine::{Machine, MachineParts};
pub use crate::vcpu::exits::{L2, ProcessorParts};
pub use end::{End, Failure, GuestError, Snapshot};
pub use environment::{
    Device, Environment, Interrupts, L2Memory, Layout, Owner, Processor, Services, VapicPage,
};
pub use statistics::Statistics;
