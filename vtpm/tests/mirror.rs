//! With the full mirror, RTMR3 alone tells every PCR of every bank.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::pcr::{Bank, PcrBanks};
use attestation::tpm::{Command, Response, cc, rc, rh};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Session, Setup, command};
use vtpm::{Engine, Locality};

/// What a verifier makes of the records.
fn replay(journal: &[Record]) -> Vec<Bank> {
    let mut banks = PcrBanks::ALL.at_startup();
    let set = |banks: &mut [Bank], pcr: u8, values: &[Digest], extend: bool| {
        for value in values {
            let bank = banks
                .iter_mut()
                .find(|bank| bank.algorithm() == value.algorithm())
                .unwrap();
            match extend {
                true => bank.extend(pcr.into(), value).unwrap(),
                false => bank.set(pcr.into(), *value).unwrap(),
            }
        }
    };
    for record in journal {
        match record {
            Record::Startup(StartupType::Clear) => banks = PcrBanks::ALL.at_startup(),
            Record::PcrExtend { pcr, digests } => set(&mut banks, *pcr, digests, true),
            Record::PcrValue { pcr, values } => set(&mut banks, *pcr, values, false),
            Record::PcrReset { pcr } => {
                set(&mut banks, *pcr, &Algorithm::ALL.map(Digest::zero), false);
            }
            _ => {}
        }
    }
    banks
}

#[track_caller]
fn check(session: &mut Session) {
    assert_eq!(replay(&session.journal()), session.banks());
}

#[derive(Clone, Debug)]
enum Step {
    Extend(u32, Vec<(Algorithm, u8)>),
    Event(u32, Vec<u8>),
    Sequence(u32, Vec<u8>),
    Reset(u32),
    PlatformReset,
}

/// Those that exist, one that does not, and TPM_RH_NULL.
fn pcr() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0u32..24, 1 => Just(24), 1 => Just(0x4000_0007)]
}

fn step() -> impl Strategy<Value = Step> {
    let algorithm = prop::sample::select(&Algorithm::ALL[..]);
    let digests = prop::collection::vec((algorithm, any::<u8>()), 0..5);
    let data = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (pcr(), digests).prop_map(|(pcr, digests)| Step::Extend(pcr, digests)),
        2 => (pcr(), data.clone()).prop_map(|(pcr, data)| Step::Event(pcr, data)),
        2 => (pcr(), data.clone()).prop_map(|(pcr, data)| Step::Sequence(pcr, data)),
        2 => pcr().prop_map(Step::Reset),
        1 => Just(Step::PlatformReset),
    ]
}

impl Step {
    /// Commands that the TPM refuses are part of it.
    fn run(&self, session: &mut Session) {
        match self {
            Self::Extend(pcr, digests) => {
                let digests: Vec<_> = digests
                    .iter()
                    .map(|(algorithm, seed)| algorithm.digest(&[*seed]))
                    .collect();
                session.execute(&command::pcr_extend(*pcr, &digests));
            }
            Self::Event(pcr, data) => {
                session.execute(&command::pcr_event(*pcr, data));
            }
            Self::Sequence(pcr, data) => {
                let response = session.execute(&command::event_sequence_start());
                let started = Response::parse_with_handle(&response).unwrap();
                let sequence = started.handle.unwrap();
                let complete = command::event_sequence_complete(*pcr, sequence, data);
                if session.code(&complete) != rc::SUCCESS {
                    session.ok(&command::flush_context(sequence));
                }
            }
            Self::Reset(pcr) => {
                session.execute(&command::pcr_reset(*pcr));
            }
            Self::PlatformReset => session.tpm.reset().unwrap(),
        }
    }
}

#[test]
fn the_journal_replays_to_the_pcrs_after_any_commands() {
    let session = std::cell::RefCell::new(Setup::mirror(PcrMirror::Full).start());
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let law = |steps: Vec<Step>| {
        let mut session = session.borrow_mut();
        for step in &steps {
            step.run(&mut session);
        }
        check(&mut session);
        Ok(())
    };
    runner
        .run(&prop::collection::vec(step(), 1..8), law)
        .unwrap();
}

#[test]
fn what_l1_measured_is_told_too() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    let extends = session
        .journal()
        .iter()
        .filter(|record| matches!(record, Record::PcrExtend { .. }))
        .count();
    assert_eq!(extends, 6 + 8);
    check(&mut session);
}

#[test]
fn a_bank_that_is_extended_twice_by_one_command_has_two_records() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    let one = Algorithm::Sha256.digest(b"1");
    let two = Algorithm::Sha256.digest(b"2");
    let other = Algorithm::Sha1.digest(b"3");
    let records = session.records_of(|session| {
        session.ok(&command::pcr_extend(8, &[one, two, other]));
    });
    assert_eq!(
        records,
        [
            Record::PcrExtend {
                pcr: 8,
                digests: vec![one, other]
            },
            Record::PcrExtend {
                pcr: 8,
                digests: vec![two]
            },
        ]
    );
    check(&mut session);
}

#[test]
fn changes_from_every_locality_are_told() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    let mut response = [0; 4096];
    for locality in [Locality::One, Locality::Two, Locality::Three] {
        for pcr in 16..24 {
            for command in [command::pcr_event(pcr, b"event"), command::pcr_reset(pcr)] {
                let length = session.tpm.execute(locality, &command, &mut response);
                length.expect("the engine answers");
            }
        }
        check(&mut session);
    }
}

/// A session of this type (TPM_SE), good for parameter encryption too.
fn start_session(session: &mut Session, kind: u8) -> u32 {
    const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];
    let command = Command::new(cc::START_AUTH_SESSION)
        .handle(rh::NULL)
        .handle(rh::NULL)
        .sized(&[7; 16])
        .sized(&[])
        .u8(kind);
    let command = AES_128_CFB.into_iter().fold(command, Command::u16);
    let command = command.u16(Algorithm::Sha256.id()).to_bytes();
    let response = session.execute(&command);
    let started = Response::parse_with_handle(&response).unwrap();
    started.handle.unwrap()
}

#[test]
fn sessions_hide_no_event() {
    const HMAC: u8 = 0;
    const POLICY: u8 = 1;
    const DECRYPT: u8 = 1 << 5;
    const AUDIT: u8 = 1 << 7;
    let mut session = Setup::mirror(PcrMirror::Full).start();
    for (kind, attributes) in [(POLICY, DECRYPT), (HMAC, AUDIT)] {
        let handle = start_session(&mut session, kind);
        let mut command = command::pcr_event(16, b"event");
        // Behind the password: handle, nonce, attributes, and the HMAC that is empty without a key.
        let extra = [
            &handle.to_be_bytes()[..],
            &[0, 16],
            &[9; 16],
            &[attributes, 0, 0],
        ]
        .concat();
        let parameters = command.split_off(10 + 4 + 4 + 9);
        command.extend(&extra);
        command[17] += extra.len() as u8;
        command[5] += extra.len() as u8;
        command.extend(parameters);
        let records = session.records_of(|session| {
            session.ok(&command);
        });
        assert!(matches!(records[..], [Record::PcrExtend { pcr: 16, .. }]));
        check(&mut session);
    }
}

/// The engine takes no other number for a command that has records.
#[test]
fn a_command_has_one_code() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    for command in [
        command::pcr_event(16, b"event"),
        command::pcr_reset(16),
        command::pcr_extend(16, &[Algorithm::Sha256.digest(b"event")]),
        command::clear(),
    ] {
        for bit in 16..32 {
            let mut other = command.clone();
            let code = u32::from_be_bytes(command[6..10].try_into().unwrap()) | 1 << bit;
            other[6..10].copy_from_slice(&code.to_be_bytes());
            assert_eq!(session.code(&other), COMMAND_CODE, "{code:#x}");
        }
    }
    check(&mut session);
}

/// TPM_RC_COMMAND_CODE.
const COMMAND_CODE: u32 = 0x143;
