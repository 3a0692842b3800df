//! How fast the TSC counts.

use core::sync::atomic::{AtomicU64, Ordering};

/// TSC ticks a millisecond where instructions are counted (`-icount shift=0`): each tick is a nanosecond.
pub(crate) const USUAL: u64 = 1_000_000;

static TICKS: AtomicU64 = AtomicU64::new(USUAL);

/// TSC ticks a millisecond.
pub(crate) fn ticks_per_millisecond() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// The TSC is the host's, and counts so many ticks a millisecond.
pub(crate) fn set_ticks_per_millisecond(ticks: u64) {
    TICKS.store(ticks.max(1), Ordering::Relaxed);
}

/// The TSC's frequency in units of 25 MHz, which TD_PARAMS has (TDX Module ABI, "TD_PARAMS", TSC_FREQUENCY).
pub(crate) fn frequency() -> u16 {
    const UNIT: u64 = 25_000;
    ((ticks_per_millisecond() + UNIT / 2) / UNIT) as u16
}
