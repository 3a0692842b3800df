//! Disks of format versions 1 and 2, byte by byte: version 2 as this code writes it, and what it reads of both. The files
//! are never written again: a later version reads them as they are.
//!
//! A file has a line for each 32 bytes that are not all zero: offset, bytes. A disk has 3 MiB.
//! `STATE_STORE_GOLDEN=write cargo test -p state-store --test golden` writes those that are not there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Kept, MACHINE, Model, Power, Tear, key, ledger, nonce, parts, start_with, state,
};
use state_store::key_record::sealed_to;
use state_store::layout::{LABEL_SECTOR, SECTOR, Slot, VERSION};
use state_store::{Commit, KeyRing, OpenError, Opened, Rollback, Tcb};
use std::cell::RefCell;
use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;

/// Bytes of a line.
const LINE: usize = 32;

fn to_text(disk: &Disk) -> String {
    let mut text = String::new();
    for (sector, bytes) in disk {
        for (at, line) in bytes.chunks(LINE).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                let offset = *sector as usize * SECTOR + at * LINE;
                writeln!(text, "{offset:06x} {}", hex::encode(line)).unwrap();
            }
        }
    }
    text
}

fn from_text(text: &str) -> Disk {
    let mut disk = Disk::new();
    for line in text.lines() {
        let (offset, bytes) = line.split_once(' ').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let sector = disk.entry((offset / SECTOR) as u64).or_insert([0; SECTOR]);
        sector[offset % SECTOR..][..LINE].copy_from_slice(&hex::decode(bytes).unwrap());
    }
    disk
}

/// A disk, and what its ledger knows.
struct Case {
    name: &'static str,
    disk: Disk,
    kept: Kept,
}

/// The TCB of the hardware's half, where there is one.
const TCB: Tcb = Tcb {
    cpusvn: [0xC5; 16],
    tee_tcb_svn: [0x7D; 16],
};

/// Commits one more state, and says what is on the disk when the power goes after so many steps.
fn commit(case: &Case, number: u64, steps: Option<u64>) -> (Disk, Kept) {
    commit_with(case, number, steps, &key())
}

fn commit_with(case: &Case, number: u64, steps: Option<u64>, ring: &KeyRing) -> (Disk, Kept) {
    let kept = Rc::new(RefCell::new(case.kept));
    // The ledger's two messages of the opening come first.
    let power = Power::cut_after(steps.map(|steps| steps + 2));
    let (mut store, _) =
        parts(start_with(&case.disk, Some(&kept), Rollback::Ledger, &power, ring).unwrap());
    let stored = store.commit(&state(number, 100), nonce(number));
    assert_eq!(matches!(stored, Commit::Stored(_)), steps.is_none());
    (store.into_parts().0.crash(Tear::Everything), *kept.borrow())
}

/// All of them, as this code makes them.
fn cases() -> Vec<Case> {
    let case = |name, (disk, kept)| Case { name, disk, kept };
    let blank = case("blank", (Disk::new(), Kept::default()));
    let first = case("first", commit(&blank, 1, None));
    let second = case("second", commit(&first, 2, None));
    // One sector of the third slot is on the disk.
    let torn_slot = case("torn-slot", commit(&second, 3, Some(1)));
    // All of it, and the ledger has not heard of it.
    let unacknowledged = case("unacknowledged", commit(&second, 3, Some(3)));
    let third = case("third", commit(&second, 3, None));
    let torn_record = {
        let (mut disk, kept) = (third.disk.clone(), third.kept);
        let sector = Slot::of(3).commit_sector();
        let old = second.disk[&sector];
        disk.get_mut(&sector).unwrap()[0x50..].copy_from_slice(&old[0x50..]);
        case("torn-record", (disk, kept))
    };
    let torn_label = {
        let mut label = first.disk[&LABEL_SECTOR];
        label[0x28..].fill(0);
        let kept = Kept {
            epoch: 1,
            ..Kept::default()
        };
        case("torn-label", (Disk::from([(LABEL_SECTOR, label)]), kept))
    };
    // A first state whose key the hardware has a part in.
    let hardware = {
        let mut ring = key();
        ring.current.tcb = TCB;
        case("hardware", commit_with(&blank, 1, None, &ring))
    };
    vec![
        first,
        second,
        third,
        torn_slot,
        unacknowledged,
        torn_record,
        torn_label,
        hardware,
    ]
}

fn file(version: u16, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}/{name}.txt"))
}

#[test]
fn this_code_writes_version_2_to_the_byte() {
    for case in cases() {
        let file = file(VERSION, case.name);
        let text = to_text(&case.disk);
        if std::env::var_os("STATE_STORE_GOLDEN").is_some() && !file.exists() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap();
        assert!(golden == text, "{} is another now:\n{text}", file.display());
        assert_eq!(to_text(&from_text(&golden)), golden);
    }
}

/// What is opened of a golden disk: the state's number, and whether it was acknowledged.
fn opened(
    version: u16,
    name: &str,
    kept: Kept,
    rollback: Rollback,
) -> Result<(Option<u64>, bool), OpenError> {
    let disk = from_text(&std::fs::read_to_string(file(version, name)).unwrap());
    let kept = Rc::new(RefCell::new(kept));
    let opened = start_with(&disk, Some(&kept), rollback, &Power::default(), &key())?;
    let acknowledged = !matches!(opened, Opened::Unacknowledged { .. });
    if let Opened::Stored { state: found, .. } | Opened::Unacknowledged { state: found, .. } =
        &opened
    {
        assert_eq!(*found, state(found.journal_epoch, 100));
    }
    Ok((parts(opened).1, acknowledged))
}

#[test]
fn each_version_is_read() {
    let (yes, no) = (true, false);
    // By the policies `ledger`, `lazy` and `none`.
    let expected = [
        ("first", [(Some(1), yes); 3]),
        ("second", [(Some(2), yes); 3]),
        ("third", [(Some(3), yes); 3]),
        ("torn-slot", [(Some(2), yes); 3]),
        (
            "unacknowledged",
            [(Some(2), yes), (Some(3), no), (Some(2), yes)],
        ),
        ("torn-record", [(Some(3), yes); 3]),
        ("torn-label", [(None, yes); 3]),
        ("hardware", [(Some(1), yes); 3]),
    ];
    for version in 1..=VERSION {
        for (case, (name, expected)) in cases().into_iter().zip(expected) {
            assert_eq!(case.name, name);
            let policies = [Rollback::Ledger, Rollback::Lazy, Rollback::None];
            for (rollback, expected) in policies.into_iter().zip(expected) {
                let kept = of_version(version, &case);
                let found = opened(version, name, kept, rollback);
                assert_eq!(
                    found,
                    Ok(expected),
                    "version {version}, {name}, {rollback:?}"
                );
            }
        }
        let disk = from_text(&std::fs::read_to_string(file(version, "hardware")).unwrap());
        let mut device = Model::new(disk, &Power::default());
        assert_eq!(sealed_to(&mut device, MACHINE).unwrap(), [TCB]);
    }
}

/// What the ledger of a case knows, with the digest that the slot has in that version's file.
fn of_version(version: u16, case: &Case) -> Kept {
    let mut kept = case.kept;
    if let Some(latest) = &mut kept.latest {
        let disk = from_text(&std::fs::read_to_string(file(version, case.name)).unwrap());
        let slot = disk[&Slot::of(latest.counter).sector()];
        latest.digest.copy_from_slice(&slot[0x110..0x140]);
    }
    kept
}

/// A disk that a later version wrote says so, in each structure that has a version, and is not written to.
#[test]
fn a_later_version_is_refused_by_its_number() {
    let second = from_text(&std::fs::read_to_string(file(VERSION, "second")).unwrap());
    let version = VERSION + 1;
    for sector in [LABEL_SECTOR, Slot::of(2).sector()] {
        let mut disk = second.clone();
        disk.get_mut(&sector).unwrap()[8] = 3;
        let kept = ledger(true).unwrap();
        *kept.borrow_mut() = Kept {
            epoch: 2,
            latest: None,
            ..Kept::default()
        };
        let error = start_with(
            &disk,
            Some(&kept),
            Rollback::Ledger,
            &Power::default(),
            &key(),
        );
        assert_eq!(error.unwrap_err(), OpenError::FutureFormat { version });
        let error = start_with(&disk, None, Rollback::None, &Power::default(), &key());
        assert_eq!(error.unwrap_err(), OpenError::FutureFormat { version });
    }
    let mut device = Model::new(second, &Power::default());
    let examined = state_store::examine::examine(&mut device).unwrap();
    assert!(examined.label.is_ok() && examined.slots.iter().all(|slot| slot.slot.is_ok()));
}
