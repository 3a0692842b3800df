//! The TPM's registers under any traffic, each access beside a second reading of the profile ([`profile`]), and the engine
//! under any commands. Every choice of the guest's is a byte of an input; where an input ends, so does the traffic.
//!
//! The second reading shares nothing with the registers but the offsets' names: it has the profile's tables as tables, and
//! knows neither the registers' types nor their states. Whatever the bytes: each read is what the tables say, so is
//! the interrupt line, and the engine is asked for those commands alone that the tables let through.
//!
//! The fuzz targets beside this file and `tests/any_traffic.rs` call the same functions.

mod commands;
mod engine;
#[allow(
    dead_code,
    reason = "shared with the fuzz targets of the queues, which use all of it"
)]
#[path = "../../../l1-vmm/fuzz/src/input.rs"]
mod input;
mod memory;
mod profile;
mod traffic;

pub use commands::engine_commands;
pub use traffic::{crb_registers, fifo_registers};
