//! A socket device whose far end keeps the rules.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::device::ModelHost;
use super::memory::Shared;
use virtio_defs::{feature, vsock};

/// Its features.
const OFFERED: u64 = feature::VERSION_1
    | feature::ACCESS_PLATFORM
    | feature::EVENT_IDX
    | vsock::FEATURE_STREAM
    | vsock::FEATURE_SEQPACKET;
/// Bytes that the far end holds until it reads them.
const HELD: u32 = 5_000;

/// A packet as the far end sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: (u64, u32),
    pub(crate) destination: (u64, u32),
    pub(crate) operation: u16,
    pub(crate) flags: u32,
    pub(crate) allocated: u32,
    pub(crate) forwarded: u32,
    pub(crate) data: Vec<u8>,
}

impl Packet {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(24) as usize, bytes.len() - 44, "length");
        assert_eq!(word(28) & 0xFFFF, 1, "type");
        Self {
            source: (long(0), word(16)),
            destination: (long(8), word(20)),
            operation: (word(28) >> 16) as u16,
            flags: word(32),
            allocated: word(36),
            forwarded: word(40),
            data: bytes[44..].to_vec(),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.0.to_le_bytes());
        bytes.extend(self.destination.0.to_le_bytes());
        bytes.extend(self.source.1.to_le_bytes());
        bytes.extend(self.destination.1.to_le_bytes());
        bytes.extend((self.data.len() as u32).to_le_bytes());
        bytes.extend([1, 0]);
        bytes.extend(self.operation.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.allocated.to_le_bytes());
        bytes.extend(self.forwarded.to_le_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// The far end of the connections.
#[derive(Default)]
pub(crate) struct Peer {
    /// All packets that came, in order.
    pub(crate) packets: Vec<Packet>,
    /// Bytes that came on the newest connection.
    pub(crate) received: Vec<u8>,
    /// Requests for connections that are refused before one is taken.
    pub(crate) refuses: u32,
    /// What is written to the receive queue next, a packet a buffer.
    pub(crate) to_send: VecDeque<Vec<u8>>,
    /// Bytes to send as the driver has room for them.
    pub(crate) to_stream: Vec<u8>,
    /// What the driver said last of its room, and what was sent to it.
    allocated: u32,
    forwarded: u32,
    sent: u32,
    /// Both ends of the newest connection: the driver's first.
    ends: Option<[(u64, u32); 2]>,
}

impl Peer {
    /// A packet to the driver on the newest connection.
    pub(crate) fn packet(&self, operation: u16, data: &[u8]) -> Packet {
        let [driver, own] = self.ends.expect("a connection");
        Packet {
            source: own,
            destination: driver,
            operation,
            flags: 0,
            allocated: HELD,
            forwarded: self.received.len() as u32,
            data: data.to_vec(),
        }
    }

    fn came(&mut self, packet: Packet) {
        let source = packet.source;
        assert!(
            packet.operation == vsock::OPERATION_REQUEST
                || self.ends.is_some_and(|ends| ends[0] == source),
            "a packet of no connection: {packet:?}"
        );
        self.allocated = packet.allocated;
        self.forwarded = packet.forwarded;
        let answer = match packet.operation {
            vsock::OPERATION_REQUEST => {
                self.ends = Some([packet.source, packet.destination]);
                self.received.clear();
                self.sent = 0;
                match self.refuses.checked_sub(1) {
                    None => Some(vsock::OPERATION_RESPONSE),
                    Some(left) => {
                        self.refuses = left;
                        Some(vsock::OPERATION_RESET)
                    }
                }
            }
            vsock::OPERATION_DATA => {
                self.received.extend(&packet.data);
                Some(vsock::OPERATION_CREDIT_UPDATE)
            }
            _ => None,
        };
        self.packets.push(packet);
        if let Some(operation) = answer {
            let answer = self.packet(operation, &[]).to_bytes();
            self.to_send.push_back(answer);
        }
    }

    /// What the next buffer is filled with.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(packet) = self.to_send.pop_front() {
            return Some(packet);
        }
        let there = self.sent.wrapping_sub(self.forwarded);
        let room = self.allocated.saturating_sub(there) as usize;
        let count = self.to_stream.len().min(room).min(1_000);
        if count == 0 {
            return None;
        }
        let data: Vec<u8> = self.to_stream.drain(..count).collect();
        self.sent = self.sent.wrapping_add(count as u32);
        Some(self.packet(vsock::OPERATION_DATA, &data).to_bytes())
    }
}

/// Clones are the same far end.
pub(crate) type Socket = Rc<RefCell<Peer>>;

/// Makes a host do what it should.
pub(crate) fn honest(host: &ModelHost, peer: &Socket) {
    let peer = peer.clone();
    let mut model = host.model();
    model.answers_on = Some(vsock::QUEUE_RECEIVE);
    model.answer = Box::new(|queue, request, length| queue.push(request.head.into(), length));
    model.work = Box::new(move |memory, queue, request| {
        let mut peer = peer.borrow_mut();
        match queue {
            vsock::QUEUE_TRANSMIT => {
                peer.came(Packet::from_bytes(&request.read(memory)));
                Some(0)
            }
            vsock::QUEUE_RECEIVE => Some(request.write(memory, &peer.next()?)),
            _ => None,
        }
    });
}

/// A host with a socket device for the guest `cid`, and the far end.
pub(crate) fn host(memory: &Shared, cid: u64) -> (ModelHost, Socket) {
    let host = ModelHost::new(vsock::DEVICE_TYPE, 3, OFFERED, memory);
    host.model().device_config = vec![0; 64];
    host.model().device_config[..8].copy_from_slice(&cid.to_le_bytes());
    let peer = Socket::default();
    honest(&host, &peer);
    (host, peer)
}
