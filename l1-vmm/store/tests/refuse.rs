//! Each disk and each ledger that is not the right one is refused by its own name, and changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Kept, MACHINE, Model, NV_SIZE, Power, Witness, disk, key, ledger, nonce, parts, start,
    state,
};
use state_store::layout::{
    COMMIT_SECTOR, COMMIT_STRIDE, CommitRecord, SECTOR, SECTORS_MIN, SLOT_STRIDE, Slot, sha384,
};
use state_store::open::{Seen, SeenCommit};
use state_store::{
    Answer, Commit, KeyRing, Later, LedgerError, MachineId, NotStored, OpenError, Opened, Refusal,
    Rollback, SlotFault, StateKey, open,
};
use std::cell::RefCell;
use std::rc::Rc;

type Ledger = Option<Rc<RefCell<Kept>>>;

fn kept(ledger: &Ledger) -> Kept {
    *ledger.as_ref().unwrap().borrow()
}

/// The error of opening a disk, by a ledger that looks at the disk first: which ends no epoch.
#[track_caller]
fn refused(disk: &Disk, ledger: &Ledger) -> OpenError {
    let before = kept(ledger);
    let error = start(disk, ledger.as_ref()).unwrap_err();
    assert_eq!(kept(ledger), before, "{error}");
    error
}

/// The same with a ledger that grants without looking: what the store finds out by itself.
#[track_caller]
fn found_out(disk: &Disk, ledger: &Ledger) -> OpenError {
    let blind = Kept {
        blind: true,
        ..kept(ledger)
    };
    start(disk, Some(&Rc::new(RefCell::new(blind)))).unwrap_err()
}

#[track_caller]
fn is_refused(error: &OpenError, expected: Refusal) {
    match error {
        OpenError::Refused { refusal, .. } => assert_eq!(*refusal, expected, "{error}"),
        other => panic!("{other}"),
    }
    assert_eq!(error.name(), expected.name());
}

/// Changes one byte of a sector.
fn damage(disk: &mut Disk, sector: u64, at: usize) {
    disk.entry(sector).or_insert([0; SECTOR])[at] ^= 0x10;
}

#[test]
fn an_older_disk_is_refused() {
    let ledger = ledger(true);
    let (mut store, _) = parts(start(&Disk::new(), ledger.as_ref()).unwrap());
    let mut images = vec![Disk::new()];
    for number in 1..=4 {
        assert!(matches!(
            store.commit(&state(number, 300), nonce(number)),
            Commit::Stored(_)
        ));
        let (device, witness) = store.into_parts();
        images.push(device.durable.clone());
        let opened = start(&device.durable, ledger.as_ref()).unwrap();
        drop(witness);
        (store, _) = parts(opened);
    }
    is_refused(&refused(&images[0], &ledger), Refusal::StateMissing);
    for (counter, image) in images.iter().enumerate().take(4) {
        let disk = (counter > 0).then_some(counter as u64);
        assert_eq!(
            found_out(image, &ledger),
            OpenError::OlderDisk { disk, ledger: 4 }
        );
        if counter > 0 {
            is_refused(&refused(image, &ledger), Refusal::RolledBack);
        }
    }
    assert_eq!(found_out(&images[2], &ledger).name(), "rolled-back");
}

/// The slot that counts is damaged in each of its parts. The older one is whole, and is not used.
#[test]
fn a_damaged_newest_slot_is_no_reason_to_take_the_older_one() {
    let ledger = ledger(true);
    let whole = disk(2, 600, ledger.as_ref());
    let slot = Slot::of(2).sector();
    for (sector, at, fault) in [
        (slot, 0, SlotFault::NotASlot),
        (slot, 9, SlotFault::Version(0x1002)),
        (slot, 0x31, SlotFault::Damaged),
        (slot, 0x100, SlotFault::Damaged),
        (slot, 0x110, SlotFault::Damaged),
        (slot, 0x1FF, SlotFault::Damaged),
        (slot + 1, 7, SlotFault::Damaged),
        (slot + 2, SECTOR - 1, SlotFault::Damaged),
    ] {
        let mut disk = whole.clone();
        damage(&mut disk, sector, at);
        let error = refused(&disk, &ledger);
        is_refused(&error, Refusal::RolledBack);
        let OpenError::Refused { disk: seen, .. } = error else {
            panic!("{error}");
        };
        let (epoch, counter) = (1, 1);
        assert_eq!(seen, Seen([Err(fault), Ok(SeenCommit { epoch, counter })]));
        let expected = match fault {
            SlotFault::Version(version) => OpenError::FutureFormat { version },
            _ => OpenError::NewestDamaged { counter: 2, fault },
        };
        assert_eq!(found_out(&disk, &ledger), expected);
        assert_eq!(start(&disk, None).unwrap_err(), expected);
    }
    // The older one does not count, and may be anything.
    let mut disk = whole;
    damage(&mut disk, Slot::of(1).sector(), 0x31);
    assert_eq!(parts(start(&disk, ledger.as_ref()).unwrap()).1, Some(2));
}

#[test]
fn the_older_twin_of_a_copied_disk_fails_at_its_next_commit() {
    let ledger = ledger(true);
    let copied = disk(2, 300, ledger.as_ref());
    let (mut older, _) = parts(start(&copied, ledger.as_ref()).unwrap());
    let (mut newer, _) = parts(start(&copied, ledger.as_ref()).unwrap());
    assert!(older.epoch() < newer.epoch());
    let fenced = Commit::NotStored {
        why: NotStored::Ledger(LedgerError::Refused(Refusal::Fenced)),
        later: Later::Never,
    };
    for number in [10, 11] {
        let commit = older.commit(&state(number, 300), nonce(number));
        assert_eq!(commit, fenced);
        assert_eq!(commit.answer(), Answer::Failure);
    }
    assert!(matches!(
        newer.commit(&state(20, 300), nonce(20)),
        Commit::Stored(_)
    ));
    // The older one's disk has a state that nobody committed, and not the latest; the newer one's has it.
    let (older, newer) = (older.into_parts().0.durable, newer.into_parts().0.durable);
    is_refused(&refused(&older, &ledger), Refusal::Altered);
    assert_eq!(
        found_out(&older, &ledger),
        OpenError::OtherHistory { counter: 3 }
    );
    assert_eq!(parts(start(&newer, ledger.as_ref()).unwrap()).1, Some(20));
}

#[test]
fn a_ledger_that_forgot_is_refused() {
    let ledger = ledger(true);
    let one = disk(1, 300, ledger.as_ref());
    let old = kept(&ledger);
    let (mut store, _) = parts(start(&one, ledger.as_ref()).unwrap());
    let mut two = Disk::new();
    for number in 2..=3 {
        assert!(matches!(
            store.commit(&state(number, 300), nonce(number)),
            Commit::Stored(_)
        ));
        let durable = store.into_parts().0.durable;
        if number == 2 {
            two.clone_from(&durable);
        }
        (store, _) = parts(start(&durable, ledger.as_ref()).unwrap());
    }
    let three = store.into_parts().0.durable;
    // Restored from the backup of commit 1, or without any.
    for backup in [old, Kept::default()] {
        let backup = Some(Rc::new(RefCell::new(backup)));
        let latest = kept(&backup).latest.map(|point| point.counter);
        for image in [&two, &three] {
            let error = found_out(image, &backup);
            assert_eq!(error.name(), "ledger-behind", "{error}");
        }
        // Where the epochs alone would not tell.
        backup.as_ref().unwrap().borrow_mut().epoch = 100;
        for (image, disk) in [(&two, Some(2)), (&three, Some(3))] {
            let ledger = latest;
            let error = found_out(image, &backup);
            assert_eq!(error, OpenError::LedgerBehind { disk, ledger });
        }
    }
    let behind = Some(Rc::new(RefCell::new(Kept::default())));
    is_refused(&refused(&three, &behind), Refusal::LedgerBehind);
    let error = found_out(&one, &behind);
    assert_eq!(error, OpenError::EpochBehind { disk: 1, ledger: 1 });
}

/// A host that wipes the commit records for such a ledger: the slots alone tell.
#[test]
fn a_ledger_that_forgot_is_found_out_by_the_slots_alone() {
    let kept = ledger(true);
    let mut wiped = disk(3, 300, kept.as_ref());
    let first = disk(1, 300, ledger(true).as_ref());
    for slot in Slot::BOTH {
        wiped.remove(&slot.commit_sector());
    }
    let forgot = |latest| {
        Some(Rc::new(RefCell::new(Kept {
            epoch: 100,
            latest,
            ..Kept::default()
        })))
    };
    // Commit 1 is known, and 2 and 3 are there.
    let slot = start(&first, None).unwrap();
    let Opened::Stored { point, .. } = slot else {
        panic!("commit 1")
    };
    let (disk, ledger) = (Some(3), Some(1));
    let error = found_out(&wiped, &forgot(Some(point)));
    assert_eq!(error, OpenError::LedgerBehind { disk, ledger });
    // None is known: 2 and 3, or one of the two, the other wiped.
    let without = |slot: Slot| {
        let mut wiped = wiped.clone();
        wiped.retain(|sector, _| !(slot.sector()..slot.sector() + SLOT_STRIDE).contains(sector));
        wiped
    };
    let ledger = None;
    for (image, disk) in [
        (&wiped, Some(3)),
        (&without(Slot::Even), Some(3)),
        (&without(Slot::Odd), Some(2)),
    ] {
        let error = found_out(image, &forgot(None));
        assert_eq!(error, OpenError::LedgerBehind { disk, ledger });
    }
}

/// What is not this machine's, this key's or this format's ends no epoch either: the ledger is not even asked.
#[test]
fn what_is_not_ours_is_refused_before_the_ledger_is_asked() {
    let ledger = ledger(true);
    let ours = disk(2, 300, ledger.as_ref());
    let with = |key: KeyRing, machine: MachineId, disk: &Disk, sectors: u64| {
        let power = Power::default();
        let mut device = Model::new(disk.clone(), &power);
        device.sectors = sectors;
        let witness = Witness::new(ledger.as_ref(), &power);
        open(device, witness, &key, machine, NV_SIZE, Rollback::Ledger).unwrap_err()
    };
    let before = kept(&ledger);
    let other = MachineId([1; 32]);
    let error = with(key(), other, &ours, SECTORS_MIN);
    assert_eq!(error, OpenError::OtherMachine { found: MACHINE });
    let error = with(
        StateKey::take(&mut [0x12; 32]).into(),
        MACHINE,
        &ours,
        SECTORS_MIN,
    );
    assert_eq!(error, OpenError::OtherKey);
    let sectors = SECTORS_MIN - 1;
    let error = with(key(), MACHINE, &ours, sectors);
    assert_eq!(error, OpenError::TooSmall { sectors });
    for (sector, at, expected) in [
        (0, 0, OpenError::NotAStateDisk),
        (0, 8, OpenError::FutureFormat { version: 0x12 }),
        (0, 0x20, OpenError::LabelDamaged),
        (0, 0x1FF, OpenError::LabelDamaged),
    ] {
        let mut disk = ours.clone();
        damage(&mut disk, sector, at);
        assert_eq!(with(key(), MACHINE, &disk, SECTORS_MIN), expected);
    }
    // Something else is on the disk, or the label was wiped.
    for at in [0, 1, 8, 0x800, SECTORS_MIN - 1] {
        let disk = Disk::from([(at, [0x55; SECTOR])]);
        assert_eq!(
            with(key(), MACHINE, &disk, SECTORS_MIN),
            OpenError::NotAStateDisk
        );
    }
    let mut unlabelled = ours.clone();
    unlabelled.remove(&0);
    let error = with(key(), MACHINE, &unlabelled, SECTORS_MIN);
    assert_eq!(error, OpenError::NotAStateDisk);
    // A label is written before all else: one that is torn has nothing behind it.
    unlabelled.insert(0, {
        let mut torn = [0; SECTOR];
        torn[..12].copy_from_slice(&ours[&0][..12]);
        torn
    });
    let error = with(key(), MACHINE, &unlabelled, SECTORS_MIN);
    assert_eq!(error, OpenError::LabelDamaged);
    assert_eq!(kept(&ledger), before);
}

/// Slots and labels of two machines, mixed.
#[test]
fn another_machines_slot_under_our_label_is_refused() {
    let ours = disk(2, 300, None);
    let theirs = {
        let power = Power::default();
        let device = Model::new(Disk::new(), &power);
        let witness = Witness::new(None, &power);
        let other = MachineId([1; 32]);
        let opened = open(device, witness, &key(), other, NV_SIZE, Rollback::None).unwrap();
        let (mut store, _) = parts(opened);
        for number in 1..=2 {
            assert!(matches!(
                store.commit(&state(number, 300), nonce(number)),
                Commit::Stored(_)
            ));
        }
        store.into_parts().0.durable
    };
    let mut mixed = theirs;
    mixed.insert(0, ours[&0]);
    let found = MachineId([1; 32]);
    let error = start(&mixed, None).unwrap_err();
    assert_eq!(error, OpenError::OtherMachine { found });
    let ledger = ledger(true);
    is_refused(
        &{
            ledger.as_ref().unwrap().borrow_mut().latest = Some(state_store::Point {
                epoch: 0,
                counter: 2,
                digest: [0; 48],
            });
            refused(&mixed, &ledger)
        },
        Refusal::StateMissing,
    );
    assert_eq!(
        found_out(&mixed, &ledger),
        OpenError::OtherMachine { found }
    );
    // The slots of one disk, exchanged.
    let mut exchanged = ours.clone();
    for sector in 0..4 {
        let (even, odd) = (Slot::Even.sector() + sector, Slot::Odd.sector() + sector);
        for (to, from) in [(even, odd), (odd, even)] {
            exchanged.insert(to, ours.get(&from).copied().unwrap_or([0; SECTOR]));
        }
    }
    let fault = SlotFault::Misplaced;
    let error = start(&exchanged, None).unwrap_err();
    assert_eq!(error, OpenError::NewestDamaged { counter: 2, fault });
}

/// A slot that another key sealed, under our label and for this machine.
#[test]
fn another_keys_slot_under_our_label_is_refused() {
    let power = Power::default();
    let device = Model::new(Disk::new(), &power);
    let witness = Witness::new(None, &power);
    let other: KeyRing = StateKey::take(&mut [0x12; 32]).into();
    let opened = open(device, witness, &other, MACHINE, NV_SIZE, Rollback::None).unwrap();
    let (mut store, _) = parts(opened);
    assert!(matches!(
        store.commit(&state(1, 300), nonce(1)),
        Commit::Stored(_)
    ));
    let mut mixed = store.into_parts().0.durable;
    mixed.insert(0, disk(1, 300, None)[&0]);
    assert_eq!(start(&mixed, None).unwrap_err(), OpenError::OtherKey);
}

/// The digest of a commit record needs no key, its MAC does: one that the host made counts for nothing.
#[test]
fn a_commit_record_that_the_host_made_tells_nothing() {
    let ledger = ledger(true);
    let mut forged = disk(3, 300, ledger.as_ref());
    let sector = forged.get_mut(&Slot::Odd.commit_sector()).unwrap();
    sector[0x38..0x40].copy_from_slice(&9_u64.to_le_bytes());
    let digest = sha384(&[&sector[..0x70]]);
    sector[0x70..0xA0].copy_from_slice(&digest);
    assert!(CommitRecord::parse(sector, Slot::Odd).is_ok());
    for ledger in [ledger.as_ref(), None] {
        assert_eq!(parts(start(&forged, ledger).unwrap()).1, Some(3));
    }
}

#[test]
fn an_engine_with_another_nv_size_is_refused() {
    let disk = disk(1, 300, None);
    let power = Power::default();
    let engine = NV_SIZE + 1;
    let error = open(
        Model::new(disk, &power),
        Witness::new(None, &power),
        &key(),
        MACHINE,
        engine,
        Rollback::None,
    );
    let stored = NV_SIZE;
    assert_eq!(
        error.unwrap_err(),
        OpenError::OtherNvSize { stored, engine }
    );
}

/// Without a ledger the commit records decide. One that is torn has a whole slot; both slot and record damaged is
/// more than a power cut does.
#[test]
fn without_a_ledger_the_commit_records_decide() {
    let whole = disk(3, 300, None);
    let record = |slot: Slot| COMMIT_SECTOR + u64::from(slot.index()) * COMMIT_STRIDE;
    for slot in Slot::BOTH {
        let mut disk = whole.clone();
        damage(&mut disk, record(slot), 0x70);
        assert_eq!(parts(start(&disk, None).unwrap()).1, Some(3));
        damage(&mut disk, slot.sector(), 0x40);
        let error = start(&disk, None).unwrap_err();
        assert_eq!(error, OpenError::CommitRecordsDamaged);
    }
    let mut none = whole.clone();
    for slot in Slot::BOTH {
        none.remove(&record(slot));
    }
    let error = start(&none, None).unwrap_err();
    assert_eq!(error, OpenError::CommitRecordsDamaged);
    // Of another disk of the same machine's: the record's commit is not in the slot.
    let mut other = whole;
    other.insert(record(Slot::Odd), disk(5, 300, None)[&record(Slot::Odd)]);
    let fault = SlotFault::OtherCommit;
    let error = start(&other, None).unwrap_err();
    assert_eq!(error, OpenError::NewestDamaged { counter: 5, fault });
}

#[test]
fn no_answer_of_the_ledger_is_no_ledger() {
    let ledger = ledger(true);
    let disk = disk(1, 300, ledger.as_ref());
    let device = || Model::new(disk.clone(), &Power::default());
    for rollback in [Rollback::Ledger, Rollback::Lazy] {
        let silent = state_store::NoLedger;
        let error = open(device(), silent, &key(), MACHINE, NV_SIZE, rollback).unwrap_err();
        assert_eq!(error, OpenError::LedgerUnreachable);
    }
    let opened = open(
        device(),
        state_store::NoLedger,
        &key(),
        MACHINE,
        NV_SIZE,
        Rollback::None,
    );
    assert!(matches!(opened.unwrap(), Opened::Stored { .. }));
}

#[test]
fn each_error_says_its_name_and_what_the_disk_has() {
    let ledger = ledger(true);
    let mut disk = disk(2, 300, ledger.as_ref());
    damage(&mut disk, Slot::of(2).sector() + 1, 0);
    let shown = refused(&disk, &ledger).to_string();
    for part in [
        "(rolled-back)",
        "Slot 0: its bytes are not what its digest says",
        "slot 1: commit 1 of epoch 1",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let (disk, ledger) = (None, 4);
    let shown = OpenError::OlderDisk { disk, ledger }.to_string();
    assert!(
        shown.contains("on the disk is none, the ledger knows commit 4"),
        "{shown}"
    );
}
