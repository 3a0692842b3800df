//! The keeper against disks in memory and ledgers whose answers take a time that the test has.

use super::*;
use alloc::rc::Rc;
use alloc::vec;
use attestation::digest::Algorithm;
use core::cell::{Cell, RefCell};
use state_store::{
    DeviceError, Grant, LedgerError, MachineId, NoLedger, Point, Refusal, Rollback, StateKey, open,
};

const NV_SIZE: u32 = 0x2_b2c0;

/// A disk in memory, that can be away.
#[derive(Clone)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    away: Rc<Cell<bool>>,
}

impl Disk {
    fn new() -> Self {
        Self {
            bytes: Rc::new(RefCell::new(vec![0; 4 << 20])),
            away: Rc::default(),
        }
    }

    fn answer(&self) -> Result<(), DeviceError> {
        match self.away.get() {
            true => Err(DeviceError::Failed),
            false => Ok(()),
        }
    }
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        self.bytes.borrow().len() as u64 / 512
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.answer()?;
        let at = sector as usize * 512;
        into.copy_from_slice(&self.bytes.borrow()[at..at + into.len()]);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        self.answer()?;
        let at = sector as usize * 512;
        self.bytes.borrow_mut()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.answer()
    }
}

/// Counts up: not random at all.
fn random(into: &mut [u8]) -> Result<(), EntropyError> {
    for (byte, value) in into.iter_mut().zip(1..) {
        *byte = value;
    }
    Ok(())
}

fn kept<L: Ledger>(disk: &Disk, ledger: L, rollback: Rollback) -> Kept<Disk, L> {
    let key = StateKey::take(&mut [7; 32]).into();
    let machine = MachineId([1; 32]);
    let opened = open(disk.clone(), ledger, &key, machine, NV_SIZE, rollback).unwrap();
    let fresh = Fresh {
        nv_size: NV_SIZE,
        policy: "policy",
    };
    StoreKeeper::begin(opened, &fresh, random).ok().unwrap()
}

fn alone(disk: &Disk) -> Kept<Disk, NoLedger> {
    kept(disk, NoLedger, Rollback::None)
}

#[test]
fn a_state_that_was_kept_is_the_next_start() {
    let disk = Disk::new();
    let Kept { mut keeper, engine } = alone(&disk);
    assert!(engine.is_none());
    assert_eq!(keeper.counter(), 0);
    keeper.keep(b"first").unwrap();
    keeper.keep(b"second").unwrap();
    keeper.keep(b"second").unwrap();
    assert_eq!(keeper.counter(), 2);
    keeper.keep_anew(b"second").unwrap();
    assert!(keeper.around.engine.is_empty());
    drop(keeper);
    let Kept { keeper, engine } = alone(&disk);
    assert_eq!(engine.unwrap().as_slice(), b"second");
    assert_eq!((keeper.epoch(), keeper.counter()), (2, 3));
    assert_eq!(keeper.around.journal_epoch, 2);
    assert_eq!(keeper.around.ek_templates, ek_templates());
    assert_eq!(keeper.around.policy, "policy");
}

#[test]
fn a_disk_that_is_away_may_come_back() {
    let disk = Disk::new();
    let mut keeper = alone(&disk).keeper;
    disk.away.set(true);
    let error = keeper.keep_anew(b"state").unwrap_err();
    let NotKept::Unavailable(why) = &error else {
        panic!("{error:?}");
    };
    assert!(why.contains("cannot be written"), "{why}");
    disk.away.set(false);
    keeper.keep(b"state").unwrap();
}

/// A ledger that forgets nothing, and has the state taken by another machine after so many commits.
#[derive(Clone, Default)]
struct Fencing {
    latest: Rc<Cell<Option<Point>>>,
    epoch: Rc<Cell<u64>>,
    silent: Rc<Cell<bool>>,
    commits: Rc<Cell<u32>>,
}

impl Ledger for Fencing {
    fn open(&mut self, _disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        self.epoch.update(|epoch| epoch + 1);
        Ok(Grant {
            epoch: self.epoch.get(),
            latest: self.latest.get(),
        })
    }

    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        if self.silent.get() {
            return Err(LedgerError::Unreachable);
        }
        self.commits.update(|commits| commits + 1);
        match self.commits.get() {
            1 => {
                self.latest.set(Some(point));
                Ok(())
            }
            _ => Err(LedgerError::Refused(Refusal::Fenced)),
        }
    }
}

#[test]
fn a_state_that_was_not_acknowledged_is_committed_before_it_is_used() {
    let disk = Disk::new();
    let ledger = Fencing::default();
    ledger.silent.set(true);
    let mut keeper = kept(&disk, ledger.clone(), Rollback::Lazy).keeper;
    keeper.keep(b"lazy").unwrap();
    drop(keeper);
    ledger.silent.set(false);
    let Kept { keeper, engine } = kept(&disk, ledger.clone(), Rollback::Lazy);
    assert_eq!(engine.unwrap().as_slice(), b"lazy");
    let latest = ledger.latest.get().unwrap();
    assert_eq!(latest.counter, keeper.counter());
}

/// A ledger whose answers take `latency` of a clock that the test has.
#[derive(Clone, Default)]
struct Far {
    ledger: Fencing,
    latency: u64,
    now: Rc<Cell<u64>>,
    asked: Rc<Cell<Option<u64>>>,
    looks: Rc<Cell<u32>>,
}

impl Ledger for Far {
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        self.ledger.open(disk)
    }

    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        self.asked.set(None);
        self.ledger.commit(point)
    }

    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        self.looks.update(|looks| looks + 1);
        let asked = self.asked.get().unwrap_or(self.now.get());
        self.asked.set(Some(asked));
        match self.now.get() < asked + self.latency {
            true => Ok(Collected::Outstanding),
            false => self.commit(point).map(|()| Collected::Acknowledged),
        }
    }
}

/// Tends the keeper whenever it is due; nanoseconds from `begun` until nothing is left to do.
fn window(keeper: &mut StoreKeeper<Disk, Far>, now: &Cell<u64>) -> u64 {
    let begun = now.get();
    while let Some(due) = keeper.due() {
        now.set(now.get().max(due));
        keeper.tend(now.get()).unwrap();
    }
    now.get() - begun
}

#[test]
fn what_was_answered_is_acknowledged_within_a_time() {
    const MS: u64 = 1_000_000;
    for latency in [0, MS / 10, MS, 5 * MS, 7 * MS, 100 * MS, 1500 * MS] {
        let far = Far {
            latency,
            ..Far::default()
        };
        let now = Rc::clone(&far.now);
        now.set(77 * MS);
        let mut keeper = kept(&Disk::new(), far.clone(), Rollback::Lazy).keeper;
        assert_eq!(keeper.due(), None);
        keeper.keep(b"first").unwrap();
        assert_eq!(far.ledger.latest.get(), None);
        let window = window(&mut keeper, &now);
        assert_eq!(far.ledger.latest.get().map(|point| point.counter), Some(1));
        let most = ASK + LOOK + (2 * latency).min(latency + RARELY);
        assert!(latency <= window && window <= most, "{latency}: {window}");
        assert!(far.looks.get() < 40, "{latency}: {}", far.looks.get());
        // It is over: nothing is asked any more.
        assert_eq!((keeper.due(), keeper.counter()), (None, 1));
        keeper.tend(now.get() + 1000 * MS).unwrap();
        keeper.keep(b"first").unwrap();
        assert_eq!(keeper.due(), None);
    }
}

#[test]
fn a_ledger_that_is_away_is_asked_again_and_the_next_state_waits() {
    let far = Far::default();
    let now = Rc::clone(&far.now);
    far.ledger.silent.set(true);
    let mut keeper = kept(&Disk::new(), far.clone(), Rollback::Lazy).keeper;
    keeper.keep(b"first").unwrap();
    for _ in 0..10 {
        now.set(keeper.due().unwrap());
        keeper.tend(now.get()).unwrap();
    }
    assert!(now.get() >= 8 * AGAIN, "{}", now.get());
    assert!(matches!(
        keeper.keep(b"second"),
        Err(NotKept::Unavailable(_))
    ));
    assert!(keeper.conclude().is_err());
    let mut keeper = kept(&Disk::new(), far.clone(), Rollback::Lazy).keeper;
    keeper.keep(b"first").unwrap();
    far.ledger.silent.set(false);
    assert!(window(&mut keeper, &now) <= ASK + LOOK);
    assert_eq!(far.ledger.commits.get(), 1);
}

#[test]
fn what_is_left_to_do_at_the_end_is_waited_for() {
    let far = Far::default();
    let mut keeper = kept(&Disk::new(), far.clone(), Rollback::Lazy).keeper;
    keeper.conclude().unwrap();
    keeper.keep(b"first").unwrap();
    keeper.conclude().unwrap();
    assert_eq!(far.ledger.latest.get().map(|point| point.counter), Some(1));
    assert_eq!(far.looks.get(), 0);
    assert_eq!(keeper.due(), None);
}

#[test]
fn a_refusal_is_heard_without_a_further_state() {
    let far = Far::default();
    let now = Rc::clone(&far.now);
    let mut keeper = kept(&Disk::new(), far, Rollback::Lazy).keeper;
    keeper.keep(b"first").unwrap();
    window(&mut keeper, &now);
    keeper.keep(b"second").unwrap();
    keeper.tend(now.get()).unwrap();
    let error = keeper.tend(now.get() + ASK).unwrap_err();
    assert!(
        matches!(&error, NotKept::Never(why) if why.contains("fenced")),
        "{error:?}"
    );
    assert_eq!(keeper.due(), None);
}

#[test]
fn only_what_was_answered_too_early_is_looked_for() {
    for rollback in [Rollback::Ledger, Rollback::None] {
        let far = Far::default();
        let mut keeper = kept(&Disk::new(), far.clone(), rollback).keeper;
        keeper.keep(b"first").unwrap();
        assert_eq!(keeper.due(), None);
        far.ledger.silent.set(true);
        let _ = keeper.keep(b"second");
        assert_eq!(keeper.due(), None);
        keeper.tend(u64::MAX).unwrap();
        assert_eq!(far.looks.get(), 0);
    }
}

#[test]
fn a_state_that_another_machine_has_is_never_kept() {
    let disk = Disk::new();
    let mut keeper = kept(&disk, Fencing::default(), Rollback::Ledger).keeper;
    keeper.keep(b"first").unwrap();
    for _ in 0..2 {
        let error = keeper.keep(b"second").unwrap_err();
        let NotKept::Never(why) = &error else {
            panic!("{error:?}");
        };
        assert!(why.contains("fenced"), "{why}");
    }
}

#[test]
fn the_endorsement_keys_stay_what_they_were() {
    let name = |byte| Name::of(Algorithm::Sha256, &[byte]);
    let names = [name(1), name(2), name(3)];
    let disk = Disk::new();
    let mut keeper = alone(&disk).keeper;
    keeper.endorsed_as(&names).unwrap();
    keeper.keep(b"state").unwrap();
    drop(keeper);
    let mut keeper = alone(&disk).keeper;
    for (known, name) in keeper.around.ek_templates.iter().zip(&names) {
        assert_eq!(known.name, name.as_bytes());
    }
    keeper.endorsed_as(&names).unwrap();
    let others = [name(1), name(4), name(3)];
    let error = keeper.endorsed_as(&others).unwrap_err();
    let NotKept::Never(why) = &error else {
        panic!("{error:?}");
    };
    assert!(why.contains("0x1c0000a is another"), "{why}");
}

#[test]
fn without_random_numbers_nothing_is_sealed() {
    let disk = Disk::new();
    let mut keeper = alone(&disk).keeper;
    keeper.random = |_| Err(EntropyError::Exhausted);
    let before = disk.bytes.borrow().clone();
    assert!(matches!(
        keeper.keep(b"state"),
        Err(NotKept::Unavailable(_))
    ));
    assert!(before == *disk.bytes.borrow());
}
