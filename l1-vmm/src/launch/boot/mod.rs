//! Direct boot of a Linux bzImage by the 64-bit boot protocol.
//!
//! [`SetupHeader`] reads what the kernel says of itself, [`Layout`] finds a place for everything,
//! [`boot_structures`] are the bytes a boot loader leaves in memory, [`EntryState`] the registers.

mod entry;
mod format;
mod header;
mod place;
mod zero_page;

pub use entry::{DescriptorTable, EntryState};
pub use format::Format;
pub use header::{KernelError, SetupHeader, canonical_setup};
pub use place::{
    ACPI_LENGTH, CC_LOG_CAPACITY, CC_LOG_LENGTH, Contents, EventLogs, Layout, LowMemory,
    PlaceError, TCG_LOG_LENGTH,
};

use alloc::vec::Vec;

/// The firmware's whole work after a jump to the reset vector: a hard reset by port 0xCF9.
///
/// The way a kernel reboots that was told `reboot=bios`, or that found no other (Linux,
/// `arch/x86/kernel/reboot.c`: BOOT_BIOS).
const RESET_CODE: [u8; 9] = [
    0xBA, 0xF9, 0x0C, // mov dx, 0CF9h
    0xB0, 0x06, // mov al, 6
    0xEE, // out dx, al
    0xF4, // hlt
    0xEB, 0xFD, // jmp to the hlt
];

/// Zero page, boot GDT and boot page tables: address and bytes of each piece.
pub fn boot_structures(
    header: &SetupHeader,
    layout: &Layout,
) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let fixed = [
        (
            LowMemory::ZERO_PAGE,
            zero_page::zero_page(header, layout).to_vec(),
        ),
        (LowMemory::GDT, entry::gdt().to_vec()),
        (LowMemory::RESET_VECTOR, RESET_CODE.to_vec()),
    ];
    let tables = entry::page_tables()
        .zip((LowMemory::PAGE_TABLES..).step_by(0x1000))
        .map(|(table, gpa)| (gpa, table.to_vec()));
    fixed.into_iter().chain(tables)
}

#[cfg(test)]
pub(super) use header::tests::setup as test_setup;
