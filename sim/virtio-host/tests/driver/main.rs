//! The devices, driven by L1's own driver of the bus and of queues.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod block;
mod bus;
mod console;
mod drivers;
mod host;
mod l1;
mod lies;
mod network;
mod power;
mod sockets;
mod violations;
