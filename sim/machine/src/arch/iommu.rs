//! QEMU's IOMMU (`-device intel-iommu`): what QEMU's own devices may reach.
//!
//! One domain, whose addresses are the TD's without the shared bit.

use alloc::format;
use alloc::string::String;

use super::memory::{self, Mmio};
use x86_defs::iommu::{self, PRESENT, READ, WRITE};
use x86_defs::paging::PAGE_4K;

/// The unit's registers.
const REGISTERS: Mmio = Mmio::new(iommu::BASE);
/// Entries of a table, and how many address bits one level has.
const LEVEL_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;
/// Address bits of the domain.
const DOMAIN_BITS: u32 = PAGE_BITS + 3 * LEVEL_BITS;
const DOMAIN: u64 = 1;
/// How often a register is read until the unit has done what it was told.
const PATIENCE: u32 = 1_000_000;

/// The unit, switched on: nothing reaches memory but what is mapped.
#[derive(Debug)]
pub(crate) struct Iommu {
    context_table: u64,
    /// Root of the domain's tables.
    tables: u64,
    invalidate: u64,
}

impl Iommu {
    /// Switches it on with an empty domain. `take_page` gives pages of machine memory for tables.
    pub(crate) fn start(take_page: &mut impl FnMut() -> Option<u64>) -> Result<Self, String> {
        let capability = REGISTERS.read64(iommu::CAPABILITY);
        if capability & iommu::CAPABILITY_39_BITS == 0 {
            return Err(format!(
                "QEMU has no intel-iommu with 39 address bits (capability {capability:#x})"
            ));
        }
        let extended = REGISTERS.read64(iommu::EXTENDED_CAPABILITY);
        let mut table = || {
            let page = take_page().ok_or("no memory for the IOMMU's tables")?;
            memory::zero(page, PAGE_4K);
            Ok::<_, String>(page)
        };
        let (root, context_table, tables) = (table()?, table()?, table()?);
        // Bus 0.
        write_entry(root, 0, context_table | PRESENT);
        REGISTERS.write64(iommu::ROOT_TABLE_ADDRESS, root);
        let this = Self {
            context_table,
            tables,
            invalidate: iommu::iotlb_offset(extended) + iommu::IOTLB_INVALIDATE,
        };
        this.command(iommu::ROOT_TABLE)?;
        this.forget_contexts()?;
        this.forget_translations()?;
        this.command(iommu::TRANSLATION)?;
        Ok(this)
    }

    fn command(&self, bit: u32) -> Result<(), String> {
        let now = REGISTERS.read32(iommu::GLOBAL_STATUS) & iommu::TRANSLATION;
        REGISTERS.write32(iommu::GLOBAL_COMMAND, now | bit);
        wait(|| REGISTERS.read32(iommu::GLOBAL_STATUS) & bit != 0)
    }

    fn forget_contexts(&self) -> Result<(), String> {
        REGISTERS.write64(iommu::CONTEXT_COMMAND, iommu::CONTEXT_INVALIDATE_ALL);
        wait(|| REGISTERS.read64(iommu::CONTEXT_COMMAND) & iommu::BUSY == 0)
    }

    fn forget_translations(&self) -> Result<(), String> {
        REGISTERS.write64(self.invalidate, iommu::IOTLB_INVALIDATE_ALL);
        wait(|| REGISTERS.read64(self.invalidate) & iommu::BUSY == 0)
    }

    /// Gives function 0 of a device of bus 0 the domain.
    pub(super) fn assign(&mut self, device: u8) -> Result<(), String> {
        let entry = u64::from(device) << 3;
        let place = self.context_table + 16 * entry;
        let upper = iommu::CONTEXT_39_BITS | DOMAIN << iommu::CONTEXT_DOMAIN_SHIFT;
        memory::write(place + 8, &upper.to_le_bytes());
        memory::write(place, &(self.tables | PRESENT).to_le_bytes());
        self.forget_contexts()
    }

    /// Where the last-level entry of an address is; none if its tables are missing and `take_page` gives no pages.
    fn entry(&self, gpa: u64, take_page: &mut impl FnMut() -> Option<u64>) -> Option<u64> {
        if gpa >> DOMAIN_BITS != 0 {
            return None;
        }
        let mut table = self.tables;
        for level in [2, 1] {
            let index = gpa >> (PAGE_BITS + level * LEVEL_BITS) & ((1 << LEVEL_BITS) - 1);
            let next = read_entry(table, index);
            table = if next & READ != 0 {
                next & !(PAGE_4K - 1)
            } else {
                let page = take_page()?;
                memory::zero(page, PAGE_4K);
                write_entry(table, index, page | READ | WRITE);
                page
            };
        }
        Some(table + 8 * (gpa >> PAGE_BITS & ((1 << LEVEL_BITS) - 1)))
    }

    /// Lets devices reach a page of 4 KiB. False if there is no memory for tables.
    #[must_use]
    pub(crate) fn map(
        &mut self,
        gpa: u64,
        hpa: u64,
        take_page: &mut impl FnMut() -> Option<u64>,
    ) -> bool {
        assert!(memory::is_ram(hpa, PAGE_4K), "no memory at {hpa:#x} to map");
        let Some(place) = self.entry(gpa, take_page) else {
            return false;
        };
        memory::write(place, &(hpa | READ | WRITE).to_le_bytes());
        true
    }

    /// Takes pages from devices, and waits until none can reach them.
    pub(crate) fn unmap(&mut self, pages: core::ops::Range<u64>) -> Result<(), String> {
        for gpa in pages.step_by(PAGE_4K as usize) {
            if let Some(place) = self.entry(gpa, &mut || None) {
                memory::write(place, &0_u64.to_le_bytes());
            }
        }
        self.forget_translations()
    }
}

fn read_entry(table: u64, index: u64) -> u64 {
    let mut bytes = [0; 8];
    memory::read(table + 8 * index, &mut bytes);
    u64::from_le_bytes(bytes)
}

fn write_entry(table: u64, index: u64, value: u64) {
    memory::write(table + 8 * index, &value.to_le_bytes());
}

fn wait(done: impl Fn() -> bool) -> Result<(), String> {
    for _ in 0..PATIENCE {
        if done() {
            return Ok(());
        }
    }
    Err("the IOMMU does not do as it is told".into())
}
