//! The types of devices that are bridged, and what of each: an allow-list. A type is on it if its requests are plain
//! bytes, without addresses of the guest's in them, and without memory of the device's.

use alloc::vec;
use alloc::vec::Vec;

use crate::machine::devices::virtio::backend::QueueKind;
use crate::machine::devices::virtio::queue::Bounds;
use virtio_defs::{block, net};
use x86_defs::pci;

/// A type of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Block device (VIRTIO 5.2).
    Block,
    /// Network device (VIRTIO 5.1), with one pair of queues.
    Network,
}

/// What L2 is shown of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Features of the type.
    pub(super) features: u64,
    /// Those of them that the host is told of when L2 chooses them; the others are L1's own.
    pub(super) passed: u64,
    pub(super) configuration: Vec<u8>,
    pub(super) queues: Vec<QueueKind>,
}

/// Why a device is not bridged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// A disk of so many sectors.
    #[error("a disk of {0:#x} sectors")]
    Capacity(u64),
    /// Segments so short that no page fits.
    #[error("a disk whose segments have {0} bytes at most")]
    Segment(u32),
}

/// Bytes of data that a request of a disk has at most.
const BLOCK_DATA: u32 = 0x2_0000;
/// Bytes of a buffer of L2's for a disk: a page, less than which no driver of Linux takes.
const BLOCK_SEGMENT: u32 = 0x1000;
/// Descriptors of a disk's queue.
const BLOCK_QUEUE: u16 = 128;
/// Sectors that a disk has at most: 2^63 bytes.
const BLOCK_SECTORS: u64 = 1 << 54;
/// Ranges of a request that discards or writes zeroes, at most.
const BLOCK_RANGES: u32 = 256;
/// What a disk of the host's may do for L2. Not on the list: several queues, secure erase, zones, the write cache's
/// switch, lifetime.
const BLOCK_PASSED: u64 = block::FEATURE_RO
    | block::FEATURE_BLK_SIZE
    | block::FEATURE_FLUSH
    | block::FEATURE_DISCARD
    | block::FEATURE_WRITE_ZEROES;

/// Descriptors of a queue for packets: as many buffers for packets that may come are with the host.
const NETWORK_QUEUE: u16 = 256;
/// Bytes of a packet and its header at most.
const NETWORK_PACKET: u32 = 0x1_1000;
/// The largest MTU that is shown: with a larger one drivers give buffers of 64 KiB.
const NETWORK_MTU: u16 = 1500;
/// The least that a link of IPv4 has (RFC 791).
const NETWORK_MTU_MIN: u16 = 68;
/// What a network of the host's may do for L2. Not on the list: offloads, merged buffers, several pairs of queues, the
/// control queue.
const NETWORK_PASSED: u64 = net::FEATURE_MAC | net::FEATURE_STATUS | net::FEATURE_MTU;

impl Kind {
    /// Type of the device.
    pub const fn device_type(self) -> u16 {
        match self {
            Self::Block => block::DEVICE_TYPE,
            Self::Network => net::DEVICE_TYPE,
        }
    }

    /// Class code of L2's function.
    pub(super) const fn class(self) -> u32 {
        match self {
            Self::Block => pci::CLASS_STORAGE,
            Self::Network => pci::CLASS_ETHERNET,
        }
    }

    /// Features that the host is asked for.
    pub(super) const fn asked(self) -> u64 {
        match self {
            Self::Block => BLOCK_PASSED | block::FEATURE_SIZE_MAX,
            Self::Network => NETWORK_PASSED,
        }
    }

    /// Bytes of the host's configuration that are read.
    pub(super) const fn configuration_length(self) -> usize {
        match self {
            Self::Block => block::CONFIG_SIZE,
            Self::Network => net::CONFIG_SIZE,
        }
    }

    /// What L2 is shown of a host's device that has of [`Kind::asked`] these features, and this configuration.
    pub(super) fn shown(self, features: u64, configuration: &[u8]) -> Result<Shown, KindError> {
        match self {
            Self::Block => block_device(features, configuration),
            Self::Network => Ok(network_device(features, configuration)),
        }
    }
}

/// A disk: its size is the host's word; the limits of a request are L1's, and a feature whose limits make no sense is
/// not there.
fn block_device(offered: u64, host: &[u8]) -> Result<Shown, KindError> {
    let field = |offset: u32| {
        let bytes = host
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u32::from_le_bytes)
    };
    let capacity = u64::from(field(block::CONFIG_CAPACITY))
        | u64::from(field(block::CONFIG_CAPACITY + 4)) << 32;
    if capacity > BLOCK_SECTORS {
        return Err(KindError::Capacity(capacity));
    }
    // A request is one segment in each direction, with a header or a status.
    let data = match offered & block::FEATURE_SIZE_MAX {
        0 => BLOCK_DATA,
        _ => {
            let most = field(block::CONFIG_SIZE_MAX);
            let whole = most.saturating_sub(block::HEADER_LENGTH as u32) / BLOCK_SEGMENT;
            match (whole * BLOCK_SEGMENT).min(BLOCK_DATA) {
                0 => return Err(KindError::Segment(most)),
                data => data,
            }
        }
    };
    let mut shown = vec![0; block::CONFIG_SIZE];
    let mut put = |offset: u32, value: u32| {
        let places = shown.iter_mut().skip(offset as usize);
        for (place, byte) in places.zip(value.to_le_bytes()) {
            *place = byte;
        }
    };
    let mut passed = offered & BLOCK_PASSED;
    put(block::CONFIG_CAPACITY, capacity as u32);
    put(block::CONFIG_CAPACITY + 4, (capacity >> 32) as u32);
    put(block::CONFIG_SIZE_MAX, BLOCK_SEGMENT);
    put(block::CONFIG_SEG_MAX, data / BLOCK_SEGMENT);
    let size = field(block::CONFIG_BLK_SIZE);
    let sane = size.is_power_of_two() && (block::SECTOR as u32..=BLOCK_SEGMENT).contains(&size);
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
        let (sectors, ranges) = (field(sectors_at), field(ranges_at).min(BLOCK_RANGES));
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
            size: BLOCK_QUEUE,
            bounds: Bounds {
                readable: block::HEADER_LENGTH as u32 + data,
                writable: data + 1,
            },
        }],
    })
}

/// A network: address and link are the host's word.
fn network_device(offered: u64, host: &[u8]) -> Shown {
    let mut passed = offered & NETWORK_PASSED;
    let field = |offset: u32| {
        let bytes = host
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u16::from_le_bytes)
    };
    if !(NETWORK_MTU_MIN..=NETWORK_MTU).contains(&field(net::CONFIG_MTU)) {
        passed &= !net::FEATURE_MTU;
    }
    let mut shown = vec![0; net::CONFIG_SIZE];
    for (feature, offset, length) in [
        (net::FEATURE_MAC, net::CONFIG_MAC, 6),
        (net::FEATURE_STATUS, net::CONFIG_STATUS, 2),
        (net::FEATURE_MTU, net::CONFIG_MTU, 2),
    ] {
        let fields = shown
            .iter_mut()
            .zip(host)
            .skip(offset as usize)
            .take(length);
        for (place, byte) in fields.filter(|_| passed & feature != 0) {
            *place = *byte;
        }
    }
    let queue = |readable, writable| QueueKind {
        size: NETWORK_QUEUE,
        bounds: Bounds { readable, writable },
    };
    Shown {
        features: passed,
        passed,
        configuration: shown,
        queues: vec![queue(0, NETWORK_PACKET), queue(NETWORK_PACKET, 0)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let shown = Kind::Block.shown(!2, &host).unwrap();
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
    fn what_makes_no_sense_is_not_shown_or_refused() {
        let host = configuration(&[(0, 1), (20, 3), (36, 1), (48, 0), (52, 1)]);
        let shown = Kind::Block
            .shown(1 << 6 | 1 << 13 | 1 << 14, &host)
            .unwrap();
        assert_eq!(shown.passed, 0);
        let large = configuration(&[(4, u32::MAX)]);
        let error = Kind::Block.shown(0, &large);
        assert_eq!(error, Err(KindError::Capacity(0xFFFF_FFFF_0000_0000)));
        for (size, data) in [(4112, 4096), (0x1_0000, 0xF000), (u32::MAX, 0x2_0000)] {
            let host = configuration(&[(8, size)]);
            let shown = Kind::Block.shown(2, &host).unwrap();
            assert_eq!(shown.queues[0].bounds.writable, data + 1, "{size:#x}");
            assert_eq!(dword(&shown.configuration, 12), data / 4096);
        }
        for size in [0, 16, 4111] {
            let host = configuration(&[(8, size)]);
            assert_eq!(Kind::Block.shown(2, &host), Err(KindError::Segment(size)));
        }
    }

    #[test]
    fn a_network_has_an_address_a_link_and_two_queues() {
        let host = [2, 0, 0, 0, 0, 1, 1, 0, 9, 9, 0xDC, 5];
        let shown = Kind::Network.shown(u64::MAX, &host).unwrap();
        assert_eq!((shown.features, shown.passed), (0x1_0028, 0x1_0028));
        assert_eq!(shown.configuration, [2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0xDC, 5]);
        let bounds: Vec<_> = shown.queues.iter().map(|queue| queue.bounds).collect();
        assert_eq!((bounds[0].readable, bounds[0].writable), (0, 0x1_1000));
        assert_eq!((bounds[1].readable, bounds[1].writable), (0x1_1000, 0));
        for mtu in [0, 67, 1501, 0xFFFF_u16] {
            let mut host = host;
            host[10..].copy_from_slice(&mtu.to_le_bytes());
            let shown = Kind::Network.shown(u64::MAX, &host).unwrap();
            assert_eq!(shown.features, 0x1_0020, "{mtu}");
            assert_eq!(shown.configuration[10..], [0, 0]);
        }
        let bare = Kind::Network.shown(0, &[]).unwrap();
        assert_eq!((bare.features, bare.configuration), (0, vec![0; 12]));
    }

    proptest! {
        #[test]
        fn no_configuration_gives_a_driver_limits_that_l1_does_not_keep(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), features: u64,
        ) {
            if let Ok(shown) = Kind::Block.shown(features, &bytes) {
                let segments = dword(&shown.configuration, 12);
                prop_assert!((1..=32).contains(&segments));
                prop_assert_eq!(dword(&shown.configuration, 8), 4096);
                prop_assert_eq!(shown.queues[0].bounds.writable, segments * 4096 + 1);
                prop_assert_eq!(shown.features & !(BLOCK_PASSED | 6), 0);
                let size = dword(&shown.configuration, 20);
                prop_assert!(size == 0 || size.is_power_of_two() && size <= 4096);
            }
        }
    }
}
