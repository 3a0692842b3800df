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

/// Bytes of a page.
const PAGE: usize = 4096;

/// Shared memory that is given out in whole pages, and never comes back: what a device of the host's was told of, it
/// may write for ever.
#[derive(Debug)]
pub struct Pool<B> {
    buffer: B,
    given: usize,
}

impl<B: SharedBuffer + Clone> Pool<B> {
    /// All of `buffer`, which starts at a page.
    pub const fn new(buffer: B) -> Self {
        Self { buffer, given: 0 }
    }

    /// As many whole pages as `length` bytes take, if they are there.
    pub fn take(&mut self, length: usize) -> Option<Part<B>> {
        let end = length
            .checked_next_multiple_of(PAGE)?
            .checked_add(self.given)?;
        let part = Part::new(self.buffer.clone(), self.given..end)?;
        self.given = end;
        Some(part)
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
    fn a_pool_gives_each_page_once() {
        let whole = Whole(RefCell::new(vec![0; 3 * PAGE]));
        let mut pool = Pool::new(&whole);
        let first = pool.take(1).unwrap();
        assert_eq!((first.gpa(), first.length()), (0x1000, PAGE));
        assert!(pool.take(2 * PAGE + 1).is_none());
        let rest = pool.take(PAGE + 1).unwrap();
        assert_eq!((rest.gpa(), rest.length()), (0x2000, 2 * PAGE));
        assert!(pool.take(1).is_none() && pool.take(usize::MAX).is_none());
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
