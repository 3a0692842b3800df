//! Ranges of guest-physical addresses, and sets of them that need no heap.

use core::fmt;

/// Guest-physical addresses `start..end`; never inverted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct GpaRange {
    start: u64,
    end: u64,
}

impl GpaRange {
    /// No addresses.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// `start..end`, if that is in order.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start <= end {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// `length` bytes at `start`, if they end inside 64 bits.
    pub const fn with_length(start: u64, length: u64) -> Option<Self> {
        match start.checked_add(length) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// First address.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// First address behind the range.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes.
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no address in it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether all of `other` is inside.
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether an address is in both.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What is in both; empty if nothing is.
    pub fn intersection(&self, other: &Self) -> Self {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        Self::new(start, end).unwrap_or(Self::EMPTY)
    }

    /// The largest range of whole `alignment` units inside (a power of two).
    pub fn align_inward(&self, alignment: u64) -> Self {
        let mask = alignment - 1;
        self.start
            .checked_add(mask)
            .and_then(|start| Self::new(start & !mask, self.end & !mask))
            .unwrap_or(Self::EMPTY)
    }

    /// The smallest range of whole `alignment` units around it (a power of two); it ends at the
    /// last unit of 64 bits at most.
    pub const fn align_outward(&self, alignment: u64) -> Self {
        let mask = alignment - 1;
        Self {
            start: self.start & !mask,
            end: self.end.saturating_add(mask) & !mask,
        }
    }
}

impl fmt::Display for GpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end)
    }
}

impl fmt::Debug for GpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// More ranges than [`GpaRanges::CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory is in more than {} pieces", GpaRanges::CAPACITY)]
pub struct TooManyRanges;

/// A set of addresses as sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpaRanges {
    ranges: [GpaRange; Self::CAPACITY],
    count: usize,
}

impl GpaRanges {
    /// The most ranges a set can hold.
    pub const CAPACITY: usize = 64;

    /// No addresses.
    pub const fn new() -> Self {
        Self {
            ranges: [GpaRange::EMPTY; Self::CAPACITY],
            count: 0,
        }
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = GpaRange> {
        self.ranges.iter().take(self.count).copied()
    }

    /// Bytes in all ranges.
    pub fn length(&self) -> u64 {
        self.iter().map(|range| range.length()).sum()
    }

    /// Whether all of `range` is in the set. Asked for each buffer of each request of L2's devices.
    #[inline]
    pub fn contains(&self, range: &GpaRange) -> bool {
        range.is_empty() || self.iter().any(|one| one.contains(range))
    }

    /// Whether any address of `range` is in the set.
    pub fn overlaps(&self, range: &GpaRange) -> bool {
        !range.is_empty() && self.iter().any(|one| one.overlaps(range))
    }

    /// Adds `range`.
    pub fn insert(&mut self, range: GpaRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        let mut merged = range;
        let mut result = Self::new();
        let mut placed = false;
        for one in self.iter() {
            if one.end < merged.start {
                result.push(one)?;
            } else if merged.end < one.start {
                if !placed {
                    result.push(merged)?;
                    placed = true;
                }
                result.push(one)?;
            } else {
                merged.start = merged.start.min(one.start);
                merged.end = merged.end.max(one.end);
            }
        }
        if !placed {
            result.push(merged)?;
        }
        *self = result;
        Ok(())
    }

    /// Takes `range` away.
    pub fn remove(&mut self, range: GpaRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        let mut result = Self::new();
        for one in self.iter() {
            let below = GpaRange::new(one.start, one.end.min(range.start));
            let above = GpaRange::new(one.start.max(range.end), one.end);
            for rest in [below, above].into_iter().flatten() {
                if !rest.is_empty() {
                    result.push(rest)?;
                }
            }
        }
        *self = result;
        Ok(())
    }

    fn push(&mut self, range: GpaRange) -> Result<(), TooManyRanges> {
        *self.ranges.get_mut(self.count).ok_or(TooManyRanges)? = range;
        self.count += 1;
        Ok(())
    }
}

impl Default for GpaRanges {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> GpaRange {
        GpaRange::new(start, end).unwrap()
    }

    #[test]
    fn alignment_stays_inside_or_goes_around() {
        let odd = range(0x1800, 0x5400);
        assert_eq!(odd.align_inward(0x1000), range(0x2000, 0x5000));
        assert_eq!(odd.align_outward(0x1000), range(0x1000, 0x6000));
        assert!(range(0x1800, 0x1900).align_inward(0x1000).is_empty());
        let last = range(u64::MAX - 1, u64::MAX);
        assert_eq!(last.align_outward(0x1000).end(), !0xFFF);
        assert!(last.align_inward(0x1000).is_empty());
    }

    #[test]
    fn a_full_set_refuses_instead_of_forgetting() {
        let mut set = GpaRanges::new();
        for index in 0..GpaRanges::CAPACITY as u64 {
            set.insert(range(index * 4, index * 4 + 2)).unwrap();
        }
        assert_eq!(set.insert(range(1000, 1001)), Err(TooManyRanges));
        assert_eq!(set.remove(range(0, 1)), Ok(()));
        assert_eq!(set.remove(range(5, 5)), Ok(()));
        assert_eq!(set.iter().count(), GpaRanges::CAPACITY);
    }

    proptest! {
        /// The set is what a set of single addresses would be, and stays sorted and apart.
        #[test]
        fn the_set_is_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..24)) {
            let mut set = GpaRanges::new();
            let mut model = BTreeSet::new();
            for (insert, start, length) in steps {
                let step = range(start, start + length);
                if insert {
                    set.insert(step).unwrap();
                    model.extend(start..start + length);
                } else {
                    set.remove(step).unwrap();
                    model.retain(|address| !(start..start + length).contains(address));
                }
                let flat: BTreeSet<u64> = set.iter().flat_map(|r| r.start()..r.end()).collect();
                prop_assert_eq!(&flat, &model);
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            }
        }
    }
}
