//! When a host that misbehaves lets a virtual processor run.

use crate::arch::clock::ticks_per_millisecond;
use crate::options::Fault;

/// When the host lets one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Pace {
    #[default]
    Always,
    /// Until this time.
    Stops {
        at: u64,
    },
    /// Not again before so many ticks after its last turn, and not before that time now.
    Stalls {
        every: u64,
        until: u64,
    },
    Never,
}

impl Pace {
    /// What the faults make of a virtual processor.
    pub(super) fn of(index: u32, faults: &[Fault]) -> Self {
        let planned = |fault: &Fault| match *fault {
            Fault::ProcessorStalls {
                index: stalled,
                milliseconds,
            } if stalled == index => Some(Self::Stalls {
                every: milliseconds.saturating_mul(ticks_per_millisecond()),
                until: 0,
            }),
            Fault::ProcessorStops {
                index: stopped,
                milliseconds,
            } if stopped == index => Some(Self::Stops {
                at: milliseconds.saturating_mul(ticks_per_millisecond()),
            }),
            Fault::ProcessorNeverRuns { index: never } if never == index => Some(Self::Never),
            _ => None,
        };
        faults.iter().find_map(planned).unwrap_or_default()
    }

    /// Whether it may run now.
    pub(super) fn allows(self, now: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Stops { at } => now < at,
            Self::Stalls { until, .. } => until <= now,
            Self::Never => false,
        }
    }

    /// Whether the turns of the one that runs must have an end for its sake; it is `another` than that one.
    pub(super) fn ends_turns(self, now: u64, another: bool) -> bool {
        match self {
            Self::Always => another,
            Self::Stops { at } => now < at,
            Self::Stalls { .. } => true,
            Self::Never => false,
        }
    }

    /// Its turn has ended.
    pub(super) fn rest(&mut self, now: u64) {
        if let Self::Stalls { every, until } = self {
            *until = now.saturating_add(*every);
        }
    }

    /// When it may run again, if it may not now.
    pub(super) fn resumes_after(self, now: u64) -> Option<u64> {
        match self {
            Self::Stalls { until, .. } => Some(until).filter(|&until| until > now),
            _ => None,
        }
    }
}
