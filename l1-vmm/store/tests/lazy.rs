//! The lazy policy: answers do not wait for the ledger, and one commit at most can be taken back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Kept, Model, Power, Tear, Witness, below, ledger, nonce, parts, rng, start_on, state,
};
use state_store::{
    Answer, Collected, Commit, Later, LedgerError, NotStored, Opened, Refusal, Rollback, Store,
};
use std::cell::RefCell;
use std::rc::Rc;

type Lazy = Store<Model, Witness>;

fn begin(disk: &Disk, kept: &Rc<RefCell<Kept>>) -> Opened<Model, Witness> {
    begin_on(disk, kept, &Power::default()).unwrap()
}

fn begin_on(
    disk: &Disk,
    kept: &Rc<RefCell<Kept>>,
    power: &Power,
) -> Result<Opened<Model, Witness>, state_store::OpenError> {
    start_on(disk, Some(kept), Rollback::Lazy, power)
}

fn commit(store: &mut Lazy, number: u64) -> Commit {
    store.commit(&state(number, 100), nonce(number))
}

fn latest(kept: &Rc<RefCell<Kept>>) -> Option<u64> {
    kept.borrow().latest.map(|point| point.counter)
}

#[test]
fn an_answer_does_not_wait_and_the_next_commit_does() {
    let kept = ledger(true).unwrap();
    let (mut store, _) = parts(begin(&Disk::new(), &kept));
    let Commit::Written(first) = commit(&mut store, 1) else {
        panic!("it waited")
    };
    assert_eq!(Commit::Written(first).answer(), Answer::Response);
    assert_eq!((store.unacknowledged(), latest(&kept)), (Some(first), None));
    let Commit::Written(second) = commit(&mut store, 2) else {
        panic!("it waited")
    };
    assert_eq!(
        (store.unacknowledged(), latest(&kept)),
        (Some(second), Some(1))
    );
    store.settle().unwrap();
    assert_eq!((store.unacknowledged(), latest(&kept)), (None, Some(2)));
    assert_eq!(store.point(), Some(second));
    assert_eq!(commit(&mut store, 2), Commit::Unchanged(second));
}

/// The window is over when the ledger's answer is there: not when the next commit comes.
#[test]
fn an_acknowledgement_is_collected_between_two_commits() {
    let kept = ledger(true).unwrap();
    let (mut store, _) = parts(begin(&Disk::new(), &kept));
    assert_eq!(
        store.collect(),
        Ok(Collected::Acknowledged),
        "nothing to do"
    );
    let Commit::Written(first) = commit(&mut store, 1) else {
        panic!("it waited")
    };
    kept.borrow_mut().late = 2;
    for _ in 0..2 {
        assert_eq!(store.collect(), Ok(Collected::Outstanding));
        assert_eq!(store.unacknowledged(), Some(first));
    }
    assert_eq!(store.collect(), Ok(Collected::Acknowledged));
    assert_eq!((store.unacknowledged(), latest(&kept)), (None, Some(1)));
    assert_eq!(store.point(), Some(first));
    // Its commit record is on the disk: the strict policy finds it as well.
    let disk = store.into_parts().0.crash(Tear::Nothing);
    let opened = begin(&disk, &kept);
    assert!(matches!(opened, Opened::Stored { point, .. } if point == first));
    // A ledger that cannot be reached is one that has not acknowledged.
    let (mut store, _) = parts(opened);
    assert!(matches!(commit(&mut store, 2), Commit::Written(_)));
    kept.borrow_mut().deaf = true;
    let unreachable = NotStored::Ledger(LedgerError::Unreachable);
    assert_eq!(store.collect(), Err(unreachable));
    kept.borrow_mut().deaf = false;
    assert_eq!(store.collect(), Ok(Collected::Acknowledged));
    assert_eq!(latest(&kept), Some(2));
}

#[test]
fn the_older_twin_hears_of_it_without_a_further_commit() {
    let kept = ledger(true).unwrap();
    let (mut older, _) = parts(begin(&Disk::new(), &kept));
    assert!(matches!(commit(&mut older, 1), Commit::Written(_)));
    let (_newer, _) = parts(begin(&Disk::new(), &kept));
    let fenced = NotStored::Ledger(LedgerError::Refused(Refusal::Fenced));
    for _ in 0..2 {
        assert_eq!(older.collect(), Err(fenced));
    }
    assert_eq!(commit(&mut older, 2).answer(), Answer::Failure);
}

#[test]
fn a_ledger_that_does_not_answer_holds_up_the_second_commit() {
    let kept = ledger(true).unwrap();
    let (mut store, _) = parts(begin(&Disk::new(), &kept));
    kept.borrow_mut().deaf = true;
    assert!(matches!(commit(&mut store, 1), Commit::Written(_)));
    let refused = commit(&mut store, 2);
    assert_eq!(
        refused,
        Commit::NotStored {
            why: NotStored::Ledger(LedgerError::Unreachable),
            later: Later::Never
        }
    );
    assert_eq!(refused.answer(), Answer::NvUnavailable);
    kept.borrow_mut().deaf = false;
    assert!(matches!(commit(&mut store, 3), Commit::Written(point) if point.counter == 2));
}

#[test]
fn the_older_twin_fails_one_commit_later() {
    let kept = ledger(true).unwrap();
    let (mut older, _) = parts(begin(&Disk::new(), &kept));
    let (mut newer, _) = parts(begin(&Disk::new(), &kept));
    assert!(matches!(commit(&mut older, 1), Commit::Written(_)));
    assert!(matches!(commit(&mut newer, 2), Commit::Written(_)));
    assert_eq!(commit(&mut older, 3).answer(), Answer::Failure);
    let fenced = LedgerError::Refused(Refusal::Fenced);
    assert_eq!(older.settle(), Err(NotStored::Ledger(fenced)));
    newer.settle().unwrap();
}

/// A state that was answered and not acknowledged is opened after a power cut, and is acknowledged before anything
/// replaces it.
#[test]
fn what_was_answered_is_opened_and_acknowledged_first() {
    let kept = ledger(true).unwrap();
    let (mut store, _) = parts(begin(&Disk::new(), &kept));
    for number in 1..=3 {
        assert!(matches!(commit(&mut store, number), Commit::Written(_)));
    }
    assert_eq!(latest(&kept), Some(2));
    let disk = store.into_parts().0.crash(Tear::Nothing);
    let Opened::Unacknowledged {
        mut store,
        state: found,
        point,
    } = begin(&disk, &kept)
    else {
        panic!("3 was answered")
    };
    assert_eq!((found.journal_epoch, point.counter), (3, 3));
    assert_eq!(store.point().map(|point| point.counter), Some(2));
    kept.borrow_mut().deaf = true;
    let unreachable = store.commit(&found, nonce(30));
    assert_eq!(unreachable.answer(), Answer::NvUnavailable);
    kept.borrow_mut().deaf = false;
    store.settle().unwrap();
    assert_eq!(latest(&kept), Some(3));
    // From here on as always.
    assert!(matches!(
        store.commit(&found, nonce(31)),
        Commit::Unchanged(_)
    ));
    assert!(matches!(commit(&mut store, 4), Commit::Written(_)));
    // With the strict policy what was not acknowledged does not count.
    let disk = store.into_parts().0.crash(Tear::Nothing);
    let strict = start_on(&disk, Some(&kept), Rollback::Ledger, &Power::default()).unwrap();
    assert_eq!(parts(strict).1, Some(3));
}

/// Also where the state that is committed first is the one that the ledger knows: the other one must not come back.
#[test]
fn what_was_opened_unacknowledged_is_replaced_by_the_state_before_it_too() {
    let kept = ledger(true).unwrap();
    let (mut store, _) = parts(begin(&Disk::new(), &kept));
    for number in 1..=2 {
        assert!(matches!(commit(&mut store, number), Commit::Written(_)));
    }
    let disk = store.into_parts().0.crash(Tear::Nothing);
    let (mut store, found) = parts(begin(&disk, &kept));
    assert_eq!((found, latest(&kept)), (Some(2), Some(1)));
    assert!(matches!(commit(&mut store, 1), Commit::Stored(point) if point.counter == 2));
    let disk = store.into_parts().0.crash(Tear::Nothing);
    assert_eq!(parts(begin(&disk, &kept)).1, Some(1));
}

/// Power cuts, again and again, also while a state that was opened unacknowledged is committed: of what was answered
/// one commit at most is lost, and nothing that was acknowledged.
#[test]
fn power_cuts_take_back_one_commit_at_most() {
    let (mut cuts, mut lost) = (0, 0);
    for seed in 0..6 {
        let mut rng = rng(seed);
        let kept = ledger(true).unwrap();
        let mut disk = Disk::new();
        // States that may be found: the last that was answered, what it followed, what was under way.
        let (mut answered, mut before, mut under_way) = (None, None, None);
        let mut next = 1;
        while next <= 300 {
            let power = Power::cut_after(Some(below(&mut rng, 40)));
            let Ok(opened) = begin_on(&disk, &kept, &power) else {
                assert!(power.is_off());
                continue;
            };
            cuts += 1;
            let ahead = matches!(opened, Opened::Unacknowledged { .. });
            let (mut store, found) = parts(opened);
            assert!([answered, before, under_way].contains(&found), "{found:?}");
            if found != answered && found != under_way {
                lost += 1;
            }
            let acknowledged = store.point().map(|_| found).filter(|_| !ahead).flatten();
            // What is opened was answered, and what it followed is acknowledged.
            (answered, under_way) = (found, None);
            before = if ahead { before } else { acknowledged };
            if ahead {
                let number = found.unwrap();
                let again = store.commit(&state(number, 100), nonce(5_000 + next));
                if !matches!(again, Commit::Stored(_)) {
                    disk = store.into_parts().0.crash(Tear::Random(next));
                    next += 1;
                    continue;
                }
            }
            while next <= 300 {
                let number = next;
                next += 1;
                match commit(&mut store, number) {
                    Commit::Written(point) => {
                        assert_eq!(store.unacknowledged(), Some(point));
                        assert_eq!(latest(&kept).unwrap_or(0) + 1, point.counter);
                        (before, answered) = (answered, Some(number));
                        if below(&mut rng, 3) == 0 && store.collect() == Ok(Collected::Acknowledged)
                        {
                            // Nothing can be taken back.
                            before = answered;
                        }
                    }
                    Commit::NotStored { .. } => {
                        under_way = Some(number);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            let tear = below(&mut rng, u64::MAX);
            disk = store.into_parts().0.crash(Tear::Random(tear));
        }
    }
    // Only a cut in the commit that replaces an unacknowledged state loses one.
    assert!(cuts > 100 && lost < cuts / 20, "{cuts}, {lost}");
}

/// A host that puts any disk back that there ever was: what is opened is never older than what was acknowledged.
#[test]
fn a_host_takes_back_what_was_not_acknowledged_alone() {
    let mut opened = 0;
    for seed in 0..4 {
        let mut rng = rng(seed);
        let kept = ledger(true).unwrap();
        let mut images = vec![Disk::new()];
        let mut acknowledged = 0;
        for life in 0..120 {
            let back = usize::try_from(below(&mut rng, 4)).unwrap();
            let image = &images[images.len().saturating_sub(1 + back)];
            let Ok(start) = begin_on(image, &kept, &Power::default()) else {
                continue;
            };
            opened += 1;
            let found = match &start {
                Opened::Stored { point, .. } | Opened::Unacknowledged { point, .. } => {
                    point.counter
                }
                _ => 0,
            };
            assert!(found >= acknowledged, "{found} < {acknowledged}");
            let ahead = matches!(start, Opened::Unacknowledged { .. });
            let (mut store, number) = parts(start);
            if ahead {
                let again = store.commit(&state(number.unwrap(), 100), nonce(9_000 + life));
                assert!(matches!(again, Commit::Stored(_)));
            }
            for step in 0..below(&mut rng, 4) {
                let number = 1 + life * 10 + step;
                assert!(matches!(commit(&mut store, number), Commit::Written(_)));
                acknowledged = latest(&kept).unwrap_or(0);
            }
            acknowledged = latest(&kept).unwrap_or(acknowledged);
            images.push(store.into_parts().0.crash(Tear::Nothing));
        }
    }
    assert!(opened > 100, "{opened}");
}
