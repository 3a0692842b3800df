//! Hostile sizes: for every list in every format that the verifier reads, four times the list takes far less than sixteen
//! times as long. What is refused for its size is refused at once.
//!
//! Time is that which the thread had a processor for, and the least of several runs: other work on the machine does not
//! count. A list that was compared with itself would take sixteen times as long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod bundles;
mod certificates;
mod structures;

use evidence::{Boot, Evidence};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
pub(crate) static HONEST: LazyLock<Evidence> = LazyLock::new(|| Boot::default().evidence());

/// How long this thread has had a processor.
fn processor_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = statistics.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The least that `work` takes in three runs.
pub(crate) fn time(mut work: impl FnMut()) -> Duration {
    let run = |work: &mut dyn FnMut()| {
        let (clock, before) = (Instant::now(), processor_time());
        work();
        match before.zip(processor_time()) {
            Some((before, after)) if after > before => after - before,
            _ => clock.elapsed(),
        }
    };
    (0..3).map(|_| run(&mut work)).min().unwrap()
}

/// What a run may differ by for reasons of its own.
const NOISE: Duration = Duration::from_millis(10);

/// That `read` takes time linear in the list that `make` gives so many entries.
#[track_caller]
pub(crate) fn linear<T>(what: &str, entries: usize, make: impl Fn(usize) -> T, read: impl Fn(&T)) {
    let [one, four] = [entries, 4 * entries].map(|entries| {
        let input = make(entries);
        time(|| read(&input))
    });
    assert!(
        four < 10 * one + NOISE,
        "{what}: {entries} entries take {one:?}, four times as many {four:?}"
    );
}
