use super::*;
use broker_protocol::MachineId;
use broker_protocol::ledger::{Disk, Grant, Slot, SlotDigest};

const MACHINE: MachineId = MachineId([1; 32]);

fn commit(epoch: u64, counter: u64) -> Commit {
    let mut digest = [0; 48];
    digest[..8].copy_from_slice(&(epoch << 32 | counter).to_le_bytes());
    Commit {
        epoch,
        counter,
        digest: SlotDigest(digest),
    }
}

/// At most two slots, as a disk has them.
fn open(entry: &mut Entry, slots: &[Slot]) -> Result<Grant, Refusal> {
    let mut disk: Disk = [None; 2];
    for (to, from) in disk.iter_mut().zip(slots) {
        *to = Some(*from);
    }
    entry.open(&MACHINE, Some(&disk))
}

fn slot(commit: Commit) -> Slot {
    Slot {
        machine: MACHINE,
        epoch: commit.epoch,
        counter: commit.counter,
        digest: commit.digest,
    }
}

/// Epoch 1 has committed 1 and 2.
fn committed() -> Entry {
    let mut entry = Entry::default();
    open(&mut entry, &[]).unwrap();
    for counter in [1, 2] {
        entry.prepare(commit(1, counter)).unwrap();
        entry.commit(commit(1, counter)).unwrap();
    }
    entry
}

#[test]
fn the_latest_state_is_opened_and_the_older_twin_is_fenced() {
    let mut entry = committed();
    let slots = [slot(commit(1, 1)), slot(commit(1, 2))];
    let grant = open(&mut entry, &slots).unwrap();
    assert_eq!((grant.epoch, grant.next_counter()), (2, Some(3)));
    assert_eq!((grant.latest, grant.pending), (Some(commit(1, 2)), None));
    let fenced = Refusal::Fenced { asked: 1, live: 2 };
    assert_eq!(entry.prepare(commit(1, 3)), Err(fenced));
    assert_eq!(entry.commit(commit(1, 3)), Err(fenced));
    entry.commit(commit(2, 3)).unwrap();
}

#[test]
fn a_pending_state_is_opened_where_it_is_and_the_latest_where_it_is_not() {
    let mut entry = committed();
    entry.prepare(commit(1, 3)).unwrap();
    let mut other = entry.clone();
    let pending = open(&mut entry, &[slot(commit(1, 3)), slot(commit(1, 2))]);
    assert_eq!(pending.unwrap().pending, Some(commit(1, 3)));
    let latest = open(&mut other, &[slot(commit(1, 2))]);
    assert_eq!(latest.unwrap().latest, Some(commit(1, 2)));
}

#[test]
fn each_wrong_disk_has_a_refusal_of_its_own_and_raises_no_epoch() {
    let other = |commit| Slot {
        machine: MachineId([2; 32]),
        ..slot(commit)
    };
    let altered = Slot {
        digest: SlotDigest([7; 48]),
        ..slot(commit(1, 2))
    };
    let behind = |what, asked, known| Refusal::LedgerBehind { what, asked, known };
    let mut entry = committed();
    for (slots, refusal) in [
        (vec![], Refusal::StateMissing { latest: 2 }),
        (
            vec![slot(commit(1, 1))],
            Refusal::RolledBack {
                found: 1,
                latest: 2,
            },
        ),
        (vec![altered], Refusal::Altered(2)),
        (vec![other(commit(1, 2))], Refusal::OtherMachine),
        (
            vec![slot(commit(1, 3))],
            Refusal::Uncommitted {
                found: 3,
                latest: 2,
            },
        ),
        (vec![slot(commit(4, 9))], behind("epoch", 4, 1)),
        // A newer epoch in an older slot tells it as well.
        (
            vec![slot(commit(4, 1)), slot(commit(1, 1))],
            behind("epoch", 4, 1),
        ),
        // So it does where the latest state that the ledger knows is there.
        (
            vec![slot(commit(4, 3)), slot(commit(1, 2))],
            behind("epoch", 4, 1),
        ),
        (
            vec![slot(commit(1, 4)), slot(commit(1, 2))],
            behind("counter", 4, 2),
        ),
    ] {
        assert_eq!(open(&mut entry, &slots), Err(refusal));
        assert_eq!(entry, committed(), "{refusal}");
    }
    entry.standing = Standing::Revoked;
    assert_eq!(
        open(&mut entry, &[slot(commit(1, 2))]),
        Err(Refusal::Revoked)
    );
    assert_eq!(entry.commit(commit(1, 3)), Err(Refusal::Revoked));
}

#[test]
fn an_operation_may_be_repeated_and_not_replaced() {
    let mut entry = committed();
    entry.commit(commit(1, 2)).unwrap();
    entry.prepare(commit(1, 2)).unwrap();
    assert_eq!(entry, committed());
    let other = Commit {
        digest: SlotDigest([7; 48]),
        ..commit(1, 2)
    };
    assert_eq!(entry.commit(other), Err(Refusal::OtherCommitted(2)));
    let wrong = |asked| Refusal::WrongCounter { asked, latest: 2 };
    for counter in [0, 1, 4, u64::MAX] {
        assert_eq!(entry.commit(commit(1, counter)), Err(wrong(counter)));
        assert_eq!(entry.prepare(commit(1, counter)), Err(wrong(counter)));
    }
    assert_eq!(
        Entry::default().commit(commit(0, 0)),
        Err(Refusal::WrongCounter {
            asked: 0,
            latest: 0
        })
    );
}

#[test]
fn a_first_commit_that_did_not_come_to_its_end_is_no_state() {
    let mut entry = Entry::default();
    open(&mut entry, &[]).unwrap();
    let grant = open(&mut entry, &[slot(commit(1, 1))]).unwrap();
    assert_eq!((grant.latest, grant.next_counter()), (None, Some(1)));
}

#[test]
fn the_owner_can_have_an_older_state_accepted_and_every_lease_ends() {
    let mut entry = committed();
    entry.recover(Recovery::Accept(commit(1, 1))).unwrap();
    assert!(matches!(
        entry.commit(commit(1, 2)),
        Err(Refusal::Fenced { .. })
    ));
    let grant = open(&mut entry, &[slot(commit(1, 1))]).unwrap();
    assert_eq!((grant.epoch, grant.next_counter()), (3, Some(2)));
    // A ledger that was behind gets ahead.
    let mut behind = committed();
    behind.recover(Recovery::Accept(commit(7, 20))).unwrap();
    assert_eq!(open(&mut behind, &[slot(commit(7, 20))]).unwrap().epoch, 9);
    let mut fresh = committed();
    fresh.recover(Recovery::Fresh).unwrap();
    assert_eq!(open(&mut fresh, &[]).unwrap().latest, None);
    // The disk of before is not taken for that of the machine that starts anew.
    let old = open(&mut fresh, &[slot(commit(1, 2))]);
    assert!(matches!(old, Err(Refusal::LedgerBehind { .. })));
}

#[test]
fn a_machine_that_looks_later_gets_a_lease_and_is_told_what_counts() {
    let mut entry = committed();
    let grant = entry.open(&MACHINE, None).unwrap();
    assert_eq!((grant.epoch, grant.latest), (2, Some(commit(1, 2))));
}

#[test]
fn a_ledger_of_a_backup_gives_nothing_until_the_owner_has_spoken() {
    let mut entry = Entry {
        standing: Standing::Restored,
        ..committed()
    };
    let slots = [slot(commit(1, 2))];
    assert_eq!(open(&mut entry, &slots), Err(Refusal::Restored));
    assert_eq!(entry.commit(commit(1, 3)), Err(Refusal::Restored));
    entry.recover(Recovery::Accept(commit(1, 2))).unwrap();
    assert_eq!(open(&mut entry, &slots).unwrap().epoch, 3);
    // To recover is not to take back a revocation.
    entry.standing = Standing::Revoked;
    entry.recover(Recovery::Fresh).unwrap();
    assert_eq!(open(&mut entry, &[]), Err(Refusal::Revoked));
}

#[test]
fn numbers_do_not_wrap() {
    let last = commit(1, u64::MAX);
    let mut entry = Entry {
        epoch: 1,
        latest: Some(last),
        ..Entry::default()
    };
    assert_eq!(entry.commit(commit(1, 0)), Err(Refusal::Exhausted));
    assert_eq!(open(&mut entry, &[slot(last)]), Err(Refusal::Exhausted));
    entry.epoch = u64::MAX;
    assert_eq!(entry.recover(Recovery::Fresh), Err(Refusal::Exhausted));
}
