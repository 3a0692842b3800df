//! Inputs for the entry points of fuzz targets, always the same.

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

/// Calls the entry point of the fuzz target of this name with its seeds, and with as many inputs.
pub fn generated(name: &str, cases: u32, target: fn(&[u8])) {
    let seeds = format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
    let seeds = std::fs::read_dir(seeds).expect("there are seeds");
    for seed in seeds {
        let seed = seed.and_then(|seed| std::fs::read(seed.path()));
        target(&seed.expect("it can be read"));
    }
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
