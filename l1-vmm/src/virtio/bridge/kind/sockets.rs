//! Sockets between a guest and its host. Packets have headers that L2's driver reads; each is in one buffer, so L1 passes
//! them on as bytes.

use alloc::vec;

use super::{KindError, Shown};
use crate::machine::devices::virtio::backend::QueueKind;
use crate::machine::devices::virtio::queue::Bounds;
use virtio_defs::vsock;

/// Descriptors of a queue for packets.
const QUEUE: u16 = 128;
/// Descriptors of the queue for events. Linux has eight.
const EVENT_QUEUE: u16 = 8;
/// Bytes of a packet's data at most: what Linux sends.
const DATA: u32 = 0x1_0000;

/// What sockets of the host's may do for L2. Not on the list: record boundaries, datagrams.
pub(super) const PASSED: u64 = vsock::FEATURE_STREAM;

/// Sockets: the guest's address is the host's word, as long as it is one that a guest has.
pub(super) fn shown(offered: u64, host: &[u8]) -> Result<Shown, KindError> {
    let cid = host.first_chunk().copied().map_or(0, u64::from_le_bytes);
    if !(vsock::FIRST_GUEST_CID..vsock::ANY_CID).contains(&cid) {
        return Err(KindError::Cid(cid));
    }
    let passed = offered & PASSED;
    let queue = |size, readable, writable| QueueKind {
        size,
        bounds: Bounds { readable, writable },
    };
    let packet = vsock::HEADER_LENGTH as u32 + DATA;
    Ok(Shown {
        features: passed,
        passed,
        configuration: cid.to_le_bytes().to_vec(),
        queues: vec![
            queue(QUEUE, 0, packet),
            queue(QUEUE, packet, 0),
            queue(EVENT_QUEUE, 0, vsock::EVENT_LENGTH as u32),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn sockets_have_the_address_of_a_guest() {
        for cid in [3, 52, 0xFFFF_FFFE_u64] {
            let shown = Kind::Sockets
                .shown(u64::MAX, &cid.to_le_bytes(), 0)
                .unwrap();
            assert_eq!((shown.features, shown.passed), (1, 1));
            assert_eq!(shown.configuration, cid.to_le_bytes());
            assert_eq!(shown.queues.len(), 3);
        }
        // Nobody's, the hypervisor's, the machine's own, the host's, everybody's, and with what is reserved.
        for cid in [0, 1, 2, 0xFFFF_FFFF, 0x1_0000_0003, u64::MAX] {
            let shown = Kind::Sockets.shown(u64::MAX, &cid.to_le_bytes(), 0);
            assert_eq!(shown, Err(KindError::Cid(cid)));
        }
        assert_eq!(Kind::Sockets.shown(1, &[3], 0), Err(KindError::Cid(0)));
    }
}
