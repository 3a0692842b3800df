//! The oracle of [`l2_exit::run_ahead`]: the processor that the tests run on.
//!
//! [`program`] makes streams of instructions from a seed, [`native`] executes their bytes, [`model`] lets the emulator
//! execute them. Both begin with the same registers and memory and must end with the same.

pub mod model;
pub mod native;
pub mod program;

/// Registers and memory, before a stream or after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// In the order of their numbers.
    pub gprs: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// The bytes at [`native::Native::data`].
    pub data: Vec<u8>,
}

/// Bytes of data: operands in the first page, a stack in the second.
pub const DATA: usize = 0x2000;

/// Numbers by a seed: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() >> 33) as usize % end
    }

    /// One of `values`.
    ///
    /// # Panics
    /// If there is none.
    #[expect(clippy::indexing_slicing, reason = "below the length")]
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// A number of the kind that arithmetic goes wrong with.
    pub fn operand(&mut self) -> u64 {
        let word = self.word();
        match self.below(4) {
            0 => word,
            1 => word & 0xFF,
            2 => 1_u64.rotate_left(word as u32 & 63),
            _ => (word as u8 as i8 as i64 as u64).rotate_left(word as u32 >> 8 & 63),
        }
    }
}
