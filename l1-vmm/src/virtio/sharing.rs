//! How much memory L1 shares with the host: it is settled before L2 has its own, by what the host has on its bus.
//!
//! The host says what there is, so it can make L1 take up to [`LENGTH_MAX`] of L2's memory, and no more than a small part of a
//! small machine's. It could have given the machine less memory as well.

use super::bridge::Kind;
use x86_defs::paging::PAGE_2M;

/// Bytes that are shared in any case: for files of the host's, for quotes, and for L1's own devices.
pub const LENGTH_MIN: u64 = PAGE_2M;
/// Bytes that are shared at most.
pub const LENGTH_MAX: u64 = 8 * PAGE_2M;
/// The part of the machine's memory that is shared at most: one in so many.
const PART: u64 = 32;

/// Bytes to share, whole large pages: what L2's devices have use for that are on the host's bus, by their types, and `own`
/// bytes beside them, in a machine with `memory` bytes.
pub fn length(types: &[u16], own: u64, memory: u64) -> u64 {
    let wanted = types
        .iter()
        .filter_map(|kind| Kind::of(*kind))
        .map(|kind| kind.memory() as u64)
        .fold(own, u64::saturating_add);
    let most = LENGTH_MAX.min(memory / PART / PAGE_2M * PAGE_2M);
    wanted
        .checked_next_multiple_of(PAGE_2M)
        .unwrap_or(LENGTH_MAX)
        .min(most)
        .max(LENGTH_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use virtio_defs::{block, console, net, vsock};

    const MIB: u64 = 1 << 20;

    #[test]
    fn more_devices_have_more_memory_up_to_a_bound() {
        let of = |types: &[u16]| length(types, MIB / 8, 1024 * MIB) / MIB;
        assert_eq!(of(&[]), 2);
        assert_eq!(of(&[console::DEVICE_TYPE, vsock::DEVICE_TYPE]), 2);
        assert_eq!(of(&[net::DEVICE_TYPE]), 2);
        assert_eq!(of(&[block::DEVICE_TYPE]), 4);
        assert_eq!(of(&[block::DEVICE_TYPE, net::DEVICE_TYPE]), 6);
        for (disks, expected) in [(2, 8), (4, 14), (5, 16), (6, 16), (200, 16)] {
            assert_eq!(of(&vec![block::DEVICE_TYPE; disks]), expected, "{disks}");
        }
        // What is none of L2's.
        assert_eq!(of(&[0, 4, 16, 18, 26, u16::MAX]), 2);
    }

    #[test]
    fn a_small_machine_keeps_its_memory() {
        let disks = [block::DEVICE_TYPE; 8];
        for (memory, expected) in [(0, 2), (96, 2), (128, 4), (255, 6), (256, 8), (512, 16)] {
            let shared = length(&disks, MIB / 8, memory * MIB);
            assert_eq!(shared / MIB, expected, "{memory}");
        }
    }

    proptest! {
        #[test]
        fn it_is_whole_large_pages_within_the_bounds(types: Vec<u16>, own: u64, memory: u64) {
            let shared = length(&types, own, memory);
            prop_assert!((LENGTH_MIN..=LENGTH_MAX).contains(&shared));
            prop_assert!(shared.is_multiple_of(PAGE_2M));
        }
    }
}
