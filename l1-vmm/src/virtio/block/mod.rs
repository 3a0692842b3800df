//! The host's block device (VIRTIO 5.2), as L1 stores with it.
//!
//! A call reads, writes or flushes, and ends with success or an error within [`Limits`]: the device is reset and
//! the call repeated if it breaks a rule, reports an error or does not answer, a bounded number of times. While one
//! call runs, as many requests are in flight as there are buffers. A device that failed is tried once a call until
//! it works again; one that has broken the rules too often, or comes back from a reset as another one, is given up
//! for good. The log has a line for each of these changes, and none for each call.
//!
//! That the device says "done" says nothing of what it did: bytes that were read are the host's choice, and so is
//! whether what was written is there. A read of which the device does not even claim to have written all is an error.

mod error;
mod request;
#[cfg(test)]
mod tests;

pub use error::BlockError;

use error::Verdict;

use super::buffers::{QueueError, set_up_ring};
use super::clock::{Clock, Deadline, Patience, Wait};
use super::pci::{Device, Doorbell, HostPci, Returned};
use super::ring::{Notification, PostError, Ring};
use super::slots::Slots;
use crate::shared_buffer::Part;
use alloc::boxed::Box;
use request::{Chunk, Transfer};
use tdcall::SharedBuffer;
use virtio_defs::{block, feature};

/// Descriptors of the queue.
const QUEUE_SIZE: u16 = 64;
/// Descriptors of a request: header, data, status.
const DESCRIPTORS: u32 = 3;
/// Requests in flight at most.
const SLOTS: u32 = QUEUE_SIZE as u32 / DESCRIPTORS;
/// Bytes of data of a request at most.
const CHUNK: u32 = 4096;
/// Bytes for the queue; a little more than it takes.
const RING: usize = 2048;

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nanoseconds that one attempt at a call may take.
    pub attempt: u64,
    /// Nanoseconds that a reset may take.
    pub reset: u64,
    /// How often a call is tried; at least once.
    pub attempts: u32,
    /// How often the device may break a rule before it is given up.
    pub faults: u32,
}

impl Limits {
    /// For a disk that a virtual processor of L2 may wait for: a call ends in a few seconds.
    pub const DISK: Self = Self {
        attempt: 1_000_000_000,
        reset: 100_000_000,
        attempts: 3,
        faults: 8,
    };
}

/// Whether the device does what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// The last call was done.
    Working,
    /// It was not.
    Failing,
    /// It is not asked again.
    GivenUp,
}

/// Whether what was written can be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// VIRTIO_BLK_F_FLUSH: by [`Block::flush`].
    Flush,
    /// The device says nothing about it.
    Unknown,
}

/// Whether it can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can.
    ReadWrite,
    /// VIRTIO_BLK_F_RO: it cannot.
    ReadOnly,
}

/// What the device said of itself. It is held to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    sectors: u64,
    /// Bytes of data that a request has at most: whole sectors.
    chunk: u32,
    durability: Durability,
    access: Access,
}

/// A queue that runs.
#[derive(Debug)]
struct Link<B> {
    ring: Ring<Part<B>, Chunk>,
    doorbell: Doorbell,
}

/// A block device of the host's.
#[derive(Debug)]
pub struct Block<H, B, C> {
    device: Device<H>,
    memory: B,
    clock: C,
    /// What the log calls it.
    name: &'static str,
    required: u64,
    limits: Limits,
    slots: Slots<Part<B>>,
    geometry: Geometry,
    link: Option<Link<B>>,
    health: Health,
    /// Rules that it has broken.
    faults: u32,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Block<H, B, C> {
    /// The least memory that does.
    pub const MEMORY_MIN: usize = RING + request::SLOT as usize;
    /// As much memory as is of use.
    pub const MEMORY_MAX: usize = RING + (SLOTS * request::SLOT) as usize;

    /// Starts the device, with the features of `required` and no less. `memory` is for the queue and the buffers:
    /// at least [`Self::MEMORY_MIN`] bytes; with more of it, more requests are in flight. `name` is for the log.
    ///
    /// A device that is refused comes back with the reason.
    pub fn open(
        mut device: Device<H>,
        memory: B,
        clock: C,
        name: &'static str,
        required: u64,
        limits: Limits,
    ) -> Result<Self, Box<Returned<H, BlockError>>> {
        let started = Part::new(memory.clone(), RING..memory.length())
            .filter(|buffers| buffers.length() >= request::SLOT as usize)
            .ok_or(BlockError::Queue(QueueError::Memory))
            .and_then(|buffers| {
                let (geometry, link) = connect(&mut device, &memory, &clock, required, limits)?;
                Ok((buffers, geometry, link))
            });
        let (buffers, geometry, link) = match started {
            Ok(started) => started,
            Err(error) => {
                device.give_up();
                return Err(Box::new(Returned { error, device }));
            }
        };
        Ok(Self {
            device,
            memory,
            clock,
            name,
            required,
            limits,
            slots: Slots::new(buffers, request::SLOT, SLOTS),
            geometry,
            link: Some(link),
            health: Health::Working,
            faults: 0,
        })
    }

    /// Sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.geometry.sectors
    }

    /// Whether what was written can be made durable.
    pub fn durability(&self) -> Durability {
        self.geometry.durability
    }

    /// Whether it can be written.
    pub fn access(&self) -> Access {
        self.geometry.access
    }

    /// The string that it has for a name, padded with zeroes (VIRTIO 5.2.6, VIRTIO_BLK_T_GET_ID).
    pub fn identify(&mut self) -> Result<[u8; block::ID_LENGTH], BlockError> {
        let mut id = [0; block::ID_LENGTH];
        self.perform(0, Transfer::Identify(&mut id))?;
        Ok(id)
    }

    /// Reads whole sectors.
    pub fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.check_range(sector, into.len())?;
        self.perform(sector, Transfer::Read(into))
    }

    /// Writes whole sectors.
    pub fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), BlockError> {
        self.check_range(sector, from.len())?;
        match self.geometry.access {
            Access::ReadWrite => self.perform(sector, Transfer::Write(from)),
            Access::ReadOnly => Err(BlockError::ReadOnly),
        }
    }

    /// Makes durable what was written. It is not repeated: if it fails, nobody knows what of that is there, and it has
    /// to be written again.
    pub fn flush(&mut self) -> Result<(), BlockError> {
        match self.geometry.durability {
            Durability::Flush => self.perform(0, Transfer::Flush),
            Durability::Unknown => Err(BlockError::NoFlush),
        }
    }

    /// The device, reset, for another use.
    pub fn close(mut self) -> Device<H> {
        self.disconnect();
        self.device
    }

    fn check_range(&self, sector: u64, length: usize) -> Result<(), BlockError> {
        if !length.is_multiple_of(block::SECTOR) {
            return Err(BlockError::Length(length));
        }
        let sectors = (length / block::SECTOR) as u64;
        match sector.checked_add(sectors) {
            Some(end) if end <= self.sectors() => Ok(()),
            _ => Err(BlockError::Range { sector, sectors }),
        }
    }

    /// Tries until it is done, or as often as the limits say.
    fn perform(&mut self, sector: u64, mut transfer: Transfer<'_>) -> Result<(), BlockError> {
        let mut left = match (self.health, &transfer) {
            (Health::GivenUp, _) => return Err(BlockError::GivenUp),
            // What a flush that failed has dropped is told once: the next one is of what was written since.
            (_, Transfer::Flush) | (Health::Failing, _) => 1,
            (Health::Working, _) => self.limits.attempts.max(1),
        };
        loop {
            left -= 1;
            let error = match self.attempt(sector, &mut transfer) {
                Ok(()) => {
                    self.turns(Health::Working, None);
                    return Ok(());
                }
                Err(error) => error,
            };
            // Nothing of this attempt may end in the next one.
            self.disconnect();
            let verdict = error.verdict();
            if verdict == Verdict::Fault {
                self.faults = self.faults.saturating_add(1);
            }
            if verdict == Verdict::Another || self.faults > self.limits.faults {
                self.device.give_up();
                self.turns(Health::GivenUp, Some(error));
                return Err(error);
            }
            if left == 0 || verdict == Verdict::Lasting {
                self.turns(Health::Failing, Some(error));
                return Err(error);
            }
        }
    }

    /// Notes how the device is, and says so if that is new.
    fn turns(&mut self, health: Health, why: Option<BlockError>) {
        if core::mem::replace(&mut self.health, health) == health {
            return;
        }
        let name = self.name;
        match (health, why) {
            (Health::GivenUp, Some(why)) => log::error!("the host's {name} is given up: {why}"),
            (_, Some(why)) => log::warn!("the host's {name} fails: {why}"),
            (_, None) => log::info!("the host's {name} works again"),
        }
    }

    /// Tries once.
    fn attempt(&mut self, sector: u64, transfer: &mut Transfer<'_>) -> Result<(), BlockError> {
        let link = match &mut self.link {
            Some(link) => link,
            none => {
                let (required, limits) = (self.required, self.limits);
                let (geometry, link) = connect(
                    &mut self.device,
                    &self.memory,
                    &self.clock,
                    required,
                    limits,
                )?;
                if geometry != self.geometry {
                    return Err(BlockError::Changed);
                }
                none.insert(link)
            }
        };
        let deadline = Deadline::after(&self.clock, self.limits.attempt);
        let mut wait = Wait::new(&self.clock, deadline);
        let mut chunks = transfer.chunks(sector, self.geometry.chunk);
        let mut next = chunks.next();
        loop {
            while let Some((place, slot)) = next.and_then(|place| Some((place, self.slots.take()?)))
            {
                match request::post(&mut link.ring, &mut self.slots, transfer, place, slot) {
                    Ok(()) => next = chunks.next(),
                    Err(BlockError::Queue(QueueError::Post(PostError::Full))) => break,
                    Err(error) => return Err(error),
                }
            }
            if link.ring.notification() == Notification::Needed {
                self.device.notify(&link.doorbell)?;
            }
            match link.ring.take()? {
                Some(completion) => {
                    let chunk = &completion.token;
                    let result = request::finish(&self.slots, transfer, chunk, completion.written);
                    self.slots.give_back(completion.token.slot);
                    result?;
                }
                None if link.ring.in_flight() == 0 && next.is_none() => return Ok(()),
                None => match wait.pause(&self.clock, &self.device)? {
                    Patience::Left => {}
                    Patience::Over => return Err(BlockError::TimeOut),
                },
            }
        }
    }

    /// Resets the device and takes all buffers back.
    fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            for chunk in link.ring.reset() {
                self.slots.give_back(chunk.slot);
            }
        }
        // A device that does not reset is asked again by the next attempt, before it gets anything.
        if let Err(error) = self.device.reset(&self.clock, self.limits.reset) {
            log::debug!("the host's block device: {error}");
        }
    }
}

/// Starts the device and its queue.
fn connect<H: HostPci, B: SharedBuffer + Clone>(
    device: &mut Device<H>,
    memory: &B,
    clock: &impl Clock,
    required: u64,
    limits: Limits,
) -> Result<(Geometry, Link<B>), BlockError> {
    let wanted = feature::ACCESS_PLATFORM
        | feature::EVENT_IDX
        | block::FEATURE_FLUSH
        | block::FEATURE_RO
        | block::FEATURE_SIZE_MAX;
    let features = device.start(required, wanted, clock, limits.reset)?;
    let geometry = Geometry::read(device, features)?;
    let size = device.queue_size(0, QUEUE_SIZE)?;
    let part = Part::new(memory.clone(), 0..RING).ok_or(QueueError::Memory)?;
    let (ring, doorbell) = set_up_ring(device, 0, features, part, size)?;
    device.run()?;
    Ok((geometry, Link { ring, doorbell }))
}

impl Geometry {
    /// What the device says of itself now.
    fn read<H: HostPci>(device: &Device<H>, features: u64) -> Result<Self, BlockError> {
        let mut capacity = [0; 8];
        device.read_configuration(block::CONFIG_CAPACITY, &mut capacity)?;
        let mut chunk = CHUNK;
        if features & block::FEATURE_SIZE_MAX != 0 {
            let mut most = [0; 4];
            device.read_configuration(block::CONFIG_SIZE_MAX, &mut most)?;
            let most = u32::from_le_bytes(most);
            let sector = block::SECTOR as u32;
            chunk = CHUNK.min(most) / sector * sector;
            if chunk == 0 {
                return Err(BlockError::SizeMax(most));
            }
        }
        Ok(Self {
            // A byte has an offset of 64 bits.
            sectors: u64::from_le_bytes(capacity).min(u64::MAX / block::SECTOR as u64),
            chunk,
            durability: match features & block::FEATURE_FLUSH {
                0 => Durability::Unknown,
                _ => Durability::Flush,
            },
            access: match features & block::FEATURE_RO {
                0 => Access::ReadWrite,
                _ => Access::ReadOnly,
            },
        })
    }
}
