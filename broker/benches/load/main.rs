//! Releases and commits a second, at 1, 16 and 256 clients, on each database: `cargo xtask bench --broker`.
//!
//! The server is the program itself, in a process of its own, or three on one PostgreSQL; clients are threads of this one, on the same machine, and
//! make their evidence here. So the processors are shared, and the figures are a lower bound of a server's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    reason = "a benchmark"
)]

#[path = "../../tests/postgresql/cluster.rs"]
mod cluster;
#[path = "../../tests/server/http.rs"]
mod http;
#[path = "../../tests/server/machine.rs"]
mod machine;
#[path = "../../tests/server/running.rs"]
mod running;
#[path = "../../tests/server/storage.rs"]
mod storage;

use broker::configuration::{Halves, Wishes};
use broker::seal::Purpose;
use broker::store::{Session, once};
use broker_protocol::kbs::Attestation;
use broker_protocol::ledger::Answer;
use broker_protocol::release::{self, Release, Secret};
use init_data::{Otherwise, Rollback};
use machine::{Enrolled, Life, Start, commit};
use running::{Place, Running};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use storage::{Kind, Storage};

const CLIENTS: [usize; 3] = [1, 16, 256];
/// Databases, and how many processes serve from one.
const SET_UPS: [(&str, Kind, usize); 3] = [
    ("SQLite", Kind::Sqlite, 1),
    ("PostgreSQL", Kind::Postgresql, 1),
    ("PostgreSQL", Kind::Postgresql, 3),
];
/// That of a place of which nothing else is said.
const KIND: Kind = Kind::Sqlite;
/// How long each row is measured.
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    // `cargo test --all-targets` runs benchmarks as well, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{:<10} {:<10} {:>9} {:>8} {:>9} {:>10} {:>10} {:>10}",
        "what", "database", "processes", "clients", "a second", "p50", "p99", "most"
    );
    for (name, kind, processes) in SET_UPS {
        for clients in CLIENTS {
            let set_up = format!("{name:<10} {processes:>9} {clients:>8}");
            row("commits", &set_up, commits(kind, processes, clients));
        }
        for clients in CLIENTS {
            let set_up = format!("{name:<10} {processes:>9} {clients:>8}");
            row("releases", &set_up, releases(kind, processes, clients));
        }
    }
}

fn row(what: &str, set_up: &str, (mut times, took): (Vec<Duration>, Duration)) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let second = times.len() as f64 / took.as_secs_f64();
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    println!(
        "{what:<10} {set_up} {second:>9.0} {:>10} {:>10} {:>10}",
        shown(at(0.5)),
        shown(at(0.99)),
        shown(at(1.0))
    );
}

/// Each client does `work` again and again; how long each took, and all of them. What has begun is brought to its end.
fn measure<C: Send>(clients: Vec<C>, work: impl Fn(&mut C) + Sync) -> (Vec<Duration>, Duration) {
    let all = Mutex::new(Vec::new());
    let begun = Instant::now();
    let end = Instant::now() + MEASURED;
    std::thread::scope(|scope| {
        for mut client in clients {
            let (all, work) = (&all, &work);
            scope.spawn(move || {
                let mut own = Vec::new();
                loop {
                    let begun = Instant::now();
                    if begun >= end {
                        break;
                    }
                    work(&mut client);
                    own.push(begun.elapsed());
                }
                all.lock().unwrap().extend(own);
            });
        }
    });
    (all.into_inner().unwrap(), begun.elapsed())
}

/// One machine a client, each with a session that was put into the database.
fn commits(kind: Kind, processes: usize, clients: usize) -> (Vec<Duration>, Duration) {
    let place = Place::on(Storage::new(kind));
    let sessions = sessions(&place, clients);
    let brokers: Vec<Running> = (0..processes).map(|_| place.serve()).collect();
    let lives = sessions.into_iter().enumerate().map(|(client, release)| {
        let mut life = Life {
            connection: brokers[client % processes].connect(),
            session: release.session.clone().unwrap(),
            release,
            sequence: 0,
            epoch: 0,
        };
        life.open(Some([None, None]));
        (life, 0)
    });
    measure(lives.collect(), |(life, counter)| {
        *counter += 1;
        let answer = life.commit(commit(life.epoch, *counter)).unwrap();
        assert_eq!(answer, Answer::Committed {});
    })
}

fn sessions(place: &Place, clients: usize) -> Vec<Release> {
    let mut opened = place.open().unwrap();
    let wishes = Wishes {
        otherwise: Otherwise::Refuse,
        rollback: Rollback::Ledger,
        halves: Halves::Broker,
    };
    let mut releases = Vec::new();
    for client in 0..clients {
        let machine = opened.enrol(&format!("m{client}"), wishes).unwrap().machine;
        let session = release::Session {
            id: format!("{client:032x}"),
            key: Secret([7; 32]),
        };
        let owner = session.id.as_bytes();
        let kept = Session {
            id: session.id.clone(),
            machine,
            key: opened
                .operator
                .seal(Purpose::SessionKey, owner, &session.key.0)
                .unwrap(),
            epoch: None,
            sequence: 0,
            code: Vec::new(),
            answer: Vec::new(),
            made: 0,
        };
        once(&mut *opened.storage, |transaction| {
            transaction.set_session(&kept)
        })
        .unwrap();
        releases.push(Release {
            machine,
            key: Secret([0; 32]),
            nonce: None,
            tee: None,
            session: Some(session),
            ledger: true,
            policy: None,
            carry: None,
        });
    }
    releases
}

/// A quote of this client's TD over this REPORTDATA, sent back.
type Asked = (usize, [u8; 64], Sender<Vec<u8>>);

/// A machine for each client: of one machine the broker looks at no more than two starts at a time. TDs are built once, and
/// quoted for each start.
fn releases(kind: Kind, processes: usize, clients: usize) -> (Vec<Duration>, Duration) {
    let place = Place::on(Storage::new(kind));
    let machines: Vec<Enrolled> = (0..clients)
        .map(|client| Enrolled::new(&place, &format!("m{client}")))
        .collect();
    let brokers: Vec<Running> = (0..processes).map(|_| place.serve()).collect();
    let (ask, asked) = channel::<Asked>();
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let machines = &machines;
        scope.spawn(move || {
            let launched = machines.iter().map(|one| one.boot.launch());
            let mut launched: Vec<_> = launched.collect();
            let logs: Vec<_> = launched.iter_mut().map(|td| td.log()).collect();
            tell.send(logs).unwrap();
            while let Ok((client, report_data, back)) = asked.recv() {
                back.send(launched[client].quote(&report_data)).unwrap();
            }
        });
        let logs = told.recv().unwrap();
        let clients = (0..clients)
            .map(|client| (client, &brokers[client % processes], ask.clone()))
            .collect();
        drop(ask);
        measure(
            clients,
            |(client, broker, ask): &mut (usize, &Running, Sender<Asked>)| {
                let (back, quoted) = channel();
                release(&machines[*client], &logs[*client], broker, |report_data| {
                    ask.send((*client, report_data, back)).unwrap();
                    quoted.recv().unwrap()
                })
            },
        )
    })
}

/// A whole session: a connection, the challenge, evidence, the key.
fn release(one: &Enrolled, log: &[u8], broker: &Running, quote: impl FnOnce([u8; 64]) -> Vec<u8>) {
    let mut start = Start::new(one, broker.connect());
    let runtime_data = start.runtime_data();
    let quote = quote(runtime_data.report_data("").unwrap());
    let attestation = Attestation::new(Some(&one.init_data), runtime_data, &quote, log);
    let answer = start.attest(&attestation);
    assert_eq!(answer.status, 200, "{}", answer.text());
    start.release().unwrap();
}
