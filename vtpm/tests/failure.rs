//! Rather than run unattested, the TPM does not run.

mod support;

use attestation::journal::{PcrMirror, Record};
use attestation::tpm::{rc, rh};
use attestation::window::NV_USER_DATA;
use support::{ScriptedTd, Session, Setup, command};
use vtpm::attested::IdentityTime;
use vtpm::log::MeasureError;
use vtpm::{Engine, EngineFailure, Error, Failure, TrustDomainError};

/// The TDX module refuses every extend from now on.
fn refuse(session: &Session) {
    session.td.script().extends_left = Some(0);
}

fn allow(session: &Session) {
    session.td.script().extends_left = None;
}

#[track_caller]
fn assert_failed_for_good(session: &mut Session) {
    allow(session);
    for command in [
        command::get_random(8),
        command::pcr_event(8, b"event"),
        command::startup(command::CLEAR),
        command::nv_read_public(NV_USER_DATA),
        vec![],
    ] {
        assert_eq!(
            session.execute(&command),
            [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1],
            "TPM_RC_FAILURE"
        );
    }
    assert!(session.tpm.failure().is_some());
    assert!(session.tpm.report([0; 64]).is_err());
    assert_eq!(session.tpm.reset(), Err(EngineFailure));
    assert_eq!(session.code(&command::get_random(8)), rc::FAILURE);
}

#[test]
fn a_command_that_cannot_be_recorded_gets_no_response() {
    let commands: [(&str, Vec<u8>, PcrMirror); 5] = [
        ("commit", command::clear(), PcrMirror::Summary),
        (
            "shutdown",
            command::shutdown(command::CLEAR),
            PcrMirror::Summary,
        ),
        ("extend", command::pcr_event(8, b"event"), PcrMirror::Full),
        ("reset", command::pcr_reset(16), PcrMirror::Full),
        (
            "summary",
            command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[1; 64]),
            PcrMirror::Summary,
        ),
    ];
    for (name, command, mirror) in commands {
        let mut session = Setup::mirror(mirror).start();
        let journal = session.journal();
        refuse(&session);
        assert_eq!(session.code(&command), rc::FAILURE, "{name}");
        assert_failed_for_good(&mut session);
        assert_eq!(
            session.journal(),
            journal,
            "nothing is logged that was not extended"
        );
    }
}

#[test]
fn nothing_of_the_withheld_response_is_left() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    refuse(&session);
    let mut response = [0xaa; 4096];
    let command = command::pcr_event(8, b"event");
    let length = session
        .tpm
        .execute(vtpm::Locality::Zero, &command, &mut response);
    assert_eq!(length, Ok(10));
    let (_, rest) = response.split_at(10);
    let written = rest.iter().take_while(|byte| **byte == 0).count();
    assert!(written > 100 && rest[written..].iter().all(|byte| *byte == 0xaa));
}

#[test]
fn a_reset_that_cannot_be_recorded_ends_the_service() {
    for extends in 0..2 {
        let mut session = Setup::default().start();
        session.td.script().extends_left = Some(extends);
        assert_eq!(session.tpm.reset(), Err(EngineFailure));
        assert_failed_for_good(&mut session);
    }
}

#[test]
fn without_every_extend_of_the_start_there_is_no_tpm() {
    let needed = {
        let session = Setup::mirror(PcrMirror::Full).start();
        session.td.script().extends
    };
    assert_eq!(needed, 3 + 2 + 14);
    for extends in [0, 1, 2, 3, 4, 5, needed - 1] {
        let setup = Setup::mirror(PcrMirror::Full);
        setup.td.script().extends_left = Some(extends);
        assert!(setup.try_start().is_err(), "{extends}");
    }
}

#[test]
fn without_a_report_there_is_no_tpm() {
    let setup = Setup::default();
    setup.td.script().refuse_reports = true;
    let error = setup.try_start().err();
    assert_eq!(error, Some(Error::TrustDomain(TrustDomainError::Report)));
}

#[test]
fn an_rtmr3_that_somebody_else_extended_is_found() {
    let td = ScriptedTd::default();
    td.extend(3, &[1; 48]);
    let setup = Setup {
        td,
        ..Setup::default()
    };
    assert_eq!(setup.try_start().err(), Some(Error::Journal));
}

#[test]
fn a_launch_that_does_not_fit_the_log_is_none() {
    let mut setup = Setup {
        capacity: 300,
        ..Setup::default()
    };
    setup.launch.command_line = vec![b'a'; 200];
    assert_eq!(
        setup.try_start().err(),
        Some(Error::Measure(MeasureError::Full))
    );
}

/// Each says what happened, and that is where the TPM stays.
#[test]
fn every_way_into_failure_is_told_and_kept() {
    let waiting = || Setup {
        identity: IdentityTime::FirstNeed,
        ..Setup::default()
    };
    let needs_identity = command::read_public(rh::AK);

    let mut session = waiting().start();
    refuse(&session);
    assert_eq!(session.code(&needs_identity), rc::FAILURE);
    let unattested = Failure::Unattested(TrustDomainError::Extend(3));
    assert_eq!(session.tpm.failure(), Some(&unattested));
    let report = session.tpm.report([0; 64]);
    assert_eq!(report, Err(Error::Failed(unattested.clone())));
    assert_failed_for_good(&mut session);
    assert_eq!(session.tpm.failure(), Some(&unattested));
    drop(session);

    let mut session = waiting().start();
    session.td.script().refuse_reports = true;
    assert_eq!(session.code(&needs_identity), rc::FAILURE);
    session.td.script().refuse_reports = false;
    let no_identity = Failure::NoIdentity(Box::new(TrustDomainError::Report.into()));
    assert_eq!(session.tpm.failure(), Some(&no_identity));
    assert_failed_for_good(&mut session);
    assert_eq!(session.tpm.failure(), Some(&no_identity));
}

#[test]
fn a_reset_without_random_numbers_says_so() {
    let mut session = Setup::default().start();
    session.td.script().refuse_random = true;
    assert_eq!(session.tpm.reset(), Err(EngineFailure));
    let restart = Failure::Restart(Box::new(TrustDomainError::Random.into()));
    assert_eq!(session.tpm.failure(), Some(&restart));
    session.td.script().refuse_random = false;
    assert_failed_for_good(&mut session);
    assert_eq!(session.tpm.failure(), Some(&restart));
}

#[test]
fn a_report_that_fails_fails_its_command_alone() {
    let mut session = Setup::mirror(PcrMirror::Off).start();
    let write = command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[1; 64]);
    session.ok(&write);
    let former = session.nv_read(attestation::window::NV_REPORT);
    session.td.script().refuse_reports = true;
    assert_eq!(session.code(&write), rc::FAILURE);
    assert_eq!(session.tpm.failure(), None);
    assert_eq!(session.nv_read(attestation::window::NV_REPORT), former);
    session.td.script().refuse_reports = false;
    session.ok(&write);
}

#[test]
fn when_the_log_is_full_the_journal_ends_and_the_tpm_goes_on() {
    let small = 4096;
    let mut session = Setup {
        mirror: PcrMirror::Full,
        capacity: small,
        ..Setup::default()
    }
    .start();
    for number in 0..100u32 {
        session.ok(&command::pcr_event(8, &number.to_be_bytes()));
    }
    let journal = session.journal();
    let (last, before) = journal.split_last().unwrap();
    let records = before.len() as u64;
    assert_eq!(*last, Record::LogFull { records });
    let length = session.tpm.log().bytes().len();
    assert!(length <= small && length > small - 400, "{length}");

    let register = session.td.rtmrs()[3];
    session.ok(&command::clear());
    session.tpm.reset().unwrap();
    assert_eq!(session.td.rtmrs()[3], register, "RTMR3 stays");
    assert_eq!(session.journal(), journal);
    session.ok(&command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[1; 64]));
}
