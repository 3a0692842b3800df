//! The virtio queues with a hostile other side, whose every choice is a byte of an input: the host against L1's driver of
//! a queue and of its devices, L2 against the devices that L1 gives it. Whatever the bytes: nothing panics, every call
//! ends within its bound, no buffer is lost, and no address is used that nobody gave. Where an input ends, the other side
//! keeps the rules, and then all works.
//!
//! The fuzz targets beside this file and `tests/hostile_queues.rs` call the same functions.

mod device;
mod drivers;
mod guest;
mod host;
mod input;
mod ring;

pub use device::l2_device;
pub use drivers::{host_block, host_console, host_vsock};
pub use ring::driver_ring;
