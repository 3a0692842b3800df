//! L1's own page tables: 4-level, built once before they are used.
//!
//! The first mapping of an address wins, so special regions (the image's own sections, guard
//! pages) are mapped first and RAM around them afterwards, with pages as large as fit. Aliases
//! have addresses of their own, from [`ALIASES`] on: RAM that the host reports there must not win
//! over an alias, nor an alias over RAM.
//!
//! Nothing is mapped to the first 64 KiB of the address space, so that an access through a null
//! pointer faults. The memory there is L2's like any other, and its page tables or descriptors may
//! be in it: it has an alias ([`linear`]).

use x86_defs::paging::{ACCESSED, ADDRESS, DIRTY, EXECUTE_DISABLE, LARGE, PRESENT, WRITABLE};

/// Where identity mappings end and aliases begin.
pub const ALIASES: u64 = 0x6000_0000_0000;

/// No identity mapping is below.
pub const NULL_END: u64 = 0x1_0000;

/// Where what is below [`NULL_END`] is mapped, behind [`ALIASES`]: above any address that an alias
/// of memory below 4 GiB takes.
const LOW_ALIAS: u64 = 1 << 40;

/// The linear address of memory at `physical`, and how many bytes from there on lie together.
#[inline]
pub const fn linear(physical: u64) -> (u64, u64) {
    if physical < NULL_END {
        (ALIASES + LOW_ALIAS + physical, NULL_END - physical)
    } else {
        (physical, ALIASES.saturating_sub(physical))
    }
}

/// One page table of any level.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct PageTable([u64; 512]);

impl PageTable {
    /// Nothing mapped.
    pub const EMPTY: Self = Self([0; 512]);
}

/// What code may do with a page. Every page is readable, and none both writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: a guard page, kept unmapped whatever is mapped around it.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Self::None => RESERVED,
            Self::Read => PRESENT | ACCESSED | EXECUTE_DISABLE,
            Self::ReadWrite => PRESENT | ACCESSED | WRITABLE | DIRTY | EXECUTE_DISABLE,
            Self::ReadExecute => PRESENT | ACCESSED,
        }
    }
}

/// Why the tables could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagingError {
    /// More tables are needed than there are.
    #[error("the memory map is too ragged for {0} page tables")]
    OutOfTables(usize),
    /// An address or a length is not a multiple of 4 KiB.
    #[error("a region to map at {0:#x} is not one of whole pages")]
    Unaligned(u64),
    /// An address is beyond the part of the address space that is for such a mapping.
    #[error("a region to map ends at {0:#x}, beyond what L1 maps there")]
    TooHigh(u64),
}

/// A software bit: the entry is taken although nothing is mapped.
const RESERVED: u64 = 1 << 9;
/// First address that 4-level tables do not map in the lower half.
const END: u64 = 1 << 47;

/// Address translations under construction.
#[derive(Debug)]
pub struct PageTables<'a> {
    tables: &'a mut [PageTable],
    address: u64,
    used: usize,
    gigabyte_pages: bool,
}

impl<'a> PageTables<'a> {
    /// Starts with nothing mapped. `tables` are at physical `address`; `gigabyte_pages` says
    /// whether the processor has them (CPUID 0x80000001 EDX bit 26).
    pub fn new(
        tables: &'a mut [PageTable],
        address: u64,
        gigabyte_pages: bool,
    ) -> Result<Self, PagingError> {
        let mut new = Self {
            tables,
            address,
            used: 0,
            gigabyte_pages,
        };
        new.take_table()?;
        Ok(new)
    }

    /// Physical address of the root, for CR3.
    pub fn root(&self) -> u64 {
        self.address
    }

    /// How many tables are in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Maps `length` bytes at `linear`, below [`ALIASES`], to the same address. What is mapped
    /// already stays as it is.
    pub fn map_identity(
        &mut self,
        linear: u64,
        length: u64,
        access: Access,
    ) -> Result<(), PagingError> {
        self.map(linear, linear, length, access, ALIASES)
    }

    /// Maps `length` bytes of RAM to the same address, and what of them is below [`NULL_END`] to
    /// its alias instead, both for reads and writes. What is mapped already stays as it is.
    pub fn map_ram(&mut self, start: u64, length: u64) -> Result<(), PagingError> {
        let end = start
            .checked_add(length)
            .ok_or(PagingError::TooHigh(u64::MAX))?;
        let (low, high) = (start.min(NULL_END), end.min(NULL_END));
        self.map_alias(LOW_ALIAS + low, low, high - low, Access::ReadWrite)?;
        let rest = start.max(NULL_END);
        self.map_identity(rest, end.saturating_sub(rest), Access::ReadWrite)
    }

    /// Maps `length` bytes at `offset` behind [`ALIASES`] to `physical`. What is mapped already
    /// stays as it is.
    ///
    /// `physical` may have the SHARED bit.
    pub fn map_alias(
        &mut self,
        offset: u64,
        physical: u64,
        length: u64,
        access: Access,
    ) -> Result<(), PagingError> {
        let linear = ALIASES.saturating_add(offset);
        self.map(linear, physical, length, access, END)
    }

    fn map(
        &mut self,
        linear: u64,
        physical: u64,
        length: u64,
        access: Access,
        limit: u64,
    ) -> Result<(), PagingError> {
        let end = linear
            .checked_add(length)
            .filter(|&end| end <= limit)
            .ok_or(PagingError::TooHigh(linear.saturating_add(length)))?;
        if (linear | physical | length) & 0xFFF != 0 {
            return Err(PagingError::Unaligned(linear));
        }
        let offset = physical.wrapping_sub(linear);
        let mut at = linear;
        while at < end {
            at = self.map_one(at, at.wrapping_add(offset), end, access)?;
        }
        Ok(())
    }

    /// Maps the largest page possible at `linear`, or finds one there; returns where it ends.
    fn map_one(
        &mut self,
        linear: u64,
        physical: u64,
        end: u64,
        access: Access,
    ) -> Result<u64, PagingError> {
        let mut table = 0;
        let mut level = 3;
        loop {
            let size = 0x1000_u64 << (9 * level);
            let entry = self.entry(table, linear, level);
            let page_end = (linear & !(size - 1)) + size;
            if level == 0 || entry & (LARGE | RESERVED) != 0 {
                if entry == 0 {
                    self.set_entry(table, linear, level, physical | access.bits());
                }
                return Ok(page_end);
            }
            let leaf_here = level == 1 || level == 2 && self.gigabyte_pages;
            let fits = (linear | physical) & (size - 1) == 0 && page_end <= end;
            if entry == 0 && leaf_here && fits {
                let leaf = physical | access.bits() | LARGE;
                self.set_entry(table, linear, level, leaf);
                return Ok(page_end);
            }
            table = if entry == 0 {
                let new = self.take_table()?;
                let new_address = self.address + 0x1000 * new as u64;
                // Rights are the leaf's alone.
                let bits = PRESENT | WRITABLE | ACCESSED;
                self.set_entry(table, linear, level, new_address | bits);
                new
            } else {
                ((entry & ADDRESS) - self.address) as usize / 0x1000
            };
            level -= 1;
        }
    }

    fn take_table(&mut self) -> Result<usize, PagingError> {
        let index = self.used;
        let count = self.tables.len();
        let table = self
            .tables
            .get_mut(index)
            .ok_or(PagingError::OutOfTables(count))?;
        *table = PageTable::EMPTY;
        self.used += 1;
        Ok(index)
    }

    fn entry(&self, table: usize, linear: u64, level: u32) -> u64 {
        self.tables
            .get(table)
            .and_then(|table| table.0.get(index(linear, level)))
            .copied()
            .unwrap_or(0)
    }

    fn set_entry(&mut self, table: usize, linear: u64, level: u32, value: u64) {
        if let Some(entry) = self
            .tables
            .get_mut(table)
            .and_then(|table| table.0.get_mut(index(linear, level)))
        {
            *entry = value;
        }
    }
}

const fn index(linear: u64, level: u32) -> usize {
    (linear >> (12 + 9 * level)) as usize & 0x1FF
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const BASE: u64 = 0x3E00_0000;

    fn pool(count: usize) -> Vec<PageTable> {
        vec![PageTable::EMPTY; count]
    }

    /// The processor's walk: the leaf entry and the physical address.
    fn walk(tables: &PageTables<'_>, linear: u64) -> Option<(u64, u64)> {
        let mut table = 0;
        for level in (0..4).rev() {
            let entry = tables.entry(table, linear, level);
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                let mask = (0x1000_u64 << (9 * level)) - 1;
                return Some((entry, entry & ADDRESS & !mask | linear & mask));
            }
            table = ((entry & ADDRESS) - tables.address) as usize / 0x1000;
        }
        None
    }

    #[test]
    fn the_first_mapping_wins_and_ram_fills_the_rest_with_large_pages() {
        let mut pool = pool(16);
        let mut tables = PageTables::new(&mut pool, BASE, true).unwrap();
        tables
            .map_identity(0x3DF0_0000, 0x1000, Access::ReadExecute)
            .unwrap();
        tables
            .map_identity(0x3DF0_1000, 0x1000, Access::None)
            .unwrap();
        tables.map_identity(0, 8 << 30, Access::ReadWrite).unwrap();
        let (code, at) = walk(&tables, 0x3DF0_0123).unwrap();
        assert_eq!((code & (WRITABLE | EXECUTE_DISABLE), at), (0, 0x3DF0_0123));
        assert_eq!(walk(&tables, 0x3DF0_1FFF), None);
        let (data, at) = walk(&tables, 0x3DF0_2000).unwrap();
        assert_eq!(
            data & (WRITABLE | EXECUTE_DISABLE),
            WRITABLE | EXECUTE_DISABLE
        );
        assert_eq!(at, 0x3DF0_2000);
        assert_eq!(walk(&tables, (7 << 30) + 5).unwrap().1, (7 << 30) + 5);
        // Root, one PDPT, one directory and one table around the code.
        assert_eq!(tables.used(), 4);
    }

    #[test]
    fn null_pointers_fault_and_low_memory_has_an_alias() {
        let mut pool = pool(16);
        let mut tables = PageTables::new(&mut pool, BASE, true).unwrap();
        // As an E820 map may have it: a page is missing.
        tables.map_ram(0, 0x4000).unwrap();
        tables.map_ram(0x5000, 0x9_A000).unwrap();
        tables.map_ram(MIB, 1 << 30).unwrap();
        for page in (0..NULL_END).step_by(0x1000) {
            assert_eq!(walk(&tables, page), None);
            let (alias, together) = linear(page + 8);
            assert_eq!(together, NULL_END - page - 8);
            let (entry, at) = walk(&tables, alias).unzip();
            let is_ram = page != 0x4000;
            assert_eq!(at, is_ram.then_some(page + 8));
            assert_eq!(
                entry.map(|entry| entry & (WRITABLE | EXECUTE_DISABLE)),
                is_ram.then_some(WRITABLE | EXECUTE_DISABLE)
            );
        }
        for address in [NULL_END, 0x9_E123, 0x10_0000, 0x1234_5678] {
            assert_eq!(linear(address).0, address);
            assert_eq!(walk(&tables, address).unwrap().1, address);
        }
        assert_eq!(walk(&tables, 0x9_F000), None);
        assert_eq!(
            tables.map_ram(0x1000, u64::MAX),
            Err(PagingError::TooHigh(u64::MAX))
        );
    }

    #[test]
    fn a_shared_alias_has_the_shared_bit() {
        let mut pool = pool(16);
        let mut tables = PageTables::new(&mut pool, BASE, false).unwrap();
        let shared = 1 << 51;
        tables
            .map_alias(0x20_0000, shared | 0x20_0000, 2 * MIB, Access::ReadWrite)
            .unwrap();
        let (entry, at) = walk(&tables, ALIASES + 0x20_1000).unwrap();
        assert_eq!(at, shared | 0x20_1000);
        assert_ne!(entry & EXECUTE_DISABLE, 0);
    }

    #[test]
    fn a_gib_is_mapped_with_smaller_pages_where_the_processor_lacks_them() {
        let mut pool = pool(16);
        let mut tables = PageTables::new(&mut pool, BASE, false).unwrap();
        tables.map_identity(0, 1 << 30, Access::ReadWrite).unwrap();
        assert_eq!(tables.used(), 3);
        assert_eq!(walk(&tables, 0x1234_5678).unwrap().1, 0x1234_5678);
    }

    #[test]
    fn what_can_not_be_mapped_is_refused() {
        let mut few = pool(2);
        let mut tables = PageTables::new(&mut few, BASE, true).unwrap();
        assert_eq!(
            tables.map_identity(0x1000, 0x1000, Access::Read),
            Err(PagingError::OutOfTables(2))
        );
        let mut pool = pool(8);
        let mut tables = PageTables::new(&mut pool, BASE, true).unwrap();
        assert_eq!(
            tables.map_identity(0x800, 0x1000, Access::Read),
            Err(PagingError::Unaligned(0x800))
        );
        assert_eq!(
            tables.map_alias(END - ALIASES - 0x1000, 0, 0x2000, Access::Read),
            Err(PagingError::TooHigh(END + 0x1000))
        );
        assert_eq!(
            tables.map_alias(!0xFFF, 0, 0x1000, Access::Read),
            Err(PagingError::TooHigh(u64::MAX))
        );
    }

    #[test]
    fn ram_where_aliases_are_is_refused() {
        let mut pool = pool(16);
        let mut tables = PageTables::new(&mut pool, BASE, true).unwrap();
        for (start, length) in [(ALIASES + 0x20_0000, 2 * MIB), (ALIASES - MIB, 2 * MIB)] {
            assert_eq!(
                tables.map_identity(start, length, Access::ReadWrite),
                Err(PagingError::TooHigh(start + length))
            );
            assert_eq!(walk(&tables, start), None);
        }
        tables
            .map_identity(ALIASES - MIB, MIB, Access::ReadWrite)
            .unwrap();
    }

    proptest! {
        #[test]
        fn every_page_has_the_rights_of_its_first_mapping(
            regions in proptest::collection::vec((0u64..2048, 1u64..1200, 0u8..4), 1..8),
            probes in proptest::collection::vec(0u64..4096, 64),
        ) {
            let access = |kind| match kind {
                0 => Access::None,
                1 => Access::Read,
                2 => Access::ReadWrite,
                _ => Access::ReadExecute,
            };
            let mut pool = pool(64);
            let mut tables = PageTables::new(&mut pool, BASE, true).unwrap();
            for &(first, count, kind) in &regions {
                tables.map_identity(first << 12, count << 12, access(kind)).unwrap();
            }
            for page in probes {
                let first = regions.iter().find(|(first, count, _)| (*first..first + count).contains(&page));
                let expected = match first {
                    None | Some((_, _, 0)) => None,
                    Some(&(_, _, kind)) => {
                        let mask = WRITABLE | EXECUTE_DISABLE;
                        Some((access(kind).bits() & mask, page << 12))
                    }
                };
                let found = walk(&tables, page << 12)
                    .map(|(entry, at)| (entry & (WRITABLE | EXECUTE_DISABLE), at));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
