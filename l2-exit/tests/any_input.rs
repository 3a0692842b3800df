//! The entry points of the fuzz targets with bytes from a generator, always the same.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

// Public in the crate of the fuzz targets.
#[allow(unreachable_pub, missing_docs)]
#[path = "../fuzz/src/lib.rs"]
mod entry_points;
#[allow(unreachable_pub)]
#[path = "../../vtpm/tests/generated/mod.rs"]
mod generated;

use generated::generated;

#[test]
fn any_instructions_are_the_same_at_an_exit_and_ahead() {
    generated("instructions", 6_000, entry_points::instructions);
}

#[test]
fn any_exit_information_has_a_meaning_or_none() {
    generated("exit_information", 6_000, entry_points::exit_information);
}

#[test]
fn any_arguments_of_a_tdcall_change_its_registers_alone() {
    generated(
        "tdvmcall_arguments",
        6_000,
        entry_points::tdvmcall_arguments,
    );
}
