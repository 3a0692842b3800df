//! What one virtual processor of L2's tells another, without a lock.
//!
//! Each processor has a [`Mailbox`]. Others post to it: vectors, NMI, INIT, start-up. Its owner takes what was
//! posted before it enters L2. Flags decide; an inter-processor interrupt, which is the host's to delay, to lose
//! and to invent, only hurries: a poster is told ([`Kick::Needed`]) when the owner is away in L2 or halted, and
//! had not been kicked since it left.
//!
//! The protocol is Dekker's: the owner says that it leaves and then looks for signals, a poster leaves the signal
//! and then looks whether the owner is away, with a sequentially consistent fence between the two on each side.
//! At least one of them sees the other.
#![no_std]
#![forbid(unsafe_code)]

mod start;
#[cfg(test)]
mod tests;

#[cfg(feature = "loom")]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(feature = "loom"))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use start::Start;

/// Vectors, a bit each.
pub type Vectors = [u64; 4];

/// Something was posted: vectors of edge-triggered interrupts.
const EDGE: u32 = 1 << 0;
/// Vectors of level-triggered interrupts.
const LEVEL: u32 = 1 << 1;
/// INIT, start-up, or an NMI: their order counts.
const START: u32 = 1 << 2;
/// The machine ends.
const STOP: u32 = 1 << 3;
/// There is something to look at.
const LOOK: u32 = 1 << 4;

/// The owner runs L1.
const HERE: u32 = 0;
/// The owner runs L2, or waits in the host.
const AWAY: u32 = 1;
/// The owner is away and somebody has undertaken to kick it.
const KICKED: u32 = 2;

/// What a poster has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Kick {
    /// Interrupt the owner.
    Needed,
    /// Nothing: the owner looks before it leaves, or somebody else kicks it.
    Not,
}

/// What was posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Edge-triggered interrupts.
    pub edge: Vectors,
    /// Level-triggered interrupts. A vector that is here and in `edge` is level-triggered.
    pub level: Vectors,
    /// A non-maskable interrupt came, after no start-up that is told. Not with `init`: it came before, or to a
    /// processor that waits for start-up, which takes none.
    pub nmi: bool,
    /// One came after `startup`.
    pub nmi_after_startup: bool,
    /// INIT came. Everything else that is told with it came before, but `startup` and what came after that.
    pub init: bool,
    /// Vector of the first start-up since the last INIT that is told.
    pub startup: Option<u8>,
    /// The machine ends.
    pub stop: bool,
}

/// What is posted for one virtual processor.
#[derive(Debug)]
pub struct Mailbox {
    /// Which of the others to look at.
    pending: AtomicU32,
    edge: [AtomicU64; 4],
    level: [AtomicU64; 4],
    start: Start,
    place: AtomicU32,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Mailbox {
    /// Nothing posted, and the owner in L1.
    pub fn new() -> Self {
        let vectors = || core::array::from_fn(|_| AtomicU64::new(0));
        Self {
            pending: AtomicU32::new(0),
            edge: vectors(),
            level: vectors(),
            start: Start::new(),
            place: AtomicU32::new(HERE),
        }
    }

    /// Posts an interrupt.
    pub fn post_vector(&self, vector: u8, level_triggered: bool) -> Kick {
        let (vectors, pending) = match level_triggered {
            true => (&self.level, LEVEL),
            false => (&self.edge, EDGE),
        };
        if let Some(word) = vectors.get(usize::from(vector >> 6)) {
            word.fetch_or(1 << (vector & 63), Ordering::AcqRel);
        }
        self.post(pending)
    }

    /// Posts an NMI.
    pub fn post_nmi(&self) -> Kick {
        self.start.nmi();
        self.post(START)
    }

    /// Posts INIT. A start-up or an NMI that was not told yet came before, and is void.
    pub fn post_init(&self) -> Kick {
        self.start.init();
        self.post(START)
    }

    /// Posts a start-up IPI. A second one until the first is told changes nothing.
    pub fn post_startup(&self, vector: u8) -> Kick {
        self.start.startup(vector);
        self.post(START)
    }

    /// Tells the owner to stop for good.
    pub fn post_stop(&self) -> Kick {
        self.post(STOP)
    }

    /// Makes the owner look at what the machine has for it.
    pub fn post_look(&self) -> Kick {
        self.post(LOOK)
    }

    /// As it was made: what is posted is void. While nobody posts, and the owner runs L1.
    pub fn clear(&self) {
        self.pending.store(0, Ordering::Relaxed);
        for word in self.edge.iter().chain(&self.level) {
            word.store(0, Ordering::Relaxed);
        }
        self.start.take();
        self.arrive();
    }

    fn post(&self, what: u32) -> Kick {
        self.pending.fetch_or(what, Ordering::AcqRel);
        // Against the fence in `depart`: whoever comes second sees what the first has stored.
        fence(Ordering::SeqCst);
        if self.place.load(Ordering::Relaxed) != AWAY {
            return Kick::Not;
        }
        let kicked = AWAY | KICKED;
        match self
            .place
            .compare_exchange(AWAY, kicked, Ordering::AcqRel, Ordering::Relaxed)
        {
            Ok(_) => Kick::Needed,
            Err(_) => Kick::Not,
        }
    }

    /// Whether anything is posted that the owner has not taken.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    /// For the owner: takes what was posted, or None.
    #[inline]
    pub fn take(&self) -> Option<Signals> {
        match self.is_pending() {
            true => Some(self.take_posted()),
            false => None,
        }
    }

    #[cold]
    fn take_posted(&self) -> Signals {
        let pending = self.pending.swap(0, Ordering::AcqRel);
        let take = |bit: u32, words: &[AtomicU64; 4]| {
            let mut vectors = Vectors::default();
            if pending & bit != 0 {
                for (into, word) in vectors.iter_mut().zip(words) {
                    *into = word.swap(0, Ordering::AcqRel);
                }
            }
            vectors
        };
        // INIT first: what was posted before it is taken now, and is void with it.
        let start = match pending & START {
            0 => start::Told::default(),
            _ => self.start.take(),
        };
        Signals {
            edge: take(EDGE, &self.edge),
            level: take(LEVEL, &self.level),
            nmi: start.nmi,
            nmi_after_startup: start.nmi_after_startup,
            init: start.init,
            startup: start.startup,
            stop: pending & STOP != 0,
        }
    }

    /// For the owner: it leaves L1. False if something is posted: then it stays.
    #[inline]
    #[must_use]
    pub fn depart(&self) -> bool {
        self.place.store(AWAY, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_pending() {
            self.arrive();
            return false;
        }
        true
    }

    /// For the owner: it is back in L1.
    #[inline]
    pub fn arrive(&self) {
        self.place.store(HERE, Ordering::Release);
    }

    /// Whether the owner was kicked and has not come back: the kick is late, or lost.
    #[inline]
    pub fn is_deaf(&self) -> bool {
        self.place.load(Ordering::Acquire) == AWAY | KICKED
    }
}
