//! States that outlive an update of the platform or of L1.

use super::*;

/// A start that finds the state and commits it again, as each start does.
fn third(start: &Start) -> Facts {
    let (opened, facts) = start.opened();
    let (Opened::Stored { state: found, .. } | Opened::Unacknowledged { state: found, .. }) =
        &opened
    else {
        panic!("there is no state");
    };
    assert_eq!(found.engine, [1; 100]);
    let found = found.clone();
    let mut store = store(opened);
    for byte in 3..6 {
        let commit = store.commit(&found, Nonce([byte; 12]));
        assert_eq!(commit.answer(), state_store::Answer::Response);
        store.settle().unwrap();
    }
    assert!(!store.is_resealing());
    facts
}

#[test]
fn an_update_of_the_platform_keeps_the_state_which_is_sealed_to_it_and_refused_after_a_downgrade() {
    for (key, rollback) in [
        ("hardware", Rollback::None),
        ("both", Rollback::Ledger),
        ("both", Rollback::Lazy),
    ] {
        let mut start = Start::new(key, rollback);
        first(&start);
        let old = Platform::with_sealing();
        let mut new = old.clone();
        new.tcb.cpusvn[0] += 1;
        new.tcb.tee_tcb_svn[0] += 1;

        // Looking at it seals nothing: the old platform still has the key.
        start.platform = new.clone();
        assert_eq!(second(&start).tcb.unwrap().cpusvn, new.tcb.cpusvn);
        start.platform = old.clone();
        second(&start);

        // A commit does.
        start.platform = new.clone();
        third(&start);
        second(&start);
        start.platform = old.clone();
        let error = start.refused();
        assert_eq!(error.name(), "newer-tcb", "{key}");
        assert!(
            error.to_string().contains("is sealed to a newer TCB"),
            "{error}"
        );

        // Nothing on the disk is of the old TCB.
        start.platform = new.clone();
        let mut disk = start.disk.clone().unwrap();
        let sealed_to = state_store::key_record::sealed_to(&mut disk, MachineId(MACHINE)).unwrap();
        assert_eq!(sealed_to.len(), 1);
        assert_eq!(sealed_to[0].cpusvn, new.tcb.cpusvn);
        second(&start);
    }
}

/// The order of an update of L1, for one side of it.
fn order(seal: CarrySeal) -> Option<Carry> {
    let key = Secret([0xCA; 32]);
    Some(Carry { key, seal })
}

#[test]
fn an_update_of_l1_carries_the_state_over_by_the_brokers_order() {
    for rollback in [Rollback::Ledger, Rollback::Lazy, Rollback::None] {
        let mut start = Start::new("both", rollback);
        let broker = start.broker.clone().unwrap();
        first(&start);
        // Without an order the updated L1 has another half.
        start.updated = true;
        assert_eq!(start.refused().name(), "other-key");
        // Nor does the order help before the old one has followed it.
        broker.borrow_mut().carry = order(CarrySeal::Own);
        assert_eq!(start.refused().name(), "other-key");

        start.updated = false;
        broker.borrow_mut().carry = order(CarrySeal::Carry);
        let facts = third(&start);
        assert_eq!((facts.journal.key, facts.tcb), (KeyHalves::Carried, None));
        // It may start again meanwhile.
        second(&start);

        start.updated = true;
        broker.borrow_mut().carry = order(CarrySeal::Own);
        let facts = third(&start);
        assert_eq!(facts.journal.key, KeyHalves::Both);
        assert!(facts.tcb.is_some());

        // The update is over: the new one needs no order, and neither the old one nor the broker alone has the state.
        broker.borrow_mut().carry = None;
        second(&start);
        start.updated = false;
        for carry in [None, order(CarrySeal::Carry), order(CarrySeal::Own)] {
            broker.borrow_mut().carry = carry;
            assert_ne!(start.refused().name(), "records");
        }
    }
}

/// What the host kept of the time of the update is an older state, and the ledger says so; and without this update's key
/// it is nothing.
#[test]
fn a_disk_of_the_time_of_the_update_is_an_older_one() {
    let mut start = Start::new("both", Rollback::Ledger);
    let broker = start.broker.clone().unwrap();
    first(&start);
    broker.borrow_mut().carry = order(CarrySeal::Carry);
    third(&start);
    let kept = start.disk.as_ref().unwrap().copy();
    start.updated = true;
    broker.borrow_mut().carry = order(CarrySeal::Own);
    third(&start);
    let last = start.disk.replace(kept);
    assert_eq!(start.refused().name(), "rolled-back");
    broker.borrow_mut().carry = Some(Carry {
        key: Secret([0xCB; 32]),
        seal: CarrySeal::Own,
    });
    assert_eq!(start.refused().name(), "other-key");
    start.disk = last;
    broker.borrow_mut().carry = None;
    second(&start);
}

/// A machine whose key the hardware has no part in needs no update of its state, and an order changes nothing.
#[test]
fn an_order_is_nothing_to_a_key_of_the_broker_alone() {
    let mut start = Start::new("broker", Rollback::Ledger);
    first(&start);
    let broker = start.broker.clone().unwrap();
    for seal in [CarrySeal::Carry, CarrySeal::Own] {
        broker.borrow_mut().carry = order(seal);
        assert_eq!(third(&start).journal.key, KeyHalves::Broker);
    }
    broker.borrow_mut().carry = None;
    start.updated = true;
    second(&start);
}
