//! The FIFO interface: its registers, and a command's way through them.

pub mod bits;
pub(super) mod transfer;
