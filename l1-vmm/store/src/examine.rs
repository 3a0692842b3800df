//! What can be told of a state disk without its key: what each part says of itself, and whether its digest holds.
//! Nothing of it is authenticated, and nothing is repaired.

use crate::device::{self, Device, DeviceError};
use crate::layout::{
    CommitRecord, Fault, KEY_SECTOR, KeyRecord, LABEL_SECTOR, Label, SECTORS_MIN, Slot, SlotHeader,
};
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
    /// The key's record; [`Fault::Blank`] where the hardware has no part in the key.
    pub key: Result<KeyRecord, Fault>,
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
    let key = KeyRecord::parse(&device::sector(device, KEY_SECTOR)?);
    let mut slot = |slot: Slot| -> Result<SlotExamined, DeviceError> {
        let record = device::sector(device, slot.commit_sector())?;
        Ok(SlotExamined {
            record: CommitRecord::parse(&record, slot),
            slot: seal::read(device, slot)?.map(|whole| (*whole.header(), whole.point())),
        })
    };
    let slots = [slot(Slot::Even)?, slot(Slot::Odd)?];
    Ok(Examined { label, key, slots })
}

/// Which commit counts by the commit records alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// None was made.
    Nothing,
    /// This one, and its slot is whole.
    Commit(Point),
    /// One whose slot cannot be used.
    Unusable {
        /// Its counter.
        counter: u64,
        /// What is wrong with its slot.
        fault: SlotFault,
    },
    /// Record and slot are damaged both.
    Unknown,
}

impl Counts {
    /// The slot of the commit that counts.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Commit(Point { counter, .. }) | Self::Unusable { counter, .. } => {
                Some(Slot::of(*counter))
            }
            Self::Nothing | Self::Unknown => None,
        }
    }
}

impl Examined {
    /// Whether no state was ever written: no label, no commit record, no slot. There may be a key record.
    pub fn is_blank(&self) -> bool {
        matches!(self.label, Err(Fault::Blank))
            && self.slots.iter().all(|slot| {
                matches!(slot.record, Err(Fault::Blank))
                    && matches!(slot.slot, Err(SlotFault::Blank))
            })
    }

    /// Which commit counts where there is no ledger: as an opener with the key decides, if nobody made up what is
    /// there.
    pub fn counts(&self) -> Counts {
        let mut newest: Option<(u64, Counts)> = None;
        for SlotExamined { record, slot } in &self.slots {
            let (counter, counts) = match (record, slot) {
                (Ok(record), slot) => {
                    let counter = record.counter.get();
                    let counts = match slot {
                        Ok((_, point)) if point.digest == record.slot_digest => {
                            Counts::Commit(*point)
                        }
                        Ok(_) => Counts::Unusable {
                            counter,
                            fault: SlotFault::OtherCommit,
                        },
                        Err(fault) => Counts::Unusable {
                            counter,
                            fault: *fault,
                        },
                    };
                    (counter, counts)
                }
                (Err(Fault::Blank), _) => continue,
                // Torn: its slot was flushed before.
                (Err(_), Ok((_, point))) => (point.counter, Counts::Commit(*point)),
                (Err(_), Err(_)) => return Counts::Unknown,
            };
            if newest.is_none_or(|(other, _)| other < counter) {
                newest = Some((counter, counts));
            }
        }
        newest.map_or(Counts::Nothing, |(_, counts)| counts)
    }
}
