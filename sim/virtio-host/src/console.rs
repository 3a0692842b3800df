//! The console device (VIRTIO 5.3) with one port.

use alloc::vec::Vec;
use core::fmt;

use crate::device::Device;
use crate::queue::Chain;
use crate::requests::Requests;
use virtio_defs::console;

/// Simple communication controller, other.
const CLASS: u32 = 0x07_8000;

/// What is at the other end of the console.
pub trait Channel {
    /// Passes a byte on; false if there is no room now.
    fn send(&mut self, byte: u8) -> bool;
    /// A byte that has come, if there is one.
    fn receive(&mut self) -> Option<u8>;
}

/// A console.
pub struct Console<C> {
    channel: C,
    /// A request that is being sent, and how far it is.
    sending: Option<(Chain, u64)>,
    /// A request that waits for input.
    receiving: Option<Chain>,
}

impl<C> fmt::Debug for Console<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "console")
    }
}

impl<C: Channel> Console<C> {
    /// A console with this at its other end.
    pub fn new(channel: C) -> Self {
        Self {
            channel,
            sending: None,
            receiving: None,
        }
    }

    /// Sends what there is to send, as far as there is room.
    fn send(&mut self, requests: &mut Requests<'_>) {
        loop {
            let next = self.sending.take();
            let Some((chain, mut sent)) =
                next.or_else(|| Some((requests.take(console::QUEUE_TRANSMIT)?, 0)))
            else {
                return;
            };
            while sent < chain.readable() {
                let mut byte = [0];
                if let Err(violation) = chain.read(requests.memory(), sent, &mut byte) {
                    requests.fail(violation);
                    return;
                }
                let [byte] = byte;
                if !self.channel.send(byte) {
                    self.sending = Some((chain, sent));
                    return;
                }
                sent += 1;
            }
            requests.complete(console::QUEUE_TRANSMIT, &chain, 0);
        }
    }

    /// Gives the driver what has come, as far as it has buffers for it: what it has none for stays outside.
    fn receive(&mut self, requests: &mut Requests<'_>) {
        loop {
            let waiting = self.receiving.take();
            let Some(chain) = waiting.or_else(|| requests.take(console::QUEUE_RECEIVE)) else {
                return;
            };
            let mut length = 0;
            while length < chain.writable()
                && let Some(byte) = self.channel.receive()
            {
                if let Err(violation) = chain.write(requests.memory(), length, &[byte]) {
                    requests.fail(violation);
                    return;
                }
                length += 1;
            }
            if length == 0 && chain.writable() != 0 {
                self.receiving = Some(chain);
                return;
            }
            requests.complete(console::QUEUE_RECEIVE, &chain, length as u32);
        }
    }
}

impl<C: Channel> Device for Console<C> {
    fn kind(&self) -> u16 {
        console::DEVICE_TYPE
    }

    fn class(&self) -> u32 {
        CLASS
    }

    fn queues(&self) -> u16 {
        2
    }

    fn features(&self) -> u64 {
        0
    }

    fn configuration(&self) -> Vec<u8> {
        // Columns and rows, ports, and where to write in an emergency: none of these was offered.
        alloc::vec![0; 12]
    }

    fn work(&mut self, requests: &mut Requests<'_>) {
        self.send(requests);
        self.receive(requests);
    }

    fn reset(&mut self) {
        self.sending = None;
        self.receiving = None;
    }

    fn hears_the_outside(&self) -> bool {
        true
    }
}
