//! The host's console device (VIRTIO 5.3) with one port, as a stream of bytes both ways.
//!
//! Both calls end before a deadline of the caller's, whatever the device does. What is sent is what the device says
//! that it took; what is received is any bytes that the host likes, at most as many as were asked for. Of a stream
//! that failed nobody knows where it stopped: the console is closed until [`Console::restart`], which resets the device
//! and drops all that was under way; it does so eight times in a row,
//! and once a minute.
//!
//! A port has no beginning and no end that the driver could see. Where a message ends, and whether the bytes are
//! what they should be, is for the protocol above to tell.

mod error;
#[cfg(test)]
mod tests;

pub use error::ConsoleError;

use super::buffers::{BUFFER, BUFFERS, Queue, RING};
use super::clock::{Clock, Deadline, Patience, Wait};
use super::pci::{Device, HostPci, Returned};
use super::restarts::Restarts;
use alloc::boxed::Box;
use alloc::vec::Vec;
use tdcall::SharedBuffer;
use virtio_defs::{console, feature};

/// Nanoseconds that a reset may take.
const RESET: u64 = 100_000_000;

/// The two queues of a port.
#[derive(Debug)]
struct Link<B> {
    receive: Queue<B>,
    transmit: Queue<B>,
    /// Bytes that were received in one buffer.
    received: Vec<u8>,
    /// How many of them were given to the caller.
    given: usize,
}

/// A console of the host's.
#[derive(Debug)]
pub struct Console<H, B, C> {
    device: Device<H>,
    memory: B,
    clock: C,
    /// What the log calls it.
    name: &'static str,
    link: Option<Link<B>>,
    restarts: Restarts,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Console<H, B, C> {
    /// The least memory that does: two queues and a buffer of each.
    pub const MEMORY_MIN: usize = 2 * (RING + BUFFER as usize);
    /// As much memory as is of use.
    pub const MEMORY_MAX: usize = 2 * (RING + (BUFFERS * BUFFER) as usize);

    /// Starts the device. `memory` is for the queues and the buffers; `name` is for the log.
    ///
    /// A device that is refused comes back with the reason.
    pub fn open(
        device: Device<H>,
        memory: B,
        clock: C,
        name: &'static str,
    ) -> Result<Self, Box<Returned<H, ConsoleError>>> {
        let restarts = Restarts::new(&clock);
        let mut new = Self {
            device,
            memory,
            clock,
            name,
            link: None,
            restarts,
        };
        match new.connect() {
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
    pub fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), ConsoleError> {
        let mut wait = Wait::new(&self.clock, *deadline);
        let mut left = bytes;
        self.with_link(|link, device, clock| {
            loop {
                link.transmit.reap()?;
                while let Some(rest) = link.transmit.post_bytes(left)? {
                    left = rest;
                }
                link.transmit.tell(device)?;
                if left.is_empty() && link.transmit.is_idle() {
                    return Ok(());
                }
                match wait.pause(clock, device)? {
                    Patience::Left => {}
                    Patience::Over => return Err(ConsoleError::TimeOut),
                }
            }
        })
    }

    /// Receives what there is, up to `into`; waits for a byte at least. Returns how many. A time-out is no end of the
    /// stream: nothing is lost by it.
    pub fn receive(&mut self, into: &mut [u8], deadline: &Deadline) -> Result<usize, ConsoleError> {
        let mut wait = Wait::new(&self.clock, *deadline);
        self.with_link(|link, device, clock| {
            loop {
                let count = link.give(into);
                if count != 0 || into.is_empty() {
                    return Ok(Some(count));
                }
                if link.receive.take_bytes(&mut link.received)? {
                    link.given = 0;
                }
                link.receive.tell(device)?;
                // A device that completes empty buffers for ever is one that sends nothing.
                if link.received.is_empty() && wait.pause(clock, device)? == Patience::Over {
                    return Ok(None);
                }
            }
        })?
        .ok_or(ConsoleError::TimeOut)
    }

    /// What the clock says, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Resets the device and begins an empty stream.
    pub fn restart(&mut self) -> Result<(), ConsoleError> {
        if !self.restarts.take(&self.clock) {
            return Err(ConsoleError::GivenUp);
        }
        // The reset that the start begins with takes back all that the device had.
        self.link = None;
        match self.connect() {
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

    /// The device, reset, for another use.
    pub fn close(mut self) -> Device<H> {
        if let Err(error) = self.device.reset(&self.clock, RESET) {
            log::debug!("the host's {}: {error}", self.name);
        }
        self.device
    }

    /// Does something with a stream that is open. An error closes it.
    fn with_link<T>(
        &mut self,
        work: impl FnOnce(&mut Link<B>, &Device<H>, &C) -> Result<T, ConsoleError>,
    ) -> Result<T, ConsoleError> {
        let link = self.link.as_mut().ok_or(ConsoleError::Closed)?;
        let result = work(link, &self.device, &self.clock);
        if let Err(error) = &result {
            log::warn!("the host's {} is closed: {error}", self.name);
            self.link = None;
            self.device.give_up();
        }
        result
    }

    /// Starts the device and its queues, and gives it buffers to write to.
    fn connect(&mut self) -> Result<Link<B>, ConsoleError> {
        let wanted = feature::ACCESS_PLATFORM | feature::EVENT_IDX;
        let features = self.device.start(0, wanted, &self.clock, RESET)?;
        let half = (self.memory.length() / 2) & !(RING - 1);
        let mut queue = |index, range| {
            Queue::set_up(
                &mut self.device,
                index,
                features,
                self.memory.clone(),
                range,
            )
        };
        let mut receive = queue(console::QUEUE_RECEIVE, 0..half)?;
        let transmit = queue(console::QUEUE_TRANSMIT, half..2 * half)?;
        self.device.run()?;
        receive.post_empty()?;
        receive.tell(&self.device)?;
        Ok(Link {
            receive,
            transmit,
            received: Vec::new(),
            given: 0,
        })
    }
}

impl<B> Link<B> {
    /// Copies bytes that were received; returns how many.
    fn give(&mut self, into: &mut [u8]) -> usize {
        let there = self.received.get(self.given..).unwrap_or_default();
        let mut count = 0;
        for (place, byte) in into.iter_mut().zip(there) {
            *place = *byte;
            count += 1;
        }
        self.given += count;
        if self.given >= self.received.len() {
            self.received.clear();
            self.given = 0;
        }
        count
    }
}
