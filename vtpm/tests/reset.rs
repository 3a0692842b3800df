//! The platform is reset: _TPM_Init, and what firmware does after it.

mod support;

use attestation::digest::Algorithm;
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::{commands, rh};
use support::{Session, Setup, command};
use tcg_defs::ptp::fifo as register;
use vtpm::attested::IdentityTime;
use vtpm::ptp::Interface;
use vtpm::{Engine, EngineFailure, Failure, TrustDomainError};

fn waiting() -> Setup {
    Setup {
        identity: IdentityTime::FirstNeed,
        ..Setup::default()
    }
}

fn extend(session: &mut Session) {
    let digest = Algorithm::Sha256.digest(b"event");
    session.ok(&command::pcr_extend(10, &[digest]));
}

#[test]
fn a_reset_makes_no_keys_and_is_told_when_the_journal_begins() {
    let mut session = waiting().start();
    let measured = session.banks();
    for _ in 0..2 {
        extend(&mut session);
        session.tpm.reset().unwrap();
        assert_eq!(session.banks(), measured);
        assert_eq!(session.tpm.ak(), None);
        assert_eq!(session.journal(), []);
    }
    session.ok(&command::read_public(rh::AK));
    let startup = Record::Startup(StartupType::Clear);
    let [first, rest @ ..] = &session.journal()[..] else {
        panic!("the journal has begun");
    };
    assert!(matches!(first, Record::Start(_)), "{first:x?}");
    assert_eq!(
        rest,
        [
            startup.clone(),
            Record::Reset,
            startup.clone(),
            Record::Reset,
            startup.clone()
        ]
    );
    // From then on at once.
    let records = session.records_of(|session| session.tpm.reset().unwrap());
    assert_eq!(records, [Record::Reset, startup]);
}

#[test]
fn a_summary_counts_what_was_changed_before_a_reset() {
    let mut session = waiting().start();
    extend(&mut session);
    session.tpm.reset().unwrap();
    session.tpm.report([3; 64]).unwrap();
    let Some(Record::PcrSummary { changes, .. }) = session.journal().pop() else {
        panic!("no summary");
    };
    // Twice those of the launch, and one.
    assert_eq!(changes, 2 * (6 + 8) + 1);
}

#[test]
fn resets_that_cannot_be_told_when_the_journal_begins_end_the_service() {
    for extends in 0..4 {
        let mut session = waiting().start();
        session.tpm.reset().unwrap();
        session.td.script().extends_left = Some(extends);
        assert_ne!(session.code(&command::read_public(rh::AK)), 0);
        let unattested = Failure::Unattested(TrustDomainError::Extend(3));
        assert_eq!(session.tpm.failure(), Some(&unattested), "{extends}");
    }
}

#[test]
fn many_resets_before_the_journal_do_not_outlast_the_log() {
    let mut setup = waiting();
    setup.capacity = 8192;
    let mut session = setup.start();
    for _ in 0..50 {
        session.tpm.reset().unwrap();
    }
    session.ok(&command::read_public(rh::AK));
    let journal = session.journal();
    assert!(matches!(journal.last(), Some(Record::LogFull { .. })));
    assert!(matches!(journal.first(), Some(Record::Start(_))));
}

#[test]
fn a_reset_of_a_mirrored_tpm_tells_what_was_measured_again() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    let records = session.records_of(|session| session.tpm.reset().unwrap());
    let startup = Record::Startup(StartupType::Clear);
    assert_eq!(records[..2], [Record::Reset, startup]);
    assert_eq!(records.len(), 2 + 6 + 8);
    let is_extend = |record: &Record| matches!(record, Record::PcrExtend { .. });
    assert!(records[2..].iter().all(is_extend));
}

/// resetCount and restartCount.
fn counts(session: &mut Session) -> (u32, u32) {
    // Header, TPMS_TIME_INFO: time and clock, then the counts.
    const COUNTS: usize = 10 + 8 + 8;
    let response = session.execute(&commands::read_clock());
    let count = |at: usize| {
        let bytes = response.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes))
    };
    (count(COUNTS), count(COUNTS + 4))
}

/// TPM 2.0 Library, part 1, "Startup State Transitions": TPM Reset, and TPM Restart after TPM2_Shutdown(STATE).
#[test]
fn a_reset_counts_as_the_library_says() {
    let mut session = waiting().start();
    let measured = session.banks();
    let (mut resets, mut restarts) = counts(&mut session);
    for before in [None, Some(StartupType::Clear), Some(StartupType::State)] {
        extend(&mut session);
        if let Some(kind) = before {
            session.ok(&commands::shutdown(kind));
        }
        session.tpm.reset().unwrap();
        (resets, restarts) = match before {
            Some(StartupType::State) => (resets, restarts + 1),
            _ => (resets + 1, 0),
        };
        assert_eq!(counts(&mut session), (resets, restarts), "{before:?}");
        assert_eq!(session.banks(), measured, "{before:?}");
    }
}

/// _TPM_Init before anything that can fail: nothing volatile outlives the reset.
#[test]
fn a_tpm_in_failure_mode_is_reset_and_stays_in_it() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    session.td.script().extends_left = Some(0);
    session.code(&command::pcr_event(8, b"event"));
    session.td.script().extends_left = None;
    let failure = session.tpm.failure().cloned();
    assert!(failure.is_some());
    assert_eq!(session.tpm.reset(), Err(EngineFailure));
    assert_eq!(session.tpm.failure().cloned(), failure);
    assert_eq!(session.code(&command::get_random(8)), 0x101);
}

/// As the machine does it: through the registers.
#[test]
fn a_reset_of_the_registers_resets_the_tpm_behind_them() {
    let session = waiting().start();
    let mut interface = Interface::new(session.tpm);
    let run = |interface: &mut Interface<_>, command: &[u8]| {
        interface.write(register::ACCESS, &[0x02]);
        interface.write(register::STS, &[0x40]);
        for byte in command {
            interface.write(register::DATA_FIFO, &[*byte]);
        }
        interface.write(register::STS, &[0x20]);
        let mut header = [0; 10];
        for byte in &mut header {
            interface.read(register::DATA_FIFO, core::slice::from_mut(byte));
        }
        u32::from_be_bytes(header[6..].try_into().unwrap())
    };
    let shutdown = command::shutdown(command::CLEAR);
    assert_eq!(run(&mut interface, &command::get_random(8)), 0);
    interface.reset().unwrap();
    assert_eq!(interface.engine().ak(), None);
    let mut access = [0];
    interface.read(register::ACCESS, &mut access);
    assert_eq!(access, [0x81], "nobody has the TPM");
    // It has been started again.
    assert_eq!(run(&mut interface, &command::get_random(8)), 0);
    assert_eq!(run(&mut interface, &shutdown), 0);
    assert!(interface.engine().ak().is_some());
}
