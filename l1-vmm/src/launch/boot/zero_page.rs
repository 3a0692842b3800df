//! The zero page: what the kernel is told about the machine.
//!
//! Source: Linux, Documentation/arch/x86/zero-page.rst, and boot.rst for the header inside it.
//! Every byte that is not named here is 0.

use super::header::{LOADED_HIGH, SetupHeader, field};
use super::place::{Layout, LowMemory};
use crate::launch::e820::E820Map;

/// Size of the zero page.
pub(super) const LENGTH: usize = 4096;

const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0C0;
const EXT_RAMDISK_SIZE: usize = 0x0C4;
const E820_ENTRIES: usize = 0x1E8;
const E820_TABLE: usize = 0x2D0;
const E820_ENTRY_LENGTH: usize = 20;

/// `vid_mode`: "normal".
const VIDEO_NORMAL: u16 = 0xFFFF;
/// `type_of_loader`: undefined, which is what the specification asks of a loader without a number.
const LOADER_UNDEFINED: u8 = 0xFF;

/// The zero page for a kernel at its place in `layout`.
pub(super) fn zero_page(header: &SetupHeader, layout: &Layout) -> [u8; LENGTH] {
    let mut page = ZeroPage([0; LENGTH]);
    page.put(SetupHeader::ZERO_PAGE_OFFSET, header.for_zero_page());
    page.put(field::VID_MODE, &VIDEO_NORMAL.to_le_bytes());
    page.put(field::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    page.put(field::LOADFLAGS, &[LOADED_HIGH]);
    page.put_split(field::CODE32_START, None, layout.kernel.start());
    page.put_split(field::CMD_LINE_PTR, None, LowMemory::COMMAND_LINE);
    if let Some(initrd) = layout.initrd {
        page.put_split(
            field::RAMDISK_IMAGE,
            Some(EXT_RAMDISK_IMAGE),
            initrd.start(),
        );
        page.put_split(field::RAMDISK_SIZE, Some(EXT_RAMDISK_SIZE), initrd.length());
    }
    page.put(ACPI_RSDP_ADDR, &LowMemory::RSDP.to_le_bytes());
    page.put_map(&layout.e820);
    page.0
}

struct ZeroPage([u8; LENGTH]);

impl ZeroPage {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let place = self.0.get_mut(offset..offset + bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    /// The low half of an address or size at `low`, and the high half where the zero page has it.
    fn put_split(&mut self, low: usize, high: Option<usize>, value: u64) {
        self.put(low, &(value as u32).to_le_bytes());
        if let Some(high) = high {
            self.put(high, &((value >> 32) as u32).to_le_bytes());
        }
    }

    fn put_map(&mut self, map: &E820Map) {
        let mut count = 0u8;
        let mut at = E820_TABLE;
        for entry in map.entries() {
            self.put(at, &entry.range.start().to_le_bytes());
            self.put(at + 8, &entry.range.length().to_le_bytes());
            self.put(at + 16, &(entry.kind as u32).to_le_bytes());
            at += E820_ENTRY_LENGTH;
            count += 1;
        }
        self.put(E820_ENTRIES, &[count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::boot::Contents;
    use crate::launch::boot::header::tests::setup;
    use crate::launch::plan::tests::plan;
    use attestation::journal::TpmInterface;

    #[test]
    fn the_kernel_is_told_where_everything_is() {
        let header = SetupHeader::parse(&setup(0x80_0000)).unwrap();
        let plan = plan(0x2000_0000, 0x4000_0000, 64 << 20).unwrap();
        let layout = Layout::new(
            plan.l2(),
            &Contents {
                header: &header,
                code_length: 0x80_0000,
                initrd_length: 600 << 20,
                interface: TpmInterface::Fifo,
            },
        )
        .unwrap();
        let page = zero_page(&header, &layout);
        let u32_at =
            |at: usize| u64::from(u32::from_le_bytes(page[at..at + 4].try_into().unwrap()));
        let u64_at = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
        assert_eq!(u64_at(0x070), 0xE_0000);
        assert_eq!(u32_at(0x214), 0x100_0000);
        assert_eq!(u32_at(0x228), 0x2_0000);
        let initrd = layout.initrd.unwrap();
        assert_eq!(u32_at(0x218) | u32_at(0x0C0) << 32, initrd.start());
        assert_eq!(u32_at(0x21C) | u32_at(0x0C4) << 32, initrd.length());
        assert!(initrd.start() > u64::from(u32::MAX));
        assert_eq!(page[0x210..0x212], [0xFF, LOADED_HIGH]);
        assert_eq!(page[0x1FA..0x1FC], [0xFF, 0xFF]);
        assert_eq!(page[0x1EF], 0, "sentinel");
        assert_eq!(page[0x202..0x206], *b"HdrS");
        assert_eq!(usize::from(page[0x1E8]), layout.e820.entries().count());
        assert_eq!(
            (u64_at(0x2D0), u64_at(0x2D8), u32_at(0x2E0)),
            (0, 0x9_FC00, 1)
        );
        assert_eq!((u64_at(0x2E4), u32_at(0x2F4)), (0x9_FC00, 2));
    }
}
