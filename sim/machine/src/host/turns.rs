//! How long the virtual processors' turns are.

use crate::options::Schedule;

/// A turn's length where no schedule says otherwise, in TSC ticks.
const USUAL: u64 = 100_000;

/// Lengths of turns, one after another.
#[derive(Clone, Debug)]
pub(super) enum Turns {
    Equal,
    /// From 1 up to `most`, by a generator (xorshift64*).
    Seeded {
        state: u64,
        most: u64,
    },
}

impl Turns {
    pub(super) fn new(schedule: Option<Schedule>) -> Self {
        match schedule {
            None => Self::Equal,
            Some(Schedule { seed, most }) => Self::Seeded {
                // The state of 0 is followed by itself.
                state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
                most: most.max(1),
            },
        }
    }

    /// The next turn's length.
    pub(super) fn next_length(&mut self) -> u64 {
        match self {
            Self::Equal => USUAL,
            Self::Seeded { state, most } => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % *most + 1
            }
        }
    }
}
