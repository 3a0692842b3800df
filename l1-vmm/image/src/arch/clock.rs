//! Time since the TD's virtual TSC was zero.

use core::sync::atomic::{AtomicU64, Ordering};

use tdcall::leaf::MetadataError;
use tdx_defs::field::FieldId;

use super::td;

/// TSC_FREQUENCY's unit is 25 MHz: one tick of a TSC of `n` units is 40 / n ns.
const NANOSECONDS: u64 = 40;

/// In units of 25 MHz; 1 until [`start`], so that nothing divides by zero.
static UNITS: AtomicU64 = AtomicU64::new(1);

/// Asks the module for the frequency; returns it in Hz. The module guarantees 100 MHz to 10 GHz.
pub(crate) fn start() -> Result<u64, MetadataError> {
    let units = td().vm_rd(FieldId::TSC_FREQUENCY)?.max(1);
    UNITS.store(units, Ordering::Relaxed);
    Ok(units * 25_000_000)
}

/// The time-stamp counter, which the module virtualizes: the host can neither stop it nor set it
/// back.
pub(crate) fn ticks() -> u64 {
    // SAFETY: reads a counter.
    unsafe { x86::time::rdtsc() }
}

/// Nanoseconds since the counter was zero; never goes back.
pub(crate) fn nanoseconds() -> u64 {
    nanoseconds_of(ticks())
}

/// So many ticks, in nanoseconds.
pub(crate) fn nanoseconds_of(ticks: u64) -> u64 {
    let units = u128::from(UNITS.load(Ordering::Relaxed));
    (u128::from(ticks) * u128::from(NANOSECONDS) / units) as u64
}

/// What the counter is when [`nanoseconds`] comes to this.
pub(crate) fn ticks_at(nanoseconds: u64) -> u64 {
    let units = u128::from(UNITS.load(Ordering::Relaxed));
    let ticks = (u128::from(nanoseconds) * units).div_ceil(u128::from(NANOSECONDS));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
