//! Clocks of a PC as functions of the TSC: exact, without drift, and nothing to keep.

use x86_defs::pc::ACPI_TIMER_HZ;

use crate::machine::cpuid::CRYSTAL_HZ;

/// A clock of [`ACPI_TIMER_HZ`] or a whole part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    /// TSC ticks a second, times the part.
    per_second: u64,
}

impl Ticks {
    /// The PM timer's clock, where `ratio` TSC ticks are a tick of the crystal clock.
    pub(super) fn pm_timer(ratio: u32) -> Self {
        Self::part(ratio, 1)
    }

    /// The interval timer's clock, a third of the PM timer's: 1.193182 MHz.
    pub(super) fn interval_timer(ratio: u32) -> Self {
        Self::part(ratio, 3)
    }

    fn part(ratio: u32, divisor: u64) -> Self {
        Self {
            per_second: u64::from(ratio.max(1)) * u64::from(CRYSTAL_HZ) * divisor,
        }
    }

    /// Whole ticks at a value of the TSC. It wraps with 64 bits.
    pub(super) fn at(self, tsc: u64) -> u64 {
        (u128::from(tsc) * u128::from(ACPI_TIMER_HZ) / u128::from(self.per_second)) as u64
    }

    /// The first value of the TSC at which [`Ticks::at`] is `tick`.
    pub(super) fn tsc_of(self, tick: u64) -> u64 {
        let tsc =
            (u128::from(tick) * u128::from(self.per_second)).div_ceil(u128::from(ACPI_TIMER_HZ));
        u64::try_from(tsc).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tick_begins_where_it_says(ratio in 1u32..400, tick in 0u64..1 << 40) {
            for ticks in [Ticks::pm_timer(ratio), Ticks::interval_timer(ratio)] {
                let tsc = ticks.tsc_of(tick);
                prop_assert!(ticks.at(tsc) >= tick);
                prop_assert!(tsc == 0 || ticks.at(tsc - 1) < tick);
            }
        }
    }
}
