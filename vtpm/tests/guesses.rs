//! A host that takes the state's disk or its ledger away at the moment that suits it, and a guest that guesses an
//! authorization value then: a guess that is not counted tells nothing.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::sync::{Arc, Mutex};

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{PcrMirror, Record};
use attestation::tpm::{Authorization, Command as Build, NvPublic, PcrSelect, rc, rh};
use sha2::{Digest as _, Sha256};
use support::{Kept, Session, Setup, command};
use vtpm::state::{Keeper, NotKept};

/// The disk: what was kept, how often something was asked to be, and whether it works.
#[derive(Default)]
struct Disk {
    away: bool,
    kept: Vec<Vec<u8>>,
    /// How long each state was that was to be kept.
    asked: Vec<usize>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Disk>>);

impl Shared {
    fn take_away(&self) {
        let mut disk = self.0.lock().unwrap();
        disk.away = true;
        disk.asked.clear();
    }

    fn bring_back(&self) {
        self.0.lock().unwrap().away = false;
    }

    /// By how many bytes what L1 tried to write was longer than what is kept.
    fn asked(&self) -> Vec<isize> {
        let disk = self.0.lock().unwrap();
        let kept = disk.kept.last().map_or(0, Vec::len);
        let longer = |length: &usize| *length as isize - kept as isize;
        disk.asked.iter().map(longer).collect()
    }

    fn start(&self, mirror: PcrMirror) -> Session {
        let state = self.0.lock().unwrap().kept.last().cloned();
        Setup {
            mirror,
            keeper: Some(Kept {
                state,
                keeper: Box::new(self.clone()),
            }),
            ..Setup::default()
        }
        .start()
    }
}

impl Keeper for Shared {
    fn keep(&mut self, state: &[u8]) -> Result<(), NotKept> {
        let mut disk = self.0.lock().unwrap();
        disk.asked.push(state.len());
        if disk.away {
            return Err(NotKept::Unavailable("the disk is away".into()));
        }
        disk.kept.push(state.to_vec());
        Ok(())
    }

    fn keep_anew(&mut self, state: &[u8]) -> Result<(), NotKept> {
        self.keep(state)
    }
}

/// AUTHREAD and AUTHWRITE, under the protection against dictionary attacks.
const GUESSED: u32 = 0x0150_0001;
/// The same with NO_DA.
const KNOWN: u32 = 0x0150_0002;
/// OWNERREAD and OWNERWRITE, NO_DA, without an authorization value.
const OPEN: u32 = 0x0150_0003;
/// TPM_NT_PIN_FAIL: AUTHREAD, OWNERWRITE, NO_DA.
const PIN: u32 = 0x0150_0004;
/// TPM_ALG_SHA256.
const SHA256: u16 = 0x000B;
/// TPM_ALG_NULL.
const NULL: u16 = 0x0010;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// RFC 2104; keys here are no longer than a block.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to ^= from);
        block
    };
    let inner = sha256(&[&[&pad(0x36)[..]], parts].concat());
    sha256(&[&pad(0x5C), &inner])
}

/// A TPM with these indices that was shut down orderly, all of it kept.
fn orderly(disk: &Shared) -> Session {
    let mut session = disk.start(PcrMirror::Full);
    for (index, auth, attributes) in [
        (GUESSED, &b"right"[..], 0x0004_0004),
        (KNOWN, b"known", 0x0204_0004),
        (OPEN, b"", 0x0202_0002),
        (PIN, b"right", 0x0204_0082),
    ] {
        let public = NvPublic::new(index, attributes, 8);
        session.ok(&command::nv_define_space(rh::OWNER, auth, &public));
    }
    session.ok(&command::nv_write(
        (KNOWN, &b"known"[..]),
        KNOWN,
        0,
        &[1; 8],
    ));
    session.ok(&command::nv_write(rh::OWNER, OPEN, 0, &[1; 8]));
    // pinCount and pinLimit.
    session.ok(&command::nv_write(
        rh::OWNER,
        PIN,
        0,
        &[0, 0, 0, 0, 0, 0, 0, 5],
    ));
    session.ok(&command::shutdown(command::CLEAR));
    session
}

/// A guess at the value of [`GUESSED`].
type Guess = fn(&mut Session, &[u8]) -> u32;

/// By a password.
fn by_password(session: &mut Session, value: &[u8]) -> u32 {
    session.code(&command::nv_write((GUESSED, value), GUESSED, 0, &[2; 8]))
}

/// By a session that is bound to the index, which authorizes the extension of a PCR.
fn by_bound_session(session: &mut Session, value: &[u8]) -> u32 {
    const PCR: u32 = 16;
    let caller = [7; 16];
    let begun = session.execute(
        &Build::new(attestation::tpm::cc::START_AUTH_SESSION)
            .handle(rh::NULL)
            .handle(GUESSED)
            .sized(&caller)
            .sized(&[])
            .u8(0)
            .u16(NULL)
            .u16(SHA256)
            .to_bytes(),
    );
    let handle = u32::from_be_bytes(begun[10..14].try_into().unwrap());
    let nonce = &begun[16..];
    let key = hmac(
        value,
        &[
            &1_u32.to_be_bytes(),
            b"ATH\0",
            nonce,
            &caller,
            &256_u32.to_be_bytes(),
        ],
    );
    let extend = command::pcr_extend(PCR, &[Digest::zero(Algorithm::Sha256)]);
    // Behind header, handle, size of the authorizations and an empty password.
    let parameters = &extend[10 + 4 + 4 + 9..];
    let code = attestation::tpm::cc::PCR_EXTEND.to_be_bytes();
    let parameters_digest = sha256(&[&code, &PCR.to_be_bytes(), parameters]);
    let attributes = Authorization::CONTINUE_SESSION;
    let hmac = hmac(&key, &[&parameters_digest, &caller, nonce, &[attributes]]);
    let authorization = Authorization {
        session: handle,
        nonce: &caller,
        attributes,
        hmac: &hmac,
    };
    let extend = Build::new(attestation::tpm::cc::PCR_EXTEND)
        .entity((PCR, authorization))
        .bytes(parameters);
    let code = session.code(&extend.to_bytes());
    session.ok(&Build::new(attestation::tpm::cc::FLUSH_CONTEXT)
        .u32(handle)
        .to_bytes());
    code
}

/// At the value of an index that counts by itself.
fn of_a_pin(session: &mut Session, value: &[u8]) -> u32 {
    session.code(&command::nv_read((PIN, value), PIN, 0, 8))
}

const GUESSES: [Guess; 2] = [by_password, by_bound_session];

/// A response code without the number of parameter, handle or session.
fn class(code: u32) -> u32 {
    match code & 0x80 {
        0 => code,
        _ => code & 0xBF,
    }
}

/// TPM_RC_AUTH_FAIL.
const AUTH_FAIL: u32 = 0x08E;
/// TPM_RC_BAD_AUTH.
const BAD_AUTH: u32 = 0x0A2;

/// What there is to learn of a guess.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// Response codes.
    codes: Vec<u32>,
    /// A PCR's value, the counter of wrong guesses.
    values: [Vec<u8>; 2],
    /// How many records were made.
    records: usize,
    /// By how many bytes the states that L1 tried to write are longer than the one that is kept: what the host sees.
    written: Vec<isize>,
}

/// After a guess while the disk is away.
fn told(guess: Guess, value: &[u8]) -> Told {
    let disk = Shared::default();
    let mut session = orderly(&disk);
    let before = session.journal().len();
    disk.take_away();
    let mut codes = vec![guess(&mut session, value)];
    // TPM_PT_LOCKOUT_COUNTER.
    let tries = session.execute(&command::get_capability(6, 0x20E, 1));
    let pcr = session.execute(&command::pcr_read(PcrSelect::of(Algorithm::Sha256, [16])));
    for probe in [
        command::nv_read(rh::OWNER, OPEN, 0, 8),
        command::nv_read(rh::OWNER, PIN, 0, 8),
        command::nv_read(KNOWN, KNOWN, 0, 8),
        command::nv_read((KNOWN, &b"known"[..]), KNOWN, 0, 8),
        command::nv_write(rh::OWNER, OPEN, 0, &[3; 8]),
        command::get_random(8),
        command::pcr_extend(8, &[Digest::zero(Algorithm::Sha256)]),
        command::pcr_event(9, b"event"),
    ] {
        codes.push(session.code(&probe));
    }
    codes.push(guess(&mut session, value));
    codes.push(guess(&mut session, b"right"));
    Told {
        codes,
        // But for the count of the changes of PCRs: it is of commands.
        values: [pcr[28..].to_vec(), tries],
        records: session.journal().len() - before,
        written: disk.asked(),
    }
}

#[test]
fn a_guess_that_is_not_kept_tells_nothing() {
    for guess in [by_password, by_bound_session, of_a_pin] {
        let right = told(guess, b"right");
        assert_eq!(right, told(guess, b"wrong"));
        assert_eq!(right.codes[0], rc::NV_UNAVAILABLE);
        // What has to do with no authorization value goes on.
        for goes_on in [1, 6, 7, 8] {
            assert_eq!(right.codes[goes_on], rc::SUCCESS, "{goes_on}");
        }
    }
}

#[test]
fn guesses_go_on_where_they_were_when_the_disk_is_back() {
    for guess in GUESSES {
        let disk = Shared::default();
        let mut session = orderly(&disk);
        disk.take_away();
        assert_eq!(guess(&mut session, b"wrong"), rc::NV_UNAVAILABLE);
        assert_eq!(guess(&mut session, b"wrong"), rc::NV_UNAVAILABLE);
        disk.bring_back();
        assert_eq!(guess(&mut session, b"right"), rc::SUCCESS);
        assert_eq!(class(guess(&mut session, b"wrong")), AUTH_FAIL);
        disk.take_away();
        assert_eq!(guess(&mut session, b"wrong"), rc::NV_UNAVAILABLE);
        disk.bring_back();
        // One that was withheld was counted as those that were answered: the third is the last.
        assert_eq!(guess(&mut session, b"right"), rc::LOCKOUT);
    }
}

/// What an index that counts by itself is asked for is written before it is answered, right or wrong: nothing else counts
/// a life that ends there.
#[test]
fn a_guess_of_a_pin_is_written_whether_it_is_right_or_not() {
    let disk = Shared::default();
    let mut session = orderly(&disk);
    session.ok(&command::nv_write(rh::OWNER, OPEN, 0, &[3; 8]));
    for value in [&b"right"[..], b"wrong", b"right"] {
        let before = disk.asked().len();
        let code = of_a_pin(&mut session, value);
        let expected = if value == b"right" {
            rc::SUCCESS
        } else {
            BAD_AUTH
        };
        assert_eq!(class(code), expected);
        assert_eq!(disk.asked().len(), before + 1);
    }
    disk.take_away();
    assert_eq!(of_a_pin(&mut session, b"right"), rc::NV_UNAVAILABLE);
    drop(session);
    disk.bring_back();
    // One that was there at the start is known as well.
    let mut session = disk.start(PcrMirror::Full);
    assert_eq!(of_a_pin(&mut session, b"right"), rc::SUCCESS);
    disk.take_away();
    assert_eq!(of_a_pin(&mut session, b"right"), rc::NV_UNAVAILABLE);
}

/// A life of the machine that ends without TPM2_Shutdown costs a try, if there was a guess in it.
#[test]
fn a_life_that_ends_in_a_guess_costs_a_try() {
    for guess in GUESSES {
        let disk = Shared::default();
        let mut session = orderly(&disk);
        drop(session);
        for _ in 0..2 {
            session = disk.start(PcrMirror::Full);
            assert_eq!(guess(&mut session, b"right"), rc::SUCCESS);
            disk.take_away();
            assert_eq!(guess(&mut session, b"wrong"), rc::NV_UNAVAILABLE);
            drop(session);
            disk.bring_back();
        }
        session = disk.start(PcrMirror::Full);
        assert_eq!(guess(&mut session, b"right"), rc::SUCCESS);
        drop(session);
        session = disk.start(PcrMirror::Full);
        assert_eq!(guess(&mut session, b"right"), rc::LOCKOUT);
        drop(session);
    }
}

/// A PCR is extended once and the journal tells of it, whatever the engine writes beside it.
#[test]
fn a_pcr_is_extended_once_while_the_disk_is_away() {
    let disk = Shared::default();
    let mut session = orderly(&disk);
    disk.take_away();
    let records = session.records_of(|session| {
        session.ok(&command::pcr_extend(8, &[Digest::zero(Algorithm::Sha256)]));
        session.ok(&command::pcr_event(9, b"event"));
        session.ok(&command::pcr_reset(16));
    });
    assert!(!disk.asked().is_empty(), "the engine wrote");
    let extended = |record: &&Record| matches!(record, Record::PcrExtend { .. });
    assert_eq!(records.iter().filter(extended).count(), 2, "{records:?}");
    assert!(
        records.contains(&Record::PcrReset { pcr: 16 }),
        "{records:?}"
    );
    // A dead disk is waited for once.
    assert_eq!(disk.asked().len(), 1);
    disk.bring_back();
    session.ok(&command::nv_write(rh::OWNER, OPEN, 0, &[3; 8]));
}
