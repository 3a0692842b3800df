//! How the run of a machine ends on all of its virtual processors, and the next begins.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use spin::mutex::Mutex;

use super::peers::Peers;
use crate::run::Statistics;

/// One that has woken up, in [`Ending::sleep`].
const AWAKENING: u64 = 1 << 32;
/// How many sleep, in [`Ending::sleep`].
const ASLEEP: u64 = AWAKENING - 1;

/// Who sleeps for good, who has stopped, and what those counted.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    begun: AtomicBool,
    /// How many sleep, and above how often one has woken up.
    sleep: AtomicU64,
    stopped: AtomicUsize,
    statistics: Mutex<Statistics>,
    /// How often a run has begun after another.
    restarts: AtomicU32,
}

impl Ending {
    /// The run ends. Whether this is the first to say so.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// Whether the run has ended: on whichever processor.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Another run begins, of which nothing has ended. For who ended the last one, when all others have stopped; what
    /// it counted is `statistics`. The others may go on from here.
    pub(crate) fn restart(&self, statistics: &Statistics) {
        self.statistics.lock().add(statistics);
        self.sleep.store(0, Ordering::Relaxed);
        self.stopped.store(0, Ordering::Relaxed);
        self.begun.store(false, Ordering::Relaxed);
        self.restarts.fetch_add(1, Ordering::Release);
    }

    /// How often that was.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Acquire)
    }

    /// A processor runs no more.
    pub(crate) fn stopped(&self, statistics: &Statistics) {
        self.statistics.lock().add(statistics);
        self.stopped.fetch_add(1, Ordering::Release);
    }

    /// How many run no more.
    pub(crate) fn count_stopped(&self) -> usize {
        self.stopped.load(Ordering::Acquire)
    }

    /// What those counted.
    pub(crate) fn statistics(&self) -> Statistics {
        self.statistics.lock().clone()
    }

    /// A processor waits for an event that only another one can cause: start-up, INIT or an NMI. Whether all of
    /// `peers` do, and nothing is under way: then none of them will ever run again.
    ///
    /// Who wakes calls [`Ending::wakes`] before it takes what woke it, and who sleeps posts nothing. So if nobody has
    /// woken up between two looks at the sum, what was posted before the first was still there between them.
    pub(crate) fn falls_asleep(&self, peers: &Peers) -> bool {
        self.is_last(peers.count(), || peers.is_quiet())
    }

    fn is_last(&self, count: usize, is_quiet: impl FnOnce() -> bool) -> bool {
        let sleep = self.sleep.fetch_add(1, Ordering::SeqCst) + 1;
        let all = (sleep & ASLEEP) as usize >= count;
        all && is_quiet() && self.sleep.load(Ordering::SeqCst) == sleep
    }

    /// How many sleep.
    #[cfg(test)]
    pub(crate) fn count_asleep(&self) -> usize {
        (self.sleep.load(Ordering::SeqCst) & ASLEEP) as usize
    }

    /// A processor that had fallen asleep has a signal posted, and has not taken it yet.
    pub(crate) fn wakes(&self) {
        self.sleep.fetch_add(AWAKENING - 1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_fall_asleep_is_told_unless_another_wakes() {
        let ending = Ending::default();
        assert!(!ending.is_last(2, || true));
        assert!(!ending.is_last(2, || false), "something is posted");
        ending.wakes();
        ending.wakes();
        assert!(!ending.is_last(2, || true));
        assert!(ending.is_last(2, || true));
        ending.wakes();
        // The other one takes its signal, and runs, when this one has counted and not looked yet.
        let wakes_meanwhile = || {
            ending.wakes();
            true
        };
        assert!(!ending.is_last(2, wakes_meanwhile));
        assert!(ending.is_last(2, || true), "and sleeps again");
    }
}
