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
/// CONTEXT_CODE: platform, TD or virtual processor.
const CONTEXT_MASK: u64 = 7 << 52;
/// CLASS_CODE.
const CLASS_SHIFT: u32 = 56;

pub(crate) const ID_INCORRECT: Status = Status::new(Code::MetadataFieldIdIncorrect, 0);
pub(crate) const NOT_READABLE: Status = Status::new(Code::MetadataFieldNotReadable, 0);
pub(crate) const NOT_WRITABLE: Status = Status::new(Code::MetadataFieldNotWritable, 0);
pub(crate) const VALUE_NOT_VALID: Status = Status::new(Code::MetadataFieldValueNotValid, 0);

/// What of a field the guest reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Nothing: the field is there, but not for the guest.
    Nothing,
    /// It reads the field.
    Reads,
    /// It reads the field, and writes the bits of this mask.
    Writes(u64),
}

/// A field with `count` elements whose codes are `step` apart: 2 for 64-bit and wider fields of a
/// VMCS, where the code between is the high half's, which there is no access to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) first: FieldId,
    pub(crate) count: u32,
    pub(crate) step: u32,
    pub(crate) guest: Guest,
}

impl Field {
    pub(crate) const fn single(first: FieldId) -> Field {
        Field::array(first, 1)
    }

    pub(crate) const fn array(first: FieldId, count: u32) -> Field {
        Field {
            first,
            count,
            step: 1,
            guest: Guest::Reads,
        }
    }

    /// The field, of which the guest may write the bits in `mask`.
    pub(crate) const fn writable(self, mask: u64) -> Field {
        Field {
            guest: Guest::Writes(mask),
            ..self
        }
    }

    /// Fields of a class, in a range of codes with both ends, that the guest has no access to.
    pub(crate) const fn hidden(class: u8, first: u32, last: u32) -> Field {
        Field {
            first: FieldId((class as u64) << CLASS_SHIFT | first as u64),
            count: last - first + 1,
            step: 1,
            guest: Guest::Nothing,
        }
    }

    /// As [`hidden`](Self::hidden), for the even codes alone.
    pub(crate) const fn hidden_even(class: u8, first: u32, last: u32) -> Field {
        Field {
            count: (last - first) / 2 + 1,
            step: 2,
            ..Field::hidden(class, first, last)
        }
    }

    /// The element that `id` names, if it is one of this field. Class and code decide.
    pub(crate) fn element(&self, id: FieldId) -> Option<u32> {
        if id.class() != self.first.class() {
            return None;
        }
        id.code()
            .checked_sub(self.first.code())
            .filter(|offset| offset.is_multiple_of(self.step))
            .map(|offset| offset / self.step)
            .filter(|&element| element < self.count)
    }
}

/// The identifier `step` codes after `id` in the same field: the caller's own, with the field's
/// context.
fn following(id: FieldId, field: FieldId, step: u32) -> FieldId {
    FieldId((id.0 & !CONTEXT_MASK | field.0 & CONTEXT_MASK) + u64::from(step))
}

/// Whether `id` asks for the first field of whatever context it names.
pub(crate) const fn is_first(id: FieldId) -> bool {
    id.0 | CONTEXT_MASK == FieldId::FIRST.0
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

/// The row and element that the guest may read by `id`.
pub(crate) fn find_readable(table: &[Field], id: FieldId) -> Result<(usize, u32), Status> {
    let (row, element) = find(table, id).ok_or(ID_INCORRECT)?;
    match table[row].guest {
        Guest::Nothing => Err(NOT_READABLE),
        Guest::Reads | Guest::Writes(_) => Ok((row, element)),
    }
}

/// The row and element that the guest may write by `id`, and the mask of its bits.
pub(crate) fn find_writable(table: &[Field], id: FieldId) -> Result<(usize, u32, u64), Status> {
    let (row, element) = find(table, id).ok_or(ID_INCORRECT)?;
    match table[row].guest {
        Guest::Nothing | Guest::Reads => Err(NOT_WRITABLE),
        Guest::Writes(mask) => Ok((row, element, mask)),
    }
}

/// The identifier that follows `id`, which names (`row`, `element`) of a table: within a field the
/// caller's own plus 1, then the first one of the next field that the guest reads;
/// [`FieldId::NONE`] after the last.
pub(crate) fn next(table: &[Field], row: usize, element: u32, id: FieldId) -> FieldId {
    let field = &table[row];
    if element + 1 < field.count {
        return following(id, field.first, field.step);
    }
    table[row + 1..]
        .iter()
        .find(|field| field.guest != Guest::Nothing)
        .map_or(FieldId::NONE, |field| field.first)
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
    fn a_table_is_walked_over_what_the_guest_reads() {
        let table = [
            Field::single(FieldId::ATTRIBUTES),
            Field::hidden(17, 4, 4),
            Field::array(FieldId::mrtd(0), 3),
        ];
        assert_eq!(next(&table, 0, 0, FieldId::ATTRIBUTES), FieldId::mrtd(0));
        assert_eq!(next(&table, 2, 0, FieldId::mrtd(0)), FieldId::mrtd(1));
        assert_eq!(next(&table, 2, 2, FieldId::mrtd(2)), FieldId::NONE);
        assert_eq!(find(&table, FieldId::mrtd(2)), Some((2, 2)));
        assert_eq!(find(&table, FieldId::mrtd(3)), None);
        let hidden = FieldId(0x1100_0000_0000_0004);
        assert_eq!(find_readable(&table, hidden), Err(NOT_READABLE));
        assert_eq!(find_writable(&table, hidden), Err(NOT_WRITABLE));
        assert_eq!(
            find_writable(&table, FieldId::ATTRIBUTES),
            Err(NOT_WRITABLE)
        );
        assert_eq!(find_readable(&table, FieldId::mrtd(3)), Err(ID_INCORRECT));
    }

    #[test]
    fn the_next_element_has_the_callers_bits_and_the_fields_context() {
        let table = [Field::array(FieldId::mrtd(0), 3)];
        let odd = FieldId(0x9300_0000_0000_0000);
        assert_eq!(next(&table, 0, 0, odd), FieldId(0x9310_0000_0000_0001));
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
