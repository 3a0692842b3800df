//! Which entries of L2 find an interrupt pending for L1: a sequence that follows from a seed alone.

/// Most entries between two that are chosen.
const LONGEST_GAP: u64 = 7;

/// A generator (xorshift64*), and how far it is to the next entry it chooses.
#[derive(Clone, Debug)]
pub(super) struct PendingInterrupts {
    state: u64,
    gap: u64,
}

impl PendingInterrupts {
    pub(super) fn new(seed: u64) -> Self {
        let mut chosen = Self {
            // The state of 0 is followed by itself.
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            gap: 0,
        };
        chosen.gap = chosen.random_gap();
        chosen
    }

    /// L1 is about to enter L2: whether an interrupt comes first. Several entries in a row can be chosen.
    pub(super) fn next_entry(&mut self) -> bool {
        if self.gap > 0 {
            self.gap -= 1;
            return false;
        }
        self.gap = self.random_gap();
        true
    }

    fn random_gap(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32 & LONGEST_GAP
    }
}
