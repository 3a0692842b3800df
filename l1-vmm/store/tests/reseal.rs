//! A state whose key is another from now on: opened with the former one, sealed with the new one at the next commit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Kept, MACHINE, Model, Power, Tear, disk, key, ledger, nonce, parts, start_with, state,
};
use state_store::key_record::sealed_to;
use state_store::layout::{SECTOR, Slot};
use state_store::{Answer, Commit, KeyRing, OpenError, Rollback, SealingKey, StateKey, Tcb};
use std::cell::RefCell;
use std::rc::Rc;

const NEW: Tcb = Tcb {
    cpusvn: [2; 16],
    tee_tcb_svn: [3; 16],
};

fn other_key() -> StateKey {
    StateKey::take(&mut [0x22; 32])
}

/// The new key alone.
fn new() -> KeyRing {
    KeyRing {
        current: SealingKey {
            key: other_key(),
            tcb: NEW,
        },
        former: Vec::new(),
    }
}

/// The new key, and the one of before.
fn both() -> KeyRing {
    KeyRing {
        former: vec![key().current.key],
        ..new()
    }
}

const POLICIES: [Rollback; 3] = [Rollback::Ledger, Rollback::Lazy, Rollback::None];

type Witnessed = Option<Rc<RefCell<Kept>>>;

fn open(
    image: &Disk,
    kept: &Witnessed,
    rollback: Rollback,
    ring: &KeyRing,
) -> Result<Option<u64>, OpenError> {
    let kept = kept.as_ref();
    Ok(parts(start_with(image, kept, rollback, &Power::default(), ring)?).1)
}

#[test]
fn the_next_commit_seals_with_the_new_key() {
    for rollback in POLICIES {
        let kept = ledger(rollback != Rollback::None);
        let before = disk(3, 300, kept.as_ref());
        assert_eq!(
            open(&before, &kept, rollback, &new()),
            Err(OpenError::OtherKey)
        );
        let power = Power::default();
        let opened = start_with(&before, kept.as_ref(), rollback, &power, &both()).unwrap();
        let (mut store, found) = parts(opened);
        assert_eq!(found, Some(3));
        // The same state is another commit, for it is under another key.
        let commit = store.commit(&state(3, 300), nonce(9));
        assert!(
            matches!(commit, Commit::Stored(_) | Commit::Written(_)),
            "{commit:?}"
        );
        store.settle().unwrap();
        assert!(store.is_resealing());
        let once = store.commit(&state(3, 300), nonce(10));
        assert!(
            matches!(once, Commit::Stored(_) | Commit::Written(_)),
            "{once:?}"
        );
        store.settle().unwrap();
        assert!(!store.is_resealing());
        let commit = store.commit(&state(3, 300), nonce(11));
        assert!(matches!(commit, Commit::Unchanged(_)), "{commit:?}");
        let after = store.into_parts().0.durable;
        // The label still names the first key.
        assert_eq!(after[&0], before[&0]);
        assert_eq!(open(&after, &kept, rollback, &new()).unwrap(), Some(3));
        let old = open(&after, &kept, rollback, &key()).unwrap_err();
        assert_ne!(old.name(), "records", "{old}");
        let mut device = Model::new(after, &power);
        assert_eq!(sealed_to(&mut device, MACHINE).unwrap(), [NEW]);
    }
}

/// At every step of the commit that seals anew the power may go: the state is there, with the one key or the other.
#[test]
fn a_power_cut_while_it_is_sealed_anew_loses_nothing() {
    for rollback in POLICIES {
        for steps in 1..30 {
            for tear in [Tear::Nothing, Tear::Everything, Tear::Random(steps)] {
                let kept = ledger(rollback != Rollback::None);
                let before = disk(3, 300, kept.as_ref());
                let power = Power::cut_after(Some(steps));
                let started = start_with(&before, kept.as_ref(), rollback, &power, &both());
                let Ok(opened) = started else {
                    continue;
                };
                let (mut store, _) = parts(opened);
                let commit = store.commit(&state(4, 300), nonce(4));
                if store.is_resealing() && commit.answer() == Answer::Response {
                    // The second one is of the same state: whether it is stored says nothing of the first.
                    let _ = store.commit(&state(4, 300), nonce(5));
                }
                let image = store.into_parts().0.crash(tear);
                let found = open(&image, &kept, rollback, &both()).unwrap();
                let stored = matches!(commit, Commit::Stored(_) | Commit::Written(_));
                assert!(
                    found == Some(4) || (found == Some(3) && !stored),
                    "{rollback:?}, {steps} steps, {tear:?}: {found:?} after {commit:?}"
                );
            }
        }
    }
}

/// An older disk, under the former key, is as little accepted as any other older one.
#[test]
fn an_older_disk_under_the_former_key_is_refused() {
    let kept = ledger(true);
    let before = disk(3, 300, kept.as_ref());
    let power = Power::default();
    let opened = start_with(&before, kept.as_ref(), Rollback::Ledger, &power, &both()).unwrap();
    let (mut store, _) = parts(opened);
    assert!(matches!(
        store.commit(&state(4, 300), nonce(4)),
        Commit::Stored(_)
    ));
    let error = open(&before, &kept, Rollback::Ledger, &both()).unwrap_err();
    assert_eq!(error.name(), "rolled-back");
}

/// A slot whose bytes are not what its digest says tells of no TCB, and another machine's does not either.
#[test]
fn a_damaged_slot_tells_of_no_tcb() {
    let mut ring = new();
    ring.current.tcb = NEW;
    let power = Power::default();
    let opened = start_with(&Disk::new(), None, Rollback::None, &power, &ring).unwrap();
    let (mut store, _) = parts(opened);
    assert!(matches!(
        store.commit(&state(1, 300), nonce(1)),
        Commit::Stored(_)
    ));
    let image = store.into_parts().0.durable;
    let told = |image: &Disk, machine| {
        sealed_to(&mut Model::new(image.clone(), &Power::default()), machine).unwrap()
    };
    assert_eq!(told(&image, MACHINE), [NEW]);
    assert!(told(&image, state_store::MachineId([1; 32])).is_empty());
    assert!(told(&Disk::new(), MACHINE).is_empty());
    for at in [0xA0, 0xB0, 0x100, SECTOR + 5] {
        let mut damaged = image.clone();
        let sector = Slot::of(1).sector() + (at / SECTOR) as u64;
        damaged.get_mut(&sector).unwrap()[at % SECTOR] ^= 1;
        assert!(told(&damaged, MACHINE).is_empty(), "{at:#x}");
    }
}
