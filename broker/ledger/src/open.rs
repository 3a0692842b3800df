//! Opening a state: a new lease, and what of the disk it is for.

use super::{Entry, Refusal};
use broker_protocol::MachineId;
use broker_protocol::ledger::{Commit, Disk, Grant, Slot};

impl Entry {
    /// Gives a new lease to `machine`, and ends all earlier ones. Where it is told what is on the disk, the latest state or
    /// a pending one must be there; a machine that looks later must find one of the two itself.
    ///
    /// # Errors
    /// See [`Refusal`]; the entry is as it was, so a refused twin does not end the lease of the other.
    pub fn open(&mut self, machine: &MachineId, disk: Option<&Disk>) -> Result<Grant, Refusal> {
        self.check_standing()?;
        if let Some(disk) = disk {
            let slots: Vec<Slot> = disk.iter().flatten().copied().collect();
            self.check_disk(machine, &slots)?;
        }
        // Without a number for the next commit a lease is of no use.
        self.counter().checked_add(1).ok_or(Refusal::Exhausted)?;
        self.epoch = self.epoch.checked_add(1).ok_or(Refusal::Exhausted)?;
        Ok(Grant {
            epoch: self.epoch,
            latest: self.latest,
            pending: self.pending,
        })
    }

    /// Whether a life of `machine` can go on from these slots.
    fn check_disk(&self, machine: &MachineId, slots: &[Slot]) -> Result<(), Refusal> {
        let own = || slots.iter().filter(|slot| slot.machine == *machine);
        self.check_behind(own())?;
        let is_there = |commit: &Commit| own().any(|slot| slot.is(machine, commit));
        if [self.pending, self.latest].iter().flatten().any(is_there) {
            return Ok(());
        }
        let Some(newest) = own().max_by_key(|slot| (slot.counter, slot.epoch)) else {
            return match (self.latest, slots) {
                (_, [_, ..]) => Err(Refusal::OtherMachine),
                (Some(latest), []) => Err(Refusal::StateMissing {
                    latest: latest.counter,
                }),
                (None, []) => Ok(()),
            };
        };
        let found = newest.counter;
        let Some(latest) = self.latest.map(|latest| latest.counter) else {
            // The first commit of a life that this ledger knows, which did not come to its end.
            return Ok(());
        };
        Err(match found.cmp(&latest) {
            std::cmp::Ordering::Less => Refusal::RolledBack { found, latest },
            std::cmp::Ordering::Equal => Refusal::Altered(found),
            std::cmp::Ordering::Greater => Refusal::Uncommitted { found, latest },
        })
    }

    /// Whether the ledger knows as much as who wrote the slots: epochs are the ledger's to give, and a slot is written
    /// when the one before it was committed. Looked at first: a ledger that lost something may still know a commit that
    /// happens to be on the disk, and would give it for the latest.
    fn check_behind<'a>(&self, own: impl Iterator<Item = &'a Slot> + Clone) -> Result<(), Refusal> {
        let next = self.counter().saturating_add(1);
        for (what, asked, known, most) in [
            (
                "epoch",
                own.clone().map(|slot| slot.epoch).max(),
                self.epoch,
                self.epoch,
            ),
            (
                "counter",
                own.map(|slot| slot.counter).max(),
                self.counter(),
                next,
            ),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked > most) {
                return Err(Refusal::LedgerBehind { what, asked, known });
            }
        }
        Ok(())
    }
}
