//! The memory that commands and responses of the CRB interface lie in.

use alloc::boxed::Box;

use tcg_defs::ptp::crb::DATA_BUFFER_SIZE;

/// Bytes of the buffer.
pub const SIZE: usize = DATA_BUFFER_SIZE as usize;

/// One buffer for commands and responses (PTP 1.05, "TPM_CRB_DATA_BUFFER_x").
///
/// The guest may be able to reach it at an address of its own without an exit, from any of its processors and at any
/// time: what is read twice need not be the same. So it is read once, and nothing that is decided by its content is
/// decided again.
pub trait DataBuffer {
    /// Where the guest finds it, or `None` where it is only behind the registers, at
    /// [`DATA_BUFFER`](tcg_defs::ptp::crb::DATA_BUFFER) of the active locality's page.
    fn address(&self) -> Option<u64>;

    /// Copies from `offset` on. What is beyond the buffer's [`SIZE`] is zeros.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// Copies to `offset` and on. What is beyond the buffer's [`SIZE`] is dropped.
    fn write(&mut self, offset: usize, from: &[u8]);

    /// Zeros `length` bytes from `offset` on.
    fn zero(&mut self, offset: usize, length: usize);
}

/// A buffer that is only behind the registers.
pub struct Unmapped(Box<[u8; SIZE]>);

impl Default for Unmapped {
    fn default() -> Self {
        Self(Box::new([0; SIZE]))
    }
}

impl DataBuffer for Unmapped {
    fn address(&self) -> Option<u64> {
        None
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let bytes = self.0.get(offset..).unwrap_or_default();
        let (inside, beyond) = into.split_at_mut(into.len().min(bytes.len()));
        for (place, byte) in inside.iter_mut().zip(bytes) {
            *place = *byte;
        }
        beyond.fill(0);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        let places = self.0.get_mut(offset..).unwrap_or_default();
        for (place, byte) in places.iter_mut().zip(from) {
            *place = *byte;
        }
    }

    fn zero(&mut self, offset: usize, length: usize) {
        let places = self.0.get_mut(offset..).unwrap_or_default();
        for place in places.iter_mut().take(length) {
            *place = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_is_the_end_of_the_page() {
        let mut buffer = Unmapped::default();
        buffer.write(SIZE - 1, &[1, 2, 3]);
        let mut bytes = [0xcc; 3];
        buffer.read(SIZE - 2, &mut bytes);
        assert_eq!(bytes, [0, 1, 0]);
        buffer.zero(SIZE - 1, 9);
        buffer.read(SIZE - 1, &mut bytes);
        assert_eq!(bytes, [0, 0, 0]);
    }

    #[test]
    fn beyond_it_is_nothing() {
        let mut buffer = Unmapped::default();
        for offset in [SIZE, SIZE + 1, usize::MAX] {
            buffer.write(offset, &[1]);
            buffer.zero(offset, 1);
            let mut byte = [0xcc];
            buffer.read(offset, &mut byte);
            assert_eq!(byte, [0]);
        }
    }
}
