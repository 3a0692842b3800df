//! The machine's memory: where the TD's, the simulator's own and the pack file lie in it.

use std::ops::Range;

/// Where the simulator lies in the machine's memory; a TD's low memory ends below it.
const SIMULATOR_START_MIB: u64 = 0x7000_0000 >> 20;
const SIMULATOR_END_MIB: u64 = 0x8000_0000 >> 20;
/// Where a PC's high memory begins.
const GIB4: u64 = 1 << 32;
/// From this much memory on, q35 puts what is above 2 GiB at 4 GiB.
const SPLIT_MIB: u64 = 0xB000_0000 >> 20;

/// The RAM of a TD of `memory_mib` MiB: low up to the simulator, the rest from 4 GiB, all in large
/// pages.
pub fn td_ram(memory_mib: u64) -> Vec<Range<u64>> {
    const LARGE_PAGE_MIB: u64 = 2;
    let whole = |mib: u64| (mib / LARGE_PAGE_MIB * LARGE_PAGE_MIB) << 20;
    let low = whole(memory_mib.min(SIMULATOR_START_MIB));
    let high = whole(memory_mib.saturating_sub(SIMULATOR_START_MIB));
    [0..low, GIB4..GIB4 + high]
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect()
}

/// The memory of the machine that runs a TD of `td_mib` MiB, in MiB: the TD's low memory, the
/// simulator above it, and above that the pack file, which QEMU loads at the end of low memory, or
/// (q35 then has 2 GiB of it) the TD's high memory at 4 GiB.
pub(crate) fn machine_mib(td_mib: u64, pack_size: usize) -> u64 {
    match td_mib.saturating_sub(SIMULATOR_START_MIB) {
        0 => {
            let pack = (pack_size as u64).div_ceil(1 << 20) + 1;
            (SIMULATOR_END_MIB + pack).min(SPLIT_MIB - 1)
        }
        high => (SIMULATOR_END_MIB + high).max(SPLIT_MIB),
    }
}
