//! One request of the block device (VIRTIO 5.2.6): a header, data, a status byte, in one buffer.

use super::error::BlockError;
use crate::shared_buffer::Part;
use crate::virtio::ring::Ring;
use crate::virtio::slots::{Slot, Slots};
use core::ops::Range;
use tdcall::SharedBuffer;
use virtio_defs::block;

/// Offset of the data.
const DATA: u32 = block::HEADER_LENGTH as u32;
/// Offset of the status byte.
const STATUS: u32 = DATA + super::CHUNK;
/// Bytes of a buffer.
pub(super) const SLOT: u32 = STATUS + 1;
/// No status of the specification: what is there before the device writes one.
const NO_STATUS: u8 = 0xFF;

/// What a call moves.
#[derive(Debug)]
pub(super) enum Transfer<'a> {
    /// From the device.
    Read(&'a mut [u8]),
    /// To the device.
    Write(&'a [u8]),
    /// Nothing.
    Flush,
    /// The name, from the device.
    Identify(&'a mut [u8; block::ID_LENGTH]),
}

/// The part of a call that one request does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    sector: u64,
    /// Offset in the call's bytes.
    start: usize,
    length: u32,
}

/// A request that the device has.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) slot: Slot,
    place: Place,
}

impl Place {
    fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.length as usize)
    }
}

impl Transfer<'_> {
    /// The requests of a call at `sector`, of at most `chunk` bytes (whole sectors).
    pub(super) fn chunks(&self, sector: u64, chunk: u32) -> impl Iterator<Item = Place> + use<> {
        let (total, count) = match self {
            Self::Read(into) => (into.len(), into.len().div_ceil(chunk as usize)),
            Self::Write(from) => (from.len(), from.len().div_ceil(chunk as usize)),
            Self::Flush => (0, 1),
            Self::Identify(id) => (id.len(), 1),
        };
        (0..count).map(move |index| {
            let start = index * chunk as usize;
            Place {
                sector: sector + (start / block::SECTOR) as u64,
                start,
                length: chunk.min(u32::try_from(total - start).unwrap_or(chunk)),
            }
        })
    }
}

/// Gives a request to the device.
pub(super) fn post<B: SharedBuffer>(
    ring: &mut Ring<Part<B>, Chunk>,
    slots: &mut Slots<Part<B>>,
    transfer: &Transfer<'_>,
    place: Place,
    slot: Slot,
) -> Result<(), BlockError> {
    let kind = match transfer {
        Transfer::Read(_) => block::TYPE_IN,
        Transfer::Write(_) => block::TYPE_OUT,
        Transfer::Flush => block::TYPE_FLUSH,
        Transfer::Identify(_) => block::TYPE_GET_ID,
    };
    let header = u128::from(kind) | u128::from(place.sector) << 64;
    slots.write(&slot, 0, &header.to_le_bytes());
    slots.write(&slot, STATUS, &[NO_STATUS]);
    let header = slots.segment(&slot, 0, DATA);
    let data = slots.segment(&slot, DATA, place.length);
    let status = slots.segment(&slot, STATUS, 1);
    if let Transfer::Write(from) = transfer {
        slots.write(&slot, DATA, from.get(place.range()).unwrap_or_default());
    }
    if let Transfer::Identify(_) = transfer {
        slots.write(&slot, DATA, &[0; block::ID_LENGTH]);
    }
    let chunk = Chunk { slot, place };
    let posted = match transfer {
        Transfer::Read(_) | Transfer::Identify(_) => ring.post(&[header], &[data, status], chunk),
        Transfer::Write(_) => ring.post(&[header, data], &[status], chunk),
        Transfer::Flush => ring.post(&[header], &[status], chunk),
    };
    posted.map_err(|refused| {
        slots.give_back(refused.token.slot);
        refused.error.into()
    })
}

/// What a request that is done says.
pub(super) fn finish<B: SharedBuffer>(
    slots: &Slots<Part<B>>,
    transfer: &mut Transfer<'_>,
    chunk: &Chunk,
    written: u32,
) -> Result<(), BlockError> {
    let mut status = [NO_STATUS];
    slots.read(&chunk.slot, STATUS, &mut status);
    match status {
        [block::STATUS_OK] => {}
        [block::STATUS_IOERR] => return Err(BlockError::Io),
        [block::STATUS_UNSUPP] => return Err(BlockError::Unsupported),
        [other] => return Err(BlockError::Status(other)),
    }
    let length = chunk.place.length;
    let into = match transfer {
        Transfer::Read(into) => into.get_mut(chunk.place.range()),
        // Not every device counts the bytes of its name as written, and it is what the host says it is anyway.
        Transfer::Identify(id) => {
            slots.read(&chunk.slot, DATA, &mut id[..]);
            None
        }
        Transfer::Write(_) | Transfer::Flush => None,
    };
    if let Some(into) = into {
        if written < length {
            return Err(BlockError::Short { written, length });
        }
        slots.read(&chunk.slot, DATA, into);
    }
    Ok(())
}
