//! What both databases must do, below the server: pieces, transactions beside each other, and each kind of thing that is
//! kept.

use crate::running::Place;
use crate::storage::Kind;
use broker::store::{
    About, Attested, Event, Machine, Policy, Session, Storage, StoreError, Transaction, once,
};
use broker_ledger::Entry;
use broker_protocol::MachineId;
use init_data::Rollback;
use std::sync::mpsc::channel;
use std::time::Duration;

fn storage(place: &Place) -> Box<dyn Storage> {
    place.open().unwrap().storage
}

fn machine(number: u8) -> Machine {
    Machine {
        id: MachineId([number; 32]),
        name: format!("m{number}"),
        key: vec![number],
        rollback: Rollback::Ledger,
        configured: None,
        entry: Entry::default(),
        enrolled: 7,
        verdict: None,
    }
}

fn session(machine: u8, id: &str) -> Session {
    Session {
        id: id.into(),
        machine: MachineId([machine; 32]),
        key: vec![1, 2],
        epoch: None,
        sequence: 0,
        code: Vec::new(),
        answer: Vec::new(),
        made: 0,
    }
}

fn event(text: &str) -> Event {
    Event {
        time: 5,
        machine: None,
        event: text.into(),
        detail: String::new(),
    }
}

fn entry(epoch: u64) -> Entry {
    Entry {
        epoch,
        latest: Some(crate::machine::commit(epoch, 3)),
        pending: Some(crate::machine::commit(epoch, 4)),
        ..Entry::default()
    }
}

/// A piece of work.
type Step = fn(&mut dyn Transaction) -> Result<(), StoreError>;

#[test]
fn a_piece_is_kept_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let mut storage = storage(&place);
    once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        transaction.add_machine(&machine(2))?;
        transaction.set_session(&session(2, "old"))
    })
    .unwrap();
    let one = MachineId([1; 32]);
    let steps: [Step; 6] = [
        // Kept in mind, and failed.
        |transaction| {
            transaction.set_entry(&MachineId([1; 32]), &entry(1))?;
            transaction.tell(&event("undone"))?;
            Err(StoreError::NotMade)
        },
        // Kept in mind, and kept.
        |transaction| {
            assert_eq!(
                transaction.entry(&MachineId([1; 32]))?,
                Some(Entry::default())
            );
            transaction.set_entry(&MachineId([1; 32]), &entry(2))?;
            transaction.tell(&event("kept"))
        },
        // Sees the one before, says it to the server, and fails.
        |transaction| {
            assert_eq!(transaction.entry(&MachineId([1; 32]))?, Some(entry(2)));
            transaction.set_entry(&MachineId([1; 32]), &entry(3))?;
            transaction.set_session(&session(1, "undone"))?;
            transaction.set_fact("fact", b"undone")?;
            assert_eq!(
                transaction.machine(&MachineId([1; 32]))?.unwrap().entry,
                entry(3)
            );
            transaction.forget_sessions(&MachineId([2; 32]), 9, 0)?;
            assert_eq!(transaction.session("old")?, None);
            Err(StoreError::NotMade)
        },
        // Sees nothing of that.
        |transaction| {
            assert_eq!(transaction.entry(&MachineId([1; 32]))?, Some(entry(2)));
            assert_eq!(transaction.session("undone")?, None);
            assert!(transaction.session("old")?.is_some());
            assert_eq!(transaction.fact("fact")?, None);
            transaction.set_fact("fact", b"kept")?;
            transaction.set_verdict(&MachineId([1; 32]), "{}")
        },
        |transaction| transaction.add_machine(&machine(2)),
        |transaction| transaction.tell(&event("last")),
    ];
    let pieces = [
        About::Machine(one),
        About::Anything,
        About::Machine(one),
        About::Session("old".into()),
        About::Anything,
        About::Anything,
    ];
    let mut results = Vec::new();
    storage
        .transaction(&pieces, &mut |piece, transaction| {
            let result = steps[piece](transaction);
            results.push(result.clone());
            result
        })
        .unwrap();
    assert!(matches!(&results[4], Err(StoreError::NameTaken(name)) if name == "m2"));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    once(&mut *storage, |transaction| {
        let machine = transaction.machine(&one)?.unwrap();
        assert_eq!(
            (machine.entry, machine.verdict.as_deref()),
            (entry(2), Some("{}"))
        );
        assert_eq!(transaction.fact("fact")?.as_deref(), Some(&b"kept"[..]));
        let told: Vec<String> = transaction
            .events(None, 9)?
            .into_iter()
            .map(|event| event.event)
            .collect();
        assert_eq!(told, ["last", "kept"]);
        assert_eq!(transaction.machines()?.len(), 2);
        Ok(())
    })
    .unwrap();
}

/// Without locks, or with the isolation of READ COMMITTED alone, both would give the epoch 1.
#[test]
fn what_a_transaction_read_of_a_machine_stays_until_its_end() {
    let place = Place::new();
    let (mut first, mut second) = (storage(&place), storage(&place));
    once(&mut *first, |transaction| {
        transaction.add_machine(&machine(1))?;
        transaction.set_session(&session(1, "s"))
    })
    .unwrap();
    let id = MachineId([1; 32]);
    let abouts = [
        About::Anything,
        About::Machine(id),
        About::Session("s".into()),
    ];
    for (round, about) in abouts.iter().enumerate() {
        let (read, was_read) = channel();
        std::thread::scope(|scope| {
            let (first, second) = (&mut first, &mut second);
            scope.spawn(move || {
                raise(&mut **first, about, || {
                    let _ = read.send(());
                    std::thread::sleep(Duration::from_millis(300));
                });
            });
            was_read.recv().unwrap();
            raise(&mut **second, about, || {});
        });
        let raised = 2 * (round as u64 + 1);
        let (found, sequence) = once(&mut *first, |transaction| {
            let sequence = transaction.session("s")?.unwrap().sequence;
            Ok((transaction.entry(&id)?.unwrap().epoch, sequence))
        })
        .unwrap();
        assert_eq!((found, sequence), (raised, raised), "{about:?}");
    }
}

/// Reads epoch and session, and writes one more than was read.
fn raise(storage: &mut dyn Storage, about: &About, between: impl Fn()) {
    let id = MachineId([1; 32]);
    storage
        .transaction(std::slice::from_ref(about), &mut |_, transaction| {
            let mut session = transaction.session("s")?.unwrap();
            let mut entry = transaction.entry(&id)?.unwrap();
            between();
            entry.epoch += 1;
            session.sequence += 1;
            transaction.set_entry(&id, &entry)?;
            transaction.set_session(&session)
        })
        .unwrap();
}

#[test]
fn sessions_are_forgotten_but_the_newest_and_the_lease() {
    let place = Place::new();
    let mut storage = storage(&place);
    let id = MachineId([1; 32]);
    once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        transaction.add_machine(&machine(2))?;
        for number in 0..6 {
            let mut session = session(1, &format!("s{number}"));
            session.epoch = (number < 2).then_some(number);
            session.made = number;
            transaction.set_session(&session)?;
        }
        transaction.set_session(&session(2, "other"))?;
        transaction.forget_sessions(&id, 1, 2)
    })
    .unwrap();
    let names = |transaction: &mut dyn Transaction| -> Result<Vec<String>, StoreError> {
        let mut names: Vec<_> = transaction
            .sessions()?
            .into_iter()
            .map(|session| session.id)
            .collect();
        names.sort();
        Ok(names)
    };
    let left = once(&mut *storage, names).unwrap();
    assert_eq!(left, ["other", "s1", "s4", "s5"]);
    // A session that changes keeps its place.
    once(&mut *storage, |transaction| {
        let mut session = transaction.session("s4")?.unwrap();
        session.sequence = 3;
        session.answer = vec![9];
        transaction.set_session(&session)?;
        assert_eq!(transaction.session("s4")?, Some(session));
        Ok(())
    })
    .unwrap();
}

#[test]
fn sessions_of_kbs_are_kept_while_they_are_young_and_few() {
    let place = Place::new();
    let mut storage = storage(&place);
    let attested = |name: &str, machine: u8, made| Attested {
        name: name.into(),
        machine: MachineId([machine; 32]),
        made,
        sealed: name.as_bytes().to_vec(),
    };
    once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        transaction.add_machine(&machine(2))?;
        transaction.set_attested(&attested("other", 2, 1), 0, 2)?;
        transaction.set_attested(&attested("old", 1, 10), 0, 2)?;
        transaction.set_attested(&attested("a", 1, 20), 15, 2)?;
        assert_eq!(transaction.attested("old")?, None);
        transaction.set_attested(&attested("b", 1, 21), 15, 2)?;
        transaction.set_attested(&attested("a", 1, 22), 15, 2)?;
        transaction.set_attested(&attested("c", 1, 23), 15, 2)?;
        Ok(())
    })
    .unwrap();
    once(&mut *storage, |transaction| {
        assert_eq!(transaction.attested("b")?, None);
        assert_eq!(transaction.attested("a")?, Some(attested("a", 1, 22)));
        assert_eq!(transaction.attested("c")?, Some(attested("c", 1, 23)));
        assert_eq!(
            transaction.attested("other")?,
            Some(attested("other", 2, 1))
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn names_that_no_database_has_fail_nobody_elses_request() {
    let place = Place::new();
    let mut storage = storage(&place);
    once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        transaction.set_session(&session(1, "s"))
    })
    .unwrap();
    let bad = "s\0".to_string();
    let pieces = [
        About::Session(bad.clone()),
        About::Session("s".into()),
        About::Attested(bad.clone()),
        About::Machine(MachineId([9; 32])),
    ];
    storage
        .transaction(&pieces, &mut |piece, transaction| {
            match piece {
                0 => assert_eq!(transaction.session(&bad)?, None),
                1 => {
                    let mut session = transaction.session("s")?.unwrap();
                    session.sequence = 1;
                    transaction.set_session(&session)?;
                }
                2 => {
                    assert_eq!(transaction.attested(&bad)?, None);
                    transaction.tell(&event("with\0nothing"))?;
                }
                _ => {
                    let nobody = MachineId([9; 32]);
                    assert_eq!(transaction.entry(&nobody)?, None);
                    transaction.set_entry(&nobody, &Entry::default())?;
                    transaction.set_verdict(&nobody, "")?;
                    // Whose it would be is unknown: the piece fails, the others do not.
                    return transaction.set_session(&session(9, "nobody's"));
                }
            }
            Ok(())
        })
        .unwrap();
    once(&mut *storage, |transaction| {
        assert_eq!(transaction.session("s")?.unwrap().sequence, 1);
        assert_eq!(transaction.session("nobody's")?, None);
        assert_eq!(transaction.events(None, 9)?.len(), 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn policies_are_replaced_and_taken_back_and_the_last_allowed_comes_first() {
    let place = Place::new();
    let mut storage = storage(&place);
    let id = MachineId([1; 32]);
    let policy = |name: &str, allowed| Policy {
        name: name.into(),
        text: format!("text of {allowed}"),
        allowed,
    };
    once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        for policy in [
            policy("B", 2),
            policy("a", 2),
            policy("c", 1),
            policy("c", 3),
        ] {
            transaction.allow(&id, &policy)?;
        }
        assert!(!transaction.disallow(&id, "d")?);
        let known = transaction.policies(&id)?;
        assert_eq!(known, [policy("c", 3), policy("B", 2), policy("a", 2)]);
        assert!(transaction.disallow(&id, "c")?);
        Ok(())
    })
    .unwrap();
    let known = once(&mut *storage, |transaction| transaction.policies(&id)).unwrap();
    assert_eq!(known, [policy("B", 2), policy("a", 2)]);
}

#[test]
fn old_events_are_taken_out_and_that_is_told() {
    let place = Place::new();
    let mut storage = storage(&place);
    once(&mut *storage, |transaction| {
        for time in 0..5 {
            transaction.tell(&Event {
                time: broker::now() - (4 - time) * 86_400 - 1000,
                ..event(&format!("e{time}"))
            })?;
        }
        Ok(())
    })
    .unwrap();
    drop(storage);
    let printed = place.ok(&["prune", "--older-than", "2"]);
    assert_eq!(printed, "3 events are gone\n");
    let events = place.ok(&["events"]);
    assert!(events.contains(" pruned 3 events from before "), "{events}");
    assert!(
        events.contains(" e4 ") && !events.contains(" e2 "),
        "{events}"
    );
}

#[test]
fn numbers_that_the_tables_do_not_hold_fail_their_piece() {
    let place = Place::new();
    let mut storage = storage(&place);
    let id = MachineId([1; 32]);
    let done = once(&mut *storage, |transaction| {
        transaction.add_machine(&machine(1))?;
        let entry = Entry {
            epoch: u64::MAX,
            ..Entry::default()
        };
        transaction.set_entry(&id, &entry)
    });
    assert!(matches!(done, Err(StoreError::Number)), "{done:?}");
    let found = once(&mut *storage, |transaction| transaction.entry(&id)).unwrap();
    assert_eq!(found, None);
}

#[test]
fn tables_of_another_version_are_named_with_what_to_do() {
    let place = Place::new();
    crate::machine::Enrolled::new(&place, "one");
    set_version(&place, 1);
    for command in [&["list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let refused = place.fails(command);
        assert!(
            refused.contains("tables of version 1") && refused.contains("run `migrate`"),
            "{refused}"
        );
    }
    assert_eq!(place.ok(&["migrate"]), "the tables were of version 1\n");
    assert_eq!(place.ok(&["migrate"]), "the tables are of this version\n");
    assert!(place.ok(&["list"]).starts_with("one "));
    // What an earlier version did not keep is not asked for, until it is told.
    assert!(
        place
            .ok(&["show", "one"])
            .contains("key and state not known")
    );
    let document = place.path("one.toml");
    place.ok(&["configure", "one", document.to_str().unwrap()]);
    assert!(place.ok(&["show", "one"]).contains("\nkey broker\n"));
    let broker = place.serve();
    crate::machine::Enrolled::new(&place, "two").start(&broker);
    drop(broker);
    set_version(&place, 4);
    for command in ["list", "migrate"] {
        let refused = place.fails(&[command]);
        assert!(refused.contains("a newer program has to"), "{refused}");
    }
}

/// Makes the tables as that version had them; of a later one, just says that they are.
fn set_version(place: &Place, version: u32) {
    let older = [
        "ALTER TABLE machine DROP COLUMN halves; ALTER TABLE machine DROP COLUMN otherwise;",
        "DROP TABLE attested;",
    ];
    let undone = match version {
        1 => older.concat(),
        2 => older[0].into(),
        _ => String::new(),
    };
    match &place.storage {
        crate::storage::Storage::Postgresql(name) => {
            let cluster = crate::cluster::Cluster::shared();
            let mut sql = format!(
                "SET search_path = tdp_vtpm_broker; UPDATE version SET version = {version};"
            );
            sql += &undone;
            cluster.sql(name, &sql);
        }
        _ => {
            assert!(place.is(Kind::Sqlite));
            let file = place.path("broker").join("broker.sqlite");
            let connection = rusqlite::Connection::open(file).unwrap();
            connection
                .pragma_update(None, "user_version", version)
                .unwrap();
            connection.execute_batch(&undone).unwrap();
        }
    }
}
