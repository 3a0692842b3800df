//! A disk.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::{KindError, Shown};
use crate::machine::devices::virtio::backend::QueueKind;
use crate::machine::devices::virtio::queue::Bounds;
use virtio_defs::block;

/// Bytes of a buffer of L2's for a disk: a page, less than which no driver of Linux takes.
const SEGMENT: u32 = 0x1000;
/// Descriptors of a disk's queue: more than the largest request has.
const QUEUE: u16 = 512;
/// Buffers of data that a request has at most: a MiB.
const SEGMENTS: u32 = 256;
/// The same where there is little memory.
const SEGMENTS_MIN: u32 = 32;
/// Requests with as much data as one may have for which there is room at a time, where there is much memory.
const AT_A_TIME: usize = 3;
/// Sectors that a disk has at most: 2^63 bytes.
const SECTORS: u64 = 1 << 54;
/// Ranges of a request that discards or writes zeroes, at most.
const RANGES: u32 = 256;
/// What a disk of the host's may do for L2. Not on the list: several queues, secure erase, zones, the write cache's
/// switch, lifetime.
pub(super) const PASSED: u64 = block::FEATURE_RO
    | block::FEATURE_BLK_SIZE
    | block::FEATURE_FLUSH
    | block::FEATURE_DISCARD
    | block::FEATURE_WRITE_ZEROES;

/// The capacity: a disk that gets larger or smaller.
pub(super) const CHANGEABLE: Range<usize> =
    block::CONFIG_CAPACITY as usize..block::CONFIG_CAPACITY as usize + size_of::<u64>();

/// The capacity that L2 is shown, of the host's.
pub(super) fn changed(now: &[u8]) -> Result<Vec<u8>, KindError> {
    match u64::from_le_bytes(now.first_chunk().copied().unwrap_or_default()) {
        capacity if capacity > SECTORS => Err(KindError::Capacity(capacity)),
        capacity => Ok(capacity.to_le_bytes().to_vec()),
    }
}

/// Bytes of memory for as many of the largest requests, and for the host's queue.
pub(super) const MEMORY: usize = AT_A_TIME * (SEGMENTS as usize + 1) * SEGMENT as usize + 0x4000;

/// A disk: its size is the host's word; the limits of a request are L1's, so that the largest fits in `room` bytes, and a
/// feature whose limits make no sense is not there.
pub(super) fn shown(offered: u64, host: &[u8], room: usize) -> Result<Shown, KindError> {
    let field = |offset: u32| {
        let bytes = host
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u32::from_le_bytes)
    };
    let capacity = changed(host.get(CHANGEABLE).unwrap_or_default())?;
    let most = u32::try_from(room / AT_A_TIME / SEGMENT as usize).unwrap_or(SEGMENTS);
    let most = most.clamp(SEGMENTS_MIN, SEGMENTS);
    // At the host a request is one segment in each direction, with a header or a status.
    let segments = match offered & block::FEATURE_SIZE_MAX {
        0 => most,
        _ => {
            let bytes = field(block::CONFIG_SIZE_MAX);
            let whole = bytes.saturating_sub(block::HEADER_LENGTH as u32) / SEGMENT;
            match whole.min(most) {
                0 => return Err(KindError::Segment(bytes)),
                segments => segments,
            }
        }
    };
    let data = segments * SEGMENT;
    let mut shown = vec![0; block::CONFIG_SIZE];
    for (place, byte) in shown.iter_mut().skip(CHANGEABLE.start).zip(capacity) {
        *place = byte;
    }
    let mut put = |offset: u32, value: u32| {
        let places = shown.iter_mut().skip(offset as usize);
        for (place, byte) in places.zip(value.to_le_bytes()) {
            *place = byte;
        }
    };
    let mut passed = offered & PASSED;
    put(block::CONFIG_SIZE_MAX, SEGMENT);
    put(block::CONFIG_SEG_MAX, segments);
    let size = field(block::CONFIG_BLK_SIZE);
    let sane = size.is_power_of_two() && (block::SECTOR as u32..=SEGMENT).contains(&size);
    if passed & block::FEATURE_BLK_SIZE != 0 && sane {
        put(block::CONFIG_BLK_SIZE, size);
    } else {
        passed &= !block::FEATURE_BLK_SIZE;
    }
    for (feature, sectors_at, ranges_at) in [
        (
            block::FEATURE_DISCARD,
            block::CONFIG_MAX_DISCARD_SECTORS,
            block::CONFIG_MAX_DISCARD_SEG,
        ),
        (
            block::FEATURE_WRITE_ZEROES,
            block::CONFIG_MAX_WRITE_ZEROES_SECTORS,
            block::CONFIG_MAX_WRITE_ZEROES_SEG,
        ),
    ] {
        let (sectors, ranges) = (field(sectors_at), field(ranges_at).min(RANGES));
        if passed & feature != 0 && sectors != 0 && ranges != 0 {
            put(sectors_at, sectors);
            put(ranges_at, ranges);
        } else {
            passed &= !feature;
        }
    }
    if passed & block::FEATURE_DISCARD != 0 {
        let alignment = field(block::CONFIG_DISCARD_SECTOR_ALIGNMENT);
        put(block::CONFIG_DISCARD_SECTOR_ALIGNMENT, alignment);
    }
    if passed & block::FEATURE_WRITE_ZEROES != 0 {
        let may = field(block::CONFIG_WRITE_ZEROES_MAY_UNMAP) & 1;
        put(block::CONFIG_WRITE_ZEROES_MAY_UNMAP, may);
    }
    Ok(Shown {
        features: passed | block::FEATURE_SIZE_MAX | block::FEATURE_SEG_MAX,
        passed,
        configuration: shown,
        queues: vec![QueueKind {
            size: QUEUE,
            bounds: Bounds {
                readable: block::HEADER_LENGTH as u32 + data,
                writable: data + 1,
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use proptest::prelude::*;

    /// Memory for a disk that has the least there is.
    const LITTLE: usize = 0x4_4000;

    fn configuration(fields: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        for (at, value) in fields {
            bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn dword(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_disk_is_shown_with_l1s_limits() {
        let host = configuration(&[
            (0, 0x1000),
            (12, 126),
            (20, 512),
            (36, 0x10_0000),
            (40, 1000),
            (44, 8),
            (48, 0x10_0000),
            (52, 16),
            (56, 0xFFFF_FF01),
        ]);
        // Everything that there is, multi-queue and secure erase among it.
        let shown = Kind::Block.shown(!2, &host, LITTLE).unwrap();
        assert_eq!(
            shown.features,
            1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14
        );
        assert_eq!(shown.passed, shown.features & !6);
        let row = [0, 8, 12, 16, 20, 24, 32, 36, 40, 44, 48, 52, 56];
        assert_eq!(
            row.map(|at| dword(&shown.configuration, at)),
            [
                0x1000, 4096, 32, 0, 512, 0, 0, 0x10_0000, 256, 8, 0x10_0000, 16, 1
            ]
        );
        assert_eq!(shown.queues[0].bounds.readable, 16 + 0x2_0000);
        assert_eq!(shown.queues[0].bounds.writable, 0x2_0000 + 1);
    }

    #[test]
    fn the_more_memory_the_larger_requests() {
        for (room, segments) in [
            (0, 32),
            (0x6_0000, 32),
            (0xC_0000, 64),
            (0x18_0000, 128),
            (MEMORY, 256),
            (usize::MAX, 256),
        ] {
            let shown = Kind::Block.shown(0, &configuration(&[]), room).unwrap();
            let row = [8, 12].map(|at| dword(&shown.configuration, at));
            assert_eq!(row, [4096, segments], "{room:#x}");
            assert_eq!(shown.queues[0].bounds.writable, segments * 4096 + 1);
            assert_eq!(shown.queues[0].bounds.readable, segments * 4096 + 16);
        }
        // What the host's segments are limited to is not exceeded.
        let host = configuration(&[(8, 0x4_3010)]);
        let shown = Kind::Block.shown(2, &host, usize::MAX).unwrap();
        assert_eq!(shown.queues[0].bounds.writable, 67 * 4096 + 1);
    }

    #[test]
    fn what_makes_no_sense_is_not_shown_or_refused() {
        let host = configuration(&[(0, 1), (20, 3), (36, 1), (48, 0), (52, 1)]);
        let shown = Kind::Block
            .shown(1 << 6 | 1 << 13 | 1 << 14, &host, LITTLE)
            .unwrap();
        assert_eq!(shown.passed, 0);
        let large = configuration(&[(4, u32::MAX)]);
        let error = Kind::Block.shown(0, &large, LITTLE);
        assert_eq!(error, Err(KindError::Capacity(0xFFFF_FFFF_0000_0000)));
        for (size, data) in [(4112, 4096), (0x1_0000, 0xF000), (u32::MAX, 0x2_0000)] {
            let host = configuration(&[(8, size)]);
            let shown = Kind::Block.shown(2, &host, LITTLE).unwrap();
            assert_eq!(shown.queues[0].bounds.writable, data + 1, "{size:#x}");
            assert_eq!(dword(&shown.configuration, 12), data / 4096);
        }
        for size in [0, 16, 4111] {
            let host = configuration(&[(8, size)]);
            let shown = Kind::Block.shown(2, &host, LITTLE);
            assert_eq!(shown, Err(KindError::Segment(size)));
        }
    }

    proptest! {
        #[test]
        fn no_configuration_gives_a_driver_limits_that_l1_does_not_keep(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), features: u64, room in 0..0x80_0000_usize,
        ) {
            if let Ok(shown) = Kind::Block.shown(features, &bytes, room) {
                let segments = dword(&shown.configuration, 12);
                prop_assert!((1..=256).contains(&segments));
                prop_assert!(segments <= 32 || 3 * 4096 * segments as usize <= room);
                prop_assert_eq!(dword(&shown.configuration, 8), 4096);
                prop_assert_eq!(shown.queues[0].bounds.writable, segments * 4096 + 1);
                prop_assert_eq!(shown.features & !(PASSED | 6), 0);
                let size = dword(&shown.configuration, 20);
                prop_assert!(size == 0 || size.is_power_of_two() && size <= 4096);
            }
        }
    }
}
