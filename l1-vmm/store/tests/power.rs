//! A commit survives a power cut at every step, and every failure of disk and ledger: what was acknowledged is
//! found again, and nothing else than it or the state that was under way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{
    Disk, Flaky, MACHINE, Model, NV_SIZE, Power, Tear, Witness, below, disk, key, ledger, nonce,
    parts, policy, rng, start, start_on, state,
};
use state_store::{Answer, Commit, Later, LedgerError, NotStored, Store, open};

/// Commits states from `next` on until the power is cut; the last one that was stored, and the next number.
fn run(
    store: &mut Store<Model, Witness>,
    stored: &mut Option<u64>,
    numbers: core::ops::RangeInclusive<u64>,
    size: usize,
) -> Option<u64> {
    for number in numbers {
        match store.commit(&state(number, size), nonce(number)) {
            Commit::Stored(_) => *stored = Some(number),
            Commit::NotStored { .. } => return Some(number),
            other => panic!("{other:?}: each state is another"),
        }
    }
    None
}

/// Cuts the power after `steps` of three commits; false if that was after them.
fn cut(with_ledger: bool, steps: u64, tear: Tear) -> bool {
    let case = format!("ledger {with_ledger}, {steps} steps, {tear:?}");
    let kept = ledger(with_ledger);
    let power = Power::cut_after(Some(steps));
    let mut stored = None;
    let mut under_way = None;
    let disk = match start_on(&Disk::new(), kept.as_ref(), policy(kept.as_ref()), &power) {
        Ok(opened) => {
            let (mut store, _) = parts(opened);
            under_way = run(&mut store, &mut stored, 1..=4, 700);
            store.into_parts().0.crash(tear)
        }
        Err(_) => Disk::new(),
    };
    let opened = start(&disk, kept.as_ref()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (mut store, found) = parts(opened);
    assert!(
        found == stored || found == under_way,
        "{case}: {found:?}, stored {stored:?}"
    );
    // And it goes on.
    for number in 10..13 {
        let commit = store.commit(&state(number, 900), nonce(number));
        assert!(matches!(commit, Commit::Stored(_)), "{case}: {commit:?}");
        let disk = store.into_parts().0.crash(Tear::Nothing);
        let (again, found) = parts(start(&disk, kept.as_ref()).unwrap());
        assert_eq!(found, Some(number), "{case}");
        store = again;
    }
    !power.is_off()
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_stored() {
    let tears = [Tear::Nothing, Tear::Everything]
        .into_iter()
        .chain((0..12).map(Tear::Random));
    for tear in tears {
        for with_ledger in [true, false] {
            let all = (0..)
                .take_while(|steps| !cut(with_ledger, *steps, tear))
                .count();
            // Label, four slots of three sectors, four commit records, a flush after each; the ledger's messages.
            let expected = 2 + 4 * (4 + 2) + if with_ledger { 2 + 4 * 2 } else { 0 };
            // And one cut after the last step.
            assert_eq!(all, expected + 1);
        }
    }
}

/// A thousand commits, with a power cut after a random number of steps, again and again, also in what follows one.
#[test]
fn power_cuts_over_a_thousand_commits_lose_nothing_that_was_stored() {
    for with_ledger in [true, false] {
        for seed in 0..4 {
            let mut rng = rng(seed);
            let kept = ledger(with_ledger);
            let (mut disk, mut next, mut cuts) = (Disk::new(), 1, 0);
            let mut stored = None;
            let mut may_be = None;
            while next <= 1000 {
                let power = Power::cut_after(Some(below(&mut rng, 60)));
                let Ok(opened) = start_on(&disk, kept.as_ref(), policy(kept.as_ref()), &power)
                else {
                    assert!(power.is_off());
                    continue;
                };
                let (mut store, found) = parts(opened);
                assert!(
                    found == stored || found == may_be,
                    "{found:?}: {stored:?}, {may_be:?}"
                );
                stored = found;
                let size = usize::try_from(below(&mut rng, 4000)).unwrap();
                may_be = run(&mut store, &mut stored, next..=1000, size);
                next = may_be.map_or(1001, |number| number + 1);
                let seed = below(&mut rng, u64::MAX);
                disk = store.into_parts().0.crash(Tear::Random(seed));
                cuts += 1;
            }
            assert!(cuts > 50, "{cuts}");
        }
    }
}

/// Disk and ledger that fail now and then: a state that was not stored and cannot appear later does not.
#[test]
fn failures_lose_nothing_that_was_stored() {
    let (mut refused, mut possible) = (0, 0);
    for with_ledger in [true, false] {
        for seed in 0..60 {
            let kept = ledger(with_ledger);
            let power = Power::default();
            let flaky = Flaky::new(seed, 3);
            let (mut disk, mut next) = (Disk::new(), 1);
            let mut may_be = vec![None];
            for round in 0..20 {
                let device = Model::new(disk.clone(), &power).flaky(&flaky);
                let witness = Witness::new(kept.as_ref(), &power).flaky(&flaky);
                let Ok(opened) = open(
                    device,
                    witness,
                    &key(),
                    MACHINE,
                    NV_SIZE,
                    policy(kept.as_ref()),
                ) else {
                    continue;
                };
                let (mut store, found) = parts(opened);
                assert!(may_be.contains(&found), "{found:?} is none of {may_be:?}");
                may_be = vec![found];
                for _ in 0..6 {
                    let number = next;
                    next += 1;
                    match store.commit(&state(number, 600), nonce(number)) {
                        Commit::Stored(_) => may_be = vec![Some(number)],
                        Commit::NotStored { why, later } => {
                            assert_eq!(why.answer(), Answer::NvUnavailable);
                            refused += 1;
                            if later == Later::Possible {
                                possible += 1;
                                may_be.push(Some(number));
                            }
                        }
                        other => panic!("{other:?}: each state is another"),
                    }
                }
                disk = store.into_parts().0.crash(Tear::Random(seed * 100 + round));
            }
        }
    }
    assert!(refused > 100 && possible > 100, "{refused}, {possible}");
}

#[test]
fn a_commit_whose_acknowledgement_was_lost_is_ended_before_the_next() {
    let kept = ledger(true);
    let disk = disk(1, 100, kept.as_ref());
    let (mut store, _) = parts(start(&disk, kept.as_ref()).unwrap());
    kept.as_ref().unwrap().borrow_mut().deaf = true;
    let slot = |store: &mut Store<Model, Witness>, number| {
        store.commit(&state(number, 100), nonce(number))
    };
    let unreachable = |later| Commit::NotStored {
        why: NotStored::Ledger(LedgerError::Unreachable),
        later,
    };
    // The ledger heard of 2. While it is not known to, 3 must not take its slot.
    assert_eq!(slot(&mut store, 2), unreachable(Later::Possible));
    assert_eq!(slot(&mut store, 3), unreachable(Later::Never));
    let latest = kept.as_ref().unwrap().borrow().latest;
    assert_eq!(latest.map(|point| point.counter), Some(2));
    assert_eq!(store.unacknowledged(), latest);
    kept.as_ref().unwrap().borrow_mut().deaf = false;
    assert!(matches!(slot(&mut store, 3), Commit::Stored(point) if point.counter == 3));
    let disk = store.into_parts().0.durable;
    assert_eq!(parts(start(&disk, kept.as_ref()).unwrap()).1, Some(3));
}

#[test]
fn a_state_that_did_not_change_writes_nothing() {
    let kept = ledger(true);
    let (mut store, _) = parts(start(&Disk::new(), kept.as_ref()).unwrap());
    let first = store.commit(&state(1, 100), nonce(1));
    let Commit::Stored(point) = first else {
        panic!("{first:?}")
    };
    assert_eq!(
        store.commit(&state(1, 100), nonce(2)),
        Commit::Unchanged(point)
    );
    assert_eq!(first.answer(), Answer::Response);
    // Label; slot and commit record: the state in whole sectors, and two sectors beside it.
    let device = store.into_parts().0;
    assert_eq!((device.written, device.flushes), (1 + 2 + 1, 3));
    let (mut store, _) = parts(start(&device.durable, kept.as_ref()).unwrap());
    assert_eq!(
        store.commit(&state(1, 100), nonce(3)),
        Commit::Unchanged(point)
    );
    assert_eq!(store.into_parts().0.written, 0);
}

#[test]
fn what_has_no_place_is_not_stored_and_ends_nothing() {
    let (mut store, _) = parts(start(&Disk::new(), None).unwrap());
    let mut other = state(1, 100);
    other.nv_size += 1;
    for (state, why) in [
        (other, NotStored::OtherNvSize),
        (state(1, 1 << 20), NotStored::TooLarge),
    ] {
        let later = Later::Never;
        let commit = store.commit(&state, nonce(1));
        assert_eq!(commit, Commit::NotStored { why, later });
        assert_eq!(commit.answer(), Answer::Failure);
    }
    assert!(matches!(
        store.commit(&state(1, 100), nonce(1)),
        Commit::Stored(_)
    ));
}
