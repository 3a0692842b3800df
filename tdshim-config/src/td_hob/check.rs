//! Whether a TD HOB says nothing but what the firmware may be told.
//!
//! The host writes the list, the firmware obeys it and measures it into RTMR0. Whoever has the list of that digest can
//! tell whether it made the firmware do something else than start the payload of its image in memory of its own.

use crate::hob_list::{self, HobError};
use crate::layout::{IMAGE_END, IMAGE_SIZE_MAX};
use alloc::vec::Vec;
use core::ops::Range;
use uefi_defs::guid::{Guid, HOB_ACPI_TABLE, HOB_PAYLOAD_INFO};
use uefi_defs::hob::{
    self, END, GuidExtension, Handoff, RESOURCE_MEMORY_RESERVED, RESOURCE_MEMORY_UNACCEPTED,
    RESOURCE_SYSTEM_MEMORY, Resource,
};
use zerocopy::FromBytes;

/// The last resource type that the PI specification has (EFI_RESOURCE_MEMORY_UNACCEPTED).
const LAST_RESOURCE_TYPE: u32 = RESOURCE_MEMORY_UNACCEPTED;
/// No list describes more pieces of memory.
const MEMORY_MAX: usize = 1024;
/// An END HOB.
const END_LENGTH: usize = 8;

/// What a TD HOB must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TdHobError {
    /// It is no HOB list.
    #[error(transparent)]
    List(#[from] HobError),
    /// Its END HOB is not where the hand-off HOB says.
    #[error("the TD HOB does not end where it says")]
    End,
    /// The host names the payload.
    #[error(
        "the TD HOB names a payload (TD_PAYLOAD_INFO at {0:#x}), which td-shim starts instead of L1"
    )]
    PayloadInfo(usize),
    /// An ACPI table that the firmware makes itself.
    #[error("the TD HOB has a CCEL table at {0:#x}, which is the firmware's to make")]
    EventLog(usize),
    /// A HOB that the firmware does not take from a host.
    #[error("the TD HOB has a HOB of type {kind:#x} at {offset:#x}, which no host needs")]
    Kind {
        /// Its type.
        kind: u16,
        /// Its offset in the list.
        offset: usize,
    },
    /// An extension of no known meaning.
    #[error("the TD HOB has a GUID HOB at {0:#x} of no known meaning")]
    Guid(usize),
    /// A resource type that the PI specification does not have.
    #[error("the TD HOB has a resource of type {kind:#x} at {offset:#x}, of no known meaning")]
    ResourceType {
        /// Its type.
        kind: u32,
        /// Its offset in the list.
        offset: usize,
    },
    /// A piece of memory that is empty, wraps around, or is one of too many.
    #[error("the TD HOB has a resource at {0:#x} that is empty, too large or one of too many")]
    Memory(usize),
    /// Memory that the firmware would accept, and so make zero, while it uses it.
    #[error("the TD HOB has memory ({start:#x} to {end:#x}) {place}")]
    InUse {
        /// Its first address.
        start: u64,
        /// Just past its last.
        end: u64,
        /// What it covers.
        place: &'static str,
    },
}

/// Checks a list, all of it and nothing behind it.
pub fn check(list: &[u8]) -> Result<(), TdHobError> {
    let mut memory: Vec<(u32, Range<u64>)> = Vec::new();
    let mut offset = 0;
    for entry in hob_list::walk(list) {
        let (kind, bytes) = entry?;
        match kind {
            hob::HANDOFF if offset == 0 => {}
            hob::RESOURCE => {
                let (resource, _) =
                    Resource::read_from_prefix(bytes).map_err(|_| HobError::Malformed(offset))?;
                memory.extend(piece(&resource, offset)?);
                if memory.len() > MEMORY_MAX {
                    return Err(TdHobError::Memory(offset));
                }
            }
            hob::GUID_EXTENSION => {
                let (extension, data) = GuidExtension::read_from_prefix(bytes)
                    .map_err(|_| HobError::Malformed(offset))?;
                extension_is_known(extension.name, data, offset)?;
            }
            kind => return Err(TdHobError::Kind { kind, offset }),
        }
        offset += bytes.len();
    }
    let (handoff, _) = Handoff::read_from_prefix(list).map_err(|_| HobError::Malformed(0))?;
    let end = list.get(offset..).unwrap_or_default();
    let start = handoff
        .end_of_hob_list
        .get()
        .checked_sub(list.len() as u64)
        .ok_or(TdHobError::End)?;
    if end.len() != END_LENGTH || !end.starts_with(&END.to_le_bytes()) {
        return Err(TdHobError::End);
    }
    nothing_in_use(memory, start..start + list.len() as u64)
}

fn extension_is_known(name: Guid, data: &[u8], offset: usize) -> Result<(), TdHobError> {
    match name {
        HOB_PAYLOAD_INFO => Err(TdHobError::PayloadInfo(offset)),
        HOB_ACPI_TABLE if data.starts_with(b"CCEL") => Err(TdHobError::EventLog(offset)),
        HOB_ACPI_TABLE => Ok(()),
        _ => Err(TdHobError::Guid(offset)),
    }
}

/// The memory of a resource, if it is one that the firmware takes for memory.
fn piece(resource: &Resource, offset: usize) -> Result<Option<(u32, Range<u64>)>, TdHobError> {
    let kind = resource.resource_type.get();
    if kind > LAST_RESOURCE_TYPE {
        return Err(TdHobError::ResourceType { kind, offset });
    }
    if !matches!(
        kind,
        RESOURCE_SYSTEM_MEMORY | RESOURCE_MEMORY_RESERVED | RESOURCE_MEMORY_UNACCEPTED
    ) {
        return Ok(None);
    }
    let start = resource.start.get();
    let end = start
        .checked_add(resource.length.get())
        .filter(|end| *end > start && *end <= 1 << 52)
        .ok_or(TdHobError::Memory(offset))?;
    Ok(Some((kind, start..end)))
}

/// No memory is there twice, over the firmware's image (td-shim leaves out what lies inside it), or to be accepted where
/// the list is.
fn nothing_in_use(mut memory: Vec<(u32, Range<u64>)>, list: Range<u64>) -> Result<(), TdHobError> {
    let in_use = |range: &Range<u64>, place| TdHobError::InUse {
        start: range.start,
        end: range.end,
        place,
    };
    let overlap =
        |one: &Range<u64>, other: &Range<u64>| one.start < other.end && other.start < one.end;
    let firmware = IMAGE_END - IMAGE_SIZE_MAX..IMAGE_END;
    // A list without unaccepted memory is of an older kind, in which system memory is to be accepted.
    let to_accept = match memory
        .iter()
        .any(|(kind, _)| *kind == RESOURCE_MEMORY_UNACCEPTED)
    {
        true => RESOURCE_MEMORY_UNACCEPTED,
        false => RESOURCE_SYSTEM_MEMORY,
    };
    for (kind, range) in &memory {
        if range.start < firmware.start && overlap(range, &firmware) {
            return Err(in_use(range, "where the firmware is"));
        }
        if *kind == to_accept && overlap(range, &list) {
            return Err(in_use(range, "to be accepted where the list itself is"));
        }
    }
    memory.sort_by_key(|(_, range)| range.start);
    for pair in memory.windows(2) {
        if let [(_, one), (_, other)] = pair
            && overlap(one, other)
        {
            return Err(in_use(other, "that is there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::slice;
    use proptest::prelude::*;
    use uefi_defs::hob::Header;
    use zerocopy::IntoBytes;

    const PLACE: u64 = 0x80_0000;

    /// A host's list with more HOBs before its end.
    fn with(more: &[u8]) -> Vec<u8> {
        let ram = 0..0x4000_0000;
        let added = PLACE..PLACE + 0x2_0000;
        let mut list = super::super::list(PLACE, slice::from_ref(&ram), slice::from_ref(&added));
        let end = list.split_off(list.len() - END_LENGTH);
        list.extend(more);
        list.extend(end);
        let end = PLACE + list.len() as u64;
        list[48..56].copy_from_slice(&end.to_le_bytes());
        list
    }

    fn guid(name: Guid, data: &[u8]) -> Vec<u8> {
        let (extension, padding) = GuidExtension::new(name, data.len()).unwrap();
        [extension.as_bytes(), data, &[0; 8][..padding]].concat()
    }

    fn ram(kind: u32, range: Range<u64>) -> Vec<u8> {
        Resource::ram(kind, range.start, range.end - range.start)
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn a_host_may_describe_memory_and_tables() {
        assert_eq!(check(&with(&[])), Ok(()));
        assert_eq!(
            check(&with(&guid(HOB_ACPI_TABLE, b"APIC and more"))),
            Ok(())
        );
        // Memory above 4 GiB, devices, and what td-shim leaves out itself.
        for (kind, range) in [
            (7, 1 << 32..2 << 32),
            (1, 0xFEC0_0000..0xFEC0_1000),
            (5, 0xFEFF_C000..0xFF00_0000),
            (0, 0xFF00_0000..1 << 32),
        ] {
            assert_eq!(check(&with(&ram(kind, range))), Ok(()));
        }
    }

    #[test]
    fn what_the_firmware_must_not_be_told_is_named() {
        let at = with(&[]).len() - END_LENGTH;
        let in_use = |range: Range<u64>, place| TdHobError::InUse {
            start: range.start,
            end: range.end,
            place,
        };
        for (more, expected) in [
            (
                guid(HOB_PAYLOAD_INFO, &[0; 16]),
                TdHobError::PayloadInfo(at),
            ),
            (guid(HOB_ACPI_TABLE, b"CCEL"), TdHobError::EventLog(at)),
            (guid([7; 16], b"data"), TdHobError::Guid(at)),
            (
                ram(8, 0..0x1000),
                TdHobError::ResourceType {
                    kind: 8,
                    offset: at,
                },
            ),
            (ram(7, 0x5000_0000..0x5000_0000), TdHobError::Memory(at)),
            (
                Header::new(5, 8).as_bytes().to_vec(),
                TdHobError::Kind {
                    kind: 5,
                    offset: at,
                },
            ),
            (
                Header::new(hob::HANDOFF, 8).as_bytes().to_vec(),
                TdHobError::Kind {
                    kind: 1,
                    offset: at,
                },
            ),
            (
                ram(7, 0xF000_0000..1 << 32),
                in_use(0xF000_0000..1 << 32, "where the firmware is"),
            ),
            (
                ram(7, 0x3FFF_F000..0x4000_1000),
                in_use(0x3FFF_F000..0x4000_1000, "that is there twice"),
            ),
            (
                ram(7, PLACE..PLACE + 0x1000),
                in_use(
                    PLACE..PLACE + 0x1000,
                    "to be accepted where the list itself is",
                ),
            ),
        ] {
            assert_eq!(check(&with(&more)), Err(expected));
        }
        let list = with(&[]);
        assert_eq!(check(&[&list[..], &[0; 8]].concat()), Err(TdHobError::End));
        assert!(check(&list[..list.len() - 8]).is_err());
        assert!(check(&[]).is_err());
        // Older hosts: system memory is to be accepted, reserved memory is there.
        let old = |kind| {
            let resource = ram(kind, PLACE..PLACE + 0x2_0000);
            let length = 56 + resource.len() + END_LENGTH;
            let mut list = with(&[])[..56].to_vec();
            list.extend(resource);
            list.extend(Header::new(END, 8).as_bytes());
            list[48..56].copy_from_slice(&(PLACE + length as u64).to_le_bytes());
            check(&list)
        };
        assert_eq!(old(5), Ok(()));
        assert!(matches!(old(0), Err(TdHobError::InUse { .. })));
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..8),
        ) {
            let _ = check(&bytes);
            let mut list = with(&ram(7, 1 << 32..2 << 32));
            for (at, value) in changes {
                let at = usize::from(at) % list.len();
                list[at] = value;
            }
            let _ = check(&list);
        }
    }
}
