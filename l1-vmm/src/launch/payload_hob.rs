//! The HOB list that td-shim hands to its payload: memory map, event log, firmware volume, mailbox.
//!
//! td-shim writes the list into private memory, so nobody changes it behind our back; but much of
//! what it says came from the host, so every length and address is checked here all the same.
//!
//! Formats: UEFI Platform Initialization Specification, volume 3, "HOB Code Definitions"; td-shim
//! specification, "ACPI GUID HOB" and "E820 GUID HOB". Nothing here needs a heap: the heap's place
//! is only known once the memory map is.

use super::e820::{E820Map, E820MapError};
use super::gpa_range::GpaRange;
use super::wakeup::{Wakeup, WakeupError};
use tdshim_config::hob_list;
use uefi_defs::acpi::{CC_TYPE_TDX, Ccel, checksum};
use uefi_defs::guid::{Guid, HOB_ACPI_TABLE, HOB_E820};
use uefi_defs::hob::{self, FirmwareVolume, GuidExtension, Handoff};
use zerocopy::FromBytes;

/// td-shim gives the list this much room (`td-layout`, region `Acpi`).
pub const LENGTH_MAX: usize = 0x10_0000;

/// What is wrong with the payload HOB list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadHobError {
    /// The hand-off HOB puts the end of the list before its start, or too far behind it.
    #[error("the HOB list at {start:#x} claims to end at {end:#x}")]
    BadEnd {
        /// Where the list is.
        start: u64,
        /// end_of_hob_list.
        end: u64,
    },
    /// A HOB is cut off or misplaced.
    #[error(transparent)]
    List(#[from] hob_list::HobError),
    /// td-shim always gives an E820 HOB.
    #[error("the HOB list has no E820 map: L1 was not started by td-shim")]
    NoE820,
    /// The E820 map does not hold together.
    #[error(transparent)]
    E820(#[from] E820MapError),
    /// A CCEL table with a wrong length, checksum, type or log area.
    #[error("the CCEL table in the HOB list is malformed: {0}")]
    BadCcel(&'static str),
}

/// The whole length of the list that starts with the hand-off HOB `phit` at guest-physical `start`.
///
/// `phit` needs only the first 56 bytes: this is what tells how many more to look at.
pub fn list_length(phit: &[u8], start: u64) -> Result<usize, PayloadHobError> {
    let handoff = handoff(phit)?;
    let end = handoff.end_of_hob_list.get();
    end.checked_sub(start)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| (size_of::<Handoff>()..=LENGTH_MAX).contains(length))
        .ok_or(PayloadHobError::BadEnd { start, end })
}

fn handoff(phit: &[u8]) -> Result<Handoff, PayloadHobError> {
    let (handoff, _) =
        Handoff::read_from_prefix(phit).map_err(|_| hob_list::HobError::Malformed(0))?;
    if handoff.header.kind.get() != hob::HANDOFF {
        return Err(hob_list::HobError::NoHandoff.into());
    }
    Ok(handoff)
}

/// Where td-shim keeps the confidential-computing event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcEventLogArea {
    /// The whole area, LASA and LAML of the CCEL table; records start at its beginning.
    pub range: GpaRange,
}

/// What L1 takes from the payload HOB list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadHobs {
    /// Where the list itself lies.
    pub range: GpaRange,
    /// The memory map.
    pub e820: E820Map,
    /// The event log; absent if td-shim was built without CCEL.
    pub event_log: Option<CcEventLogArea>,
    /// The firmware volume that L1's ELF file came in, inside the firmware image.
    pub payload_volume: Option<GpaRange>,
    /// How other processors are woken up: nothing to call them by if td-shim was built without a mailbox. What is wrong
    /// with the MADT matters only where there are some.
    pub wakeup: Result<Wakeup, WakeupError>,
}

impl PayloadHobs {
    /// Reads the list `bytes`, which lies at guest-physical `start`.
    pub fn parse(bytes: &[u8], start: u64) -> Result<Self, PayloadHobError> {
        let length = list_length(bytes, start)?;
        let list = bytes
            .get(..length)
            .ok_or(hob_list::HobError::Malformed(0))?;
        let range = GpaRange::with_length(start, length as u64).unwrap_or(GpaRange::EMPTY);
        let mut e820 = None;
        let mut event_log = None;
        let mut payload_volume = None;
        let mut wakeup = None;
        for item in hob_list::walk(list) {
            match item? {
                (hob::GUID_EXTENSION, bytes) => match guid_extension(bytes) {
                    Some((HOB_E820, data)) if e820.is_none() => e820 = Some(E820Map::parse(data)?),
                    Some((HOB_ACPI_TABLE, data)) if data.starts_with(b"CCEL") => {
                        // td-shim passes the host's tables on, and makes this one itself.
                        let before = event_log.replace(parse_ccel(data)?);
                        if before.is_some() {
                            return Err(PayloadHobError::BadCcel("there are two"));
                        }
                    }
                    Some((HOB_ACPI_TABLE, data)) if data.starts_with(b"APIC") => {
                        // td-shim takes one of the host's, and adds to it.
                        wakeup = Some(match wakeup {
                            None => Wakeup::parse(data),
                            Some(_) => Err(WakeupError::Malformed("there are two")),
                        });
                    }
                    _ => {}
                },
                (hob::FIRMWARE_VOLUME, bytes) => {
                    payload_volume =
                        FirmwareVolume::read_from_prefix(bytes)
                            .ok()
                            .and_then(|(volume, _)| {
                                GpaRange::with_length(volume.start.get(), volume.length.get())
                            });
                }
                _ => {}
            }
        }
        Ok(Self {
            range,
            e820: e820.ok_or(PayloadHobError::NoE820)?,
            event_log,
            payload_volume,
            wakeup: wakeup.unwrap_or(Ok(Wakeup::default())),
        })
    }
}

fn guid_extension(hob: &[u8]) -> Option<(Guid, &[u8])> {
    let (extension, data) = GuidExtension::read_from_prefix(hob).ok()?;
    Some((extension.name, data))
}

fn parse_ccel(data: &[u8]) -> Result<CcEventLogArea, PayloadHobError> {
    let bad = PayloadHobError::BadCcel;
    let (table, _) = Ccel::read_from_prefix(data).map_err(|_| bad("it is cut off"))?;
    let length = table.length.get() as usize;
    let whole = data
        .get(..length)
        .filter(|whole| whole.len() >= size_of::<Ccel>())
        .ok_or(bad("its length field is wrong"))?;
    if checksum(whole) != 0 {
        return Err(bad("its checksum is wrong"));
    }
    if table.cc_type != CC_TYPE_TDX {
        return Err(bad("its type is not TDX"));
    }
    let range = GpaRange::with_length(
        table.log_area_start_address.get(),
        table.log_area_minimum_length.get(),
    )
    .filter(|range| !range.is_empty() && range.start() != 0)
    .ok_or(bad("its log area is empty or wraps around"))?;
    Ok(CcEventLogArea { range })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::launch::e820::E820Kind;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use tdshim_config::ccel::ccel;
    use tdshim_config::layout::Runtime;
    use tdshim_config::madt::WakeupTable;
    use uefi_defs::hob::{Cpu, GuidExtension, Header};
    use x86_defs::e820::Entry as E820Entry;
    use zerocopy::IntoBytes;

    fn push_guid_extension(list: &mut Vec<u8>, guid: Guid, data: &[u8]) {
        let (extension, padding) = GuidExtension::new(guid, data.len()).unwrap();
        list.extend(extension.as_bytes());
        list.extend(data);
        list.extend(&[0; 8][..padding]);
    }

    fn entry(address: u64, end: u64, kind: u32) -> E820Entry {
        E820Entry {
            address: address.into(),
            size: (end - address).into(),
            kind: kind.into(),
        }
    }

    /// The entries td-shim makes for `low` bytes below 4 GiB and `high` bytes above.
    pub(crate) fn td_shim_e820(low: u64, high: u64) -> Vec<E820Entry> {
        let layout = Runtime::below(low).unwrap();
        let mut entries = Vec::from([
            entry(0, layout.event_log, 1),
            entry(layout.event_log, layout.page_tables, 4),
            entry(
                layout.page_tables,
                layout.payload + Runtime::PAYLOAD_SIZE,
                2,
            ),
            entry(layout.hob, low, 3),
        ]);
        if high != 0 {
            entries.push(entry(1 << 32, (1 << 32) + high, 1));
        }
        entries
    }

    /// A payload HOB list as td-shim makes it (its `payload_hob`): PHIT, CPU, FV, the host's tables, MADT, CCEL, E820,
    /// END.
    pub(crate) fn td_shim_list(low: u64, high: u64) -> (Vec<u8>, u64) {
        let layout = Runtime::below(low).unwrap();
        let start = layout.hob;
        let mut list = Vec::new();
        list.extend([0; size_of::<Handoff>()]);
        list.extend(
            Cpu {
                header: Header::new(hob::CPU, size_of::<Cpu>() as u16),
                size_of_memory_space: 46,
                size_of_io_space: 16,
                reserved: [0; 6],
            }
            .as_bytes(),
        );
        list.extend(
            FirmwareVolume {
                header: Header::new(hob::FIRMWARE_VOLUME, size_of::<FirmwareVolume>() as u16),
                start: 0xFF08_1000.into(),
                length: 0xC2_D000.into(),
            }
            .as_bytes(),
        );
        push_guid_extension(
            &mut list,
            HOB_ACPI_TABLE,
            b"TST1\x2c\0\0\0 a table of another kind, of no interest",
        );
        let madt = WakeupTable::new(2, layout.mailbox).unwrap();
        push_guid_extension(&mut list, HOB_ACPI_TABLE, madt.bytes());
        let ccel = ccel(layout.event_log, Runtime::EVENT_LOG_SIZE);
        push_guid_extension(&mut list, HOB_ACPI_TABLE, ccel.as_bytes());
        let entries = td_shim_e820(low, high);
        push_guid_extension(&mut list, HOB_E820, entries.as_bytes());
        list.extend(Header::new(hob::END, 8).as_bytes());
        let phit = Handoff {
            header: Header::new(hob::HANDOFF, size_of::<Handoff>() as u16),
            version: 9.into(),
            boot_mode: 0.into(),
            memory_top: low.into(),
            memory_bottom: 0.into(),
            free_memory_top: low.into(),
            free_memory_bottom: 0.into(),
            end_of_hob_list: (start + list.len() as u64).into(),
        };
        list[..size_of::<Handoff>()].copy_from_slice(phit.as_bytes());
        (list, start)
    }

    #[test]
    fn td_shims_list_is_understood() {
        let (list, start) = td_shim_list(0x4000_0000, 0x4000_0000);
        assert_eq!(list_length(&list[..56], start), Ok(list.len()));
        let hobs = PayloadHobs::parse(&list, start).unwrap();
        assert_eq!(
            hobs.range,
            GpaRange::with_length(start, list.len() as u64).unwrap()
        );
        let log = hobs.event_log.unwrap().range;
        assert_eq!((log.start(), log.length()), (0x3DDD_E000, 0x10_0000));
        let volume = hobs.payload_volume.unwrap();
        assert_eq!((volume.start(), volume.length()), (0xFF08_1000, 0xC2_D000));
        let wakeup = hobs.wakeup.unwrap();
        assert_eq!(wakeup.apic_ids.iter().collect::<Vec<_>>(), [0, 1]);
        let taken = [hobs.range, log];
        let mailbox = wakeup.pages(2, &hobs.e820, &taken).unwrap();
        assert_eq!(mailbox.start(), 0x3DED_E000);
        let ram: Vec<_> = hobs
            .e820
            .entries()
            .filter(|entry| entry.kind == E820Kind::Memory)
            .map(|entry| (entry.range.start(), entry.range.end()))
            .collect();
        assert_eq!(ram, [(0, 0x3DDD_E000), (1 << 32, (1 << 32) + 0x4000_0000)]);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let (list, start) = td_shim_list(0x4000_0000, 0);
        assert_eq!(
            list_length(&list, start + list.len() as u64),
            Err(PayloadHobError::BadEnd {
                start: start + list.len() as u64,
                end: start + list.len() as u64
            })
        );
        let mut no_e820 = list.clone();
        let at = list.windows(16).position(|w| w == HOB_E820).unwrap();
        no_e820[at] ^= 1;
        assert_eq!(
            PayloadHobs::parse(&no_e820, start),
            Err(PayloadHobError::NoE820)
        );
        let mut bad_sum = list.clone();
        let at = list.windows(4).position(|w| w == b"CCEL").unwrap();
        bad_sum[at + 20] ^= 1;
        assert!(matches!(
            PayloadHobs::parse(&bad_sum, start),
            Err(PayloadHobError::BadCcel("its checksum is wrong"))
        ));
        // A table of the host's, which td-shim passes on.
        let with_table = |table: &[u8]| {
            let mut list = list.clone();
            let end = list.split_off(list.len() - 8);
            push_guid_extension(&mut list, HOB_ACPI_TABLE, table);
            list.extend(end);
            let end = start + list.len() as u64;
            list[48..56].copy_from_slice(&end.to_le_bytes());
            list
        };
        assert_eq!(
            PayloadHobs::parse(&with_table(ccel(0x1000, 0x1000).as_bytes()), start),
            Err(PayloadHobError::BadCcel("there are two"))
        );
        let second = WakeupTable::new(2, 0x1000).unwrap();
        let two = PayloadHobs::parse(&with_table(second.bytes()), start).unwrap();
        assert_eq!(two.wakeup, Err(WakeupError::Malformed("there are two")));
        let mut not_first = list.clone();
        not_first[0] = 4;
        assert_eq!(
            PayloadHobs::parse(&not_first, start),
            Err(hob_list::HobError::NoHandoff.into())
        );
        let mut cut = list.clone();
        cut.truncate(list.len() - 8);
        let end = start + cut.len() as u64;
        cut[48..56].copy_from_slice(&end.to_le_bytes());
        assert!(matches!(
            PayloadHobs::parse(&cut, start),
            Err(PayloadHobError::List(hob_list::HobError::Malformed(_)))
        ));
    }

    proptest! {
        #[test]
        fn no_change_to_the_list_makes_it_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..16)) {
            let (mut list, start) = td_shim_list(0x4000_0000, 0x1000_0000);
            for (at, value) in changes {
                let at = usize::from(at) % list.len();
                list[at] = value;
            }
            let _ = PayloadHobs::parse(&list, start);
        }
    }
}
