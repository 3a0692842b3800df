//! What the machine's devices ask of its virtual processors, to be read without a lock.
//!
//! The boot processor ([`SERVES`]) does what has to be done for all: the machine's timers, the 8259A pair's
//! interrupts, the host's devices. Whoever gives back a device's lock publishes here what that changed.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The processor that serves the machine.
pub(crate) const SERVES: usize = 0;

const NEVER: u64 = u64::MAX;

/// A TSC value, or none.
#[derive(Debug)]
pub(crate) struct Expiry(AtomicU64);

impl Expiry {
    const fn never() -> Self {
        Self(AtomicU64::new(NEVER))
    }

    pub(crate) fn get(&self) -> Option<u64> {
        let value = self.0.load(Ordering::Acquire);
        (value != NEVER).then_some(value)
    }

    /// Returns whether it was another.
    fn set(&self, expiry: Option<u64>) -> bool {
        let value = expiry.unwrap_or(NEVER);
        if self.0.load(Ordering::Relaxed) == value {
            return false;
        }
        self.0.store(value, Ordering::Release);
        true
    }
}

/// What is published.
#[derive(Debug)]
pub(crate) struct Notices {
    /// When a timer of the machine's expires.
    pub(crate) timer: Expiry,
    /// When the TPM has something to do. None while its lock is taken.
    pub(crate) tpm: Expiry,
    interrupt_output: AtomicBool,
    level_vectors: [AtomicU64; 4],
    level_generation: AtomicU32,
    changed: AtomicBool,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self {
            timer: Expiry::never(),
            tpm: Expiry::never(),
            interrupt_output: AtomicBool::new(false),
            level_vectors: core::array::from_fn(|_| AtomicU64::new(0)),
            level_generation: AtomicU32::new(1),
            changed: AtomicBool::new(false),
        }
    }

    /// The devices' lock is given back.
    pub(crate) fn devices(&self, timer: Option<u64>, interrupt_output: bool) {
        let old = self.interrupt_output.load(Ordering::Relaxed);
        if old != interrupt_output {
            self.interrupt_output
                .store(interrupt_output, Ordering::Release);
        }
        if self.timer.set(timer) || interrupt_output && !old {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// The I/O APIC's level-triggered vectors are others. Under the devices' lock.
    pub(crate) fn set_level_vectors(&self, vectors: [u64; 4]) {
        for (word, value) in self.level_vectors.iter().zip(vectors) {
            word.store(value, Ordering::Relaxed);
        }
        self.level_generation.fetch_add(1, Ordering::Release);
    }

    /// The TPM's lock is taken. What was published.
    pub(crate) fn tpm_taken(&self) -> Option<u64> {
        let expiry = self.tpm.get();
        self.tpm.set(None);
        expiry
    }

    /// The TPM's lock is given back.
    pub(crate) fn tpm_given_back(&self, before: Option<u64>, now: Option<u64>) {
        self.tpm.set(now);
        if before != now {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// The level of INTR, the output of the 8259A pair.
    pub(crate) fn interrupt_output(&self) -> bool {
        self.interrupt_output.load(Ordering::Acquire)
    }

    /// The vectors whose end the I/O APIC must hear of, if they are not those of generation `known`.
    pub(crate) fn level_vectors(&self, known: &mut u32) -> Option<[u64; 4]> {
        // Vectors of a later generation than `known` then says are read again at the next entry.
        let generation = self.level_generation.load(Ordering::Acquire);
        if generation == *known {
            return None;
        }
        *known = generation;
        let words = self.level_vectors.each_ref();
        Some(words.map(|word| word.load(Ordering::Relaxed)))
    }

    /// Whether [`SERVES`] has something to look at since this was last asked.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::AcqRel)
    }
}
