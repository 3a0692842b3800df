//! The machine's memory: where the TD's, the simulator's own and the pack file lie in it.

use anyhow::{Result, ensure};
use std::ops::Range;

/// Where the simulator lies in the machine's memory; a TD's low memory ends below it.
const SIMULATOR_START_MIB: u64 = 0x7000_0000 >> 20;
const SIMULATOR_END_MIB: u64 = 0x8000_0000 >> 20;
/// Of the simulator's part of the memory: its image, its heap and what it backs the TD's sections with.
const SIMULATOR_OWN_MIB: u64 = 112;
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
///
/// The pack must not reach into the TD's memory or the simulator's own: where it would, the files are too large.
pub(crate) fn machine_mib(td_mib: u64, pack_size: usize) -> Result<u64> {
    let pack = (pack_size as u64).div_ceil(1 << 20) + 1;
    let high = td_mib.saturating_sub(SIMULATOR_START_MIB);
    let (room, machine) = match high {
        0 => (SPLIT_MIB - 1 - SIMULATOR_END_MIB, SIMULATOR_END_MIB + pack),
        high => (
            SIMULATOR_END_MIB - SIMULATOR_START_MIB - SIMULATOR_OWN_MIB,
            (SIMULATOR_END_MIB + high).max(SPLIT_MIB),
        ),
    };
    let smaller = if high == 0 {
        String::new()
    } else {
        let room = SPLIT_MIB - 1 - SIMULATOR_END_MIB;
        format!("; with {SIMULATOR_START_MIB} MiB or less it has room for {room} MiB of them")
    };
    ensure!(
        pack <= room,
        "kernel, initrd and image are too large for the simulator: {pack} MiB, but a TD of {td_mib} MiB leaves room for \
         {room} MiB{smaller}"
    );
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn files_that_would_lie_in_the_tds_memory_are_refused() {
        for (td_mib, pack_mib, machine) in [
            (1024, 10, Some(2059)),
            (1792, 400, Some(2449)),
            (1792, 766, Some(2815)),
            (1792, 767, None),
            (1793, 100, Some(2816)),
            (5120, 143, Some(5376)),
            (5120, 144, None),
            (2048, 400, None),
        ] {
            let got = machine_mib(td_mib, pack_mib * MIB);
            assert_eq!(got.as_ref().ok(), machine.as_ref(), "{td_mib} {pack_mib}");
            if let Err(error) = got {
                assert!(
                    error
                        .to_string()
                        .contains("are too large for the simulator")
                );
            }
        }
    }
}
