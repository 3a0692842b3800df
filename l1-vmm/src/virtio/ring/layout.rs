//! Where the three areas of a split virtqueue are in one piece of memory.

use virtio_defs::ring;

/// Offsets of the areas of a queue of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Descriptors: a power of two, at most [`ring::SIZE_MAX`].
    pub(super) size: u16,
    /// Offset of the available ring; the descriptor table is at 0.
    pub(super) available: usize,
    /// Offset of the used ring.
    pub(super) used: usize,
    /// Bytes of all areas.
    pub(super) length: usize,
}

impl Layout {
    /// The layout for `size` descriptors, if a queue can have so many.
    pub(super) fn of(size: u16) -> Option<Self> {
        if !size.is_power_of_two() || size > ring::SIZE_MAX {
            return None;
        }
        let count = usize::from(size);
        let available = count * ring::DESCRIPTOR_LENGTH;
        let end = available
            + ring::AVAILABLE_RING
            + count * ring::AVAILABLE_ELEMENT_LENGTH
            + ring::EVENT_LENGTH;
        let used = end.next_multiple_of(ring::USED_ALIGNMENT as usize);
        let length =
            used + ring::USED_RING + count * ring::USED_ELEMENT_LENGTH + ring::EVENT_LENGTH;
        Some(Self {
            size,
            available,
            used,
            length,
        })
    }

    /// Offset of descriptor `index`.
    pub(super) fn descriptor(&self, index: u16) -> usize {
        usize::from(index) * ring::DESCRIPTOR_LENGTH
    }

    /// Offset of the element of the available ring that the free-running index `index` is of.
    pub(super) fn available_element(&self, index: u16) -> usize {
        let slot = usize::from(index & (self.size - 1));
        self.available + ring::AVAILABLE_RING + slot * ring::AVAILABLE_ELEMENT_LENGTH
    }

    /// Offset of the element of the used ring that the free-running index `index` is of.
    pub(super) fn used_element(&self, index: u16) -> usize {
        let slot = usize::from(index & (self.size - 1));
        self.used + ring::USED_RING + slot * ring::USED_ELEMENT_LENGTH
    }

    /// Offset of used_event, behind the available ring.
    pub(super) fn used_event(&self) -> usize {
        let ring = usize::from(self.size) * ring::AVAILABLE_ELEMENT_LENGTH;
        self.available + ring::AVAILABLE_RING + ring
    }

    /// Offset of avail_event, behind the used ring.
    pub(super) fn available_event(&self) -> usize {
        let ring = usize::from(self.size) * ring::USED_ELEMENT_LENGTH;
        self.used + ring::USED_RING + ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_where_virtio_has_them() {
        let layout = Layout::of(8).unwrap();
        assert_eq!((layout.available, layout.used), (128, 152));
        assert_eq!((layout.used_event(), layout.available_event()), (148, 220));
        assert_eq!(layout.length, 222);
        assert_eq!(layout.available_element(9), 128 + 4 + 2);
        assert_eq!(layout.used_element(0xFFFF), 152 + 4 + 7 * 8);
        for size in [0, 3, 0xFFFF] {
            assert_eq!(Layout::of(size), None);
        }
    }
}
