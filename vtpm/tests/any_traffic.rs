//! The entry points of the fuzz targets with bytes from a generator, always the same.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

// Public in the crate of the fuzz targets.
#[allow(unreachable_pub, missing_docs)]
#[path = "../fuzz/src/lib.rs"]
mod entry_points;

#[allow(unreachable_pub)]
mod generated;

use generated::generated;

#[test]
fn fifo_registers_are_as_the_profile_has_them() {
    generated("fifo_registers", 3000, entry_points::fifo_registers);
}

#[test]
fn crb_registers_are_as_the_profile_has_them() {
    generated("crb_registers", 1500, entry_points::crb_registers);
}

#[test]
fn the_engine_answers_any_commands() {
    generated("engine_commands", 300, entry_points::engine_commands);
}
