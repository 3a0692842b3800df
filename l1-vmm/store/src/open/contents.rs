//! Which slot counts, by what is on the disk and who keeps count.

use super::OpenError;
use super::error::{Seen, SeenCommit};
use crate::device::{self, Device, DeviceError};
use crate::key::{MachineId, Ring};
use crate::layout::{Fault, Slot, VERSION};
use crate::ledger::{Grant, Point};
use crate::seal::{self, Sealed, SlotFault};
use alloc::boxed::Box;

/// What is on the disk beside its label, read once. Nothing in it is the host's word: slots passed the AEAD, commit
/// records their MAC. That they are the newest ones is what they do not say.
pub(super) struct Contents {
    /// What the commit records tell, slot 0's first.
    records: [Result<Point, Fault>; 2],
    slots: [Result<Sealed, SlotFault>; 2],
}

/// The slot that counts.
pub(super) struct Chosen {
    pub(super) sealed: Sealed,
    /// What the commit record of its slot tells of.
    pub(super) recorded: Option<Point>,
    /// The commit after it, if its slot is whole and was not acknowledged.
    pub(super) ahead: Option<Sealed>,
}

/// What the disk comes to.
pub(super) enum Choice {
    /// There is no state, and nothing was begun.
    Nothing,
    /// There is none that counts; a first one was written, and not acknowledged.
    First(Box<Sealed>),
    /// There is one.
    Chosen(Box<Chosen>),
}

impl Contents {
    /// Reads all of it.
    pub(super) fn read<D: Device>(
        device: &mut D,
        machine: MachineId,
        ring: &Ring,
    ) -> Result<Self, DeviceError> {
        let mut record = |slot: Slot| {
            let sector = device::sector(device, slot.commit_sector())?;
            Ok(seal::committed(ring, machine, slot, &sector))
        };
        let records = [record(Slot::Even)?, record(Slot::Odd)?];
        let mut slot = |slot: Slot| {
            let whole = seal::read(device, slot)?;
            Ok(whole.and_then(|whole| whole.open(machine, ring)))
        };
        let slots = [slot(Slot::Even)?, slot(Slot::Odd)?];
        Ok(Self { records, slots })
    }

    /// The commits in the slots, slot 0's first.
    fn points(&self) -> [Result<Point, SlotFault>; 2] {
        let [even, odd] = &self.slots;
        [even, odd].map(|slot| {
            slot.as_ref()
                .map(|sealed| sealed.point)
                .map_err(|fault| *fault)
        })
    }

    /// The commits in the slots that are whole.
    pub(super) fn whole(&self) -> [Option<Point>; 2] {
        self.points().map(Result::ok)
    }

    /// Whether what is there of slots was sealed with keys that we do not have, all of it.
    pub(super) fn of_another_key(&self) -> bool {
        let another = |slot: &Result<Sealed, SlotFault>| {
            matches!(slot, Err(SlotFault::Blank | SlotFault::OtherKey))
        };
        self.slots.iter().all(another)
    }

    /// How many slots are sealed with another key than that of now.
    pub(super) fn of_former_keys(&self) -> usize {
        let former = |slot: &&Result<Sealed, SlotFault>| match slot {
            Ok(sealed) => !sealed.current,
            Err(fault) => *fault == SlotFault::OtherKey,
        };
        self.slots.iter().filter(former).count()
    }

    /// What there is to be told of the slots.
    pub(super) fn seen(&self) -> Seen {
        Seen(
            self.points()
                .map(|slot| slot.map(|Point { epoch, counter, .. }| SeenCommit { epoch, counter })),
        )
    }

    /// The newest epoch that wrote a slot.
    pub(super) fn newest_epoch(&self) -> Option<u64> {
        let sealed = self.slots.iter().flatten();
        sealed.map(|sealed| sealed.point.epoch).max()
    }

    fn record(&self, slot: Slot) -> Result<Point, Fault> {
        slot.of_both(self.records)
    }

    fn slot(&self, slot: Slot) -> Result<Point, SlotFault> {
        slot.of_both(self.points())
    }

    /// The newest commit that a commit record tells of.
    fn newest_record(&self) -> Option<u64> {
        let points = self.records.iter().flatten();
        points.map(|point| point.counter).max()
    }

    /// The newest commit that has a slot or a commit record.
    fn newest(&self) -> Option<u64> {
        let sealed = self.slots.iter().flatten();
        let slots = sealed.map(|sealed| sealed.point.counter).max();
        slots.max(self.newest_record())
    }

    /// The slot of `point`, or why it cannot be used.
    fn take(self, point: Point) -> Result<Choice, OpenError> {
        let slot = Slot::of(point.counter);
        let recorded = self.record(slot).ok();
        let [even, odd] = self.slots;
        let (sealed, other) = match slot {
            Slot::Even => (even, odd),
            Slot::Odd => (odd, even),
        };
        let counter = point.counter;
        let fault = match sealed {
            Ok(sealed) if sealed.point == point => {
                let ahead = other
                    .ok()
                    .filter(|other| other.point.counter.checked_sub(1) == Some(counter));
                return Ok(Choice::Chosen(Box::new(Chosen {
                    sealed,
                    recorded,
                    ahead,
                })));
            }
            Ok(_) => SlotFault::OtherCommit,
            Err(fault) => fault,
        };
        Err(stranger(fault).unwrap_or(OpenError::NewestDamaged { counter, fault }))
    }

    /// An error if somebody else's slot is on the disk.
    fn no_strangers(&self) -> Result<(), OpenError> {
        let faults = self.slots.iter().filter_map(|slot| slot.as_ref().err());
        match faults.copied().find_map(stranger) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// What is on a disk of which nothing counts. An error if something did: a commit record, or a slot beyond what
    /// a first commit leaves that was not made to the end.
    fn nothing_counts(self, otherwise: OpenError) -> Result<Choice, OpenError> {
        self.no_strangers()?;
        let no_second = self.slot(Slot::Even) == Err(SlotFault::Blank);
        let [_, odd] = self.slots;
        match odd {
            _ if self.records != [Err(Fault::Blank); 2] || !no_second => Err(otherwise),
            Ok(sealed) if sealed.point.counter == 1 => Ok(Choice::First(sealed.into())),
            Ok(_) => Err(otherwise),
            Err(_) => Ok(Choice::Nothing),
        }
    }

    /// The slot of the commit that the ledger names.
    pub(super) fn of_ledger(self, grant: Grant) -> Result<Choice, OpenError> {
        if let Some(disk) = self.newest_epoch().filter(|disk| *disk >= grant.epoch) {
            let ledger = grant.epoch;
            return Err(OpenError::EpochBehind { disk, ledger });
        }
        let disk = self.newest();
        let Some(point) = grant.latest else {
            return self.nothing_counts(OpenError::LedgerBehind { disk, ledger: None });
        };
        let ledger = point.counter;
        // One slot may be ahead, which was not acknowledged; a commit record is written after the acknowledgement.
        let ahead = self.newest_record() > Some(ledger)
            || disk.is_some_and(|disk| disk.saturating_sub(1) > ledger);
        if ahead {
            let ledger = Some(ledger);
            return Err(OpenError::LedgerBehind { disk, ledger });
        }
        let slot = Slot::of(ledger);
        match self.slot(slot) {
            Ok(found) if found.counter < ledger => Err(OpenError::OlderDisk { disk, ledger }),
            Ok(found) if found != point => Err(OpenError::OtherHistory { counter: ledger }),
            // Never written as yet: so it was on an older disk.
            Err(SlotFault::Blank) if self.record(slot) == Err(Fault::Blank) => {
                Err(OpenError::OlderDisk { disk, ledger })
            }
            _ => self.take(point),
        }
    }

    /// The slot of the newest commit record.
    pub(super) fn of_commit_records(self) -> Result<Choice, OpenError> {
        let mut newest: Option<Point> = None;
        for slot in Slot::BOTH {
            let point = match (self.record(slot), self.slot(slot)) {
                (Ok(point), _) => point,
                (Err(Fault::Blank), _) => continue,
                // Torn: its slot was flushed before, so it is the slot's.
                (Err(_), Ok(found)) => found,
                (Err(_), Err(_)) => {
                    self.no_strangers()?;
                    return Err(OpenError::CommitRecordsDamaged);
                }
            };
            if newest.is_none_or(|other| other.counter < point.counter) {
                newest = Some(point);
            }
        }
        match newest {
            Some(point) => self.take(point),
            None => self.nothing_counts(OpenError::CommitRecordsDamaged),
        }
    }
}

/// The error of a slot that is somebody else's, or of another version.
fn stranger(fault: SlotFault) -> Option<OpenError> {
    match fault {
        SlotFault::OtherMachine(found) => Some(OpenError::OtherMachine { found }),
        SlotFault::OtherKey => Some(OpenError::OtherKey),
        SlotFault::Version(found) if found > VERSION => Some(OpenError::version(found)),
        _ => None,
    }
}
