//! The socket device (VIRTIO 5.10), with a host behind it that listens.
//!
//! At port 7 it sends back what it is sent (RFC 862, on a stream of vsock), at one other port there may be a [`Channel`], as
//! at the end of a console; any other connection is refused. It asks for none of its own, and tells no events. A driver that sends more than there is room for, or what belongs to no
//! connection, is told that the connection is over.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use crate::console::Channel;
use crate::device::Device;
use crate::lie::Lie;
use crate::queue::Chain;
use crate::requests::Requests;
use virtio_defs::vsock;

/// Class of a device that fits into no other.
const CLASS: u32 = 0xFF_0000;
/// Port of the echo.
const ECHO: u32 = 7;
/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Bytes that a connection takes before they are sent back.
const BUFFER: u32 = 0x1_0000;
/// Packets for the driver that wait at most, before no more of its own are taken.
const WAITING: usize = 64;
/// SHUTDOWN: the sender neither sends nor receives any more.
const BOTH: u32 = vsock::SHUTDOWN_SEND | vsock::SHUTDOWN_RECEIVE;

/// A header's fields of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    source: u64,
    destination: u64,
    /// The driver's port.
    theirs: u32,
    /// The host's.
    ours: u32,
    length: u32,
    kind: u16,
    operation: u16,
    flags: u32,
    buffer: u32,
    taken: u32,
}

impl Header {
    /// As the driver wrote it.
    fn parse(bytes: &[u8; vsock::HEADER_LENGTH]) -> Self {
        let dword = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(field.copied().unwrap_or_default())
        };
        let qword = |at: usize| u64::from(dword(at)) | u64::from(dword(at + 4)) << 32;
        Self {
            source: qword(vsock::HEADER_SOURCE_CID),
            destination: qword(vsock::HEADER_DESTINATION_CID),
            theirs: dword(vsock::HEADER_SOURCE_PORT),
            ours: dword(vsock::HEADER_DESTINATION_PORT),
            length: dword(vsock::HEADER_DATA_LENGTH),
            kind: dword(vsock::HEADER_TYPE) as u16,
            operation: (dword(vsock::HEADER_TYPE) >> 16) as u16,
            flags: dword(vsock::HEADER_FLAGS),
            buffer: dword(vsock::HEADER_ALLOCATED),
            taken: dword(vsock::HEADER_FORWARDED),
        }
    }

    /// As the driver reads one of the host's.
    fn bytes(&self) -> [u8; vsock::HEADER_LENGTH] {
        let mut bytes = [0; vsock::HEADER_LENGTH];
        let mut put = |at: usize, value: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
                *place = *byte;
            }
        };
        put(vsock::HEADER_SOURCE_CID, &self.source.to_le_bytes());
        put(
            vsock::HEADER_DESTINATION_CID,
            &self.destination.to_le_bytes(),
        );
        put(vsock::HEADER_SOURCE_PORT, &self.ours.to_le_bytes());
        put(vsock::HEADER_DESTINATION_PORT, &self.theirs.to_le_bytes());
        put(vsock::HEADER_DATA_LENGTH, &self.length.to_le_bytes());
        put(vsock::HEADER_TYPE, &self.kind.to_le_bytes());
        put(vsock::HEADER_OPERATION, &self.operation.to_le_bytes());
        put(vsock::HEADER_FLAGS, &self.flags.to_le_bytes());
        put(vsock::HEADER_ALLOCATED, &self.buffer.to_le_bytes());
        put(vsock::HEADER_FORWARDED, &self.taken.to_le_bytes());
        bytes
    }
}

/// A stream, by the driver's port and the host's.
type Ports = (u32, u32);

#[derive(Debug, Default)]
struct Connection {
    /// What has come: it is to be sent back, or to go into the channel.
    held: VecDeque<u8>,
    /// Bytes that were taken out of `held`, modulo 2^32, and what of that the driver was told.
    taken: u32,
    told: u32,
    /// Bytes that were sent.
    sent: u32,
    /// The driver's buffer, and what it has taken out of it.
    their_buffer: u32,
    their_taken: u32,
    /// The driver sends no more.
    ends: bool,
}

impl Connection {
    /// Bytes that the driver has room for.
    fn credit(&self) -> usize {
        let in_flight = self.sent.wrapping_sub(self.their_taken);
        self.their_buffer.saturating_sub(in_flight) as usize
    }

    fn hear(&mut self, header: &Header) {
        self.their_buffer = header.buffer;
        self.their_taken = header.taken;
    }
}

/// Sockets.
pub struct Sockets {
    /// The driver's address.
    cid: u64,
    connections: BTreeMap<Ports, Connection>,
    /// The port with the channel.
    wired: Option<(u32, Box<dyn Channel>)>,
    /// Packets without data that are to be sent: ports, operation, flags.
    waiting: VecDeque<(Ports, u16, u32)>,
    /// A request that waits for a packet.
    receiving: Option<Chain>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sockets")
    }
}

impl Sockets {
    /// Sockets of a driver that has this address.
    pub fn new(cid: u64) -> Self {
        Self {
            cid,
            connections: BTreeMap::new(),
            wired: None,
            waiting: VecDeque::new(),
            receiving: None,
        }
    }

    /// With a channel behind a port of the host's. It has one connection, the newest.
    #[must_use]
    pub fn with_channel(mut self, port: u32, channel: impl Channel + 'static) -> Self {
        self.wired = Some((port, Box::new(channel)));
        self
    }

    /// Whether it is the port with the channel.
    fn is_wired(&self, port: u32) -> bool {
        self.wired.as_ref().is_some_and(|(wired, _)| *wired == port)
    }

    /// Passes on what has come for the channel, as far as there is room.
    fn pass_on(&mut self) {
        let Some((port, channel)) = &mut self.wired else {
            return;
        };
        let mut connections = self.connections.iter_mut();
        let Some((ports, connection)) = connections.find(|(ports, _)| ports.1 == *port) else {
            return;
        };
        while let Some(&byte) = connection.held.front()
            && channel.send(byte)
        {
            connection.held.pop_front();
            connection.taken = connection.taken.wrapping_add(1);
        }
        if connection.taken.wrapping_sub(connection.told) >= BUFFER / 4 {
            connection.told = connection.taken;
            self.waiting
                .push_back((*ports, vsock::OPERATION_CREDIT_UPDATE, 0));
        }
    }

    /// What has come out of the channel, at most as much as the driver and its buffer have room for.
    fn receive_for_driver(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        let (port, channel) = self.wired.as_mut()?;
        let mut connections = self.connections.iter_mut();
        let (ports, connection) = connections.find(|(ports, _)| ports.1 == *port)?;
        let ports = *ports;
        let mut content = Vec::new();
        while content.len() < room.min(connection.credit())
            && let Some(byte) = channel.receive()
        {
            content.push(byte);
        }
        let length = content.len() as u32;
        connection.sent = connection.sent.wrapping_add(length);
        (length != 0).then(|| {
            let header = self.header(ports, vsock::OPERATION_DATA, 0, length);
            (header, content)
        })
    }

    /// Takes a packet of the driver's. False if there is none, or no room for an answer.
    fn send(&mut self, requests: &mut Requests<'_>) -> bool {
        if self.waiting.len() >= WAITING {
            return false;
        }
        let Some(chain) = requests.take(vsock::QUEUE_TRANSMIT) else {
            return false;
        };
        let mut bytes = [0; vsock::HEADER_LENGTH];
        let read = chain.read(requests.memory(), 0, &mut bytes);
        let header = Header::parse(&bytes);
        let data = chain.readable().saturating_sub(bytes.len() as u64);
        let mut content = Vec::new();
        let read = read.and_then(|()| {
            if u64::from(header.length) == data && header.length <= BUFFER {
                content.resize(header.length as usize, 0);
                chain.read(requests.memory(), bytes.len() as u64, &mut content)?;
            }
            Ok(())
        });
        if let Err(violation) = read {
            requests.fail(violation);
            return false;
        }
        self.heard(&header, &content);
        requests.complete(vsock::QUEUE_TRANSMIT, &chain, 0);
        true
    }

    /// Does what a packet asks for.
    fn heard(&mut self, header: &Header, content: &[u8]) {
        let ports = (header.theirs, header.ours);
        let here = header.source == self.cid && header.destination == vsock::HOST_CID;
        if !here || header.kind != vsock::TYPE_STREAM {
            return self.reset_connection(ports, header.operation);
        }
        if header.operation == vsock::OPERATION_REQUEST {
            let full = self.connections.len() >= CONNECTIONS;
            let wired = self.is_wired(header.ours);
            let listens = header.ours == ECHO || wired;
            if !listens || full || self.connections.contains_key(&ports) {
                return self.reset_connection(ports, header.operation);
            }
            if wired {
                self.connections.retain(|older, _| older.1 != header.ours);
            }
            let mut connection = Connection::default();
            connection.hear(header);
            self.connections.insert(ports, connection);
            self.waiting
                .push_back((ports, vsock::OPERATION_RESPONSE, 0));
            return;
        }
        let Some(connection) = self.connections.get_mut(&ports) else {
            return self.reset_connection(ports, header.operation);
        };
        connection.hear(header);
        match header.operation {
            vsock::OPERATION_DATA => {
                let room = BUFFER as usize - connection.held.len();
                if content.len() != header.length as usize
                    || content.len() > room
                    || connection.ends
                {
                    return self.reset_connection(ports, header.operation);
                }
                connection.held.extend(content);
            }
            vsock::OPERATION_CREDIT_UPDATE => {}
            vsock::OPERATION_CREDIT_REQUEST => {
                self.waiting
                    .push_back((ports, vsock::OPERATION_CREDIT_UPDATE, 0));
            }
            vsock::OPERATION_SHUTDOWN if header.flags & BOTH == BOTH => {
                self.reset_connection(ports, header.operation);
            }
            vsock::OPERATION_SHUTDOWN => {
                connection.ends |= header.flags & vsock::SHUTDOWN_SEND != 0;
            }
            vsock::OPERATION_RESET => {
                self.connections.remove(&ports);
            }
            _ => self.reset_connection(ports, header.operation),
        }
    }

    /// The connection is over, or there is none. A reset is not answered.
    fn reset_connection(&mut self, ports: Ports, operation: u16) {
        self.connections.remove(&ports);
        if operation != vsock::OPERATION_RESET {
            self.waiting.push_back((ports, vsock::OPERATION_RESET, 0));
        }
    }

    /// The next packet for the driver, which has room for so many bytes of data.
    fn next(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        if let Some((ports, operation, flags)) = self.waiting.pop_front() {
            return Some((self.header(ports, operation, flags, 0), Vec::new()));
        }
        if let Some(packet) = self.receive_for_driver(room) {
            return Some(packet);
        }
        let wired = self.wired.as_ref().map(|(port, _)| *port);
        let mut connections = self.connections.iter_mut();
        let (ports, connection) = connections.find(|(ports, connection)| {
            let done = connection.ends && connection.held.is_empty();
            let echoes = Some(ports.1) != wired && !connection.held.is_empty();
            done || echoes && connection.credit() != 0
        })?;
        let ports = *ports;
        if connection.held.is_empty() {
            self.connections.remove(&ports);
            let header = self.header(ports, vsock::OPERATION_SHUTDOWN, BOTH, 0);
            return Some((header, Vec::new()));
        }
        let length = connection.held.len().min(connection.credit()).min(room);
        let content: Vec<u8> = connection.held.drain(..length).collect();
        connection.taken = connection.taken.wrapping_add(length as u32);
        connection.sent = connection.sent.wrapping_add(length as u32);
        let header = self.header(ports, vsock::OPERATION_DATA, 0, length as u32);
        Some((header, content))
    }

    fn header(&self, ports: Ports, operation: u16, flags: u32, length: u32) -> Header {
        let (theirs, ours) = ports;
        let connection = self.connections.get(&ports);
        Header {
            source: vsock::HOST_CID,
            destination: self.cid,
            theirs,
            ours,
            length,
            kind: vsock::TYPE_STREAM,
            operation,
            flags,
            buffer: connection.map_or(0, |_| BUFFER),
            taken: connection.map_or(0, |connection| connection.taken),
        }
    }

    /// Gives the driver what there is for it, as far as it has buffers. One without room for data is used with nothing in
    /// it.
    fn receive(&mut self, requests: &mut Requests<'_>) {
        loop {
            let waiting = self.receiving.take();
            let Some(chain) = waiting.or_else(|| requests.take(vsock::QUEUE_RECEIVE)) else {
                return;
            };
            let room = chain.writable().checked_sub(vsock::HEADER_LENGTH as u64);
            let Some(room) = room.filter(|&room| room != 0) else {
                requests.complete(vsock::QUEUE_RECEIVE, &chain, 0);
                continue;
            };
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let Some((header, content)) = self.next(room) else {
                self.receiving = Some(chain);
                return;
            };
            let mut bytes = header.bytes().to_vec();
            for lie in requests.lies.now() {
                if let Lie::Header { offset, value } = lie
                    && let Some(byte) = bytes.get_mut(usize::from(offset))
                {
                    *byte = value;
                }
            }
            bytes.extend(content);
            if let Err(violation) = chain.write(requests.memory(), 0, &bytes) {
                requests.fail(violation);
                return;
            }
            requests.complete(vsock::QUEUE_RECEIVE, &chain, bytes.len() as u32);
        }
    }
}

impl Device for Sockets {
    fn kind(&self) -> u16 {
        vsock::DEVICE_TYPE
    }

    fn class(&self) -> u32 {
        CLASS
    }

    fn queues(&self) -> u16 {
        3
    }

    fn features(&self) -> u64 {
        vsock::FEATURE_STREAM
    }

    fn configuration(&self) -> Vec<u8> {
        self.cid.to_le_bytes().to_vec()
    }

    fn work(&mut self, requests: &mut Requests<'_>) {
        loop {
            self.pass_on();
            self.receive(requests);
            if !self.send(requests) {
                break;
            }
        }
    }

    fn hears_the_outside(&self) -> bool {
        self.wired.is_some()
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.waiting.clear();
        self.receiving = None;
    }
}
