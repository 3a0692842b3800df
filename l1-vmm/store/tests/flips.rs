//! Every bit of a small state, flipped: it is refused by a named error, or it did not count. It is never another
//! state.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{Disk, Kept, Power, disk, ledger, parts, start_on};
use state_store::layout::{LABEL_SECTOR, SECTOR, Slot};
use state_store::{OpenError, Rollback};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is opened of a disk: the state's number.
fn opened(disk: &Disk, kept: Option<Kept>, rollback: Rollback) -> Result<u64, OpenError> {
    let kept = kept.map(|kept| Rc::new(RefCell::new(kept)));
    let opened = start_on(disk, kept.as_ref(), rollback, &Power::default())?;
    Ok(parts(opened).1.expect("a state"))
}

#[test]
fn a_flipped_bit_is_refused_or_did_not_count() {
    let kept = ledger(true);
    let whole = disk(2, 100, kept.as_ref());
    let kept = *kept.unwrap().borrow();
    let blind = Kept {
        blind: true,
        ..kept
    };
    let mut refusals = BTreeMap::new();
    let sectors: Vec<u64> = whole.keys().copied().collect();
    assert_eq!(
        sectors.len(),
        7,
        "label, two commit records, two slots of two sectors"
    );
    for sector in sectors {
        let newest = Slot::of(2).sector();
        let counts = [LABEL_SECTOR, newest, newest + 1].contains(&sector);
        for bit in 0..SECTOR * 8 {
            let mut flipped = whole.clone();
            flipped.get_mut(&sector).unwrap()[bit / 8] ^= 1 << (bit % 8);
            for (kept, rollback) in [
                (Some(kept), Rollback::Ledger),
                (Some(blind), Rollback::Ledger),
                (None, Rollback::None),
            ] {
                match opened(&flipped, kept, rollback) {
                    Ok(number) => assert!(number == 2 && !counts, "sector {sector}, bit {bit}"),
                    Err(error) => {
                        assert!(counts, "sector {sector}, bit {bit}: {error}");
                        *refusals.entry(error.name()).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    // Each by the part that it was in: three policies a bit.
    let names: Vec<&str> = refusals.keys().copied().collect();
    assert_eq!(
        names,
        [
            "future-format",
            "label-damaged",
            "newest-damaged",
            "not-a-state-disk",
            "rolled-back"
        ]
    );
    let total: usize = refusals.values().sum();
    assert_eq!(total, 3 * 3 * SECTOR * 8);
}
