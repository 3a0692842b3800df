//! How the run of a machine ends on all of its virtual processors.

use core::sync::atomic::{AtomicUsize, Ordering};

use spin::mutex::Mutex;

use super::peers::Peers;
use crate::run::Statistics;

/// Who sleeps for good, who has stopped, and what those counted.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    ended: Mutex<bool>,
    asleep: AtomicUsize,
    stopped: AtomicUsize,
    statistics: Mutex<Statistics>,
}

impl Ending {
    /// The run ends. Whether this is the first to say so.
    pub(crate) fn begin(&self) -> bool {
        !core::mem::replace(&mut *self.ended.lock(), true)
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
    /// Who wakes calls [`Ending::wakes`] before it takes what woke it. So while one is under way, either the sum
    /// is short of it, or its signal is still posted.
    pub(crate) fn falls_asleep(&self, peers: &Peers) -> bool {
        let asleep = self.asleep.fetch_add(1, Ordering::SeqCst) + 1;
        asleep >= peers.count() && peers.is_quiet()
    }

    /// A processor that had fallen asleep has a signal posted, and has not taken it yet.
    pub(crate) fn wakes(&self) {
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}
