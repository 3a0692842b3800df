//! The network device (VIRTIO 5.1), with one pair of queues and no offloads.

use alloc::vec::Vec;
use core::fmt;

use crate::device::Device;
use crate::lie::Lie;
use crate::queue::Chain;
use crate::requests::Requests;
use virtio_defs::net;

/// Ethernet controller.
const CLASS: u32 = 0x02_0000;
/// The longest frame: 1500 bytes behind an Ethernet header.
pub(crate) const FRAME: usize = 1514;
/// The largest packet of a frame.
const MTU: u16 = 1500;
const HEADER: u64 = net::HEADER_LENGTH as u64;

/// What is on the network besides the driver.
pub trait Station {
    /// Whether it takes frames now.
    fn is_ready(&self) -> bool;
    /// Takes a frame of the driver's.
    fn take(&mut self, frame: &[u8]);
    /// A frame for the driver, if there is one.
    fn give(&mut self) -> Option<Vec<u8>>;
}

/// A network.
pub struct Network<S> {
    station: S,
    /// The driver's Ethernet address.
    address: [u8; 6],
    /// A request that waits for a frame.
    receiving: Option<Chain>,
}

impl<S> fmt::Debug for Network<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network")
    }
}

impl<S: Station> Network<S> {
    /// A network on which the driver has this Ethernet address.
    pub fn new(station: S, address: [u8; 6]) -> Self {
        Self {
            station,
            address,
            receiving: None,
        }
    }

    /// Gives the driver what there is for it, as far as it has buffers. One that is too short is used with nothing in it.
    fn receive(&mut self, requests: &mut Requests<'_>) {
        loop {
            let waiting = self.receiving.take();
            let Some(chain) = waiting.or_else(|| requests.take(net::QUEUE_RECEIVE)) else {
                return;
            };
            let Some(frame) = self.station.give() else {
                self.receiving = Some(chain);
                return;
            };
            let mut bytes = Vec::from([0; net::HEADER_LENGTH]);
            if let Some(count) = bytes.get_mut(net::HEADER_NUM_BUFFERS) {
                *count = 1;
            }
            for lie in requests.lies.now() {
                if let Lie::Header { offset, value } = lie
                    && let Some(byte) = bytes.get_mut(usize::from(offset))
                {
                    *byte = value;
                }
            }
            bytes.extend(frame);
            if chain.writable() < bytes.len() as u64 {
                bytes.clear();
            }
            if let Err(violation) = chain.write(requests.memory(), 0, &bytes) {
                requests.fail(violation);
                return;
            }
            requests.complete(net::QUEUE_RECEIVE, &chain, bytes.len() as u32);
        }
    }

    /// Takes the next frame of the driver's. False if there is none, or nobody to take it.
    fn send(&mut self, requests: &mut Requests<'_>) -> bool {
        if !self.station.is_ready() {
            return false;
        }
        let Some(chain) = requests.take(net::QUEUE_TRANSMIT) else {
            return false;
        };
        let length = chain.readable().saturating_sub(HEADER);
        // A frame that is too long gets nowhere, as on a wire.
        if let Some(length) = usize::try_from(length).ok().filter(|&l| l <= FRAME) {
            let mut frame = alloc::vec![0; length];
            if let Err(violation) = chain.read(requests.memory(), HEADER, &mut frame) {
                requests.fail(violation);
                return false;
            }
            self.station.take(&frame);
        }
        requests.complete(net::QUEUE_TRANSMIT, &chain, 0);
        true
    }
}

impl<S: Station> Device for Network<S> {
    fn kind(&self) -> u16 {
        net::DEVICE_TYPE
    }

    fn class(&self) -> u32 {
        CLASS
    }

    fn queues(&self) -> u16 {
        2
    }

    fn features(&self) -> u64 {
        net::FEATURE_MAC | net::FEATURE_STATUS | net::FEATURE_MTU
    }

    fn configuration(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; net::CONFIG_SIZE];
        let mut put = |offset: u32, value: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(offset as usize).zip(value) {
                *place = *byte;
            }
        };
        put(net::CONFIG_MAC, &self.address);
        put(net::CONFIG_STATUS, &net::STATUS_LINK_UP.to_le_bytes());
        put(net::CONFIG_MTU, &MTU.to_le_bytes());
        bytes
    }

    fn work(&mut self, requests: &mut Requests<'_>) {
        loop {
            self.receive(requests);
            if !self.send(requests) {
                break;
            }
        }
    }

    fn reset(&mut self) {
        self.receiving = None;
    }
}
