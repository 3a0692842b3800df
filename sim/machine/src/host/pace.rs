//! When a host that misbehaves lets a virtual processor run.

use crate::arch::clock::ticks_per_millisecond;
use crate::options::{Fault, Options, Share};

/// When the host lets one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Pace {
    #[default]
    Always,
    Shares(Quota),
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
    /// What the options make of a virtual processor.
    pub(super) fn of(index: u32, options: &Options) -> Self {
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
        let faulty = options.faults.iter().find_map(planned);
        let shares = || options.share.map(|share| Self::Shares(Quota::new(share)));
        faulty.or_else(shares).unwrap_or_default()
    }

    /// Whether it may run now.
    pub(super) fn allows(self, now: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Shares(quota) => quota.left(now) > 0,
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
            Self::Shares(_) | Self::Stalls { .. } => true,
            Self::Never => false,
        }
    }

    /// How long its turn may be that begins now.
    pub(super) fn longest_turn(self, now: u64) -> u64 {
        match self {
            Self::Shares(quota) => quota.left(now).max(1).unsigned_abs(),
            _ => u64::MAX,
        }
    }

    /// Its turn has ended, which began `since`.
    pub(super) fn rest(&mut self, since: u64, now: u64) {
        match self {
            Self::Shares(quota) => quota.spend(since, now),
            Self::Stalls { every, until } => *until = now.saturating_add(*every),
            _ => {}
        }
    }

    /// When it may run again, if it may not now.
    pub(super) fn resumes_after(self, now: u64) -> Option<u64> {
        match self {
            Self::Shares(quota) => quota.refilled_at(now),
            Self::Stalls { until, .. } => Some(until).filter(|&until| until > now),
            _ => None,
        }
    }
}

/// So much time in each period, as `cpu.max` of Linux's control groups has it: what is not used is lost, and what was used
/// beyond it is taken from the periods that follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    quota: u64,
    period: u64,
    /// What was left when the period began that was the last to be looked at, less what was used since.
    left: i64,
    /// When that period ends.
    ends: u64,
}

impl Quota {
    fn new(share: Share) -> Self {
        let ticks = |microseconds: u64| microseconds.saturating_mul(ticks_per_millisecond()) / 1000;
        Self {
            quota: ticks(share.run).max(1),
            period: ticks(share.period).max(1),
            left: 0,
            ends: 0,
        }
    }

    /// Periods that have begun since the one that was looked at.
    fn begun(&self, now: u64) -> u64 {
        match now.checked_sub(self.ends) {
            Some(beyond) => beyond / self.period + 1,
            None => 0,
        }
    }

    /// What may be used at this time.
    fn left(&self, now: u64) -> i64 {
        let quota = self.quota.cast_signed();
        match self.begun(now) {
            0 => self.left,
            begun => {
                let given = begun.saturating_mul(self.quota).cast_signed();
                self.left.saturating_add(given).min(quota)
            }
        }
    }

    fn spend(&mut self, since: u64, now: u64) {
        self.left = self.left(now);
        self.ends = self
            .ends
            .saturating_add(self.begun(now).saturating_mul(self.period));
        let used = now.saturating_sub(since).cast_signed();
        self.left = self.left.saturating_sub(used);
    }

    /// When there is something again, if there is nothing now.
    fn refilled_at(&self, now: u64) -> Option<u64> {
        let left = self.left(now);
        let debt = u64::try_from(-left).ok()?;
        let next = self
            .ends
            .saturating_add(self.begun(now).saturating_mul(self.period));
        Some(next.saturating_add(debt / self.quota * self.period))
    }
}
