//! One connection of a socket device (VIRTIO 5.10.6), as a function of the packets that come.

use super::error::ConnectionError;
use alloc::collections::VecDeque;
use virtio_defs::vsock;

/// Bytes that are held for the reader: what the far end may send before it hears that they were read.
pub(super) const ALLOCATED: u32 = 16 * 1024;

/// Both ends of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// This machine's context identifier.
    pub(super) cid: u64,
    /// This end's port.
    pub(super) port: u32,
    /// The host's port.
    pub(super) host_port: u32,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was asked for.
    Requested,
    /// The far end has agreed.
    Open,
    /// The far end sends nothing more, or has refused.
    Ended,
}

/// A packet without data that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// What was taken, or asked for.
    Credit,
    /// That this end has ended as well.
    Reset,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    ends: Ends,
    state: State,
    /// Bytes that came and were not read yet.
    received: VecDeque<u8>,
    /// Bytes that were read, modulo 2^32, and what of that the far end was told.
    forwarded: u32,
    told: u32,
    /// Bytes that were sent, modulo 2^32.
    sent: u32,
    /// What the far end said of its room and of what it has read.
    peer_allocated: u32,
    peer_forwarded: u32,
    owed: Option<Owed>,
}

/// The fields of a header that matter.
struct Header {
    source_cid: u64,
    destination_cid: u64,
    source_port: u32,
    destination_port: u32,
    length: u32,
    kind: u16,
    operation: u16,
    flags: u32,
    allocated: u32,
    forwarded: u32,
}

impl Connection {
    /// A connection that is to be asked for with an [`OPERATION_REQUEST`](vsock::OPERATION_REQUEST).
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            ends,
            state: State::Requested,
            received: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_allocated: 0,
            peer_forwarded: 0,
            owed: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Bytes that the far end has room for.
    pub(super) fn credit(&self) -> u32 {
        match self.state {
            State::Open => {
                let there = self.sent.wrapping_sub(self.peer_forwarded);
                self.peer_allocated.saturating_sub(there)
            }
            State::Requested | State::Ended => 0,
        }
    }

    /// What is to be sent without data; it counts as sent then.
    pub(super) fn take_owed(&mut self) -> Option<Owed> {
        self.owed.take()
    }

    /// The header of a packet of this end's, with `length` bytes behind it.
    pub(super) fn header(&mut self, operation: u16, length: u32) -> [u8; vsock::HEADER_LENGTH] {
        let mut bytes = [0; vsock::HEADER_LENGTH];
        let mut put = |offset: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
                place.copy_from_slice(value);
            }
        };
        put(vsock::HEADER_SOURCE_CID, &self.ends.cid.to_le_bytes());
        put(
            vsock::HEADER_DESTINATION_CID,
            &vsock::HOST_CID.to_le_bytes(),
        );
        put(vsock::HEADER_SOURCE_PORT, &self.ends.port.to_le_bytes());
        put(
            vsock::HEADER_DESTINATION_PORT,
            &self.ends.host_port.to_le_bytes(),
        );
        put(vsock::HEADER_DATA_LENGTH, &length.to_le_bytes());
        put(vsock::HEADER_TYPE, &vsock::TYPE_STREAM.to_le_bytes());
        put(vsock::HEADER_OPERATION, &operation.to_le_bytes());
        put(vsock::HEADER_ALLOCATED, &ALLOCATED.to_le_bytes());
        put(vsock::HEADER_FORWARDED, &self.forwarded.to_le_bytes());
        self.told = self.forwarded;
        self.sent = self.sent.wrapping_add(length);
        bytes
    }

    /// Takes a packet that the device has written. One for another connection is passed over.
    pub(super) fn take(&mut self, packet: &[u8]) -> Result<(), ConnectionError> {
        let (header, data) = packet
            .split_first_chunk()
            .ok_or(ConnectionError::Short(packet.len()))?;
        let header = Header::read(header);
        if usize::try_from(header.length) != Ok(data.len()) {
            return Err(ConnectionError::Length {
                said: header.length,
                there: data.len(),
            });
        }
        if !self.is_mine(&header) || self.state == State::Ended {
            return Ok(());
        }
        let ahead = self.sent.wrapping_sub(header.forwarded);
        let had = self.sent.wrapping_sub(self.peer_forwarded);
        if ahead > had {
            return Err(ConnectionError::Forwarded {
                taken: header.forwarded,
                sent: self.sent,
            });
        }
        self.peer_allocated = header.allocated;
        self.peer_forwarded = header.forwarded;
        match (self.state, header.operation) {
            (State::Requested, vsock::OPERATION_RESPONSE) => self.state = State::Open,
            (_, vsock::OPERATION_RESET) => self.state = State::Ended,
            (State::Open, vsock::OPERATION_SHUTDOWN) => {
                if header.flags & vsock::SHUTDOWN_SEND != 0 {
                    self.state = State::Ended;
                    self.owed = Some(Owed::Reset);
                }
            }
            (State::Open, vsock::OPERATION_DATA) => self.hold(data)?,
            (State::Open, vsock::OPERATION_CREDIT_UPDATE) => {}
            (State::Open, vsock::OPERATION_CREDIT_REQUEST) => self.owed = Some(Owed::Credit),
            (_, operation) => return Err(ConnectionError::Operation(operation)),
        }
        Ok(())
    }

    /// All connections of the device are gone.
    pub(super) fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Copies bytes that came; returns how many.
    pub(super) fn give(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.received.len());
        for (place, byte) in into.iter_mut().zip(self.received.drain(..count)) {
            *place = byte;
        }
        self.forwarded = self.forwarded.wrapping_add(count as u32);
        let untold = self.forwarded.wrapping_sub(self.told);
        if self.state == State::Open && untold >= ALLOCATED / 2 {
            self.owed = Some(Owed::Credit);
        }
        count
    }

    fn hold(&mut self, data: &[u8]) -> Result<(), ConnectionError> {
        let room = (ALLOCATED as usize).saturating_sub(self.received.len());
        if let Some(over) = data.len().checked_sub(room).filter(|over| *over != 0) {
            return Err(ConnectionError::Credit(over));
        }
        self.received.extend(data);
        Ok(())
    }

    fn is_mine(&self, header: &Header) -> bool {
        let Ends {
            cid,
            port,
            host_port,
        } = self.ends;
        header.source_cid == vsock::HOST_CID
            && header.destination_cid == cid
            && header.source_port == host_port
            && header.destination_port == port
            && header.kind == vsock::TYPE_STREAM
    }
}

impl Header {
    fn read(bytes: &[u8; vsock::HEADER_LENGTH]) -> Self {
        Self {
            source_cid: u64::from_le_bytes(field(bytes, vsock::HEADER_SOURCE_CID)),
            destination_cid: u64::from_le_bytes(field(bytes, vsock::HEADER_DESTINATION_CID)),
            source_port: u32::from_le_bytes(field(bytes, vsock::HEADER_SOURCE_PORT)),
            destination_port: u32::from_le_bytes(field(bytes, vsock::HEADER_DESTINATION_PORT)),
            length: u32::from_le_bytes(field(bytes, vsock::HEADER_DATA_LENGTH)),
            kind: u16::from_le_bytes(field(bytes, vsock::HEADER_TYPE)),
            operation: u16::from_le_bytes(field(bytes, vsock::HEADER_OPERATION)),
            flags: u32::from_le_bytes(field(bytes, vsock::HEADER_FLAGS)),
            allocated: u32::from_le_bytes(field(bytes, vsock::HEADER_ALLOCATED)),
            forwarded: u32::from_le_bytes(field(bytes, vsock::HEADER_FORWARDED)),
        }
    }
}

/// The bytes of a field at `offset`, which is one of a header's.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.copied().unwrap_or([0; N])
}
