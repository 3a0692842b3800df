//! INIT and start-up, in the order in which they came (SDM Vol. 3A, section "MP Initialization Protocol").

use super::{AtomicU32, Ordering};

const INIT: u32 = 1 << 0;
const STARTUP: u32 = 1 << 1;
const VECTOR_SHIFT: u32 = 8;

/// What of them was not told yet: one word, so that their order cannot be lost.
#[derive(Debug)]
pub(crate) struct Start(AtomicU32);

/// What is told. `startup` came after `init`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) init: bool,
    pub(crate) startup: Option<u8>,
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
        let mut old = self.0.load(Ordering::Relaxed);
        while old & STARTUP == 0 {
            let order = Ordering::AcqRel;
            match self
                .0
                .compare_exchange(old, old | start, order, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }

    pub(crate) fn take(&self) -> Told {
        let word = self.0.swap(0, Ordering::AcqRel);
        Told {
            init: word & INIT != 0,
            startup: (word & STARTUP != 0).then_some((word >> VECTOR_SHIFT) as u8),
        }
    }
}
