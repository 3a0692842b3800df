//! The E820 map: the one td-shim hands over, and the one L2's kernel gets.
//!
//! Types and layout: ACPI 6.5, section 15.1 "INT 15H, E820H". td-shim calls all RAM that it does not
//! keep for itself type 1, accepted or not, and never says "unaccepted" (8).

use super::gpa_range::{GpaRange, GpaRanges, TooManyRanges};
use x86_defs::e820::{self, Entry as RawEntry};
use zerocopy::FromBytes;

/// What a range of memory is for (ACPI 6.5, table 15.1 "Address Range Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// RAM.
    Memory = e820::MEMORY,
    /// In use by the platform. Types this program does not know are taken for reserved.
    Reserved = e820::RESERVED,
    /// ACPI tables; RAM once the OS has read them.
    AcpiReclaim = e820::ACPI,
    /// Memory that an OS must keep, over sleep too.
    AcpiNvs = e820::NVS,
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// Its addresses.
    pub range: GpaRange,
    /// What it is for.
    pub kind: E820Kind,
}

/// What is wrong with an E820 map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum E820MapError {
    /// More entries than a zero page holds.
    #[error("the E820 map has more than {} entries", E820Map::CAPACITY)]
    TooManyEntries,
    /// A range that ends beyond 64 bits.
    #[error("the E820 map has {size:#x} bytes at {address:#x}, beyond the end of memory")]
    Wraps {
        /// First address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// The RAM is in too many pieces.
    #[error("E820: {0}")]
    TooManyRanges(#[from] TooManyRanges),
}

/// An E820 map of bounded size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct E820Map {
    entries: [E820Entry; Self::CAPACITY],
    count: usize,
}

impl E820Map {
    /// As many entries as a Linux zero page has room for (E820_MAX_ENTRIES_ZEROPAGE).
    pub const CAPACITY: usize = 128;

    /// No entries.
    pub const fn new() -> Self {
        const NONE: E820Entry = E820Entry {
            range: GpaRange::EMPTY,
            kind: E820Kind::Reserved,
        };
        Self {
            entries: [NONE; Self::CAPACITY],
            count: 0,
        }
    }

    /// Reads packed entries of 20 bytes; empty ones, and what is left at the end, are padding.
    pub fn parse(mut data: &[u8]) -> Result<Self, E820MapError> {
        let mut map = Self::new();
        while let Ok((raw, rest)) = RawEntry::read_from_prefix(data) {
            data = rest;
            let (address, size) = (raw.address.get(), raw.size.get());
            let range = GpaRange::with_length(address, size)
                .ok_or(E820MapError::Wraps { address, size })?;
            let kind = match raw.kind.get() {
                1 => E820Kind::Memory,
                3 => E820Kind::AcpiReclaim,
                4 => E820Kind::AcpiNvs,
                _ => E820Kind::Reserved,
            };
            if !range.is_empty() {
                map.push(E820Entry { range, kind })?;
            }
        }
        Ok(map)
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: E820Entry) -> Result<(), E820MapError> {
        *self
            .entries
            .get_mut(self.count)
            .ok_or(E820MapError::TooManyEntries)? = entry;
        self.count += 1;
        Ok(())
    }

    /// The entries in the map's order.
    pub fn entries(&self) -> impl Iterator<Item = &E820Entry> {
        self.entries.iter().take(self.count)
    }

    /// The addresses that some entry calls RAM and no entry calls anything else.
    pub fn ram(&self) -> Result<GpaRanges, E820MapError> {
        let mut ram = GpaRanges::new();
        for entry in self.entries().filter(|e| e.kind == E820Kind::Memory) {
            ram.insert(entry.range)?;
        }
        for entry in self.entries().filter(|e| e.kind != E820Kind::Memory) {
            ram.remove(entry.range)?;
        }
        Ok(ram)
    }
}

impl Default for E820Map {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn raw(address: u64, size: u64, kind: u32) -> RawEntry {
        RawEntry {
            address: address.into(),
            size: size.into(),
            kind: kind.into(),
        }
    }

    #[test]
    fn ram_is_what_nobody_else_claims() {
        let entries = [
            raw(0, 0x10000, 1),
            raw(0x4000, 0x1000, 2),
            raw(0x6000, 0x800, 99),
        ];
        let mut bytes = entries.as_bytes().to_vec();
        bytes.extend([0; 20 + 4]);
        let map = E820Map::parse(&bytes).unwrap();
        assert_eq!(map.entries().count(), 3);
        let ram: Vec<_> = map
            .ram()
            .unwrap()
            .iter()
            .map(|r| (r.start(), r.end()))
            .collect();
        assert_eq!(ram, [(0, 0x4000), (0x5000, 0x6000), (0x6800, 0x10000)]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(
            E820Map::parse(raw(u64::MAX, 2, 1).as_bytes()),
            Err(E820MapError::Wraps {
                address: u64::MAX,
                size: 2
            })
        );
        let many = vec![raw(0, 1, 1); E820Map::CAPACITY + 1];
        assert_eq!(
            E820Map::parse(many.as_bytes()),
            Err(E820MapError::TooManyEntries)
        );
        let pieces: Vec<_> = (0..65).map(|i| raw(i * 2, 1, 1)).collect();
        assert_eq!(
            E820Map::parse(pieces.as_bytes()).unwrap().ram(),
            Err(TooManyRanges.into())
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(map) = E820Map::parse(&bytes) {
                let _ = map.ram();
            }
        }
    }
}
