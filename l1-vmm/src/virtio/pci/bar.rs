//! Base address registers: how large they are, and where L1 lets them be.

use alloc::vec::Vec;

use super::error::PciError;
use super::host::{Function, HostPci};
use crate::launch::e820::E820Map;
use crate::launch::gpa_range::GpaRange;
use x86_defs::pci;

/// The addresses at which the host's devices may have registers: no memory of the TD, nothing of L1's or L2's
/// machine. An access outside it would go to what is private, with a value or to an address of the host's choice.
#[derive(Clone, Debug)]
pub struct BarWindow {
    range: GpaRange,
    taken: Vec<GpaRange>,
}

/// Where a PC decodes addresses for PCI whatever else it has: above the RAM that it may have below 4 GiB and the
/// memory-mapped configuration space, below the I/O APIC and the flash.
const DECODED: (u64, u64) = (0xC000_0000, 0xFE00_0000);

impl BarWindow {
    /// All of `range` is free.
    pub const fn new(range: GpaRange) -> Self {
        Self {
            range,
            taken: Vec::new(),
        }
    }

    /// The largest range that a PC decodes for PCI, with nothing in it of the memory map and of `others`.
    ///
    /// Nobody has given the BARs addresses: td-shim knows no PCI. The host has, of what it tells, no table of its
    /// windows that could be believed, but the memory map is measured, and none of it may be taken for a register.
    pub fn beside_memory(e820: &E820Map, others: &[GpaRange]) -> Self {
        let (lowest, end) = DECODED;
        let memory = || e820.entries().map(|entry| entry.range);
        let occupied = || memory().chain(others.iter().copied());
        let starts = occupied().map(|range| range.end());
        let range = starts
            .chain([lowest])
            .filter(|start| (lowest..end).contains(start))
            .filter_map(|start| {
                let behind = |range: &GpaRange| range.end() > start;
                let next = occupied().filter(behind).map(|range| range.start()).min();
                GpaRange::new(start, next.unwrap_or(end).min(end))
            })
            .max_by_key(GpaRange::length);
        Self::new(range.unwrap_or(GpaRange::EMPTY))
    }

    /// Where it is.
    pub const fn range(&self) -> GpaRange {
        self.range
    }

    /// Takes `range`, if it is free.
    fn take(&mut self, range: GpaRange) -> Option<GpaRange> {
        let free = self.range.contains(&range) && !self.taken.iter().any(|t| t.overlaps(&range));
        free.then(|| {
            self.taken.push(range);
            range
        })
    }

    /// Takes the lowest free place for `size` bytes, a power of two.
    fn place(&mut self, size: u64) -> Option<GpaRange> {
        let mut start = self.range.start().checked_next_multiple_of(size)?;
        // Each round but the last passes one of those taken.
        for _ in 0..=self.taken.len() {
            let range = GpaRange::with_length(start, size)?;
            match self.taken.iter().find(|taken| taken.overlaps(&range)) {
                Some(taken) => start = taken.end().checked_next_multiple_of(size)?,
                None => return self.take(range),
            }
        }
        None
    }
}

/// A base address register of memory.
#[derive(Clone, Copy, Debug)]
struct Bar {
    size: u64,
    address: u64,
    is_64_bit: bool,
}

/// The base address registers of a function.
#[derive(Debug)]
pub(super) struct Bars {
    bars: [Option<Bar>; pci::BARS as usize],
    placed: [Option<GpaRange>; pci::BARS as usize],
}

impl Bars {
    /// Finds out kinds and sizes. The function does not answer to its BARs meanwhile, nor after.
    pub(super) fn read<H: HostPci>(host: &H, function: Function) -> Result<Self, PciError> {
        // Writing zeroes to the status clears nothing.
        host.config_write(function, pci::COMMAND_STATUS, 0)?;
        let mut bars = [None; pci::BARS as usize];
        let mut upper_half = false;
        for (index, place) in (0..).zip(bars.iter_mut()) {
            if upper_half {
                upper_half = false;
                continue;
            }
            let (old, mask) = probe(host, function, index)?;
            if old & pci::BAR_IO != 0 || mask & pci::BAR_ADDRESS == 0 && mask & pci::BAR_TYPE == 0 {
                continue;
            }
            let low = u64::from(mask & pci::BAR_ADDRESS);
            let low_address = u64::from(old & pci::BAR_ADDRESS);
            *place = match old & pci::BAR_TYPE {
                pci::BAR_TYPE_32 => Some(Bar {
                    size: size(low | 0xFFFF_FFFF << 32).ok_or(PciError::BarSize(index))?,
                    address: low_address,
                    is_64_bit: false,
                }),
                pci::BAR_TYPE_64 if index + 1 < pci::BARS => {
                    upper_half = true;
                    let (old, mask) = probe(host, function, index + 1)?;
                    Some(Bar {
                        size: size(low | u64::from(mask) << 32).ok_or(PciError::BarSize(index))?,
                        address: low_address | u64::from(old) << 32,
                        is_64_bit: true,
                    })
                }
                _ => None,
            };
        }
        Ok(Self {
            bars,
            placed: [None; pci::BARS as usize],
        })
    }

    /// Whether BAR `index` is of memory.
    pub(super) fn is_memory(&self, index: u8) -> bool {
        self.bars
            .get(usize::from(index))
            .is_some_and(Option::is_some)
    }

    /// The addresses of BAR `index`: where the firmware put it, if that is in `window`, or a place there if it
    /// is at 0.
    pub(super) fn range<H: HostPci>(
        &mut self,
        host: &H,
        function: Function,
        window: &mut BarWindow,
        index: u8,
    ) -> Result<GpaRange, PciError> {
        let which = usize::from(index);
        if let Some(Some(range)) = self.placed.get(which) {
            return Ok(*range);
        }
        let Some(Some(bar)) = self.bars.get(which) else {
            return Err(PciError::BarSize(index));
        };
        if bar.size > window.range.length() {
            return Err(PciError::BarSize(index));
        }
        let refused = PciError::BarPlace {
            bar: index,
            address: bar.address,
        };
        let range = match bar.address {
            0 => window.place(bar.size),
            address if address.is_multiple_of(bar.size) => {
                GpaRange::with_length(address, bar.size).and_then(|range| window.take(range))
            }
            _ => None,
        }
        .filter(|range| bar.is_64_bit || range.end() <= 1 << 32)
        .ok_or(refused)?;
        let low = range.start() as u32;
        let high = (range.start() >> 32) as u32;
        host.config_write(function, register(index), low)?;
        let mut is_there = host.config_read(function, register(index))? & pci::BAR_ADDRESS == low;
        if bar.is_64_bit {
            host.config_write(function, register(index + 1), high)?;
            is_there &= host.config_read(function, register(index + 1))? == high;
        }
        if !is_there {
            return Err(refused);
        }
        if let Some(place) = self.placed.get_mut(which) {
            *place = Some(range);
        }
        Ok(range)
    }
}

/// Offset of BAR `index`, 0 to 5.
fn register(index: u8) -> u8 {
    pci::BAR + 4 * index
}

/// What a BAR has, and what it can have; it has the same as before afterwards.
fn probe<H: HostPci>(host: &H, function: Function, index: u8) -> Result<(u32, u32), PciError> {
    let old = host.config_read(function, register(index))?;
    host.config_write(function, register(index), u32::MAX)?;
    let mask = host.config_read(function, register(index))?;
    host.config_write(function, register(index), old)?;
    Ok((old, mask))
}

/// The size that a BAR has whose address bits are `mask`.
fn size(mask: u64) -> Option<u64> {
    let size = (!mask).checked_add(1)?;
    size.is_power_of_two().then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::e820::{E820Entry, E820Kind};
    use proptest::prelude::*;

    fn map(ranges: &[(u64, u64)]) -> E820Map {
        let mut map = E820Map::new();
        for (start, end) in ranges {
            let range = GpaRange::new(*start, *end).unwrap();
            let kind = E820Kind::Memory;
            map.push(E820Entry { range, kind }).unwrap();
        }
        map
    }

    #[test]
    fn the_window_is_beside_memory() {
        for (memory, others, window) in [
            (
                &[(0, 0x8000_0000), (1 << 32, 2 << 32)][..],
                &[][..],
                (0xC000_0000, 0xFE00_0000),
            ),
            (&[(0, 0xE000_0000)], &[], (0xE000_0000, 0xFE00_0000)),
            (
                &[(0, 0x8000_0000)],
                &[(0xE000_0000, 0xF000_0000)],
                (0xC000_0000, 0xE000_0000),
            ),
            (
                &[(0xC000_0000, 0xC100_0000), (0xC000_1000, 0xC080_0000)],
                &[],
                (0xC100_0000, 0xFE00_0000),
            ),
            (&[(0, 1 << 40)], &[], (0, 0)),
        ] {
            let others: Vec<_> = others
                .iter()
                .map(|(start, end)| GpaRange::new(*start, *end).unwrap())
                .collect();
            let range = BarWindow::beside_memory(&map(memory), &others).range();
            assert_eq!((range.start(), range.end()), window);
        }
    }

    proptest! {
        #[test]
        fn no_map_puts_registers_into_memory(
            ranges in prop::collection::vec((0xB000_u64..0x1_0010, 0_u64..0x3000), 0..20),
            size in 12..24_u32,
        ) {
            let ranges: Vec<_> = ranges.iter().map(|(s, l)| (s << 16, (s + l) << 16)).collect();
            let map = map(&ranges);
            let mut window = BarWindow::beside_memory(&map, &[]);
            for _ in 0..4 {
                if let Some(place) = window.place(1 << size) {
                    prop_assert!(map.entries().all(|entry| !entry.range.overlaps(&place)));
                    prop_assert!(place.start() >= DECODED.0 && place.end() <= DECODED.1);
                }
            }
        }
    }
}
