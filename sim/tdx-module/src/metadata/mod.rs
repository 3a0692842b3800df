//! Metadata fields: which there are, in the module's order, and how one is read and written (TDX
//! Module ABI, "Metadata Access").
//!
//! The fields of L2 VMs are found here only as ranges of identifiers; their values are
//! [`l2`](crate::l2)'s.

pub(crate) mod sys;
pub(crate) mod td;
pub(crate) mod vp;

use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Status};

/// Bits of an identifier that a single access does not take: reserved ones, LAST_ELEMENT_IN_FIELD
/// and LAST_FIELD_IN_SEQUENCE.
const NOT_SINGLE: u64 = 0x4083_fffc_ff00_0000;

pub(crate) const ID_INCORRECT: Status = Status::new(Code::MetadataFieldIdIncorrect, 0);
pub(crate) const NOT_READABLE: Status = Status::new(Code::MetadataFieldNotReadable, 0);
pub(crate) const NOT_WRITABLE: Status = Status::new(Code::MetadataFieldNotWritable, 0);
pub(crate) const VALUE_NOT_VALID: Status = Status::new(Code::MetadataFieldValueNotValid, 0);

/// A field with `count` elements whose identifiers follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) first: FieldId,
    pub(crate) count: u32,
}

impl Field {
    pub(crate) const fn single(first: FieldId) -> Field {
        Field { first, count: 1 }
    }

    pub(crate) const fn array(first: FieldId, count: u32) -> Field {
        Field { first, count }
    }

    /// The element that `id` names, if it is one of this field. Class and code decide.
    pub(crate) fn element(&self, id: FieldId) -> Option<u32> {
        if id.class() != self.first.class() {
            return None;
        }
        id.code()
            .checked_sub(self.first.code())
            .filter(|&element| element < self.count)
    }

    /// The identifier after `element`, in the same field.
    fn after(&self, element: u32) -> Option<FieldId> {
        let next = element + 1;
        (next < self.count).then(|| FieldId(self.first.0 + u64::from(next)))
    }
}

/// Whether an identifier can name a single element.
pub(crate) fn require_single(id: FieldId) -> Result<(), Status> {
    if id.0 & NOT_SINGLE == 0 {
        Ok(())
    } else {
        Err(ID_INCORRECT)
    }
}

/// The row and element that `id` names in a table.
pub(crate) fn find(table: &[Field], id: FieldId) -> Option<(usize, u32)> {
    table
        .iter()
        .enumerate()
        .find_map(|(row, field)| Some((row, field.element(id)?)))
}

/// The identifier that follows (`row`, `element`) in a table; [`FieldId::NONE`] after the last.
pub(crate) fn next(table: &[Field], row: usize, element: u32) -> FieldId {
    table
        .get(row)
        .and_then(|field| field.after(element))
        .or_else(|| table.get(row + 1).map(|field| field.first))
        .unwrap_or(FieldId::NONE)
}

/// The new value of a field of which the bits in `writable` can change (TDX Module ABI, "Single
/// Field Write").
pub(crate) fn merge(old: u64, value: u64, mask: u64, writable: u64) -> Result<u64, Status> {
    let combined = writable & mask;
    if combined == 0 {
        return Err(NOT_WRITABLE);
    }
    if (value ^ old) & mask & !writable != 0 {
        return Err(VALUE_NOT_VALID);
    }
    Ok(old & !combined | value & combined)
}

/// Quadword `index` of a measurement.
fn qword(bytes: &[u8; 48], index: u32) -> u64 {
    let start = 8 * index as usize;
    bytes[start..start + 8]
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_write_changes_only_bits_in_both_masks(
            old: u64, value: u64, mask: u64, writable: u64,
        ) {
            match merge(old, value, mask, writable) {
                Ok(new) => {
                    prop_assert_eq!((new ^ old) & !(mask & writable), 0);
                    prop_assert_eq!((new ^ value) & mask, 0);
                }
                Err(status) if mask & writable == 0 => prop_assert_eq!(status, NOT_WRITABLE),
                Err(status) => {
                    prop_assert_eq!(status, VALUE_NOT_VALID);
                    prop_assert!((old ^ value) & mask & !writable != 0);
                }
            }
        }
    }

    #[test]
    fn a_table_is_walked_from_its_first_to_its_last_element() {
        let table = [
            Field::single(FieldId::ATTRIBUTES),
            Field::array(FieldId::mrtd(0), 3),
        ];
        assert_eq!(next(&table, 0, 0), FieldId::mrtd(0));
        assert_eq!(next(&table, 1, 0), FieldId::mrtd(1));
        assert_eq!(next(&table, 1, 2), FieldId::NONE);
        assert_eq!(find(&table, FieldId::mrtd(2)), Some((1, 2)));
        assert_eq!(find(&table, FieldId::mrtd(3)), None);
    }

    #[test]
    fn only_the_bits_of_a_sequence_are_refused() {
        assert!(require_single(FieldId::TDX_FEATURES0).is_ok());
        assert!(require_single(FieldId(0xb52c_0003_0000_0000 & !(1 << 55))).is_ok());
        for bit in [24, 31, 34, 37, 38, 46, 47, 49, 55, 62] {
            assert!(require_single(FieldId(1 << bit)).is_err(), "bit {bit}");
        }
    }
}
