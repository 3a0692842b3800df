//! A page of L2's memory as the data buffer of the TPM's CRB interface.

use l2_exit::GuestMemory;
use vtpm::ptp::data_buffer::{DataBuffer, SIZE};

use super::gpa_range::GpaRange;

/// Zeros to write, as many at once.
const ZEROS: [u8; 256] = [0; 256];

/// A page that L2 reads and writes without exits.
///
/// It is L2's for good: that an access of L1's to it fails cannot happen, and would be an access to nothing.
#[derive(Debug)]
pub struct GuestPage<M> {
    memory: M,
    page: GpaRange,
}

impl<M> GuestPage<M> {
    /// The buffer at the start of `page`, which is in `memory`.
    pub const fn new(memory: M, page: GpaRange) -> Self {
        Self { memory, page }
    }

    /// Where `length` bytes at `offset` are, and how many of them are in the buffer.
    fn place(&self, offset: usize, length: usize) -> (u64, usize) {
        let inside = SIZE.saturating_sub(offset).min(length);
        let at = self.page.start().saturating_add(offset.min(SIZE) as u64);
        (at, inside)
    }
}

impl<M: GuestMemory> DataBuffer for GuestPage<M> {
    fn address(&self) -> Option<u64> {
        Some(self.page.start())
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let (at, inside) = self.place(offset, into.len());
        let (inside, beyond) = into.split_at_mut(inside);
        beyond.fill(0);
        if self.memory.read(at, inside).is_err() {
            inside.fill(0);
        }
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        let (at, inside) = self.place(offset, from.len());
        let _ = self
            .memory
            .write(at, from.get(..inside).unwrap_or_default());
    }

    fn zero(&mut self, offset: usize, length: usize) {
        let (mut at, mut left) = self.place(offset, length);
        while left != 0 {
            let part = ZEROS.get(..left).unwrap_or(&ZEROS);
            let _ = self.memory.write(at, part);
            at = at.saturating_add(part.len() as u64);
            left -= part.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use l2_exit::MemoryError;

    const START: u64 = 0x7000;

    /// One page, and nothing around it.
    struct Page(RefCell<Vec<u8>>);

    impl Page {
        fn range(gpa: u64, length: usize) -> Result<core::ops::Range<usize>, MemoryError> {
            let start = gpa.checked_sub(START).ok_or(MemoryError { gpa })? as usize;
            match start + length <= 0x1000 {
                true => Ok(start..start + length),
                false => Err(MemoryError { gpa }),
            }
        }
    }

    impl GuestMemory for Page {
        fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
            into.copy_from_slice(&self.0.borrow()[Self::range(gpa, into.len())?]);
            Ok(())
        }

        fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
            self.0.borrow_mut()[Self::range(gpa, from.len())?].copy_from_slice(from);
            Ok(())
        }
    }

    fn page() -> GuestPage<Page> {
        let range = GpaRange::with_length(START, 0x1000).unwrap();
        GuestPage::new(Page(RefCell::new(vec![0xEE; 0x1000])), range)
    }

    #[test]
    fn what_is_written_is_read_up_to_the_end_of_the_buffer() {
        let mut page = page();
        assert_eq!(page.address(), Some(START));
        page.write(SIZE - 2, &[1, 2, 3, 4]);
        let mut bytes = [0xcc; 4];
        page.read(SIZE - 3, &mut bytes);
        assert_eq!(bytes, [0xEE, 1, 2, 0]);
        assert_eq!(page.memory.0.borrow()[SIZE..], [0xEE; 0x1000 - SIZE]);
    }

    #[test]
    fn every_length_can_be_zeroed() {
        for (offset, length) in [
            (0, SIZE),
            (10, 0),
            (10, 255),
            (1, 256),
            (3, 257),
            (SIZE - 1, 9),
        ] {
            let mut page = page();
            page.zero(offset, length);
            let end = (offset + length).min(SIZE);
            let memory = page.memory.0.borrow();
            for (at, byte) in memory.iter().enumerate() {
                let expected = if (offset..end).contains(&at) { 0 } else { 0xEE };
                assert_eq!(*byte, expected, "{at} of {offset}+{length}");
            }
        }
    }

    #[test]
    fn beyond_the_buffer_is_nothing() {
        let mut page = page();
        for offset in [SIZE, 0x1000, usize::MAX] {
            page.write(offset, &[1]);
            page.zero(offset, 1);
            let mut byte = [0xcc];
            page.read(offset, &mut byte);
            assert_eq!(byte, [0]);
        }
    }
}
