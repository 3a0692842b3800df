//! A network.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::Shown;
use crate::machine::devices::virtio::backend::QueueKind;
use crate::machine::devices::virtio::queue::Bounds;
use virtio_defs::net;

/// Descriptors of a queue for packets: as many buffers for packets that may come are with the host.
const QUEUE: u16 = 256;
/// Bytes of a packet and its header at most.
const PACKET: u32 = 0x1_1000;
/// The largest MTU that is shown: with a larger one drivers give buffers of 64 KiB.
const MTU: u16 = 1500;
/// The least that a link of IPv4 has (RFC 791).
const MTU_MIN: u16 = 68;
/// What a network of the host's may do for L2. Not on the list: offloads, merged buffers, several pairs of queues, the
/// control queue.
pub(super) const PASSED: u64 = net::FEATURE_MAC | net::FEATURE_STATUS | net::FEATURE_MTU;

/// The status: a link that comes and goes.
pub(super) const CHANGEABLE: Range<usize> =
    net::CONFIG_STATUS as usize..net::CONFIG_STATUS as usize + size_of::<u16>();

/// The status that L2 is shown, of the host's: whether there is a link. Linux answers a bit that asks for announcements
/// (VIRTIO 5.1.4.2) through the control queue, also where there is none, which is an end of its own.
pub(super) fn changed(passed: u64, now: &[u8]) -> Vec<u8> {
    let status = u16::from_le_bytes(now.first_chunk().copied().unwrap_or_default());
    let link = match passed & net::FEATURE_STATUS {
        0 => 0,
        _ => status & net::STATUS_LINK_UP,
    };
    link.to_le_bytes().to_vec()
}

/// A network: address and link are the host's word.
pub(super) fn shown(offered: u64, host: &[u8]) -> Shown {
    let mut passed = offered & PASSED;
    let field = |offset: u32| {
        let bytes = host
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u16::from_le_bytes)
    };
    if !(MTU_MIN..=MTU).contains(&field(net::CONFIG_MTU)) {
        passed &= !net::FEATURE_MTU;
    }
    let mut shown = vec![0; net::CONFIG_SIZE];
    for (feature, offset, length) in [
        (net::FEATURE_MAC, net::CONFIG_MAC, 6),
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
    let status = changed(passed, host.get(CHANGEABLE).unwrap_or_default());
    for (place, byte) in shown.iter_mut().skip(CHANGEABLE.start).zip(status) {
        *place = byte;
    }
    let queue = |readable, writable| QueueKind {
        size: QUEUE,
        bounds: Bounds { readable, writable },
    };
    Shown {
        features: passed,
        passed,
        configuration: shown,
        queues: vec![queue(0, PACKET), queue(PACKET, 0)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn a_network_has_an_address_a_link_and_two_queues() {
        let host = [2, 0, 0, 0, 0, 1, 3, 2, 9, 9, 0xDC, 5];
        let shown = Kind::Network.shown(u64::MAX, &host, 0).unwrap();
        assert_eq!((shown.features, shown.passed), (0x1_0028, 0x1_0028));
        assert_eq!(shown.configuration, [2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0xDC, 5]);
        let bounds: Vec<_> = shown.queues.iter().map(|queue| queue.bounds).collect();
        assert_eq!((bounds[0].readable, bounds[0].writable), (0, 0x1_1000));
        assert_eq!((bounds[1].readable, bounds[1].writable), (0x1_1000, 0));
        for mtu in [0, 67, 1501, 0xFFFF_u16] {
            let mut host = host;
            host[10..].copy_from_slice(&mtu.to_le_bytes());
            let shown = Kind::Network.shown(u64::MAX, &host, 0).unwrap();
            assert_eq!(shown.features, 0x1_0020, "{mtu}");
            assert_eq!(shown.configuration[10..], [0, 0]);
        }
        let bare = Kind::Network.shown(0, &[], 0).unwrap();
        assert_eq!((bare.features, bare.configuration), (0, vec![0; 12]));
    }
}
