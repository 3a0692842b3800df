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

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many times as many inputs: for a longer run than that of all tests.
const ROUNDS: &str = "TDP_TRAFFIC_ROUNDS";

/// Inputs from those that keep the rules to those that break all of them.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    (1..40_u32, 1..240_u8).prop_flat_map(|(every, small)| {
        let byte = prop_oneof![every => 0..small, 1 => any::<u8>()];
        prop::collection::vec(byte, 0..600)
    })
}

fn generated(cases: u32, target: fn(&[u8])) {
    let rounds = std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number"));
    let config = Config {
        cases: cases * rounds,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let run = TestRunner::new_with_rng(config, random).run(&inputs(), |bytes| {
        target(&bytes);
        Ok(())
    });
    run.expect("nothing is found");
}

#[test]
fn fifo_registers_are_as_the_profile_has_them() {
    generated(3000, entry_points::fifo_registers);
}

#[test]
fn crb_registers_are_as_the_profile_has_them() {
    generated(1500, entry_points::crb_registers);
}

#[test]
fn the_engine_answers_any_commands() {
    generated(300, entry_points::engine_commands);
}
