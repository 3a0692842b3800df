//! The host's console device (VIRTIO 5.3) with one port, as a [`Stream`] of bytes both ways.
//!
//! A port has no beginning and no end that the driver could see. Where a message ends, and whether the bytes are
//! what they should be, is for the protocol above to tell.

#[cfg(test)]
mod tests;

use super::buffers::{BUFFER, BUFFERS, Queue, RING};
use super::clock::Clock;
use super::pci::{Device, HostPci, Returned};
use super::stream::{Kind, Stream, StreamError};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tdcall::SharedBuffer;
use virtio_defs::console;

/// A console of the host's.
pub type Console<H, B, C> = Stream<H, B, C, Port>;

/// The port of a console: bytes, and nothing about them.
#[derive(Debug)]
pub struct Port;

/// The two queues of a port.
#[derive(Debug)]
pub struct Link<B> {
    receive: Queue<B>,
    transmit: Queue<B>,
    /// Bytes that were received in one buffer.
    received: Vec<u8>,
    /// How many of them were given to the caller.
    given: usize,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Console<H, B, C> {
    /// Starts the device. `memory` is for the queues and the buffers; `name` is for the log.
    ///
    /// A device that is refused comes back with the reason.
    pub fn open(
        device: Device<H>,
        memory: B,
        clock: C,
        name: &'static str,
    ) -> Result<Self, Box<Returned<H, StreamError>>> {
        Self::begin(device, memory, clock, name, Port)
    }
}

impl<B: SharedBuffer + Clone> Kind<B> for Port {
    type Link = Link<B>;
    type Sending = ();
    const MEMORY_MIN: usize = 2 * (RING + BUFFER as usize);
    const MEMORY_MAX: usize = 2 * (RING + (BUFFERS * BUFFER) as usize);

    fn connect<H: HostPci>(
        &mut self,
        device: &mut Device<H>,
        features: u64,
        memory: &B,
    ) -> Result<Link<B>, StreamError> {
        let half = (memory.length() / 2) & !(RING - 1);
        let mut queue =
            |index, range| Queue::set_up(device, index, features, memory.clone(), range);
        let mut receive = queue(console::QUEUE_RECEIVE, 0..half)?;
        let transmit = queue(console::QUEUE_TRANSMIT, half..2 * half)?;
        device.run()?;
        receive.post_empty()?;
        receive.tell(device)?;
        Ok(Link {
            receive,
            transmit,
            received: Vec::new(),
            given: 0,
        })
    }

    fn send<'a, H: HostPci>(
        &mut self,
        link: &mut Link<B>,
        device: &Device<H>,
        _: u64,
        (): &mut (),
        bytes: &'a [u8],
    ) -> Result<&'a [u8], StreamError> {
        let mut left = bytes;
        link.transmit.reap()?;
        while let Some(rest) = link.transmit.post_bytes(left)? {
            left = rest;
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
        // A device that completes empty buffers for ever is one that sends nothing.
        if link.received.is_empty() {
            if link.receive.take_bytes(&mut link.received)? {
                link.given = 0;
            }
            link.receive.tell(device)?;
        }
        Ok(link.give(into))
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
