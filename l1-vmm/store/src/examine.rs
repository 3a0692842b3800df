//! What can be told of a state disk without its key: what each part says of itself, and whether its digest holds.
//! Nothing of it is authenticated, and nothing is repaired.

use crate::device::{self, Device, DeviceError};
use crate::layout::{CommitRecord, Fault, LABEL_SECTOR, Label, SECTORS_MIN, Slot, SlotHeader};
use crate::ledger::Point;
use crate::seal::{self, SlotFault};

/// One slot and its commit record.
#[derive(Clone, Debug)]
pub struct SlotExamined {
    /// The commit record.
    pub record: Result<CommitRecord, Fault>,
    /// The slot: its header, and what a ledger knows it by.
    pub slot: Result<(SlotHeader, Point), SlotFault>,
}

/// A state disk from outside.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The label.
    pub label: Result<Label, Fault>,
    /// Slot 0 and slot 1.
    pub slots: [SlotExamined; 2],
}

/// Why a disk cannot be examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// It cannot be read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is too small to be one.
    #[error(
        "it has {0} sectors of 512 bytes, and a state disk has {SECTORS_MIN}: it was cut off, or is another disk"
    )]
    TooSmall(u64),
}

/// Looks at a disk.
pub fn examine<D: Device>(device: &mut D) -> Result<Examined, ExamineError> {
    let sectors = device.sectors();
    if sectors < SECTORS_MIN {
        return Err(ExamineError::TooSmall(sectors));
    }
    let label = Label::parse(&device::sector(device, LABEL_SECTOR)?);
    let mut slot = |slot: Slot| -> Result<SlotExamined, DeviceError> {
        let record = device::sector(device, slot.commit_sector())?;
        Ok(SlotExamined {
            record: CommitRecord::parse(&record, slot),
            slot: seal::read(device, slot)?.map(|whole| (*whole.header(), whole.point())),
        })
    };
    let slots = [slot(Slot::Even)?, slot(Slot::Odd)?];
    Ok(Examined { label, slots })
}
