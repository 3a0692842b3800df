//! A session with a broker that is honest, and with each lie.

extern crate std;

use super::*;
use crate::ChannelError;
use crate::scripted::{Broker, Lie, PlainAttester, Script};
use alloc::rc::Rc;
use alloc::string::ToString;
use core::cell::RefCell;

const MACHINE: MachineId = MachineId([7; 32]);
const END: Deadline = Deadline(10_000_000_000);

fn session(
    broker: &Rc<RefCell<Broker>>,
    bound: Bound,
    alter: impl Fn(&mut Script),
) -> Result<Release, KbsError> {
    let served = Rc::clone(broker);
    let mut script = Script::new(move |sent| served.borrow_mut().serve(sent));
    alter(&mut script);
    let mut client = Client::new(script);
    let identity = Broker::new(MACHINE).identity();
    let resource = alloc::format!("default/tdp-vtpm/{MACHINE}");
    let wanted = Wanted {
        init_data: Some("version = \"0.1.0\""),
        machine: MACHINE,
        identity: &identity,
        resource: &resource,
        bound,
    };
    obtain(&mut client, &mut PlainAttester::default(), &wanted, END)
}

fn with(lie: Lie) -> Result<Release, KbsError> {
    let mut broker = Broker::new(MACHINE);
    broker.lie = lie;
    session(&Rc::new(RefCell::new(broker)), Bound::Start, |_| {})
}

#[test]
fn a_session_ends_with_what_the_broker_released() {
    for chunked in [false, true] {
        for piece in [1, 7, usize::MAX] {
            let mut broker = Broker::new(MACHINE);
            broker.chunked = chunked;
            let broker = Rc::new(RefCell::new(broker));
            let release = session(&broker, Bound::Start, |script| script.piece = piece).unwrap();
            assert_eq!(release.key.0, [0xB0; 32]);
            assert_eq!(release.policy.as_deref(), Some("production"));
            assert_eq!(release.session.unwrap().id, "ledger-1");
            let resource = alloc::format!("GET /kbs/v0/resource/default/tdp-vtpm/{MACHINE}");
            assert_eq!(
                broker.borrow().answered,
                ["POST /kbs/v0/auth", "POST /kbs/v0/attest", &resource]
            );
        }
    }
}

#[test]
fn each_lie_is_refused_by_its_own_name() {
    let protocol = |error| KbsError::Protocol {
        step: Step::Resource,
        error,
    };
    let http = |error| KbsError::Http {
        step: Step::Auth,
        error,
    };
    let time_out = HttpError::Channel(ChannelError::TimeOut);
    for (lie, error, name) in [
        (Lie::OtherIdentity, protocol(Error::Signature), "signature"),
        (
            Lie::OtherMachine,
            protocol(Error::OtherMachine),
            "other-machine",
        ),
        (Lie::OldNonce, protocol(Error::OtherNonce), "other-nonce"),
        (Lie::OtherTee, protocol(Error::OtherTeeKey), "other-tee-key"),
        (Lie::Unbound, protocol(Error::Unbound), "unbound"),
        (
            Lie::OtherRecipient,
            protocol(Error::OtherRecipient),
            "other-recipient",
        ),
        (Lie::NoCookie, KbsError::NoSession, "broker-nonsense"),
        (
            Lie::Mebibyte,
            http(HttpError::BodyTooLong { most: limits::BODY }),
            "broker-nonsense",
        ),
        (Lie::Silence, http(time_out), "broker-unreachable"),
        (Lie::Cut, http(time_out), "broker-unreachable"),
    ] {
        let refused = with(lie).unwrap_err();
        assert_eq!(refused, error, "{lie:?}");
        assert_eq!(refused.name(), name);
    }
    assert_eq!(
        with(Lie::OtherVersion).unwrap_err().to_string(),
        "auth: the broker refuses with status 401, ProtocolVersion: version 0.5.0 is needed"
    );
    assert_eq!(
        with(Lie::RefusedEvidence).unwrap_err().to_string(),
        "attest: the broker refuses with status 401, AttestationFailed: MRTD is not one of the policy's"
    );
}

#[test]
fn what_is_bound_to_no_start_is_for_who_asks_for_no_more() {
    let mut broker = Broker::new(MACHINE);
    broker.lie = Lie::Unbound;
    let broker = Rc::new(RefCell::new(broker));
    let release = session(&broker, Bound::Machine, |_| {}).unwrap();
    assert_eq!((release.key.0, release.session), ([0xB0; 32], None));
    // What says that it is of another start is of another start.
    broker.borrow_mut().lie = Lie::OldNonce;
    let refused = session(&broker, Bound::Machine, |_| {});
    assert!(matches!(
        refused,
        Err(KbsError::Protocol {
            error: Error::OtherNonce,
            ..
        })
    ));
}

/// All bytes that the broker sends in a session, as the host records them.
fn recorded() -> Vec<Vec<u8>> {
    let answers = Rc::new(RefCell::new(Vec::new()));
    let broker = Rc::new(RefCell::new(Broker::new(MACHINE)));
    let (recorder, served) = (Rc::clone(&answers), Rc::clone(&broker));
    let mut client = Client::new(Script::new(move |sent| {
        let answer = served.borrow_mut().serve(sent);
        if !answer.is_empty() {
            recorder.borrow_mut().push(answer.clone());
        }
        answer
    }));
    let identity = broker.borrow().identity();
    let wanted = Wanted {
        init_data: None,
        machine: MACHINE,
        identity: &identity,
        resource: &alloc::format!("default/tdp-vtpm/{MACHINE}"),
        bound: Bound::Start,
    };
    obtain(&mut client, &mut PlainAttester::default(), &wanted, END).unwrap();
    answers.take()
}

/// A session in which the host plays `answers` back, one for each request.
fn played(answers: Vec<Vec<u8>>, attester: &mut PlainAttester) -> Result<Release, KbsError> {
    let mut answers = answers.into_iter();
    let mut client = Client::new(Script::new(move |sent| {
        let whole = sent.ends_with(b"}") || sent.starts_with(b"GET ");
        if !whole {
            return Vec::new();
        }
        sent.clear();
        answers.next().unwrap_or_default()
    }));
    let identity = Broker::new(MACHINE).identity();
    let wanted = Wanted {
        init_data: None,
        machine: MACHINE,
        identity: &identity,
        resource: "a/b/c",
        bound: Bound::Start,
    };
    obtain(&mut client, attester, &wanted, END)
}

#[test]
fn a_session_that_is_played_back_opens_nothing() {
    let answers = recorded();
    let mut attester = PlainAttester::default();
    // With the same random numbers, which no L1 draws twice, it is the session that it was.
    assert!(played(answers.clone(), &mut attester).is_ok());
    let again = played(answers, &mut attester).unwrap_err();
    let other = KbsError::Protocol {
        step: Step::Resource,
        error: Error::OtherRecipient,
    };
    assert_eq!(again, other);
}

#[test]
fn no_byte_of_the_answers_can_be_changed_into_another_release() {
    let answers = recorded();
    let honest = played(answers.clone(), &mut PlainAttester::default()).unwrap();
    for number in 0..answers.len() {
        for at in 0..answers[number].len() {
            for flip in [0x01, 0x80] {
                let mut changed = answers.clone();
                changed[number][at] ^= flip;
                if let Ok(release) = played(changed, &mut PlainAttester::default()) {
                    // A reason, a field that nobody reads, the session's name: not what was released.
                    assert_eq!(release, honest, "byte {at} of answer {number}");
                }
            }
        }
    }
}

#[test]
fn every_cut_ends_at_the_deadline() {
    let answers = recorded();
    for number in 0..answers.len() {
        for end in (0..answers[number].len()).step_by(13) {
            let mut cut = answers.clone();
            cut[number].truncate(end);
            let error = played(cut, &mut PlainAttester::default()).unwrap_err();
            assert_eq!(
                error.name(),
                "broker-unreachable",
                "{end} of answer {number}"
            );
            assert!(error.is_passing());
        }
    }
}

#[test]
fn a_reason_cannot_write_a_log_or_fill_it() {
    let long = "x".repeat(5000);
    let body =
        alloc::format!("{{\"type\":\"https://x/errors/{long}\",\"detail\":\"a\\n@ {{}}{long}\"}}");
    let KbsError::Refused { name, detail, .. } = refused(Step::Auth, 401, body.as_bytes()) else {
        panic!()
    };
    assert!(name.len() <= limits::NAME && detail.len() <= DETAIL_MAX);
    assert!(!detail.contains('\n'));
    for body in [&b""[..], b"not found", b"{}", b"\xFF"] {
        let refused = refused(Step::Resource, 404, body).to_string();
        assert_eq!(
            refused,
            "resource: the broker refuses with status 404, : without a reason"
        );
    }
}

#[test]
fn an_attester_without_evidence_says_why() {
    struct None;
    impl Attester for None {
        fn evidence(&mut self, _: &[u8; 64], _: Deadline) -> Result<Evidence, EvidenceError> {
            Err(EvidenceError::NoQuote)
        }
        fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError> {
            into.fill(1);
            Ok(())
        }
    }
    let mut broker = Broker::new(MACHINE);
    let mut client = Client::new(Script::new(move |sent| broker.serve(sent)));
    let identity = Broker::new(MACHINE).identity();
    let wanted = Wanted {
        init_data: Option::None,
        machine: MACHINE,
        identity: &identity,
        resource: "a/b/c",
        bound: Bound::Start,
    };
    let error = obtain(&mut client, &mut None, &wanted, END).unwrap_err();
    assert_eq!(error, KbsError::Evidence(EvidenceError::NoQuote));
    assert_eq!(error.name(), "no-evidence");
}

/// The broker answers too late at each step, and what it answered comes before the answers to the attempt after it.
#[test]
fn late_answers_of_an_attempt_do_not_confuse_the_next() {
    for late in 0..3 {
        let broker = Rc::new(RefCell::new(Broker::new(MACHINE)));
        let served = Rc::clone(&broker);
        let (mut number, mut held) = (0, Vec::new());
        let mut client = Client::new(Script::new(move |sent| {
            let mut answers = served.borrow_mut().serve(sent);
            if answers.is_empty() {
                return answers;
            }
            number += 1;
            if number == late + 1 {
                held = answers;
                return Vec::new();
            }
            answers.splice(..0, core::mem::take(&mut held));
            answers
        }));
        let identity = broker.borrow().identity();
        let wanted = Wanted {
            init_data: None,
            machine: MACHINE,
            identity: &identity,
            resource: &alloc::format!("default/tdp-vtpm/{MACHINE}"),
            bound: Bound::Start,
        };
        let mut attester = PlainAttester::default();
        let first = obtain(&mut client, &mut attester, &wanted, END).unwrap_err();
        assert!(first.is_passing(), "{first}");
        client.restart().unwrap();
        let end = client.channel().after(1_000_000);
        let second = obtain(&mut client, &mut attester, &wanted, end);
        assert_eq!(second.unwrap().key.0, [0xB0; 32], "late at step {late}");
    }
}
