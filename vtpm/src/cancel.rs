//! A request that a command give up, and when it counts.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// Shared by who asks and by who executes. What is executed is often several commands of the engine: those of L1's own before
/// and after the guest's do not give up, for the TPM fails without them.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    asked: AtomicBool,
    heeded: AtomicBool,
}

impl Cancel {
    /// What is executed is to give up.
    pub(crate) fn ask(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    /// What was asked for is over.
    pub(crate) fn forget(&self) {
        self.0.asked.store(false, Ordering::Relaxed);
    }

    /// Whether the engine is to be told now.
    pub(crate) fn is_due(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed) && self.0.heeded.load(Ordering::Relaxed)
    }

    /// Runs `action`, which may give up.
    pub(crate) fn heeded<T>(&self, action: impl FnOnce() -> T) -> T {
        self.0.heeded.store(true, Ordering::Relaxed);
        let result = action();
        self.0.heeded.store(false, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_heeds_it_is_told() {
        let cancel = Cancel::default();
        let here = cancel.clone();
        cancel.heeded(|| assert!(!here.is_due()));
        cancel.ask();
        assert!(!here.is_due());
        cancel.heeded(|| assert!(here.is_due()));
        assert!(!here.is_due());
        cancel.forget();
        cancel.heeded(|| assert!(!here.is_due()));
    }
}
