//! Releases and commits a second, at 1, 16 and 256 clients: `cargo xtask bench --broker`.
//!
//! The server is the program itself, in a process of its own; clients are threads of this one, on the same machine, and
//! make their evidence here. So the processors are shared, and the figures are a lower bound of a server's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    reason = "a benchmark"
)]

#[path = "../../tests/server/http.rs"]
mod http;
#[path = "../../tests/server/machine.rs"]
mod machine;
#[path = "../../tests/server/running.rs"]
mod running;

use broker::configuration::{Halves, Wishes};
use broker::operator::Place as Folder;
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

const CLIENTS: [usize; 3] = [1, 16, 256];
/// How long each row is measured.
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    // `cargo test --all-targets` runs benchmarks as well, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{:<10} {:>8} {:>12} {:>10} {:>10} {:>10}",
        "what", "clients", "a second", "p50", "p99", "most"
    );
    for clients in CLIENTS {
        row("commits", clients, commits(clients));
    }
    for clients in CLIENTS {
        row("releases", clients, releases(clients));
    }
}

fn row(what: &str, clients: usize, (mut times, took): (Vec<Duration>, Duration)) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let second = times.len() as f64 / took.as_secs_f64();
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    println!(
        "{what:<10} {clients:>8} {second:>12.0} {:>10} {:>10} {:>10}",
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
fn commits(clients: usize) -> (Vec<Duration>, Duration) {
    let place = Place::new();
    let sessions = sessions(&place, clients);
    let broker = place.serve();
    let lives = sessions.into_iter().map(|release| {
        let mut life = Life {
            connection: broker.connect(),
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
    let folder = Folder {
        folder: place.path("broker"),
        key: None,
    };
    let mut opened = folder.open().unwrap();
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
        once(&mut opened.storage, |transaction| {
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
        });
    }
    releases
}

/// A quote over this REPORTDATA, sent back.
type Asked = ([u8; 64], Sender<Vec<u8>>);

/// All clients are starts of one machine: the TD is built once, and quoted for each.
fn releases(clients: usize) -> (Vec<Duration>, Duration) {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let (ask, asked) = channel::<Asked>();
    let mut log = Vec::new();
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let boot = one.boot.clone();
        scope.spawn(move || {
            let mut launched = boot.launch();
            tell.send(launched.log()).unwrap();
            while let Ok((report_data, back)) = asked.recv() {
                back.send(launched.quote(&report_data)).unwrap();
            }
        });
        log = told.recv().unwrap();
        let (one, log, broker) = (&one, &log, &broker);
        let clients = (0..clients).map(|_| ask.clone()).collect();
        drop(ask);
        measure(clients, |ask: &mut Sender<Asked>| {
            release(one, log, broker, ask)
        })
    })
}

/// A whole session: a connection, the challenge, evidence, the key.
fn release(one: &Enrolled, log: &[u8], broker: &Running, ask: &Sender<Asked>) {
    let mut start = Start::new(one, broker.connect());
    let runtime_data = start.runtime_data();
    let (back, quoted) = channel();
    ask.send((runtime_data.report_data("").unwrap(), back))
        .unwrap();
    let quote = quoted.recv().unwrap();
    let attestation = Attestation::new(Some(&one.init_data), runtime_data, &quote, log);
    let answer = start.attest(&attestation);
    assert_eq!(answer.status, 200, "{}", answer.text());
    start.release().unwrap();
}
