//! Devices for tests: the memory that they share with L1, and their side of a queue.

pub(crate) mod memory;
pub(crate) mod queue;
