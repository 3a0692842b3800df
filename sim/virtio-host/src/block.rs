//! The block device (VIRTIO 5.2).

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::device::Device;
use crate::lie::{CutLoss, Lie, Lies, PlannedLie};
use crate::memory::Memory;
use crate::queue::{Chain, Violation};
use crate::requests::Requests;
use virtio_defs::block;

/// Bytes of a sector.
const SECTOR: u64 = block::SECTOR as u64;
/// Bytes that are moved at a time: whole sectors.
const PIECE: usize = 8 * block::SECTOR;
/// Buffers of data of a request at most, besides header and status.
const SEGMENTS: u32 = 126;
/// Sectors and segments of a request that discards or writes zeroes.
const ZEROED_SECTORS: u32 = 0x10_0000;
const ZEROED_SEGMENTS: u32 = 16;
/// Mass storage, other.
const CLASS: u32 = 0x01_8000;

/// Where the bytes of a disk are.
pub trait Store {
    /// How many there are.
    fn length(&self) -> u64;
    /// Reads; the range is inside.
    fn read(&self, offset: u64, into: &mut [u8]);
    /// Writes; the range is inside.
    fn write(&mut self, offset: u64, from: &[u8]);
}

/// Why a request is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The status byte tells it.
    Status(u8),
    /// The driver broke a rule.
    Violation(Violation),
    /// The power has failed.
    Power,
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A disk.
pub struct Block<S> {
    store: S,
    name: String,
    lies: Lies,
    /// Requests that write, and flushes, so far; from the mark on that a lie began with, if one did.
    writes: u64,
    flushes: u64,
    /// What sectors were that have been written since the last flush; only where a power cut is to lose these.
    unflushed: Option<BTreeMap<u64, [u8; block::SECTOR]>>,
    has_power: bool,
}

impl<S> fmt::Debug for Block<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk {:?}", self.name)
    }
}

impl<S: Store> Block<S> {
    /// A disk of this content, whose name GET_ID tells, cut to 20 bytes.
    pub fn new(store: S, name: &str) -> Self {
        Self {
            store,
            name: name.into(),
            lies: Lies::default(),
            writes: 0,
            flushes: 0,
            unflushed: None,
            has_power: true,
        }
    }

    fn sectors(&self) -> u64 {
        self.store.length() / SECTOR
    }

    /// Bytes of a logical block.
    fn block_size(&self) -> u32 {
        let other = self.lies.find(|lie| match lie {
            Lie::SectorSize(bytes) => Some(bytes),
            _ => None,
        });
        other.unwrap_or(block::SECTOR as u32)
    }

    /// Offset of `length` bytes from `sector` on.
    fn range(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let block = u64::from(self.block_size());
        let inside = length.is_multiple_of(block)
            && (sector.saturating_mul(SECTOR)).is_multiple_of(block)
            && sector
                .checked_add(length / SECTOR)
                .is_some_and(|end| end <= self.sectors());
        match inside {
            true => Ok(sector * SECTOR),
            false => Err(Failure::Status(block::STATUS_IOERR)),
        }
    }

    /// Serves a request; gives how many bytes of the writable part were written, without the status.
    fn serve(&mut self, chain: &Chain, memory: &dyn Memory) -> Result<u64, Failure> {
        let mut header = [0; block::HEADER_LENGTH];
        chain.read(memory, 0, &mut header)?;
        let header = u128::from_le_bytes(header);
        let (kind, sector) = (header as u32, (header >> 64) as u64);
        let behind = block::HEADER_LENGTH as u64;
        let given = chain.readable() - behind;
        let room = chain.writable().checked_sub(1).ok_or(Violation::Short)?;
        if self.lies.tell(Lie::IoError) {
            return Err(Failure::Status(block::STATUS_IOERR));
        }
        match kind {
            block::TYPE_IN => {
                let start = self.range(sector, room)?;
                let garbage = self.lies.tell(Lie::Garbage);
                let mut bytes = [0; PIECE];
                for (offset, length) in pieces_of(room) {
                    let piece = bytes.get_mut(..length).unwrap_or_default();
                    self.store.read(start + offset, piece);
                    if garbage {
                        piece.iter_mut().for_each(|byte| *byte = !*byte);
                    }
                    chain.write(memory, offset, piece)?;
                }
                Ok(room)
            }
            block::TYPE_OUT => {
                let start = self.range(sector, given)?;
                // All of it, before any of it is on the disk.
                let mut pieces = Vec::new();
                for (offset, length) in pieces_of(given) {
                    let mut bytes = alloc::vec![0; length];
                    chain.read(memory, behind + offset, &mut bytes)?;
                    pieces.push((start + offset, Cow::Owned(bytes)));
                }
                self.write(pieces.into_iter())
            }
            block::TYPE_FLUSH => self.flush(),
            block::TYPE_GET_ID => {
                let mut name = [0; block::ID_LENGTH];
                for (place, byte) in name.iter_mut().zip(self.name.bytes()) {
                    *place = byte;
                }
                chain.write(memory, 0, &name)?;
                Ok(block::ID_LENGTH as u64)
            }
            block::TYPE_DISCARD | block::TYPE_WRITE_ZEROES => {
                let ranges = self.segments(chain, memory, given, kind)?;
                let pieces = ranges.into_iter().flat_map(|(start, count)| {
                    pieces_of(count * SECTOR).map(move |(offset, length)| {
                        let zeroes = ZEROES.get(..length).unwrap_or_default();
                        (start + offset, Cow::Borrowed(zeroes))
                    })
                });
                self.write(pieces)
            }
            _ => Err(Failure::Status(block::STATUS_UNSUPP)),
        }
    }

    /// The offsets of the segments of a request, with their numbers of sectors.
    fn segments(
        &self,
        chain: &Chain,
        memory: &dyn Memory,
        given: u64,
        kind: u32,
    ) -> Result<Vec<(u64, u64)>, Failure> {
        let length = block::SEGMENT_LENGTH as u64;
        let count = given / length;
        if !given.is_multiple_of(length) || !(1..=u64::from(ZEROED_SEGMENTS)).contains(&count) {
            return Err(Failure::Status(block::STATUS_IOERR));
        }
        let read = |index: u64| {
            let mut segment = [0; block::SEGMENT_LENGTH];
            let behind = block::HEADER_LENGTH as u64;
            chain.read(memory, behind + index * length, &mut segment)?;
            let segment = u128::from_le_bytes(segment);
            let (sector, sectors) = (segment as u64, (segment >> 64) as u32);
            let allowed = match kind {
                block::TYPE_WRITE_ZEROES => block::SEGMENT_UNMAP,
                _ => 0,
            };
            if (segment >> 96) as u32 & !allowed != 0 {
                return Err(Failure::Status(block::STATUS_UNSUPP));
            }
            if sectors > ZEROED_SECTORS {
                return Err(Failure::Status(block::STATUS_IOERR));
            }
            let start = self.range(sector, u64::from(sectors) * SECTOR)?;
            Ok((start, sectors.into()))
        };
        (0..count).map(read).collect()
    }

    /// Writes pieces of whole sectors, unless the power fails.
    fn write(
        &mut self,
        pieces: impl Iterator<Item = (u64, Cow<'static, [u8]>)>,
    ) -> Result<u64, Failure> {
        if self.lies.tell(Lie::ReadOnly) {
            return Err(Failure::Status(block::STATUS_IOERR));
        }
        self.writes += 1;
        let cut = self.lies.find(|lie| match lie {
            Lie::Cut {
                write,
                sectors,
                loss,
            } if write == self.writes => Some((sectors, loss)),
            _ => None,
        });
        if self.lies.tell(Lie::Forget) {
            return Ok(0);
        }
        let Some((mut whole, loss)) = cut else {
            for (offset, bytes) in pieces {
                self.keep_what_was(offset, &bytes);
                self.store.write(offset, &bytes);
            }
            return Ok(0);
        };
        'written: for (offset, bytes) in pieces {
            for (offset, sector) in (offset..)
                .step_by(block::SECTOR)
                .zip(bytes.chunks(block::SECTOR))
            {
                if whole == 0 {
                    if loss == CutLoss::Torn {
                        let half = sector.get(..block::SECTOR / 2).unwrap_or_default();
                        self.store.write(offset, half);
                    }
                    break 'written;
                }
                whole -= 1;
                self.keep_what_was(offset, sector);
                self.store.write(offset, sector);
            }
        }
        self.lose_power(loss)
    }

    /// Flushes, unless the power fails.
    fn flush(&mut self) -> Result<u64, Failure> {
        self.flushes += 1;
        let cut = self.lies.find(|lie| match lie {
            Lie::CutFlush { flush, loss } if flush == self.flushes => Some(loss),
            _ => None,
        });
        if let Some(loss) = cut {
            return self.lose_power(loss);
        }
        if let Some(unflushed) = &mut self.unflushed {
            unflushed.clear();
        }
        Ok(0)
    }

    fn lose_power(&mut self, loss: CutLoss) -> Result<u64, Failure> {
        if loss == CutLoss::Unflushed {
            for (offset, before) in self.unflushed.take().unwrap_or_default() {
                self.store.write(offset, &before);
            }
        }
        self.has_power = false;
        Err(Failure::Power)
    }

    /// Notes what sectors are that are about to be written, where that may have to come back.
    fn keep_what_was(&mut self, start: u64, bytes: &[u8]) {
        let Some(unflushed) = &mut self.unflushed else {
            return;
        };
        for (offset, _) in (start..)
            .step_by(block::SECTOR)
            .zip(bytes.chunks(block::SECTOR))
        {
            unflushed.entry(offset).or_insert_with(|| {
                let mut before = [0; block::SECTOR];
                self.store.read(offset, &mut before);
                before
            });
        }
    }
}

/// A piece of zeroes.
static ZEROES: [u8; PIECE] = [0; PIECE];

/// Offsets and lengths of the pieces of so many bytes.
fn pieces_of(length: u64) -> impl Iterator<Item = (u64, usize)> {
    let offsets = (0..length).step_by(PIECE);
    offsets.map(move |offset| (offset, (length - offset).min(PIECE as u64) as usize))
}

impl<S: Store> Device for Block<S> {
    fn kind(&self) -> u16 {
        block::DEVICE_TYPE
    }

    fn class(&self) -> u32 {
        CLASS
    }

    fn queues(&self) -> u16 {
        1
    }

    fn features(&self) -> u64 {
        let flush = match self.lies.tell(Lie::NoFlush) {
            true => 0,
            false => block::FEATURE_FLUSH,
        };
        let read_only = match self.lies.tell(Lie::ReadOnly) {
            true => block::FEATURE_RO,
            false => 0,
        };
        flush
            | read_only
            | block::FEATURE_SEG_MAX
            | block::FEATURE_BLK_SIZE
            | block::FEATURE_DISCARD
            | block::FEATURE_WRITE_ZEROES
    }

    fn configuration(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; block::CONFIG_SIZE];
        let mut put = |offset: u32, value: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(offset as usize).zip(value) {
                *place = *byte;
            }
        };
        put(block::CONFIG_CAPACITY, &self.sectors().to_le_bytes());
        for (offset, value) in [
            (block::CONFIG_SEG_MAX, SEGMENTS),
            (block::CONFIG_BLK_SIZE, self.block_size()),
            (block::CONFIG_MAX_DISCARD_SECTORS, ZEROED_SECTORS),
            (block::CONFIG_MAX_DISCARD_SEG, ZEROED_SEGMENTS),
            (block::CONFIG_DISCARD_SECTOR_ALIGNMENT, 1),
            (block::CONFIG_MAX_WRITE_ZEROES_SECTORS, ZEROED_SECTORS),
            (block::CONFIG_MAX_WRITE_ZEROES_SEG, ZEROED_SEGMENTS),
        ] {
            put(offset, &value.to_le_bytes());
        }
        put(block::CONFIG_WRITE_ZEROES_MAY_UNMAP, &[1]);
        bytes
    }

    fn work(&mut self, requests: &mut Requests<'_>) {
        let memory = requests.memory();
        while let Some(chain) = requests.take(0) {
            self.lies.next_request();
            let (written, status) = match self.serve(&chain, memory) {
                Ok(written) => (written, block::STATUS_OK),
                Err(Failure::Status(status)) => (0, status),
                Err(Failure::Violation(violation)) => {
                    requests.fail(violation);
                    return;
                }
                Err(Failure::Power) => return,
            };
            // The status is the last byte, whatever was written before it.
            let place = chain.writable() - 1;
            if let Err(violation) = chain.write(memory, place, &[status]) {
                requests.fail(violation);
                return;
            }
            let length = if written == place { written + 1 } else { 1 };
            requests.complete(0, &chain, length as u32);
        }
    }

    fn reset(&mut self) {}

    fn lie(&mut self, lie: PlannedLie) {
        if let Lie::Cut {
            loss: CutLoss::Unflushed,
            ..
        }
        | Lie::CutFlush {
            loss: CutLoss::Unflushed,
            ..
        } = lie.lie
        {
            self.unflushed = Some(BTreeMap::new());
        }
        self.lies.plan(lie);
    }

    fn mark(&mut self, value: u8) {
        if self.lies.mark(value) {
            (self.writes, self.flushes) = (0, 0);
        }
    }

    fn has_power(&self) -> bool {
        self.has_power
    }
}
