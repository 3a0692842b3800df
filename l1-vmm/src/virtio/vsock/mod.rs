//! The host's socket device (VIRTIO 5.10), with one connection to a port of the host's, as a stream of bytes both ways.
//!
//! As [`console`](super::console): every call ends before a deadline of the caller's, what is received is any bytes that
//! the host likes, and a stream that failed is closed until [`Vsock::restart`]. The connection is made when there is
//! something to send, again and again if the host refuses it, until the caller's deadline: the far end may not be there
//! yet.
//!
//! The far end's counts bound what is sent to it. What it sends beyond the room that it was told of breaks a rule, so the
//! host decides on no memory of L1's.

mod connection;
mod error;
#[cfg(test)]
mod tests;

pub use error::{ConnectionError, VsockError};

use super::buffers::{BUFFER, BUFFERS, Queue, RING};
use super::clock::{Clock, Deadline, Patience, Wait};
use super::pci::{Device, HostPci, Returned};
use super::restarts::Restarts;
use alloc::boxed::Box;
use alloc::vec::Vec;
use connection::{Connection, Ends, Owed, State};
use tdcall::SharedBuffer;
use virtio_defs::{feature, vsock};

/// Nanoseconds that a reset may take.
const RESET: u64 = 100_000_000;
/// Nanoseconds from a connection that the host refused to the next.
const AGAIN: u64 = 200_000_000;
/// The first port of this end's; each connection has the next, so that no packet of an earlier one is taken for its own.
const FIRST_PORT: u32 = 1024;
/// Bytes behind the header of a packet, so that both fit into a buffer.
const DATA: usize = BUFFER as usize - vsock::HEADER_LENGTH;

/// The device's queues.
#[derive(Debug)]
struct Link<B> {
    receive: Queue<B>,
    transmit: Queue<B>,
    events: Queue<B>,
    cid: u64,
    connection: Option<Connection>,
}

/// A socket of the host's.
#[derive(Debug)]
pub struct Vsock<H, B, C> {
    device: Device<H>,
    memory: B,
    clock: C,
    host_port: u32,
    next_port: u32,
    link: Option<Link<B>>,
    restarts: Restarts,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Vsock<H, B, C> {
    /// The least memory that does: three queues and a buffer of each.
    pub const MEMORY_MIN: usize = 3 * (RING + BUFFER as usize);
    /// As much memory as is of use.
    pub const MEMORY_MAX: usize = 2 * (RING + (BUFFERS * BUFFER) as usize) + RING + BUFFER as usize;

    /// Starts the device, for connections to `host_port` of the host. `memory` is for the queues and the buffers.
    ///
    /// A device that is refused comes back with the reason.
    pub fn open(
        device: Device<H>,
        memory: B,
        clock: C,
        host_port: u32,
    ) -> Result<Self, Box<Returned<H, VsockError>>> {
        let restarts = Restarts::new(&clock);
        let mut new = Self {
            device,
            memory,
            clock,
            host_port,
            next_port: FIRST_PORT,
            link: None,
            restarts,
        };
        match new.start() {
            Ok(link) => {
                new.link = Some(link);
                Ok(new)
            }
            Err(error) => {
                new.device.give_up();
                let device = new.device;
                Err(Box::new(Returned { error, device }))
            }
        }
    }

    /// Sends all of `bytes`: when this returns, the device has said of each that it took it.
    pub fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), VsockError> {
        let mut wait = Wait::new(&self.clock, *deadline);
        let mut again = 0;
        let mut left = bytes;
        let host_port = self.host_port;
        let next_port = &mut self.next_port;
        let link = self.link.as_mut();
        let sent = with_link(link, &self.device, |link, device| {
            loop {
                link.listen(device)?;
                match link.connection.as_ref().map(Connection::state) {
                    None if self.clock.now() >= again => {
                        *next_port = next_port.wrapping_add(1).max(FIRST_PORT);
                        link.request(*next_port, host_port)?;
                        again = self.clock.now().saturating_add(AGAIN);
                    }
                    // Nothing of these bytes was sent yet, so the next connection can have them all.
                    Some(State::Ended) if left.len() == bytes.len() && again != 0 => {
                        link.connection = None;
                    }
                    Some(State::Ended) => return Err(VsockError::Closed),
                    Some(State::Open) => left = link.post(left)?,
                    None | Some(State::Requested) => {}
                }
                link.transmit.tell(device)?;
                if left.is_empty() && link.transmit.is_idle() {
                    return Ok(());
                }
                if wait.pause(&self.clock, device)? == Patience::Over {
                    return Err(VsockError::TimeOut);
                }
            }
        });
        if sent.is_err() {
            self.link = None;
        }
        sent
    }

    /// Receives what there is, up to `into`; waits for a byte at least. Returns how many. A time-out is no end of the
    /// stream: nothing is lost by it.
    pub fn receive(&mut self, into: &mut [u8], deadline: &Deadline) -> Result<usize, VsockError> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut wait = Wait::new(&self.clock, *deadline);
        let link = self.link.as_mut();
        let received = with_link(link, &self.device, |link, device| {
            loop {
                link.listen(device)?;
                let connection = link.connection.as_mut().ok_or(VsockError::Closed)?;
                let count = connection.give(into);
                if count != 0 {
                    link.pay(device)?;
                    return Ok(Some(count));
                }
                if connection.state() == State::Ended {
                    return Err(VsockError::Closed);
                }
                if wait.pause(&self.clock, device)? == Patience::Over {
                    return Ok(None);
                }
            }
        });
        if received.is_err() {
            self.link = None;
        }
        received?.ok_or(VsockError::TimeOut)
    }

    /// What the clock says, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Resets the device: the next bytes that are sent begin a new connection.
    pub fn restart(&mut self) -> Result<(), VsockError> {
        if !self.restarts.take(&self.clock) {
            return Err(VsockError::GivenUp);
        }
        // The reset that the start begins with takes back all that the device had.
        self.link = None;
        match self.start() {
            Ok(link) => {
                self.link = Some(link);
                Ok(())
            }
            Err(error) => {
                self.device.give_up();
                Err(error)
            }
        }
    }

    /// Starts the device and its queues, and gives it buffers to write to.
    fn start(&mut self) -> Result<Link<B>, VsockError> {
        let wanted = feature::ACCESS_PLATFORM | feature::EVENT_IDX;
        let features = self.device.start(0, wanted, &self.clock, RESET)?;
        let mut cid = [0; vsock::CONFIG_SIZE];
        self.device
            .read_configuration(vsock::CONFIG_GUEST_CID, &mut cid)?;
        let cid = u64::from_le_bytes(cid);
        // 0 to 2 have meanings of their own, and the upper half is reserved (VIRTIO 5.10.4).
        if !(vsock::HOST_CID + 1..u64::from(u32::MAX)).contains(&cid) {
            return Err(VsockError::GuestCid(cid));
        }
        let events = RING + BUFFER as usize;
        let half = (self.memory.length().saturating_sub(events) / 2) & !(RING - 1);
        let mut queue = |index, range| {
            Queue::set_up(
                &mut self.device,
                index,
                features,
                self.memory.clone(),
                range,
            )
        };
        let mut receive = queue(vsock::QUEUE_RECEIVE, 0..half)?;
        let transmit = queue(vsock::QUEUE_TRANSMIT, half..2 * half)?;
        let mut events = queue(vsock::QUEUE_EVENT, 2 * half..2 * half + events)?;
        self.device.run()?;
        for queue in [&mut events, &mut receive] {
            queue.post_empty()?;
            queue.tell(&self.device)?;
        }
        Ok(Link {
            receive,
            transmit,
            events,
            cid,
            connection: None,
        })
    }
}

/// Does something with a device that works. After an error it does not.
fn with_link<H: HostPci, B, T>(
    link: Option<&mut Link<B>>,
    device: &Device<H>,
    work: impl FnOnce(&mut Link<B>, &Device<H>) -> Result<T, VsockError>,
) -> Result<T, VsockError> {
    let link = link.ok_or(VsockError::Closed)?;
    let result = work(link, device);
    if let Err(error) = &result {
        log::warn!("the host's socket is closed: {error}");
        device.give_up();
    }
    result
}

impl<B: SharedBuffer + Clone> Link<B> {
    /// Takes one packet and one event if they are there, and what was sent back. One of each: a host that never ends
    /// to send must not keep the caller from its clock.
    fn listen<H: HostPci>(&mut self, device: &Device<H>) -> Result<(), VsockError> {
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
    fn pay<H: HostPci>(&mut self, device: &Device<H>) -> Result<(), VsockError> {
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
    fn request(&mut self, port: u32, host_port: u32) -> Result<(), VsockError> {
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
    fn post<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], VsockError> {
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
