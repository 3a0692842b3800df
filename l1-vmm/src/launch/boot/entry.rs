//! How L2's first instruction finds the machine.
//!
//! Source: Linux, Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL": 64-bit mode with paging,
//! the kernel, zero page and command line identity-mapped, flat segments CS 0x10 and DS, ES, SS
//! 0x18, interrupts off, RSI = zero page.

use super::header::ENTRY_64;
use super::place::LowMemory;
use l2_exit::{Segment, SegmentAccessRights};
use x86_defs::paging::{LARGE, PAGE_1G, PAGE_2M, PAGE_4K, PRESENT, WRITABLE};
use x86_defs::{cr0, cr4, efer, rflags};

/// Base and limit of a descriptor table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Linear address.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// The state of L2's boot processor at its first instruction. General registers not named are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// The kernel's 64-bit entry point.
    pub rip: u64,
    /// The zero page.
    pub rsi: u64,
    /// 0, or after INIT the processor's signature.
    pub rdx: u64,
    /// A stack, though the protocol promises none.
    pub rsp: u64,
    /// Interrupts off.
    pub rflags: u64,
    /// As L2 sees it: PG, NE, ET, PE.
    pub cr0: u64,
    /// Identity mapping of the first 4 GiB.
    pub cr3: u64,
    /// As L2 sees it: PAE.
    pub cr4: u64,
    /// As L2 sees it: LMA, LME. (NXE cannot be off under TDX.)
    pub efer: u64,
    /// 64-bit code.
    pub cs: Segment,
    /// Flat data: DS, ES and SS. FS and GS are the same.
    pub data: Segment,
    /// Unusable.
    pub ldtr: Segment,
    /// A busy 64-bit TSS, as VM entry demands; no task-state segment is in memory.
    pub tr: Segment,
    /// The table with those segments.
    pub gdtr: DescriptorTable,
    /// In the zeros of the first page: an exception before the kernel has its own table is a triple fault,
    /// and none that asks for a reset.
    pub idtr: DescriptorTable,
}

/// PE, ET, NE and PG.
const CR0: u64 = cr0::PG | cr0::NE | cr0::ET | cr0::PE;
/// PAE.
const CR4: u64 = cr4::PAE;
/// LME and LMA.
const EFER: u64 = efer::LMA | efer::LME;
/// Only bit 1, which is always set.
const RFLAGS: u64 = rflags::FIXED;
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;

const fn flat(selector: u16, access_rights: SegmentAccessRights) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        access_rights,
    }
}

impl EntryState {
    /// The state for a kernel whose protected-mode code is at `kernel`, with the boot structures in
    /// [`LowMemory`].
    pub const fn new(kernel: u64) -> Self {
        Self {
            rip: kernel + ENTRY_64,
            rsi: LowMemory::ZERO_PAGE,
            rdx: 0,
            rsp: LowMemory::STACK_TOP,
            rflags: RFLAGS,
            cr0: CR0,
            cr3: LowMemory::PAGE_TABLES,
            cr4: CR4,
            efer: EFER,
            cs: flat(BOOT_CS, SegmentAccessRights::CODE_64),
            data: flat(BOOT_DS, SegmentAccessRights::DATA),
            ldtr: Segment {
                limit: 0,
                ..flat(0, SegmentAccessRights::UNUSABLE)
            },
            tr: Segment {
                limit: 0xFFFF,
                ..flat(0, SegmentAccessRights::BUSY_TSS)
            },
            gdtr: DescriptorTable {
                base: LowMemory::GDT,
                limit: (size_of::<[u64; GDT_ENTRIES]>() - 1) as u16,
            },
            idtr: DescriptorTable {
                base: 0,
                limit: 0xFFF,
            },
        }
    }
}

impl EntryState {
    /// The state after INIT of a processor whose `CPUID.1:EAX` is `signature`, and whose CR0 was `cr0`: real mode, at the
    /// reset vector (SDM Vol. 3A, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT").
    pub const fn after_init(signature: u32, cr0: u64) -> Self {
        Self {
            rip: 0xFFF0,
            rsi: 0,
            rdx: signature as u64,
            rsp: 0,
            rflags: RFLAGS,
            cr0: cr0::ET | cr0 & (cr0::CD | cr0::NW),
            cr3: 0,
            cr4: 0,
            efer: 0,
            cs: Segment {
                selector: 0xF000,
                base: 0xFFFF_0000,
                ..REAL_MODE_CODE
            },
            data: Segment {
                access_rights: SegmentAccessRights::REAL_MODE_DATA,
                ..REAL_MODE_CODE
            },
            ldtr: Segment {
                access_rights: SegmentAccessRights::REAL_MODE_LDT,
                ..REAL_MODE_CODE
            },
            tr: Segment {
                access_rights: SegmentAccessRights::BUSY_TSS,
                ..REAL_MODE_CODE
            },
            gdtr: REAL_MODE_TABLE,
            idtr: REAL_MODE_TABLE,
        }
    }

    /// Code that a start-up IPI with `vector` starts.
    pub const fn start_up_code(vector: u8) -> Segment {
        Segment {
            selector: (vector as u16) << 8,
            base: (vector as u64) << 12,
            ..REAL_MODE_CODE
        }
    }
}

const REAL_MODE_CODE: Segment = Segment {
    selector: 0,
    base: 0,
    limit: 0xFFFF,
    access_rights: SegmentAccessRights::REAL_MODE_CODE,
};

const REAL_MODE_TABLE: DescriptorTable = DescriptorTable {
    base: 0,
    limit: 0xFFFF,
};

const GDT_ENTRIES: usize = 4;

/// The boot GDT: two null entries, then [`BOOT_CS`] and [`BOOT_DS`], both already accessed.
pub(super) fn gdt() -> [u8; 8 * GDT_ENTRIES] {
    bytes([0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF])
}

/// Page tables at [`LowMemory::PAGE_TABLES`] that map the first 4 GiB to themselves in 2 MiB pages.
///
/// One PML4, one page-directory-pointer table and four page directories, in this order.
pub(super) fn page_tables() -> impl Iterator<Item = [u8; 4096]> {
    const PRESENT_WRITE: u64 = PRESENT | WRITABLE;
    let table = |number: u64| LowMemory::PAGE_TABLES + number * PAGE_4K;
    let pml4 = core::array::from_fn(|index| match index {
        0 => table(1) | PRESENT_WRITE,
        _ => 0,
    });
    let pointers = core::array::from_fn(|index| match index as u64 {
        gib @ 0..4 => table(2 + gib) | PRESENT_WRITE,
        _ => 0,
    });
    let directories = (0..4u64).map(|gib| {
        core::array::from_fn::<u64, 512, _>(|index| {
            let page = gib * PAGE_1G + (index as u64) * PAGE_2M;
            page | LARGE | PRESENT_WRITE
        })
    });
    [pml4, pointers].into_iter().chain(directories).map(bytes)
}

fn bytes<const QWORDS: usize, const BYTES: usize>(table: [u64; QWORDS]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (place, entry) in bytes.chunks_exact_mut(8).zip(table) {
        place.copy_from_slice(&entry.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_tables_map_4_gib_to_itself() {
        let tables: Vec<_> = page_tables().collect();
        assert_eq!(tables.len() as u64 * 0x1000, LowMemory::PAGE_TABLES_LENGTH);
        let entry = |table: u64, index: u64| {
            let page = tables[((table - LowMemory::PAGE_TABLES) / 0x1000) as usize];
            let at = index as usize * 8;
            u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
        };
        for address in [0, 0x10_0000, 0x1FF_FFFF, 0x4000_0000, 0xFFFF_FFFF_u64] {
            let pointers = entry(LowMemory::PAGE_TABLES, address >> 39 & 511) & !0xFFF;
            let directory = entry(pointers, address >> 30 & 511) & !0xFFF;
            let leaf = entry(directory, address >> 21 & 511);
            assert_eq!(leaf & 0xFFF, 0x83);
            assert_eq!(leaf & !0x1F_FFFF | address & 0x1F_FFFF, address);
        }
        assert_eq!(entry(LowMemory::PAGE_TABLES, 1), 0);
    }

    #[test]
    fn the_segments_are_the_gdts() {
        let state = EntryState::new(0x100_0000);
        let gdt = gdt();
        for segment in [state.cs, state.data] {
            let at = usize::from(segment.selector);
            let entry = u64::from_le_bytes(gdt[at..at + 8].try_into().unwrap());
            assert_eq!(
                (entry >> 40) as u32 & 0xF0FF,
                segment.access_rights.into_bits()
            );
            assert_eq!(entry & 0xFFFF_0000 | entry >> 32 & 0xFF00_00FF, 0, "base");
        }
        assert!(usize::from(state.gdtr.limit) + 1 == gdt.len());
    }
}
