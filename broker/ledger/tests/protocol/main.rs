//! Exhaustive search of the protocol of commits and openings: two L1s of one machine, one disk, one broker, a hostile host.
//!
//! The broker is the real [`Entry`]. L1's side is the sequence that `docs/broker.md` prescribes, one step at a time. After
//! every step anything may happen that the host or a power cut can make happen:
//!
//! * an L1 is lost (all of its memory), at every step, with the slot that it was writing torn or not;
//! * a request arrives late, again, in another order, or never: the network keeps all that was ever sent;
//! * an answer is lost, late, or repeated;
//! * the broker is lost before or after its transaction: the request, or its answer, never arrives;
//! * the host puts an earlier image of the disk in place, once a run.
//!
//! In every state: no acknowledged commit is missing from a state that an L1 opens (neither lost nor rolled back), the broker
//! acknowledges commits of one epoch alone, the newest, and no two L1s have the same. As long as the host neither touched
//! the disk nor ran both L1s at it at once, the machine can be opened. That the search sees what is wrong is tested with protocols that are wrong.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

mod model;

use model::{Bounds, Rules, search};

const BOUNDS: Bounds = Bounds {
    lives: 3,
    writes: 2,
};

#[test]
fn nothing_acknowledged_is_lost_nothing_old_is_accepted_one_epoch_lives() {
    let states = search(Rules::default(), BOUNDS).unwrap();
    println!("{states} states");
    assert!(states > 10_000, "{states}: the search did not go far");
}

#[test]
fn a_commit_without_preparation_is_as_safe() {
    let rules = Rules {
        prepare: model::Prepare::Never,
        ..Rules::default()
    };
    search(rules, BOUNDS).unwrap();
}

#[test]
fn an_l1_that_looks_at_its_disk_after_it_has_a_lease_is_as_safe() {
    for prepare in [model::Prepare::AfterWrite, model::Prepare::Never] {
        let rules = Rules {
            look: model::Look::Later,
            prepare,
            ..Rules::default()
        };
        search(rules, BOUNDS).unwrap();
    }
}

/// What L1 does: nothing is ever pending, so that there is nothing to settle.
#[test]
fn without_preparation_the_guest_may_run_at_once() {
    let rules = Rules {
        prepare: model::Prepare::Never,
        settle: model::Settle::Later,
        ..Rules::default()
    };
    search(rules, BOUNDS).unwrap();
}

#[test]
fn a_guest_that_runs_before_the_first_commit_of_a_life_sees_what_can_be_undone() {
    let rules = Rules {
        settle: model::Settle::Later,
        ..Rules::default()
    };
    let problem = search(rules, BOUNDS).unwrap_err();
    assert!(problem.contains("was acknowledged"), "{problem}");
}

#[test]
fn an_answer_before_the_commit_is_acknowledged_can_be_lost() {
    let rules = Rules {
        answer: model::Answer::AtPreparation,
        ..Rules::default()
    };
    let problem = search(rules, BOUNDS).unwrap_err();
    assert!(problem.contains("was acknowledged"), "{problem}");
}

#[test]
fn without_fencing_two_lives_commit() {
    let rules = Rules {
        fencing: model::Fencing::Off,
        ..Rules::default()
    };
    let problem = search(rules, BOUNDS).unwrap_err();
    assert!(problem.contains("epoch"), "{problem}");
}

#[test]
fn a_slot_that_is_prepared_before_it_is_written_can_leave_a_disk_that_nothing_opens() {
    let rules = Rules {
        prepare: model::Prepare::BeforeWrite,
        ..Rules::default()
    };
    let problem = search(rules, BOUNDS).unwrap_err();
    assert!(problem.contains("cannot be opened"), "{problem}");
}
