//! Parts of the memory that the host can read and write.

use core::ops::Range;

use tdcall::SharedBuffer;

/// A part of a shared buffer that has a use of its own. An access that leaves it does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Part<B> {
    buffer: B,
    offset: usize,
    length: usize,
}

impl<B: SharedBuffer> Part<B> {
    /// The bytes of `range`, if `buffer` has them.
    pub fn new(buffer: B, range: Range<usize>) -> Option<Self> {
        let length = range.end.checked_sub(range.start)?;
        (range.end <= buffer.length()).then_some(Self {
            buffer,
            offset: range.start,
            length,
        })
    }

    /// Where `length` bytes at `offset` of the part are in the whole.
    fn place(&self, offset: usize, length: usize) -> Option<usize> {
        let end = offset.checked_add(length)?;
        (end <= self.length).then_some(self.offset + offset)
    }
}

impl<B: SharedBuffer> SharedBuffer for Part<B> {
    fn gpa(&self) -> u64 {
        self.buffer.gpa() + self.offset as u64
    }

    fn length(&self) -> usize {
        self.length
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        if let Some(place) = self.place(offset, into.len()) {
            self.buffer.read(place, into);
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        if let Some(place) = self.place(offset, from.len()) {
            self.buffer.write(place, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    struct Whole(RefCell<Vec<u8>>);

    impl SharedBuffer for &Whole {
        fn gpa(&self) -> u64 {
            0x1000
        }
        fn length(&self) -> usize {
            self.0.borrow().len()
        }
        fn read(&self, offset: usize, into: &mut [u8]) {
            into.copy_from_slice(&self.0.borrow()[offset..offset + into.len()]);
        }
        fn write(&self, offset: usize, from: &[u8]) {
            self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
        }
    }

    #[test]
    fn parts_do_not_reach_each_other() {
        let whole = Whole(RefCell::new(vec![0; 16]));
        let low = Part::new(&whole, 0..8).unwrap();
        let high = Part::new(&whole, 8..16).unwrap();
        assert_eq!((high.gpa(), high.length()), (0x1008, 8));
        low.write(0, &[1; 8]);
        high.write(4, &[2; 4]);
        for (offset, length) in [(1, 8), (8, 1), (usize::MAX, 2)] {
            low.write(offset, &vec![9; length]);
            high.write(offset, &vec![9; length]);
        }
        assert_eq!(
            *whole.0.borrow(),
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2]
        );
        let mut read = [7; 4];
        high.read(4, &mut read);
        assert_eq!(read, [2; 4]);
        high.read(5, &mut read);
        assert_eq!(read, [2; 4]);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges)]
    fn a_part_is_inside_its_whole() {
        let whole = Whole(RefCell::new(vec![0; 16]));
        assert!(Part::new(&whole, 8..17).is_none());
        assert!(Part::new(&whole, 8..4).is_none());
        assert!(Part::new(&whole, 16..16).is_some());
    }
}
