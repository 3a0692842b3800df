//! Copies of a database: each is told from the one that it was made of.

use crate::cluster::Cluster;
use crate::machine::{Enrolled, Life, commit, slot};
use crate::running::Place;
use crate::storage::Storage;
use broker_protocol::ledger::{Answer, Request};

fn committed(life: &mut Life, counters: std::ops::RangeInclusive<u64>) {
    for counter in counters {
        let answer = life.commit(commit(life.epoch, counter)).unwrap();
        assert_eq!(answer, Answer::Committed {});
    }
}

fn disk(one: &Enrolled, counter: u64) -> Request {
    let slots = [counter - 1, counter].map(|counter| Some(slot(one.machine, commit(1, counter))));
    Request::Open { disk: Some(slots) }
}

/// A machine with two commits.
fn used() -> (Place, Enrolled) {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(Some([None, None]));
    committed(&mut life, 1..=2);
    drop(broker);
    (place, one)
}

fn name(place: &Place) -> &str {
    match &place.storage {
        Storage::Postgresql(name) => name,
        _ => panic!("not a database of PostgreSQL"),
    }
}

#[test]
fn a_dump_that_is_restored_gives_no_lease_until_the_owner_has_spoken() {
    let (mut place, one) = used();
    let cluster = Cluster::shared();
    let dump = cluster.dump(name(&place));
    let copy = cluster.database();
    cluster.sql(&copy, &dump);
    let original = std::mem::replace(&mut place.storage, Storage::Postgresql(copy));
    let broker = place.serve();
    let mut life = one.start(&broker);
    assert_eq!(life.refused(disk(&one, 2)), "restored");
    let events = place.ok(&["events"]);
    assert!(events.contains(" restored the database is "), "{events}");
    place.ok(&["recover", "one", "accept"]);
    // Nobody is asked twice.
    drop(broker);
    let broker = place.serve();
    let mut life = one.start(&broker);
    let Answer::Granted(grant) = life.ask(disk(&one, 2)).unwrap() else {
        panic!("no lease");
    };
    assert_eq!(grant.latest, Some(commit(1, 2)));
    // The one that it is a copy of is none.
    place.storage = original;
    assert!(!place.ok(&["list"]).contains("restored"));
}

#[test]
fn a_database_that_was_copied_in_its_cluster_is_restored_as_well() {
    let (mut place, one) = used();
    let cluster = Cluster::shared();
    let copy = format!("{}copy", name(&place));
    cluster.sql(
        "postgres",
        &format!("CREATE DATABASE {copy} TEMPLATE {}", name(&place)),
    );
    place.storage = Storage::Postgresql(copy);
    let broker = place.serve();
    assert_eq!(one.start(&broker).refused(disk(&one, 2)), "restored");
}

/// What a promoted standby and a recovery to a point in time have in common is a new timeline.
#[test]
fn a_new_timeline_is_a_restored_ledger_unless_the_operator_vouches_for_it() {
    let (place, one) = used();
    let cluster = Cluster::shared();
    let older = "UPDATE tdp_vtpm_broker.fact SET value = convert_to(regexp_replace(convert_from(value, 'UTF8'), '0*1$', \
                 '00000000'), 'UTF8') WHERE name = 'place'";
    cluster.sql(name(&place), older);
    let broker = place.serve_with("127.0.0.1:0", &["--failover-loses-nothing"]);
    let mut life = one.start(&broker);
    life.open(None);
    assert!(place.ok(&["events"]).contains(" failover the database is "));
    committed(&mut life, 3..=3);
    drop(broker);
    cluster.sql(name(&place), older);
    let broker = place.serve();
    assert_eq!(one.start(&broker).refused(disk(&one, 3)), "restored");
}

#[test]
fn a_backup_is_restored_into_either_database() {
    let (place, one) = used();
    let backup = place.path("backup");
    place.ok(&["backup", backup.to_str().unwrap()]);
    let key = place.path("broker").join("operator.key");
    let before = place.ok(&["events"]);
    for storage in [
        Storage::Sqlite,
        Storage::Postgresql(Cluster::shared().database()),
    ] {
        let other = Place::empty(storage);
        let options = ["--operator-key", key.to_str().unwrap()];
        let run = |arguments: &[&str]| other.ok(&[&options[..], arguments].concat());
        let printed = run(&["restore", backup.to_str().unwrap()]);
        assert!(printed.contains(&place.ok(&["key"])), "{printed}");
        let again = other.fails(&["restore", backup.to_str().unwrap()]);
        assert!(again.contains("has a broker already"), "{again}");
        assert!(run(&["show", "one"]).contains("\nstanding restored\n"));
        // All of the trail but the backup itself.
        let (_, earlier) = before.split_once('\n').unwrap();
        let events = run(&["events"]);
        assert!(events.ends_with(earlier), "{events}");
        std::fs::copy(&key, other.path("broker").join("operator.key")).unwrap();
        let broker = other.serve();
        let mut life = one.start(&broker);
        assert_eq!(life.refused(disk(&one, 2)), "restored");
        run(&["recover", "one", "accept"]);
        life.open(None);
    }
    // A file that is none, and a database that is in use.
    let none = place.file("none", "x");
    let empty = Place::empty(Storage::Sqlite);
    assert!(
        empty
            .fails(&["restore", none.to_str().unwrap()])
            .contains("the backup")
    );
    let refused = place.fails(&["restore", backup.to_str().unwrap()]);
    assert!(refused.contains("has a broker already"), "{refused}");
}
