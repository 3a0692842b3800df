//! INIT, start-up and NMIs, in the order in which they came (SDM Vol. 3A, section "MP Initialization Protocol").

use super::{AtomicU32, Ordering};

const INIT: u32 = 1 << 0;
const STARTUP: u32 = 1 << 1;
/// An NMI to a processor that had no start-up since the owner last looked.
const NMI: u32 = 1 << 2;
/// An NMI after the start-up.
const LATE_NMI: u32 = 1 << 3;
const VECTOR_SHIFT: u32 = 8;

/// What of them was not told yet: one word, so that their order cannot be lost.
#[derive(Debug)]
pub(crate) struct Start(AtomicU32);

/// What is told. `startup` came after `init`; `nmi` is not told with `init`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) init: bool,
    pub(crate) startup: Option<u8>,
    pub(crate) nmi: bool,
    pub(crate) nmi_after_startup: bool,
}

impl Start {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn init(&self) {
        self.0.store(INIT, Ordering::Release);
    }

    pub(crate) fn startup(&self, vector: u8) {
        let start = STARTUP | u32::from(vector) << VECTOR_SHIFT;
        self.add(|word| match word & STARTUP {
            0 => start,
            _ => 0,
        });
    }

    pub(crate) fn nmi(&self) {
        self.add(|word| match word & STARTUP {
            0 => NMI,
            _ => LATE_NMI,
        });
    }

    /// Sets the bits that follow from those that are set.
    fn add(&self, bits: impl Fn(u32) -> u32) {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let new = old | bits(old);
            match self
                .0
                .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }

    pub(crate) fn take(&self) -> Told {
        let word = self.0.swap(0, Ordering::AcqRel);
        let init = word & INIT != 0;
        Told {
            init,
            nmi: !init && word & NMI != 0,
            nmi_after_startup: word & LATE_NMI != 0,
            startup: (word & STARTUP != 0).then_some((word >> VECTOR_SHIFT) as u8),
        }
    }
}
