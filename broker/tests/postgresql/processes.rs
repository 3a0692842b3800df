//! Several processes of one broker on one database.

use crate::machine::{Enrolled, Life, Start, commit};
use crate::running::{Place, Running};
use broker_protocol::ledger::{self, Answer, Envelope, Request};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

const PROCESSES: usize = 3;
const MACHINES: usize = 4;
/// Lives of one machine that each believe to be the only one.
const TWINS: usize = 3;
/// Commits of a machine that are a load.
const LOAD: u64 = 20;

#[test]
fn each_request_of_a_start_may_reach_another_process() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let brokers = [place.serve(), place.serve(), place.serve()];
    let mut start = Start::new(&one, brokers[0].connect());
    start.connection = brokers[1].connect();
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 200);
    start.connection = brokers[2].connect();
    let release = start.release().unwrap();
    // Asked for again somewhere else, because the answer was lost: the same session of the ledger.
    start.connection = brokers[0].connect();
    assert_eq!(start.release().unwrap(), release);
    let mut life = Life {
        connection: brokers[1].connect(),
        session: release.session.clone().unwrap(),
        release,
        sequence: 0,
        epoch: 0,
    };
    life.open(Some([None, None]));
    for (counter, broker) in (1..).zip(&brokers) {
        life.connection = broker.connect();
        let answer = life.commit(commit(1, counter)).unwrap();
        assert_eq!(answer, Answer::Committed {});
    }
    // A process that was killed in between takes no session with it.
    let mut brokers = brokers;
    let mut start = Start::new(&one, brokers[0].connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 200);
    brokers[0].kill();
    start.connection = brokers[1].connect();
    start.release().unwrap();
}

/// What is known of a machine outside its ledger.
#[derive(Default)]
struct Known {
    /// The highest counter of an acknowledged commit.
    acknowledged: AtomicU64,
    /// Counters of acknowledged commits.
    commits: Mutex<BTreeSet<u64>>,
    /// Epochs that were granted.
    epochs: Mutex<BTreeSet<u64>>,
}

#[test]
fn twins_at_several_processes_lose_no_commit_and_share_no_epoch() {
    let place = Place::new();
    let machines: Vec<(Enrolled, Known)> = (0..MACHINES)
        .map(|index| {
            (
                Enrolled::new(&place, &format!("m{index}")),
                Known::default(),
            )
        })
        .collect();
    let brokers: Vec<RwLock<Running>> =
        (0..PROCESSES).map(|_| RwLock::new(place.serve())).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (machine, known) in &machines {
            for twin in 0..TWINS {
                let (brokers, over) = (&brokers[..], &over);
                scope.spawn(move || {
                    let life = machine.start(&brokers[twin].read().unwrap());
                    let mut twin = Twin {
                        life,
                        brokers,
                        at: twin,
                    };
                    while !over.load(Ordering::Relaxed) {
                        twin.live(known);
                    }
                });
            }
        }
        // Until each life has begun; then processes are killed under them.
        while machines
            .iter()
            .any(|(_, known)| known.epochs.lock().unwrap().len() < TWINS)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        for kill in 0..4 {
            std::thread::sleep(Duration::from_millis(600));
            let broker = &brokers[kill % PROCESSES];
            broker.write().unwrap().kill();
            let again = place.serve();
            *broker.write().unwrap() = again;
        }
        // A loaded machine takes its time.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120)
            && machines
                .iter()
                .any(|(_, known)| known.acknowledged.load(Ordering::Relaxed) <= LOAD)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    for (machine, known) in machines {
        let commits = known.commits.into_inner().unwrap();
        let latest = known.acknowledged.into_inner();
        assert_eq!(
            commits.len() as u64,
            latest,
            "a counter was committed twice or never"
        );
        assert!(latest > LOAD, "{latest} commits are no load");
        let shown = place.ok(&["show", &machine.machine.to_string()]);
        let line = shown.lines().find(|line| line.starts_with("latest "));
        let counter: u64 = line.unwrap().split(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(counter, latest);
    }
}

struct Twin<'a> {
    life: Life,
    brokers: &'a [RwLock<Running>],
    at: usize,
}

impl Twin<'_> {
    /// Opens, and commits until another twin has opened.
    fn live(&mut self, known: &Known) {
        let before = known.acknowledged.load(Ordering::SeqCst);
        let Answer::Granted(grant) = self.ask(Request::Open { disk: None }) else {
            panic!("no lease");
        };
        assert!(
            known.epochs.lock().unwrap().insert(grant.epoch),
            "epoch {} was given twice",
            grant.epoch
        );
        let latest = grant.latest.map_or(0, |latest| latest.counter);
        assert!(
            latest >= before,
            "{latest} is older than {before}, which was acknowledged"
        );
        for counter in latest + 1..latest + 12 {
            match self.ask(Request::Commit(commit(grant.epoch, counter))) {
                Answer::Committed {} => {
                    let first = known.commits.lock().unwrap().insert(counter);
                    assert!(first, "counter {counter} was acknowledged twice");
                    known.acknowledged.fetch_max(counter, Ordering::SeqCst);
                }
                Answer::Refused(refused) => {
                    assert_eq!(refused.name, "fenced");
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks one process after the other; what was not answered is repeated byte for byte.
    fn ask(&mut self, request: Request) -> Answer {
        self.life.sequence += 1;
        let envelope = Envelope {
            session: self.life.session.id.clone(),
            sequence: self.life.sequence,
            request,
        };
        let sealed = ledger::seal_request(&self.life.session.key, &envelope).unwrap();
        for _ in 0..200 {
            self.at += 1;
            let connection = {
                let broker = self.brokers[self.at % PROCESSES].read().unwrap();
                crate::http::Connection::to(&broker.machines)
            };
            if let Ok(connection) = connection {
                self.life.connection = connection;
                if let Ok(answer) = self.life.send(&sealed) {
                    return answer;
                }
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("no process answers");
    }
}
