//! One queue of a device that moves bytes, with its buffers.

use super::pci::{Device, Doorbell, HostPci, PciError};
use super::ring::{Broken, Notification, PostError, Ring, RingError, Segment, Suppression};
use super::slots::{Slot, Slots};
use crate::shared_buffer::Part;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use tdcall::SharedBuffer;
use virtio_defs::feature;

/// Buffers of a queue at most, each with one descriptor.
pub(super) const BUFFERS: u32 = 8;
/// Bytes of a buffer.
pub(super) const BUFFER: u32 = 2048;
/// Bytes for the ring; more than it takes, a power of two.
pub(super) const RING: usize = 512;

/// Why a queue is of no use any more, or cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The device is not used.
    #[error(transparent)]
    Device(#[from] PciError),
    /// It broke a rule of a queue.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A queue does not take a buffer.
    #[error(transparent)]
    Post(#[from] PostError),
    /// A queue cannot be where it should.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// There is no memory for the queues and a buffer of each.
    #[error("no room for the queues and their buffers")]
    Memory,
}

/// Sets queue `index` up with `size` descriptors in `memory`. Nobody is interrupted by it: L1 looks.
pub(super) fn set_up_ring<H: HostPci, B: SharedBuffer, T>(
    device: &mut Device<H>,
    index: u16,
    features: u64,
    memory: B,
    size: u16,
) -> Result<(Ring<B, T>, Doorbell), QueueError> {
    let suppression = match features & feature::EVENT_IDX {
        0 => Suppression::Flags,
        _ => Suppression::EventIndex,
    };
    let mut ring = Ring::new(memory, size, suppression)?;
    ring.ask_for_none();
    let doorbell = device.set_up_queue(index, &ring.areas(), None)?;
    Ok((ring, doorbell))
}

/// One direction of a stream: a queue whose buffers are all of a length.
#[derive(Debug)]
pub(super) struct Queue<B> {
    ring: Ring<Part<B>, Slot>,
    slots: Slots<Part<B>>,
    doorbell: Doorbell,
    #[cfg(test)]
    buffers: usize,
}

impl<B: SharedBuffer + Clone> Queue<B> {
    /// Sets queue `index` up in `range` of `memory`.
    pub(super) fn set_up<H: HostPci>(
        device: &mut Device<H>,
        index: u16,
        features: u64,
        memory: B,
        range: Range<usize>,
    ) -> Result<Self, QueueError> {
        let border = range.start.saturating_add(RING);
        let ring = Part::new(memory.clone(), range.start..border).ok_or(QueueError::Memory)?;
        let buffers = Part::new(memory, border..range.end).ok_or(QueueError::Memory)?;
        let size = device.queue_size(index, BUFFERS as u16)?;
        let slots = Slots::new(buffers, BUFFER, size.into());
        if slots.free() == 0 {
            return Err(QueueError::Memory);
        }
        let (ring, doorbell) = set_up_ring(device, index, features, ring, size)?;
        Ok(Self {
            ring,
            #[cfg(test)]
            buffers: slots.free(),
            slots,
            doorbell,
        })
    }

    /// Whether a buffer is free.
    pub(super) fn has_room(&self) -> bool {
        self.slots.free() != 0
    }

    /// Whether the device has nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.ring.in_flight() == 0
    }

    /// Whether each buffer is free or the device's.
    #[cfg(test)]
    pub(super) fn holds_all(&self) -> bool {
        self.slots.free() + usize::from(self.ring.in_flight()) == self.buffers
    }

    /// Tells the device of what was posted, if it wants to hear of it.
    pub(super) fn tell<H: HostPci>(&mut self, device: &Device<H>) -> Result<(), QueueError> {
        match self.ring.notification() {
            Notification::Needed => Ok(device.notify(&self.doorbell)?),
            Notification::Suppressed => Ok(()),
        }
    }

    /// Gives the device every buffer that is free, to write to.
    pub(super) fn post_empty(&mut self) -> Result<(), QueueError> {
        while let Some(slot) = self.slots.take() {
            let segment = self.slots.segment(&slot, 0, BUFFER);
            self.post(&[], &[segment], slot)?;
        }
        Ok(())
    }

    /// Gives the device the first of `bytes`, as much as a buffer holds; returns the others. None if there is
    /// nothing to give or no buffer.
    pub(super) fn post_bytes<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<&'a [u8]>, QueueError> {
        let (now, later) = bytes.split_at(bytes.len().min(BUFFER as usize));
        let length = now.len() as u32;
        if length == 0 {
            return Ok(None);
        }
        let Some(slot) = self.slots.take() else {
            return Ok(None);
        };
        self.slots.write(&slot, 0, now);
        let segment = self.slots.segment(&slot, 0, length);
        self.post(&[segment], &[], slot)?;
        Ok(Some(later))
    }

    /// Takes back the buffers that the device is done with: no more than it had.
    pub(super) fn reap(&mut self) -> Result<(), QueueError> {
        while let Some(completion) = self.ring.take()? {
            self.slots.give_back(completion.token);
        }
        Ok(())
    }

    /// Copies what the device wrote to a buffer, and gives it the buffer again. Whether there was one.
    pub(super) fn take_bytes(&mut self, into: &mut Vec<u8>) -> Result<bool, QueueError> {
        let Some(completion) = self.ring.take()? else {
            return Ok(false);
        };
        let mut bytes = vec![0; completion.written.min(BUFFER) as usize];
        self.slots.read(&completion.token, 0, &mut bytes);
        *into = bytes;
        self.slots.give_back(completion.token);
        self.post_empty()?;
        Ok(true)
    }

    fn post(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        slot: Slot,
    ) -> Result<(), QueueError> {
        self.ring.post(readable, writable, slot).map_err(|refused| {
            self.slots.give_back(refused.token);
            // Not that the queue is full: there are no more buffers than descriptors.
            refused.error.into()
        })
    }
}
