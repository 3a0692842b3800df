//! A stream of bytes both ways by a device of the host's: its life, whatever kind of device it is.
//!
//! Both calls end before a deadline of the caller's, whatever the device does. What is sent is what the device says
//! that it took; what is received is any bytes that the host likes, at most as many as were asked for. Of a stream
//! that failed nobody knows where it stopped: it is closed until [`Stream::restart`], which resets the device and drops
//! all that was under way; it does so eight times in a row, and once a minute.
//!
//! What is in a device's queues is a [`Kind`]'s: bytes alone ([`console`](super::console)), or packets of a connection
//! ([`vsock`](super::vsock)).

#[cfg(test)]
pub(super) mod bench;
mod error;

pub use error::StreamError;

use super::clock::{Clock, Deadline, Patience, Wait};
use super::pci::{Device, HostPci, Returned};
use super::restarts::Restarts;
use alloc::boxed::Box;
use tdcall::SharedBuffer;
use virtio_defs::feature;

/// Nanoseconds that a reset may take.
const RESET: u64 = 100_000_000;

/// What makes a stream of a device's queues.
pub trait Kind<B> {
    /// The queues of a device that works, and what is under way in them.
    type Link;
    /// What a call that sends remembers from one round to the next.
    type Sending: Default;
    /// The least memory that does: the queues, and a buffer of each.
    const MEMORY_MIN: usize;
    /// As much memory as is of use.
    const MEMORY_MAX: usize;

    /// Sets up the queues of a device that has settled these features, has it run, and gives it buffers to write to.
    fn connect<H: HostPci>(
        &mut self,
        device: &mut Device<H>,
        features: u64,
        memory: &B,
    ) -> Result<Self::Link, StreamError>;

    /// One round of a call: gives the device the first of `bytes`, as many as there is room for; returns the others.
    fn send<'a, H: HostPci>(
        &mut self,
        link: &mut Self::Link,
        device: &Device<H>,
        now: u64,
        call: &mut Self::Sending,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], StreamError>;

    /// Whether the device is done with all that it was given to send.
    fn has_sent(link: &Self::Link) -> bool;

    /// One round of a call: copies what has come, and returns how many bytes; 0 if there is nothing yet.
    fn receive<H: HostPci>(
        &mut self,
        link: &mut Self::Link,
        device: &Device<H>,
        into: &mut [u8],
    ) -> Result<usize, StreamError>;
}

/// A stream by a device of the host's.
#[derive(Debug)]
pub struct Stream<H, B, C, K: Kind<B>> {
    device: Device<H>,
    memory: B,
    clock: C,
    /// What the log calls it.
    name: &'static str,
    kind: K,
    link: Option<K::Link>,
    restarts: Restarts,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock, K: Kind<B>> Stream<H, B, C, K> {
    /// The least memory that does.
    pub const MEMORY_MIN: usize = K::MEMORY_MIN;
    /// As much memory as is of use.
    pub const MEMORY_MAX: usize = K::MEMORY_MAX;

    /// Starts the device. A device that is refused comes back with the reason.
    pub(super) fn begin(
        device: Device<H>,
        memory: B,
        clock: C,
        name: &'static str,
        kind: K,
    ) -> Result<Self, Box<Returned<H, StreamError>>> {
        let restarts = Restarts::new(&clock);
        let mut new = Self {
            device,
            memory,
            clock,
            name,
            kind,
            link: None,
            restarts,
        };
        match new.connect() {
            Ok(()) => Ok(new),
            Err(error) => Err(Box::new(Returned {
                error,
                device: new.device,
            })),
        }
    }

    /// Sends all of `bytes`: when this returns, the device has said of each that it took it.
    pub fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), StreamError> {
        let mut wait = Wait::new(&self.clock, *deadline);
        let mut call = K::Sending::default();
        let mut left = bytes;
        self.with_link(|kind, link, device, clock| {
            loop {
                left = kind.send(link, device, clock.now(), &mut call, left)?;
                if left.is_empty() && K::has_sent(link) {
                    return Ok(());
                }
                match wait.pause(clock, device)? {
                    Patience::Left => {}
                    Patience::Over => return Err(StreamError::TimeOut),
                }
            }
        })
    }

    /// Receives what there is, up to `into`; waits for a byte at least. Returns how many. A time-out is no end of the
    /// stream: nothing is lost by it.
    pub fn receive(&mut self, into: &mut [u8], deadline: &Deadline) -> Result<usize, StreamError> {
        let mut wait = Wait::new(&self.clock, *deadline);
        let received = self.with_link(|kind, link, device, clock| {
            if into.is_empty() {
                return Ok(Some(0));
            }
            loop {
                let count = kind.receive(link, device, into)?;
                if count != 0 {
                    return Ok(Some(count));
                }
                match wait.pause(clock, device)? {
                    Patience::Left => {}
                    Patience::Over => return Ok(None),
                }
            }
        });
        received?.ok_or(StreamError::TimeOut)
    }

    /// What the clock says, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Resets the device and begins an empty stream.
    pub fn restart(&mut self) -> Result<(), StreamError> {
        if !self.restarts.take(&self.clock) {
            return Err(StreamError::GivenUp);
        }
        // The reset that the start begins with takes back all that the device had.
        self.link = None;
        self.connect()
    }

    /// The device, reset, for another use.
    pub fn close(mut self) -> Device<H> {
        if let Err(error) = self.device.reset(&self.clock, RESET) {
            log::debug!("the host's {}: {error}", self.name);
        }
        self.device
    }

    /// Starts the device and its queues. One that does not start is given up.
    fn connect(&mut self) -> Result<(), StreamError> {
        let wanted = feature::ACCESS_PLATFORM | feature::EVENT_IDX;
        let connected = self
            .device
            .start(0, wanted, &self.clock, RESET)
            .map_err(StreamError::from)
            .and_then(|features| self.kind.connect(&mut self.device, features, &self.memory));
        match connected {
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

    /// Does something with a stream that is open. An error closes it.
    fn with_link<T>(
        &mut self,
        work: impl FnOnce(&mut K, &mut K::Link, &Device<H>, &C) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let link = self.link.as_mut().ok_or(StreamError::Closed)?;
        let result = work(&mut self.kind, link, &self.device, &self.clock);
        if let Err(error) = &result {
            log::warn!("the host's {} is closed: {error}", self.name);
            self.link = None;
            self.device.give_up();
        }
        result
    }
}
