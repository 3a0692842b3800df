//! Where everything goes in L2's memory, and the E820 map that says so.
//!
//! The first MiB looks as on a PC: boot structures in conventional memory, the range from 0x9FC00
//! to 1 MiB reserved and zero, but for the RSDP where a kernel searches for it and the reset vector. ACPI tables and the
//! event logs take the top of low memory. L1's memory is in no entry.

use super::header::SetupHeader;
use crate::launch::e820::{E820Entry, E820Kind, E820Map, E820MapError};
use crate::launch::gpa_range::{GpaRange, GpaRanges, TooManyRanges};
use alloc::vec::Vec;
use attestation::event_log::SPARE;
use attestation::journal::TpmInterface;
use x86_defs::paging::PAGE_4K;

/// Places in the first MiB.
pub struct LowMemory;

impl LowMemory {
    /// The zero page (`struct boot_params`).
    pub const ZERO_PAGE: u64 = 0x1_0000;
    /// The boot GDT.
    pub const GDT: u64 = 0x1_1000;
    /// The boot page tables.
    pub const PAGE_TABLES: u64 = 0x1_2000;
    /// Their size: six tables.
    pub const PAGE_TABLES_LENGTH: u64 = 0x6000;
    /// Initial RSP; the page below is free.
    pub const STACK_TOP: u64 = 0x1_F000;
    /// The command line.
    pub const COMMAND_LINE: u64 = 0x2_0000;
    /// Room for it, NUL included.
    pub const COMMAND_LINE_ROOM: u64 = 0x1_0000;
    /// Conventional memory ends where a PC has its extended BIOS data area.
    pub const CONVENTIONAL_END: u64 = 0x9_FC00;
    /// The RSDP: first address of the area that OSPM searches (ACPI 6.5, section 5.2.5.1).
    pub const RSDP: u64 = 0xE_0000;
    /// The reset vector, F000:FFF0 in real mode.
    pub const RESET_VECTOR: u64 = 0xF_FFF0;
    /// The end of the first MiB.
    pub const END: u64 = 0x10_0000;
}

/// Room for the ACPI tables.
pub const ACPI_LENGTH: u64 = 0x1_0000;
/// Room for the TPM's event log: the least that the PC Client profile allows (TCG ACPI Specification, LAML).
pub const TCG_LOG_LENGTH: u64 = 0x1_0000;
/// Room for the copy of the TD's: [`CC_LOG_CAPACITY`] and what stays empty behind it.
pub const CC_LOG_LENGTH: u64 = 0x10_0000;
/// The most that the TD's event log may become, so that L2's copy is all of it.
pub const CC_LOG_CAPACITY: usize = CC_LOG_LENGTH as usize - SPARE;

/// Why a kernel and its initrd do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// No place for the kernel.
    #[error(
        "too little memory for the kernel: no free {need} MiB at or above {lowest:#x} below 4 GiB",
        need = need >> 20
    )]
    Kernel {
        /// Bytes it needs.
        need: u64,
        /// Lowest place it could go.
        lowest: u64,
    },
    /// The kernel must run at its preferred address, and that is not free.
    #[error("the kernel is not relocatable and its place {0} is not free memory")]
    KernelFixed(GpaRange),
    /// No place for the initrd.
    #[error(
        "the initrd is too large: {length} bytes, but no free range below {limit:#x} is larger than {largest}"
    )]
    Initrd {
        /// Its size.
        length: u64,
        /// First address it may not reach.
        limit: u64,
        /// The largest free range.
        largest: u64,
    },
    /// No place for the ACPI tables.
    #[error("too little memory for the ACPI tables")]
    Tables,
    /// The memory is in too many pieces.
    #[error(transparent)]
    TooManyRanges(#[from] TooManyRanges),
    /// The memory map has too many entries.
    #[error(transparent)]
    E820(#[from] E820MapError),
}

/// Where the event logs go: memory that L2 keeps, and that only L2 uses once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLogs {
    /// The TPM's, in the TCG crypto-agile format.
    pub tcg: GpaRange,
    /// The copy of the TD's.
    pub cc: GpaRange,
}

/// What is to be placed, besides the tables and logs that every guest gets.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The kernel's header.
    pub header: &'a SetupHeader,
    /// Bytes of its protected-mode code.
    pub code_length: u64,
    /// Bytes of the initrd; 0: none.
    pub initrd_length: u64,
    /// The TPM's registers.
    pub interface: TpmInterface,
}

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kernel: its file's code at the start, and the memory it needs up to the end.
    pub kernel: GpaRange,
    /// The initrd, if there is one.
    pub initrd: Option<GpaRange>,
    /// The ACPI tables but the RSDP.
    pub acpi: GpaRange,
    /// The event logs.
    pub event_logs: EventLogs,
    /// The page that commands and responses of the TPM lie in, if it has a CRB interface.
    pub data_buffer: Option<GpaRange>,
    /// L2's memory map.
    pub e820: E820Map,
}

impl Layout {
    /// Finds places in L2's memory.
    pub fn new(l2: &GpaRanges, contents: &Contents<'_>) -> Result<Self, PlaceError> {
        let &Contents {
            header,
            code_length,
            initrd_length,
            interface,
        } = contents;
        let mut free = l2.clone();
        take(&mut free, 0, LowMemory::END)?;
        let mut log = |length| {
            let area = highest(&free, length, 1 << 32).ok_or(PlaceError::Tables)?;
            free.remove(area)?;
            Ok::<_, PlaceError>(area)
        };
        let event_logs = EventLogs {
            tcg: log(TCG_LOG_LENGTH)?,
            cc: log(CC_LOG_LENGTH)?,
        };
        let acpi = highest(&free, ACPI_LENGTH, 1 << 32).ok_or(PlaceError::Tables)?;
        free.remove(acpi)?;
        let data_buffer = match interface {
            TpmInterface::Fifo | TpmInterface::FifoInterrupt | TpmInterface::CrbRegisters => None,
            TpmInterface::Crb | TpmInterface::CrbInterrupt => {
                let page = highest(&free, PAGE_4K, 1 << 32).ok_or(PlaceError::Tables)?;
                free.remove(page)?;
                Some(page)
            }
        };
        let kernel = place_kernel(&free, header, code_length)?;
        free.remove(kernel)?;
        let initrd = match initrd_length {
            0 => None,
            length => Some(place_initrd(&free, header, length)?),
        };
        let e820 = guest_map(l2, acpi, &event_logs, data_buffer)?;
        Ok(Self {
            kernel,
            initrd,
            acpi,
            event_logs,
            data_buffer,
            e820,
        })
    }
}

fn take(free: &mut GpaRanges, start: u64, end: u64) -> Result<(), TooManyRanges> {
    free.remove(GpaRange::new(start, end).unwrap_or(GpaRange::EMPTY))
}

/// The highest free `length` bytes, page-aligned, that end at or below `limit`.
fn highest(free: &GpaRanges, length: u64, limit: u64) -> Option<GpaRange> {
    let below = GpaRange::new(0, limit)?;
    free.iter().rev().find_map(|range| {
        let range = range.intersection(&below);
        let start = range.end().checked_sub(length)? & !(PAGE_4K - 1);
        GpaRange::with_length(start, length).filter(|place| range.contains(place))
    })
}

/// At its preferred address, or in the lowest free aligned place above that.
///
/// Never below: a kernel loaded lower moves itself up to that address and would need the memory
/// there too.
fn place_kernel(
    free: &GpaRanges,
    header: &SetupHeader,
    code_length: u64,
) -> Result<GpaRange, PlaceError> {
    let need = header.init_size.max(code_length);
    let lowest = header.pref_address;
    let preferred = GpaRange::with_length(lowest, need);
    if let Some(place) = preferred.filter(|place| place.end() <= 1 << 32 && free.contains(place)) {
        return Ok(place);
    }
    if !header.relocatable {
        return Err(PlaceError::KernelFixed(
            preferred.unwrap_or(GpaRange::EMPTY),
        ));
    }
    let allowed = GpaRange::new(lowest, 1 << 32).unwrap_or(GpaRange::EMPTY);
    free.iter()
        .map(|range| {
            range
                .intersection(&allowed)
                .align_inward(header.kernel_alignment.max(PAGE_4K))
        })
        .find(|range| range.length() >= need)
        .and_then(|range| GpaRange::with_length(range.start(), need))
        .ok_or(PlaceError::Kernel { need, lowest })
}

/// As high as the kernel allows below 4 GiB; above only if it must and the kernel can.
fn place_initrd(
    free: &GpaRanges,
    header: &SetupHeader,
    length: u64,
) -> Result<GpaRange, PlaceError> {
    let limit = u64::from(header.initrd_addr_max) + 1;
    let mut place = highest(free, length, limit);
    if place.is_none() && header.above_4g {
        place = highest(free, length, u64::MAX);
    }
    place.ok_or_else(|| {
        let limit = if header.above_4g { u64::MAX } else { limit };
        let below = GpaRange::new(0, limit).unwrap_or(GpaRange::EMPTY);
        let sizes = free.iter().map(|range| range.intersection(&below).length());
        PlaceError::Initrd {
            length,
            limit,
            largest: sizes.max().unwrap_or(0),
        }
    })
}

fn guest_map(
    l2: &GpaRanges,
    acpi: GpaRange,
    logs: &EventLogs,
    data_buffer: Option<GpaRange>,
) -> Result<E820Map, PlaceError> {
    let mut ram = l2.clone();
    take(&mut ram, LowMemory::CONVENTIONAL_END, LowMemory::END)?;
    ram.remove(acpi)?;
    ram.remove(logs.tcg)?;
    ram.remove(logs.cc)?;
    ram.remove(data_buffer.unwrap_or(GpaRange::EMPTY))?;
    let legacy = GpaRange::new(LowMemory::CONVENTIONAL_END, LowMemory::END);
    let mut entries: Vec<_> = [
        (legacy.unwrap_or(GpaRange::EMPTY), E820Kind::Reserved),
        (acpi, E820Kind::AcpiReclaim),
        (logs.tcg, E820Kind::AcpiNvs),
        (logs.cc, E820Kind::AcpiNvs),
    ]
    .into_iter()
    // Reserved, as the registers are: a driver claims it for itself (Linux, `tpm_crb`).
    .chain(data_buffer.map(|page| (page, E820Kind::Reserved)))
    .chain(ram.iter().map(|range| (range, E820Kind::Memory)))
    .collect();
    entries.sort_unstable_by_key(|(range, _)| range.start());
    let mut map = E820Map::new();
    for (range, kind) in entries {
        map.push(E820Entry { range, kind })?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::boot::header::tests::setup;
    use crate::launch::plan::tests::plan;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn l2(low: u64, high: u64) -> GpaRanges {
        plan(low, high, 64 * MIB).unwrap().l2().clone()
    }

    fn placed(
        l2: &GpaRanges,
        header: &SetupHeader,
        code_length: u64,
        initrd_length: u64,
    ) -> Result<Layout, PlaceError> {
        let contents = Contents {
            header,
            code_length,
            initrd_length,
            interface: TpmInterface::Fifo,
        };
        Layout::new(l2, &contents)
    }

    #[test]
    fn the_page_of_a_crb_is_reserved() {
        let header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
        let l2 = l2(0x4000_0000, 0);
        assert_eq!(
            placed(&l2, &header, 0x80_0000, 0).unwrap().data_buffer,
            None
        );
        let contents = Contents {
            header: &header,
            code_length: 0x80_0000,
            initrd_length: 0x100_0000,
            interface: TpmInterface::Crb,
        };
        let layout = Layout::new(&l2, &contents).unwrap();
        let page = layout.data_buffer.unwrap();
        assert_eq!(page, GpaRange::new(0x39AD_F000, 0x39AE_0000).unwrap());
        let of_page: Vec<_> = layout
            .e820
            .entries()
            .filter(|entry| entry.range.overlaps(&page))
            .map(|entry| (entry.range, entry.kind))
            .collect();
        assert_eq!(of_page, [(page, E820Kind::Reserved)]);
        assert!(!layout.initrd.unwrap().overlaps(&page));
    }

    #[test]
    fn a_usual_guest_is_laid_out_like_a_pc() {
        let header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
        let l2 = l2(0x4000_0000, 0x4000_0000);
        let layout = placed(&l2, &header, 0x80_0000, 0x123_4567).unwrap();
        assert_eq!(
            layout.kernel,
            GpaRange::with_length(0x100_0000, 0x300_0000).unwrap()
        );
        assert_eq!(
            (layout.event_logs.tcg, layout.event_logs.cc),
            (
                GpaRange::new(0x39BF_0000, 0x39C0_0000).unwrap(),
                GpaRange::new(0x39AF_0000, 0x39BF_0000).unwrap()
            )
        );
        assert_eq!(
            layout.acpi,
            GpaRange::new(0x39AE_0000, 0x39AF_0000).unwrap()
        );
        let initrd = layout.initrd.unwrap();
        assert_eq!((initrd.start(), initrd.length()), (0x388A_B000, 0x123_4567));
        let map: Vec<_> = layout
            .e820
            .entries()
            .map(|e| (e.range.start(), e.range.end(), e.kind))
            .collect();
        assert_eq!(
            map,
            [
                (0, 0x9FC00, E820Kind::Memory),
                (0x9FC00, 0x10_0000, E820Kind::Reserved),
                (0x10_0000, 0x39AE_0000, E820Kind::Memory),
                (0x39AE_0000, 0x39AF_0000, E820Kind::AcpiReclaim),
                (0x39AF_0000, 0x39BF_0000, E820Kind::AcpiNvs),
                (0x39BF_0000, 0x39C0_0000, E820Kind::AcpiNvs),
                (1 << 32, (1 << 32) + 0x4000_0000, E820Kind::Memory),
            ]
        );
    }

    #[test]
    fn a_kernel_whose_place_is_taken_moves_up_or_fails() {
        let mut l2 = l2(0x4000_0000, 0);
        l2.remove(GpaRange::new(0x180_0000, 0x190_0000).unwrap())
            .unwrap();
        let mut header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
        let layout = placed(&l2, &header, 0x80_0000, 0).unwrap();
        assert_eq!(
            layout.kernel,
            GpaRange::with_length(0x1A0_0000, 0x300_0000).unwrap()
        );
        assert_eq!(layout.initrd, None);
        header.relocatable = false;
        let error = placed(&l2, &header, 0x80_0000, 0).unwrap_err().to_string();
        assert!(error.contains("not relocatable"), "{error}");
        header.relocatable = true;
        header.init_size = 0xFFFF_0000;
        let error = placed(&l2, &header, 0x80_0000, 0).unwrap_err().to_string();
        assert!(
            error.contains("too little memory for the kernel"),
            "{error}"
        );
    }

    #[test]
    fn an_initrd_goes_above_4_gib_only_if_the_kernel_can_reach_it() {
        let l2 = l2(0x2000_0000, 0x4000_0000);
        let mut header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
        let layout = placed(&l2, &header, 0x80_0000, 600 * MIB).unwrap();
        assert_eq!(layout.initrd.unwrap().end(), (1 << 32) + 0x4000_0000);
        header.above_4g = false;
        let error = placed(&l2, &header, 0x80_0000, 600 * MIB)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the initrd is too large: 629145600 bytes"),
            "{error}"
        );
    }

    proptest! {
        /// Nothing shares memory, everything is L2's, and the map calls exactly L2's memory RAM or
        /// taken.
        #[test]
        fn nothing_overlaps(
            holes in proptest::collection::vec((0x10u64..0x3_0000, 1u64..0x4000), 0..6),
            code in 0x200u64..(64 << 20), init in 1u32..u32::MAX, initrd in 0u64..(600 << 20), fixed: bool,
        ) {
            let mut l2 = l2(0x3000_0000, 0x2000_0000);
            for (page, pages) in holes {
                l2.remove(GpaRange::with_length(0x10_0000 + page * 0x1000, pages * 0x1000).unwrap()).unwrap();
            }
            let mut header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
            header.init_size = u64::from(init >> 4);
            header.relocatable = !fixed;
            if let Ok(layout) = placed(&l2, &header, code, initrd) {
                let low = GpaRange::new(0, LowMemory::END).unwrap();
                let EventLogs { tcg, cc } = layout.event_logs;
                let places: Vec<_> = [layout.kernel, layout.acpi, tcg, cc, low]
                    .into_iter()
                    .chain(layout.initrd)
                    .collect();
                for (index, one) in places.iter().enumerate() {
                    prop_assert!(l2.contains(one));
                    prop_assert!(places.iter().skip(index + 1).all(|other| !one.overlaps(other)));
                }
                prop_assert!(layout.kernel.length() >= code.max(header.init_size));
                let mut listed = GpaRanges::new();
                for entry in layout.e820.entries() {
                    prop_assert!(!listed.overlaps(&entry.range));
                    listed.insert(entry.range).unwrap();
                }
                prop_assert_eq!(listed, l2);
                let ram = layout.e820.ram().unwrap();
                prop_assert!(ram.contains(&layout.kernel));
            }
        }
    }
}
