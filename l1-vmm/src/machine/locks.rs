//! Locks of the machine's parts, and how long each was held.
//!
//! The order is in `docs/soundness.md`: the TPM's, then the devices'. A processor that waits executes PAUSE.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use spin::mutex::{Mutex, MutexGuard};

/// A part of the machine that one processor has at a time.
pub(crate) struct Lock<T> {
    value: Mutex<T>,
    /// The TSC.
    clock: fn() -> u64,
    taken: AtomicU64,
    contended: AtomicU64,
    total: AtomicU64,
    longest: AtomicU64,
}

/// How a lock was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockFigures {
    /// How often it was taken.
    pub taken: u64,
    /// How often it was wanted and another processor had it.
    pub contended: u64,
    /// How long it was held, in TSC ticks.
    pub total: u64,
    /// The longest of these.
    pub longest: u64,
}

impl fmt::Display for LockFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            taken,
            contended,
            total,
            longest,
        } = self;
        write!(
            f,
            "taken {taken} times, contended {contended}, held {total} ticks, {longest} at most"
        )
    }
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T, clock: fn() -> u64) -> Self {
        Self {
            value: Mutex::new(value),
            clock,
            taken: AtomicU64::new(0),
            contended: AtomicU64::new(0),
            total: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    /// Waits for it.
    pub(crate) fn lock(&self) -> Held<'_, T> {
        if let Some(held) = self.try_lock() {
            return held;
        }
        Held::new(self, self.value.lock())
    }

    /// Takes it if nobody has it.
    pub(crate) fn try_lock(&self) -> Option<Held<'_, T>> {
        let Some(guard) = self.value.try_lock() else {
            self.contended.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(Held::new(self, guard))
    }

    /// How often it was taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self) -> LockFigures {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        LockFigures {
            taken: read(&self.taken),
            contended: read(&self.contended),
            total: read(&self.total),
            longest: read(&self.longest),
        }
    }
}

/// The part, for as long as this lives.
pub(crate) struct Held<'a, T> {
    guard: MutexGuard<'a, T>,
    lock: &'a Lock<T>,
    since: u64,
}

impl<'a, T> Held<'a, T> {
    fn new(lock: &'a Lock<T>, guard: MutexGuard<'a, T>) -> Self {
        let since = (lock.clock)();
        Self { guard, lock, since }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Held<'_, T> {
    /// Before the lock itself is given back: nobody else writes the figures.
    fn drop(&mut self) {
        let time = (self.lock.clock)().saturating_sub(self.since);
        self.lock.taken.fetch_add(1, Ordering::Relaxed);
        self.lock.total.fetch_add(time, Ordering::Relaxed);
        self.lock.longest.fetch_max(time, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_the_contended_are_counted() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let lock = Lock::new(1, || NOW.load(Ordering::Relaxed));
        for time in [5, 30, 7] {
            let mut held = lock.lock();
            *held += 1;
            assert!(lock.try_lock().is_none());
            NOW.fetch_add(time, Ordering::Relaxed);
        }
        let expected = LockFigures {
            taken: 3,
            contended: 3,
            total: 42,
            longest: 30,
        };
        assert_eq!(lock.figures(), expected);
        assert_eq!(*lock.lock(), 4);
    }
}
