//! The database is killed, away, silent, or dies in the middle of a commit: nothing is acknowledged that is not there.

use crate::cluster::Cluster;
use crate::kill::{acknowledged, load};
use crate::machine::{Enrolled, Life, commit};
use crate::pipe::{Breaks, Pipe};
use crate::running::{Place, Running};
use crate::storage::Storage;
use broker::store::{About, StoreError};
use broker_protocol::ledger::{self, Answer, Envelope, Request, Sealed};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MACHINES: usize = 4;
const KILLS: usize = 3;

/// The database has `synchronous_commit = off` and ten seconds to write: what a session did not ask for otherwise is lost.
#[test]
fn a_database_that_is_killed_loses_no_acknowledged_commit() {
    let mut cluster = Cluster::new(&[]);
    let place = Place::on(Storage::Url(cluster.url("postgres")));
    let machines: Vec<Enrolled> = (0..MACHINES)
        .map(|index| Enrolled::new(&place, &format!("m{index}")))
        .collect();
    let brokers = [place.serve(), place.serve()];
    let mut lives: Vec<(Life, u64)> = machines
        .iter()
        .enumerate()
        .map(|(index, machine)| {
            let mut life = machine.start(&brokers[index % 2]);
            life.open(Some([None, None]));
            (life, 0)
        })
        .collect();
    for kill in 0..KILLS {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (life, counter) in &mut lives {
                scope.spawn(|| load(life, counter, &over));
            }
            std::thread::sleep(Duration::from_millis(400 + 100 * kill as u64));
            cluster.kill();
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(healthz(&brokers[kill % 2]), 503);
        cluster.start();
        for (index, (life, counter)) in lives.iter_mut().enumerate() {
            // Any process, whichever it was before.
            let broker = &brokers[(index + kill) % 2];
            assert_eq!(healthz(broker), 200);
            life.connection = broker.connect();
            acknowledged(&place, &machines[index], life, counter);
        }
    }
    let all: u64 = lives.iter().map(|(_, counter)| counter).sum();
    assert!(
        all > (MACHINES * KILLS * 2) as u64,
        "{all} commits are no load"
    );
}

fn healthz(broker: &Running) -> u16 {
    broker.connect().get("/healthz", &[]).status
}

#[test]
fn a_broker_refuses_while_its_database_is_away_and_goes_on_by_itself() {
    let mut cluster = Cluster::new(&[]);
    let place = Place::on(Storage::Url(cluster.url("postgres")));
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(None);
    cluster.stop();
    assert_eq!(healthz(&broker), 503);
    assert!(life.commit(commit(1, 1)).is_err());
    let answer = life.connection.post("/kbs/v0/auth", &[], b"{}");
    assert_eq!(answer.status, 401, "what needs no database is answered");
    let refused = place.fails(&["list"]);
    assert!(
        refused.contains("the database cannot be reached"),
        "{refused}"
    );
    let metrics = broker.look("/metrics");
    assert!(
        metrics.contains("tdp_vtpm_broker_transactions_failed_total"),
        "{metrics}"
    );
    cluster.start();
    life.sequence -= 1;
    assert_eq!(life.commit(commit(1, 1)).unwrap(), Answer::Committed {});
    assert_eq!(healthz(&broker), 200);
    // A connection that ended while nobody used it costs one request nothing.
    cluster.stop();
    cluster.start();
    assert_eq!(life.commit(commit(1, 2)).unwrap(), Answer::Committed {});
}

/// A broker that reaches its database through a pipe.
fn piped() -> (Place, Pipe, Enrolled) {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let pipe = Pipe::to(&cluster.socket());
    let place = Place::on(Storage::Url(pipe.url(&database)));
    let one = Enrolled::new(&place, "one");
    (place, pipe, one)
}

fn sealed(life: &mut Life, request: Request) -> Sealed {
    life.sequence += 1;
    let envelope = Envelope {
        session: life.session.id.clone(),
        sequence: life.sequence,
        request,
    };
    ledger::seal_request(&life.session.key, &envelope).unwrap()
}

#[test]
fn a_connection_that_breaks_before_the_commit_costs_nothing() {
    let (place, pipe, one) = piped();
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(None);
    for (breaks, counter) in [(Breaks::AtBegin, 1), (Breaks::AtUpdate, 2)] {
        pipe.set(breaks);
        let answer = life.commit(commit(1, counter)).unwrap();
        assert_eq!(answer, Answer::Committed {});
        assert!(pipe.is_whole(), "{breaks:?}");
    }
}

#[test]
fn a_commit_whose_answer_was_lost_is_not_acknowledged_and_answered_the_same_when_it_comes_again() {
    for breaks in [Breaks::AfterCommit, Breaks::BeforeCommit] {
        let (place, pipe, one) = piped();
        let broker = place.serve();
        let mut life = one.start(&broker);
        pipe.set(breaks);
        let open = sealed(&mut life, Request::Open { disk: None });
        let unanswered = life.send(&open).unwrap_err();
        assert!(
            unanswered.to_string().contains("cannot answer now"),
            "{unanswered}"
        );
        assert!(pipe.is_whole());
        // Byte for byte, as L1 does: one epoch was given, not two.
        let Answer::Granted(grant) = life.send(&open).unwrap() else {
            panic!("no lease");
        };
        assert_eq!(grant.epoch, 1);
        assert_eq!(life.send(&open).unwrap(), Answer::Granted(grant));
        life.epoch = 1;

        pipe.set(breaks);
        let one_commit = sealed(&mut life, Request::Commit(commit(1, 1)));
        assert!(life.send(&one_commit).is_err());
        assert!(pipe.is_whole());
        assert_eq!(life.send(&one_commit).unwrap(), Answer::Committed {});
        assert_eq!(life.commit(commit(1, 2)).unwrap(), Answer::Committed {});
        let log = std::fs::read_to_string(place.path("broker").join("log")).unwrap();
        assert!(
            log.contains("whether the transaction was made is not known"),
            "{log}"
        );
        let shown = place.ok(&["show", "one"]);
        assert!(shown.contains("latest 1 2 "), "{shown}");
        assert_eq!(shown.matches(" opened epoch ").count(), 1, "{shown}");
    }
}

#[test]
fn a_command_whose_outcome_is_unknown_says_so() {
    let (place, pipe, _) = piped();
    pipe.set(Breaks::AfterCommit);
    // The first transaction of a command reads the identity.
    let refused = place.fails(&["list"]);
    assert!(refused.contains("is not known"), "{refused}");
}

#[test]
fn a_server_that_falls_silent_is_given_up_and_found_again() {
    let (place, pipe, one) = piped();
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(None);
    pipe.set(Breaks::Silent);
    let begun = Instant::now();
    assert!(life.commit(commit(1, 1)).is_err());
    assert!(begun.elapsed() < Duration::from_secs(32));
    pipe.set(Breaks::Not);
    life.sequence -= 1;
    assert_eq!(life.commit(commit(1, 1)).unwrap(), Answer::Committed {});
}

#[test]
fn a_process_that_stops_in_a_transaction_holds_the_others_up_for_seconds_only() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(None);
    let mut stopped = place.open().unwrap().storage;
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (over, is_over) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (one, stopped) = (&one, &mut stopped);
        scope.spawn(move || {
            let about = [About::Machine(one.machine)];
            let done = stopped.transaction(&about, &mut |_, transaction| {
                let entry = transaction.entry(&one.machine)?.unwrap();
                locked.send(()).unwrap();
                is_over.recv_timeout(Duration::from_secs(60)).unwrap();
                transaction.set_entry(&one.machine, &entry)
            });
            // The server has ended its session: what it read is no longer so, and nothing was kept.
            assert!(matches!(done, Err(StoreError::Unreachable(_))), "{done:?}");
        });
        is_locked.recv().unwrap();
        let begun = Instant::now();
        let commit = sealed(&mut life, Request::Commit(commit(1, 1)));
        while life.send(&commit).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(50));
        }
        assert!(begun.elapsed() > Duration::from_secs(2));
        over.send(()).unwrap();
    });
    assert!(place.ok(&["show", "one"]).contains("latest 1 1 "));
}
