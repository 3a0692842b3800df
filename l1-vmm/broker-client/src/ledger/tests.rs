//! The ledger over a channel that loses, repeats and makes up answers.

extern crate std;

use super::*;
use crate::scripted::{Broker, Lie, PlainAttester, Script};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use broker_protocol::release::Secret;
use core::cell::{Cell, RefCell};
use proptest::prelude::*;

const MACHINE: MachineId = MachineId([7; 32]);
const PATIENCE: u64 = 1_000_000_000;

type Shared = Rc<RefCell<Broker>>;

/// A ledger in a session that `broker` released, over a channel that `between` makes.
fn ledger(
    broker: &Shared,
    between: impl FnMut(Vec<u8>) -> Vec<u8> + 'static,
) -> BrokerLedger<Script> {
    let served = Rc::clone(broker);
    let mut between = between;
    let mut client = Client::new(Script::new(move |sent| {
        let answers = served.borrow_mut().serve(sent);
        if answers.is_empty() {
            answers
        } else {
            between(answers)
        }
    }));
    let identity = broker.borrow().identity();
    let wanted = crate::kbs::Wanted {
        init_data: None,
        machine: MACHINE,
        identity: &identity,
        resource: &format!("default/tdp-vtpm/{MACHINE}"),
        bound: crate::kbs::Bound::Start,
    };
    let deadline = Deadline(PATIENCE);
    let release = crate::kbs::obtain(
        &mut client,
        &mut PlainAttester::default(),
        &wanted,
        deadline,
    )
    .unwrap();
    BrokerLedger::new(client, MACHINE, release.session.unwrap(), PATIENCE)
}

fn broker() -> Shared {
    Rc::new(RefCell::new(Broker::new(MACHINE)))
}

fn point(epoch: u64, counter: u64) -> Point {
    Point {
        epoch,
        counter,
        digest: [counter as u8; 48],
    }
}

#[test]
fn a_state_is_opened_committed_and_opened_again() {
    let broker = broker();
    let mut first = ledger(&broker, |answers| answers);
    let grant = first.open([None; 2]).unwrap();
    assert_eq!(
        grant,
        Grant {
            epoch: 1,
            latest: None
        }
    );
    assert_eq!(first.commit(point(1, 1)), Ok(()));
    assert_eq!(first.commit(point(1, 1)), Ok(()), "again");
    assert_eq!(first.commit(point(1, 2)), Ok(()));
    assert_eq!(broker.borrow().entry.counter(), 2);
    let mut second = ledger(&broker, |answers| answers);
    let grant = second.open([Some(point(1, 2)), Some(point(1, 1))]).unwrap();
    assert_eq!(grant.epoch, 2);
    assert_eq!(grant.latest, Some(point(1, 2)));
    assert_eq!(second.commit(point(2, 3)), Ok(()));
}

/// Looks once a millisecond of `clock`, as long as there is no answer; when it came.
fn collected(
    ledger: &mut BrokerLedger<Script>,
    clock: &Cell<u64>,
    point: Point,
) -> (Result<Collected, LedgerError>, u64) {
    let begun = clock.get();
    loop {
        let looked = clock.get();
        let result = ledger.collect(point);
        assert!(clock.get() <= looked + 4, "it waited");
        if result != Ok(Collected::Outstanding) {
            return (result, clock.get() - begun);
        }
        clock.set(looked + 1_000_000);
    }
}

/// A ledger whose answers take `latency`.
fn slow(
    broker: &Shared,
    latency: u64,
    between: impl FnMut(Vec<u8>) -> Vec<u8> + 'static,
) -> (BrokerLedger<Script>, Rc<Cell<u64>>) {
    let mut ledger = ledger(broker, between);
    ledger.open([None; 2]).unwrap();
    ledger.client.channel().latency.set(latency);
    let clock = ledger.client.channel().clock();
    (ledger, clock)
}

#[test]
fn an_acknowledgement_is_collected_by_who_waits_for_nothing() {
    let broker = broker();
    let (mut ledger, clock) = slow(&broker, 5_000_000, |answers| answers);
    let (result, time) = collected(&mut ledger, &clock, point(1, 1));
    assert_eq!(result, Ok(Collected::Acknowledged));
    assert!((5_000_000..7_000_000).contains(&time), "{time}");
    // It was sent once.
    let ledger_requests = |broker: &Shared| {
        let answered = broker.borrow().answered.clone();
        let to_ledger = answered.iter().filter(|request| request.ends_with(PATH));
        to_ledger.count()
    };
    assert_eq!(ledger_requests(&broker), 2, "open and commit");
    // One who waits after all sends nothing either.
    assert_eq!(ledger.collect(point(1, 2)), Ok(Collected::Outstanding));
    assert_eq!(ledger.commit(point(1, 2)), Ok(()));
    assert_eq!(ledger_requests(&broker), 3);
    // What is in the middle of coming is read to its end.
    ledger.client.channel().latency.set(0);
    assert_eq!(broker.borrow().entry.counter(), 2);
    assert_eq!(ledger.client.channel().restarts, 0);
}

#[test]
fn an_answer_that_does_not_come_is_a_fault_after_the_patience_and_looked_for_again() {
    let broker = broker();
    let (mut ledger, clock) = slow(&broker, 0, |answers| answers);
    broker.borrow_mut().dropped = 1;
    let (result, time) = collected(&mut ledger, &clock, point(1, 1));
    assert_eq!(result, Err(LedgerError::Unreachable));
    assert!((PATIENCE..PATIENCE + 2_000_000).contains(&time), "{time}");
    assert_eq!(
        ledger.fault(),
        Some(LedgerFault::Http(ChannelError::TimeOut.into()))
    );
    // The same request again: it was committed.
    let (result, _) = collected(&mut ledger, &clock, point(1, 1));
    assert_eq!(result, Ok(Collected::Acknowledged));
    assert_eq!(ledger.fault(), None);
}

#[test]
fn a_refusal_is_collected_by_its_name() {
    let broker = broker();
    let (mut older, clock) = slow(&broker, 1_000_000, |answers| answers);
    ledger(&broker, |answers| answers).open([None; 2]).unwrap();
    let (result, _) = collected(&mut older, &clock, point(1, 1));
    assert_eq!(result, Err(LedgerError::Refused(Refusal::Fenced)));
}

#[test]
fn a_host_that_answers_in_the_ledgers_place_is_not_believed_by_who_looks() {
    let broker = broker();
    let (mut ledger, clock) = slow(&broker, 0, |answers| answers);
    broker.borrow_mut().lie = Lie::Mebibyte;
    let (result, _) = collected(&mut ledger, &clock, point(1, 1));
    assert_eq!(result, Err(LedgerError::Unreachable));
    broker.borrow_mut().lie = Lie::None;
    let (result, _) = collected(&mut ledger, &clock, point(1, 1));
    assert_eq!(result, Ok(Collected::Acknowledged));
    broker.borrow_mut().lie = Lie::WrongCode;
    let (result, _) = collected(&mut ledger, &clock, point(1, 2));
    assert_eq!(result, Err(LedgerError::Unreachable));
}

#[test]
fn the_ledgers_refusals_keep_their_names() {
    let broker = broker();
    let mut first = ledger(&broker, |answers| answers);
    first.open([None; 2]).unwrap();
    first.commit(point(1, 1)).unwrap();
    for (disk, refusal) in [
        ([None; 2], Refusal::StateMissing),
        (
            [
                Some(Point {
                    digest: [9; 48],
                    ..point(1, 1)
                }),
                None,
            ],
            Refusal::Altered,
        ),
    ] {
        let mut ledger = ledger(&broker, |answers| answers);
        assert_eq!(ledger.open(disk), Err(LedgerError::Refused(refusal)));
        ledger.note(refusal.name(), "what L1 found");
    }
    assert_eq!(broker.borrow().entry.epoch, 1, "no epoch was ended");
    let noted = broker.borrow().noted.clone();
    assert_eq!(
        noted[0],
        ("state-missing".to_string(), "what L1 found".to_string())
    );
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_counts_once() {
    let broker = broker();
    let mut ledger = ledger(&broker, |answers| answers);
    broker.borrow_mut().dropped = 1;
    assert_eq!(ledger.open([None; 2]), Err(LedgerError::Unreachable));
    let grant = ledger.open([None; 2]).unwrap();
    assert_eq!(grant.epoch, 1, "the first request had arrived");
    assert_eq!(ledger.client.channel().restarts, 0);
    broker.borrow_mut().dropped = 2;
    assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
    assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
    assert_eq!(ledger.commit(point(1, 1)), Ok(()));
    assert_eq!(ledger.sequence, 2);
    assert_eq!(ledger.fault(), None);
}

#[test]
fn a_request_that_was_not_answered_is_answered_before_the_next() {
    let broker = broker();
    let mut ledger = ledger(&broker, |answers| answers);
    ledger.open([None; 2]).unwrap();
    broker.borrow_mut().dropped = 1;
    assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
    assert_eq!(ledger.commit(point(1, 2)), Ok(()));
    assert_eq!(broker.borrow().entry.counter(), 2);
    assert_eq!(ledger.sequence, 3);
}

#[test]
fn the_older_twin_is_fenced() {
    let broker = broker();
    let mut older = ledger(&broker, |answers| answers);
    older.open([None; 2]).unwrap();
    older.commit(point(1, 1)).unwrap();
    // The broker of a test knows one session: the other twin opens by the ledger's own operation.
    let disk = [None, Some(older.slot(point(1, 1)))];
    broker
        .borrow_mut()
        .entry
        .open(&MACHINE, Some(&disk))
        .unwrap();
    let fenced = LedgerError::Refused(Refusal::Fenced);
    assert_eq!(older.commit(point(1, 2)), Err(fenced));
}

#[test]
fn answers_to_earlier_requests_are_passed_over() {
    let broker = broker();
    let mut earlier = Vec::new();
    let mut ledger = ledger(&broker, move |answers| {
        let both = [earlier.clone(), answers.clone()].concat();
        earlier = answers;
        // Of the session, only the ledger's answers come twice.
        if both.starts_with(b"HTTP/1.1 200 Status\r\ntdp-vtpm-mac") {
            both
        } else {
            earlier.clone()
        }
    });
    ledger.open([None; 2]).unwrap();
    for counter in 1..10 {
        assert_eq!(ledger.commit(point(1, counter)), Ok(()));
    }
}

#[test]
fn a_host_that_answers_for_the_ledger_is_not_believed() {
    type Forge = fn(&[u8]) -> Vec<u8>;
    let forgeries: [(Forge, &str); 5] = [
        (
            |_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".repeat(10),
            "an answer that is not the ledger's: the message is not of this session",
        ),
        (
            |_| b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "status 503 that the ledger does not vouch for",
        ),
        (|_| Vec::new(), "the host moved no bytes in time"),
        (
            |_| b"nonsense\r\n\r\n".to_vec(),
            "the answer does not begin as HTTP does",
        ),
        (
            |answer| {
                let text = String::from_utf8_lossy(answer).replace("tdp-vtpm-mac", "x");
                text.into_bytes()
            },
            "the host moved no bytes in time",
        ),
    ];
    for (forge, says) in forgeries {
        let broker = broker();
        let armed = Rc::new(core::cell::Cell::new(false));
        let host = Rc::clone(&armed);
        let mut ledger = ledger(&broker, move |answers| match host.get() {
            true => forge(&answers),
            false => answers,
        });
        ledger.open([None; 2]).unwrap();
        armed.set(true);
        assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
        assert_eq!(ledger.fault().unwrap().to_string(), says);
        armed.set(false);
        // The store asks three times; what the host left in the stream is passed over.
        let acknowledged = (0..3).any(|_| ledger.commit(point(1, 1)).is_ok());
        assert!(acknowledged, "{says}");
    }
}

#[test]
fn a_code_that_is_not_the_sessions_acknowledges_nothing() {
    let broker = broker();
    let mut ledger = ledger(&broker, |answers| answers);
    ledger.open([None; 2]).unwrap();
    broker.borrow_mut().lie = Lie::WrongCode;
    assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
}

#[test]
fn a_channel_that_is_gone_says_so_at_once() {
    let broker = broker();
    let mut ledger = ledger(&broker, |answers| answers);
    ledger.open([None; 2]).unwrap();
    let mut gone = Script::saying(b"");
    gone.closed = true;
    ledger.client = Client::new(gone);
    assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
    assert_eq!(ledger.client.channel().now(), 0);
    assert!(matches!(
        ledger.fault(),
        Some(LedgerFault::Http(HttpError::Channel(
            crate::ChannelError::Closed
        )))
    ));
}

#[test]
fn every_byte_of_an_acknowledgement_counts() {
    let broker = broker();
    let answer = Rc::new(RefCell::new(Vec::new()));
    let recorder = Rc::clone(&answer);
    let mut honest = ledger(&broker, move |answers| {
        *recorder.borrow_mut() = answers.clone();
        answers
    });
    honest.open([None; 2]).unwrap();
    honest.commit(point(1, 1)).unwrap();
    let answer = answer.take();
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let envelope = Envelope {
        session: "ledger-1".into(),
        sequence: 2,
        request: Request::Commit(Commit {
            epoch: 1,
            counter: 1,
            digest: SlotDigest([1; 48]),
        }),
    };
    let session = Session {
        id: "ledger-1".into(),
        key: Secret([1 ^ 0x55; 32]),
    };
    let sealed = seal_request(&session.key, &envelope).unwrap();
    let played = |bytes: &[u8]| {
        let client = Client::new(Script::saying(bytes));
        let mut ledger = BrokerLedger::new(client, MACHINE, session.clone(), PATIENCE);
        ledger.sequence = 2;
        ledger.settle(Unanswered {
            request: envelope.request.clone(),
            sealed: sealed.clone(),
            tries: 0,
            looked_for: None,
        })
    };
    assert_eq!(played(&answer), Ok(Answer::Committed {}));
    for at in 0..answer.len() {
        for value in 0..=255 {
            let mut changed = answer.clone();
            changed[at] = value;
            let result = played(&changed);
            if changed[body..] != answer[body..] {
                assert_eq!(result, Err(LedgerError::Unreachable), "byte {at}");
            } else if let Ok(answer) = result {
                assert_eq!(answer, Answer::Committed {}, "byte {at}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost or comes twice: what was acknowledged is what the ledger has, in order.
    #[test]
    fn what_is_acknowledged_is_in_the_ledger(lost in prop::collection::vec(0..3_u8, 1..60)) {
        let broker = broker();
        let mut fates = lost.into_iter().cycle();
        let mut ledger = ledger(&broker, move |answers| {
            if !answers.starts_with(b"HTTP/1.1 200 Status\r\ntdp-vtpm-mac") {
                return answers;
            }
            match fates.next() {
                Some(0) => Vec::new(),
                Some(1) => answers.repeat(2),
                _ => answers,
            }
        });
        let mut opened = false;
        for _ in 0..20 {
            opened = opened || ledger.open([None; 2]).is_ok();
        }
        let mut counter = 1;
        for _ in 0..40 {
            if !opened {
                break;
            }
            if ledger.commit(point(1, counter)).is_ok() {
                prop_assert_eq!(broker.borrow().entry.counter(), counter);
                counter += 1;
            }
        }
    }
}

/// An hour without the broker: what waits on the host's side stays small, and when the broker is back, what it answers
/// to the copies is passed over.
#[test]
fn a_long_outage_leaves_few_copies_behind_and_ends_at_once() {
    let broker = broker();
    let away = Rc::new(core::cell::Cell::new(false));
    let (host, served) = (Rc::clone(&away), Rc::clone(&broker));
    let mut ledger = ledger(&broker, |answers| answers);
    let grant = ledger.open([None; 2]).unwrap();
    assert_eq!(grant.epoch, 1);
    ledger.client = Client::new(Script::new(move |sent| match host.get() {
        // The proxy keeps it.
        true => Vec::new(),
        false => served.borrow_mut().serve(sent),
    }));
    away.set(true);
    for _ in 0..1800 {
        assert_eq!(ledger.commit(point(1, 1)), Err(LedgerError::Unreachable));
    }
    let waiting = ledger.client.channel().sent.len();
    assert!(waiting < 64 * 1024, "{waiting} bytes wait");
    away.set(false);
    // The next copy takes those before it along.
    let tries = (0..RARELY).find(|_| ledger.commit(point(1, 1)).is_ok());
    assert!(tries.is_some());
    assert_eq!(ledger.commit(point(1, 2)), Ok(()));
    assert_eq!(broker.borrow().entry.counter(), 2);
    assert_eq!(ledger.client.channel().restarts, 0);
}
