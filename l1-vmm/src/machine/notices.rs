//! What the machine's devices ask of its virtual processors, to be read without a lock.
//!
//! The boot processor ([`SERVES`]) does what has to be done for all: the machine's timers, the 8259A pair's
//! interrupts, the host's devices. Whoever gives back a device's lock publishes here what that changed.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The processor that serves the machine.
pub(crate) const SERVES: usize = 0;

const NEVER: u64 = u64::MAX;
/// The TPM's lock is taken.
const TAKEN: u64 = u64::MAX - 1;
/// So, and [`SERVES`] has asked meanwhile.
const TAKEN_AND_ASKED: u64 = u64::MAX - 2;

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
    /// When the TPM has something to do, or that its lock is taken: then whoever has it looks after it.
    tpm: AtomicU64,
    /// The TPM has a use for time that L2 does not need.
    tpm_work: AtomicBool,
    /// A processor of L2's wanted the TPM and did not get it.
    tpm_wanted: AtomicBool,
    interrupt_output: AtomicBool,
    level_vectors: [AtomicU64; 4],
    level_generation: AtomicU32,
    changed: AtomicBool,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self {
            timer: Expiry::never(),
            tpm: AtomicU64::new(NEVER),
            tpm_work: AtomicBool::new(false),
            tpm_wanted: AtomicBool::new(false),
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

    /// Nothing of a run before is left: of who asked for the TPM, or of interrupts.
    pub(crate) fn reset(&self) {
        self.set_level_vectors([0; 4]);
        self.tpm_wanted.store(false, Ordering::Release);
    }

    /// The I/O APIC's level-triggered vectors are others. Under the devices' lock.
    pub(crate) fn set_level_vectors(&self, vectors: [u64; 4]) {
        for (word, value) in self.level_vectors.iter().zip(vectors) {
            word.store(value, Ordering::Relaxed);
        }
        self.level_generation.fetch_add(1, Ordering::Release);
    }

    /// Whether something has changed that [`SERVES`] has not been told of.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// The TPM's lock is taken. What was published.
    pub(crate) fn tpm_taken(&self) -> Option<u64> {
        let old = self.tpm.swap(TAKEN, Ordering::AcqRel);
        (old < TAKEN_AND_ASKED).then_some(old)
    }

    /// The TPM's lock is given back, and there is `work` for it or not.
    pub(crate) fn tpm_given_back(&self, before: Option<u64>, now: Option<u64>, work: bool) {
        self.tpm_work.store(work, Ordering::Release);
        let value = now.map_or(NEVER, |now| now.min(TAKEN_AND_ASKED - 1));
        let old = self.tpm.swap(value, Ordering::AcqRel);
        if before != now || old == TAKEN_AND_ASKED && now.is_some() {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// For [`SERVES`]: when the TPM has something to do. None while its lock is taken; then there is a change when it
    /// is given back.
    pub(crate) fn tpm_expiry(&self) -> Option<u64> {
        let order = Ordering::AcqRel;
        let asked = |value| (value == TAKEN).then_some(TAKEN_AND_ASKED);
        match self.tpm.fetch_update(order, Ordering::Acquire, asked) {
            Err(expiry) => (expiry < TAKEN_AND_ASKED).then_some(expiry),
            Ok(_) => None,
        }
    }

    /// Whether the TPM has a use for time that L2 does not need. What a processor does for it gives way to one that wants
    /// the TPM for L2.
    pub(crate) fn tpm_has_work(&self) -> bool {
        self.tpm_work.load(Ordering::Acquire) && !self.tpm_wanted.swap(false, Ordering::Relaxed)
    }

    /// Whether the TPM, whose lock nobody has, has something to do that nobody waits for: the next slice of a command is due
    /// at some time.
    pub(crate) fn tpm_has_own_work(&self) -> bool {
        self.tpm_work.load(Ordering::Acquire) && self.tpm.load(Ordering::Acquire) == NEVER
    }

    /// The TPM was wanted for L2, and another processor had it.
    pub(crate) fn tpm_was_busy(&self) {
        self.tpm_wanted.store(true, Ordering::Relaxed);
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
