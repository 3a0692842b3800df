//! The host's socket device (VIRTIO 5.10), with one connection to a port of the host's, as a [`Stream`] of bytes both ways.
//!
//! The connection is made when there is something to send, again and again if the host refuses it, until the caller's
//! deadline: the far end may not be there yet. A restart ends it: the next bytes that are sent begin a new one.
//!
//! The far end's counts bound what is sent to it. What it sends beyond the room that it was told of breaks a rule, so the
//! host decides on no memory of L1's.

mod connection;
mod error;
#[cfg(test)]
mod tests;

pub use error::ConnectionError;

use super::buffers::{BUFFER, BUFFERS, Queue, RING};
use super::clock::Clock;
use super::pci::{Device, HostPci, Returned};
use super::stream::{Kind, Stream, StreamError};
use alloc::boxed::Box;
use alloc::vec::Vec;
use connection::{Connection, Ends, Owed, State};
use tdcall::SharedBuffer;
use virtio_defs::vsock;

/// Nanoseconds from a connection that the host refused to the next.
const AGAIN: u64 = 200_000_000;
/// The first port of this end's; each connection has the next, so that no packet of an earlier one is taken for its own.
const FIRST_PORT: u32 = 1024;
/// Bytes behind the header of a packet, so that both fit into a buffer.
const DATA: usize = BUFFER as usize - vsock::HEADER_LENGTH;

/// A socket of the host's.
pub type Vsock<H, B, C> = Stream<H, B, C, Socket>;

/// Both ends' ports.
#[derive(Debug)]
pub struct Socket {
    host_port: u32,
    next_port: u32,
}

/// The device's queues.
#[derive(Debug)]
pub struct Link<B> {
    receive: Queue<B>,
    transmit: Queue<B>,
    events: Queue<B>,
    cid: u64,
    connection: Option<Connection>,
}

/// What a call that sends has done.
#[derive(Debug, Default)]
pub struct Sending {
    /// When it may ask for a connection again; 0 before it has.
    again: u64,
    /// Whether some of its bytes were sent. Until then another connection can have them all.
    begun: bool,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Vsock<H, B, C> {
    /// Starts the device, for connections to `host_port` of the host. `memory` is for the queues and the buffers.
    ///
    /// A device that is refused comes back with the reason.
    pub fn open(
        device: Device<H>,
        memory: B,
        clock: C,
        host_port: u32,
    ) -> Result<Self, Box<Returned<H, StreamError>>> {
        let socket = Socket {
            host_port,
            next_port: FIRST_PORT,
        };
        Self::begin(device, memory, clock, "socket", socket)
    }
}

impl<B: SharedBuffer + Clone> Kind<B> for Socket {
    type Link = Link<B>;
    type Sending = Sending;
    const MEMORY_MIN: usize = 3 * (RING + BUFFER as usize);
    const MEMORY_MAX: usize = 2 * (RING + (BUFFERS * BUFFER) as usize) + RING + BUFFER as usize;

    fn connect<H: HostPci>(
        &mut self,
        device: &mut Device<H>,
        features: u64,
        memory: &B,
    ) -> Result<Link<B>, StreamError> {
        let mut cid = [0; vsock::CONFIG_SIZE];
        device.read_configuration(vsock::CONFIG_GUEST_CID, &mut cid)?;
        let cid = u64::from_le_bytes(cid);
        // 0 to 2 have meanings of their own, and the upper half is reserved (VIRTIO 5.10.4).
        if !(vsock::HOST_CID + 1..u64::from(u32::MAX)).contains(&cid) {
            return Err(StreamError::GuestCid(cid));
        }
        let events = RING + BUFFER as usize;
        let half = (memory.length().saturating_sub(events) / 2) & !(RING - 1);
        let mut queue =
            |index, range| Queue::set_up(device, index, features, memory.clone(), range);
        let mut receive = queue(vsock::QUEUE_RECEIVE, 0..half)?;
        let transmit = queue(vsock::QUEUE_TRANSMIT, half..2 * half)?;
        let mut events = queue(vsock::QUEUE_EVENT, 2 * half..2 * half + events)?;
        device.run()?;
        for queue in [&mut events, &mut receive] {
            queue.post_empty()?;
            queue.tell(device)?;
        }
        Ok(Link {
            receive,
            transmit,
            events,
            cid,
            connection: None,
        })
    }

    fn send<'a, H: HostPci>(
        &mut self,
        link: &mut Link<B>,
        device: &Device<H>,
        now: u64,
        call: &mut Sending,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], StreamError> {
        let mut left = bytes;
        link.listen(device)?;
        match link.connection.as_ref().map(Connection::state) {
            None if now >= call.again => {
                self.next_port = self.next_port.wrapping_add(1).max(FIRST_PORT);
                link.request(self.next_port, self.host_port)?;
                call.again = now.saturating_add(AGAIN);
            }
            Some(State::Ended) if !call.begun && call.again != 0 => link.connection = None,
            Some(State::Ended) => return Err(StreamError::Closed),
            Some(State::Open) => {
                left = link.post(bytes)?;
                call.begun |= left.len() != bytes.len();
            }
            None | Some(State::Requested) => {}
        }
        link.transmit.tell(device)?;
        Ok(left)
    }

    fn has_sent(link: &Link<B>) -> bool {
        link.transmit.is_idle()
    }

    fn receive<H: HostPci>(
        &mut self,
        link: &mut Link<B>,
        device: &Device<H>,
        into: &mut [u8],
    ) -> Result<usize, StreamError> {
        link.listen(device)?;
        let connection = link.connection.as_mut().ok_or(StreamError::Closed)?;
        let count = connection.give(into);
        if count != 0 {
            link.pay(device)?;
        } else if connection.state() == State::Ended {
            return Err(StreamError::Closed);
        }
        Ok(count)
    }
}

impl<B: SharedBuffer + Clone> Link<B> {
    /// Takes one packet and one event if they are there, and what was sent back. One of each: a host that never ends
    /// to send must not keep the caller from its clock.
    fn listen<H: HostPci>(&mut self, device: &Device<H>) -> Result<(), StreamError> {
        self.transmit.reap()?;
        let mut packet = Vec::new();
        if self.receive.take_bytes(&mut packet)?
            && let Some(connection) = &mut self.connection
        {
            connection.take(&packet)?;
        }
        self.receive.tell(device)?;
        // An event is that all connections are gone, whatever its number: no other is defined.
        if self.events.take_bytes(&mut packet)?
            && let Some(connection) = &mut self.connection
        {
            connection.end();
        }
        self.events.tell(device)?;
        self.pay(device)
    }

    /// Sends what the connection owes, if there is a buffer; else it stays owed.
    fn pay<H: HostPci>(&mut self, device: &Device<H>) -> Result<(), StreamError> {
        if !self.transmit.has_room() {
            return Ok(());
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let operation = match connection.take_owed() {
            None => return Ok(()),
            Some(Owed::Credit) => vsock::OPERATION_CREDIT_UPDATE,
            Some(Owed::Reset) => vsock::OPERATION_RESET,
        };
        let header = connection.header(operation, 0);
        self.transmit.post_bytes(&header)?;
        Ok(self.transmit.tell(device)?)
    }

    /// Asks for a connection.
    fn request(&mut self, port: u32, host_port: u32) -> Result<(), StreamError> {
        if !self.transmit.has_room() {
            return Ok(());
        }
        let ends = Ends {
            cid: self.cid,
            port,
            host_port,
        };
        let connection = self.connection.insert(Connection::new(ends));
        let header = connection.header(vsock::OPERATION_REQUEST, 0);
        self.transmit.post_bytes(&header)?;
        Ok(())
    }

    /// Gives the device the first of `bytes`, as many as the far end and the buffers have room for; returns the others.
    fn post<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], StreamError> {
        let mut left = bytes;
        let Some(connection) = &mut self.connection else {
            return Ok(left);
        };
        while !left.is_empty() && self.transmit.has_room() {
            let room = usize::try_from(connection.credit()).unwrap_or(usize::MAX);
            let (now, later) = left.split_at(left.len().min(room).min(DATA));
            if now.is_empty() {
                break;
            }
            let mut packet = Vec::with_capacity(BUFFER as usize);
            packet.extend(connection.header(vsock::OPERATION_DATA, now.len() as u32));
            packet.extend(now);
            self.transmit.post_bytes(&packet)?;
            left = later;
        }
        Ok(left)
    }
}
