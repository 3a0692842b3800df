//! A copy of a state disk, as whoever has the file sees it.

use anyhow::{Context, Result};
use state_store::layout::Slot;
use state_store::{Device, DeviceError};
use std::fs;
use std::ops::Range;
use std::path::Path;

const SECTOR: usize = 512;

/// A slot.
pub(super) struct Newest {
    /// Its commit's counter.
    pub(super) counter: u64,
    /// Whether its commit record is there: nothing more is written until the next commit.
    pub(super) is_recorded: bool,
    /// Bytes of its ciphertext.
    pub(super) length: usize,
    /// All that was written of it.
    pub(super) bytes: Vec<u8>,
}

/// A copy of the state disk.
pub(super) struct Disk(Vec<u8>);

impl Disk {
    /// What is in a file, of a run that goes on or has ended.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        Ok(Self(bytes))
    }

    /// The whole slot with the highest counter: the last commit of a machine that is between two of them.
    pub(super) fn newest(&mut self) -> Result<Newest> {
        let examined = state_store::examine::examine(&mut &mut *self)?;
        let whole = examined.slots.iter().filter_map(|slot| {
            let (header, point) = slot.slot.as_ref().ok()?;
            let recorded = slot.record.as_ref().ok();
            let recorded = recorded.is_some_and(|record| record.counter.get() == point.counter);
            Some((point.counter, header.length.get() as usize, recorded))
        });
        let newest = whole.max_by_key(|(counter, ..)| *counter);
        let (counter, length, is_recorded) = newest.context("the state disk has no whole slot")?;
        let sectors = 1 + length.div_ceil(SECTOR);
        let mut bytes = vec![0; sectors * SECTOR];
        let start = Slot::of(counter).sector();
        (&mut &mut *self).read(start, &mut bytes)?;
        Ok(Newest {
            counter,
            is_recorded,
            length,
            bytes,
        })
    }

    fn place(sector: u64, length: usize) -> Range<usize> {
        let start = sector as usize * SECTOR;
        start..start + length
    }
}

impl Device for &mut Disk {
    fn sectors(&self) -> u64 {
        self.0.len() as u64 / SECTOR as u64
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let from = self.0.get(Disk::place(sector, into.len()));
        into.copy_from_slice(from.ok_or(DeviceError::Failed)?);
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        Err(DeviceError::Failed)
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}
