//! The five pages of registers: whose page an offset is in, and what an access of some width is to a register.
//!
//! An access of any width, aligned or not, is one to each four aligned bytes that it covers, in ascending order.

use tcg_defs::ptp::LOCALITY_SIZE;

use crate::Locality;

/// Bytes of one locality's page.
pub(super) const PAGE: u32 = LOCALITY_SIZE as u32;

/// Four aligned bytes of a locality's page, and those of them that an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whose page it is.
    pub(super) locality: Locality,
    /// Offset in that page, a multiple of four.
    pub(super) register: u32,
    /// The first of the four bytes that the access is to.
    first: u32,
    /// Bytes of the whole access that this is a part of.
    pub(super) width: usize,
}

impl Place {
    /// Offset of the first byte of the access in that page.
    pub(super) const fn offset(self) -> u32 {
        self.register + self.first
    }

    /// Whether `byte` of the four is one of the `length` bytes that the access is to.
    pub(super) const fn covers(self, byte: u32, length: usize) -> bool {
        self.first <= byte && byte < self.first + length as u32
    }

    /// The bytes of `value`, which is in the four bytes, that the access reads.
    pub(super) fn read(self, value: u32, into: &mut [u8]) {
        let bytes = value.to_le_bytes().into_iter().skip(self.first as usize);
        for (place, byte) in into.iter_mut().zip(bytes) {
            *place = byte;
        }
    }

    /// What the access writes.
    pub(super) fn written(self, from: &[u8]) -> Written {
        let mut written = Written { value: 0, mask: 0 };
        for (position, byte) in (self.first..4).zip(from) {
            written.value |= u32::from(*byte) << (8 * position);
            written.mask |= 0xff << (8 * position);
        }
        written
    }
}

/// What an access writes to four aligned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The bytes in their place; zeros where none is written.
    pub(super) value: u32,
    /// All bits of the bytes that are written.
    pub(super) mask: u32,
}

impl Written {
    /// What becomes of `former`.
    pub(super) const fn over(self, former: u32) -> u32 {
        (former & !self.mask) | self.value
    }
}

/// The parts of an access of `width` bytes at `offset` in the window, each with its length. `None` is behind the
/// five pages.
pub(super) fn parts(offset: u32, width: usize) -> impl Iterator<Item = (Option<Place>, usize)> {
    let (mut at, mut left) = (offset, width);
    core::iter::from_fn(move || {
        let first = at % 4;
        let length = left.min(4 - first as usize);
        if length == 0 {
            return None;
        }
        let place = Locality::new(at / PAGE).map(|locality| Place {
            locality,
            register: at % PAGE - first,
            first,
            width,
        });
        at = at.saturating_add(length as u32);
        left -= length;
        Some((place, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;
    use tcg_defs::ptp::LOCALITIES;

    const SIZE: u32 = PAGE * LOCALITIES as u32;

    fn place(locality: Locality, register: u32, first: u32, width: usize) -> Option<Place> {
        Some(Place {
            locality,
            register,
            first,
            width,
        })
    }

    #[test]
    fn an_access_is_one_to_each_four_aligned_bytes() {
        let of = |offset, width| parts(offset, width).collect::<Vec<_>>();
        let (zero, one, four) = (Locality::Zero, Locality::One, Locality::Four);
        assert_eq!(of(0x18, 4), [(place(zero, 0x18, 0, 4), 4)]);
        assert_eq!(of(0x1b, 1), [(place(zero, 0x18, 3, 1), 1)]);
        assert_eq!(
            of(0x16, 4),
            [(place(zero, 0x14, 2, 4), 2), (place(zero, 0x18, 0, 4), 2)]
        );
        assert_eq!(
            of(PAGE - 1, 2),
            [(place(zero, 0xffc, 3, 2), 1), (place(one, 0, 0, 2), 1)]
        );
        assert_eq!(of(SIZE - 2, 4), [(place(four, 0xffc, 2, 4), 2), (None, 2)]);
        assert_eq!(of(0x18, 0), []);
    }

    #[test]
    fn bytes_are_written_in_their_place() {
        let (place, _) = parts(0x19, 2).next().unwrap();
        let written = place.unwrap().written(&[0xaa, 0xbb]);
        assert_eq!((written.value, written.mask), (0x00bb_aa00, 0x00ff_ff00));
        assert_eq!(written.over(0x1122_3344), 0x11bb_aa44);
        let mut bytes = [0; 2];
        place.unwrap().read(0x1122_3344, &mut bytes);
        assert_eq!(bytes, [0x33, 0x22]);
    }

    proptest! {
        #[test]
        fn every_byte_of_an_access_is_in_one_part(offset: u32, width in 0..70usize) {
            let mut covered = 0;
            for (place, length) in parts(offset, width) {
                prop_assert!((1..=4).contains(&length));
                let at = u64::from(offset) + covered as u64;
                prop_assert_eq!(place.is_some(), at < u64::from(SIZE));
                if let Some(place) = place {
                    let page = u32::from(place.locality.number()) * PAGE;
                    let start = u64::from(page + place.register + place.first);
                    prop_assert_eq!(start, at);
                    prop_assert!(place.first as usize + length <= 4);
                }
                covered += length;
            }
            prop_assert_eq!(covered, width);
        }
    }
}
