//! Which commands the journal in RTMR3 tells, and how.
#![allow(
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::{Command, NvPublic, cc, rc, rh};
use attestation::window::{NV_SELECTOR, NV_USER_DATA};
use support::{Session, Setup, command};
use vtpm::Engine;

/// TPMA_NV: AUTHREAD, AUTHWRITE, OWNERREAD, OWNERWRITE, NO_DA.
const GUESTS: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25;
/// TPMA_NV: PPREAD, PPWRITE, PLATFORMCREATE, NO_DA.
const PLATFORMS: u32 = 1 | 1 << 16 | 1 << 25 | 1 << 30;

/// L1 drew it for the platform hierarchy; no guest knows it.
fn platform_auth(session: &Session) -> Vec<u8> {
    session.td.script().drawn[0].clone()
}

fn is_commit(record: &Record) -> bool {
    matches!(record, Record::NvCommit { .. })
}

/// The records but commits, and how many commits there are.
fn told(records: Vec<Record>) -> (Vec<Record>, usize) {
    let commits = records.iter().filter(|record| is_commit(record)).count();
    let told = records.into_iter().filter(|record| !is_commit(record));
    (told.collect(), commits)
}

fn hierarchy(command: u32, handle: u32, parameters: &[u8]) -> Record {
    Record::Hierarchy {
        command,
        handle,
        parameters: parameters.to_vec(),
    }
}

#[test]
fn each_command_of_the_table_has_its_record() {
    let mut session = Setup::default().start();
    let platform = platform_auth(&session);
    let platforms = 0x0180_0001;
    let index = |defined, attributes| Record::NvIndex {
        defined,
        index: platforms,
        attributes,
    };
    let by_platform = |code| Command::new(code).authorized(rh::PLATFORM, &platform);
    let by_lockout = |code| Command::new(code).authorized(rh::LOCKOUT, &[]);
    let yes = [1];
    let no = [0];
    let attack = [0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 2, 0];
    let no_policy = [0, 0, 0, 0x10];
    let sha256_only = [0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff];
    let cases: [(Vec<u8>, Record); 14] = [
        (
            command::shutdown(command::CLEAR),
            Record::Shutdown(StartupType::Clear),
        ),
        (
            command::shutdown(command::STATE),
            Record::Shutdown(StartupType::State),
        ),
        (
            command::hierarchy_change_auth(rh::OWNER, b"secret"),
            hierarchy(cc::HIERARCHY_CHANGE_AUTH, rh::OWNER, &[]),
        ),
        (
            Command::new(cc::SET_PRIMARY_POLICY)
                .authorized(rh::ENDORSEMENT, &[])
                .bytes(&no_policy)
                .to_bytes(),
            hierarchy(cc::SET_PRIMARY_POLICY, rh::ENDORSEMENT, &no_policy),
        ),
        (
            by_lockout(cc::DICTIONARY_ATTACK_PARAMETERS)
                .bytes(&attack)
                .to_bytes(),
            hierarchy(cc::DICTIONARY_ATTACK_PARAMETERS, rh::LOCKOUT, &attack),
        ),
        (
            by_lockout(cc::CLEAR_CONTROL).bytes(&yes).to_bytes(),
            hierarchy(cc::CLEAR_CONTROL, rh::LOCKOUT, &yes),
        ),
        (
            by_platform(cc::CLEAR_CONTROL).bytes(&no).to_bytes(),
            hierarchy(cc::CLEAR_CONTROL, rh::PLATFORM, &no),
        ),
        (
            command::nv_define_space(
                (rh::PLATFORM, platform.as_slice()),
                &[],
                &NvPublic::new(platforms, PLATFORMS, 8),
            ),
            index(true, PLATFORMS),
        ),
        (
            command::nv_undefine_space((rh::PLATFORM, platform.as_slice()), platforms),
            index(false, PLATFORMS),
        ),
        (
            by_platform(cc::HIERARCHY_CONTROL)
                .u32(rh::ENDORSEMENT)
                .u8(0)
                .to_bytes(),
            hierarchy(cc::HIERARCHY_CONTROL, rh::PLATFORM, &[0x40, 0, 0, 0x0b, 0]),
        ),
        (
            by_platform(cc::PCR_ALLOCATE).bytes(&sha256_only).to_bytes(),
            hierarchy(cc::PCR_ALLOCATE, rh::PLATFORM, &sha256_only),
        ),
        (
            by_platform(cc::CHANGE_PPS).to_bytes(),
            hierarchy(cc::CHANGE_PPS, rh::PLATFORM, &[]),
        ),
        (
            by_platform(cc::CHANGE_EPS).to_bytes(),
            hierarchy(cc::CHANGE_EPS, rh::PLATFORM, &[]),
        ),
        (command::clear(), Record::Clear),
    ];
    for (command, record) in cases {
        let records = session.records_of(|session| {
            session.ok(&command);
        });
        let (told, commits) = told(records);
        assert_eq!(told, [record]);
        assert!(commits <= 1);
    }
}

#[test]
fn commands_that_change_nothing_are_not_told() {
    let mut session = Setup::default().start();
    let extend = [Digest::zero(Algorithm::Sha256)];
    let records = session.records_of(|session| {
        session.ok(&command::get_random(8));
        session.ok(&command::get_capability(6, 0x100, 8));
        session.ok(&command::read_public(rh::AK));
        session.ok(&command::nv_read_public(NV_USER_DATA));
        session.ok(&command::pcr_extend(10, &extend));
        session.ok(&command::pcr_event(11, b"event"));
        session.ok(&command::pcr_reset(16));
    });
    assert_eq!(records, []);
}

#[test]
fn commands_that_failed_are_not_told() {
    let mut session = Setup::default().start();
    let commands = [
        command::startup(command::CLEAR),
        Command::new(cc::SHUTDOWN).u16(7).to_bytes(),
        command::hierarchy_change_auth((rh::OWNER, b"wrong".as_slice()), b"secret"),
        command::hierarchy_change_auth(rh::PLATFORM, &[]),
        command::nv_define_space(rh::PLATFORM, &[], &NvPublic::new(0x0180_0001, PLATFORMS, 8)),
        command::pcr_reset(0),
        Command::new(cc::CLEAR)
            .authorized(rh::PLATFORM, &[])
            .to_bytes(),
        vec![],
        vec![0x80, 0x02, 0, 0, 0, 10, 0, 0, 1, 0x26],
        vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x44],
    ];
    let records = session.records_of(|session| {
        for command in &commands {
            assert_ne!(session.code(command), rc::SUCCESS);
        }
    });
    assert_eq!(records, []);
}

#[test]
fn each_command_that_commits_has_one_record_of_the_state_it_left() {
    let mut session = Setup::default().start();
    let index = 0x0150_0001;
    let records = session.records_of(|session| {
        session.ok(&command::nv_define_space(
            rh::OWNER,
            &[],
            &NvPublic::new(index, GUESTS, 2000),
        ));
        session.ok(&command::nv_write(rh::OWNER, index, 0, &[1; 1000]));
        session.ok(&command::nv_write(index, index, 1000, &[2; 1000]));
        session.ok(&command::nv_undefine_space(rh::OWNER, index));
    });
    assert_eq!(records.len(), 4, "{records:x?}");
    assert!(records.iter().all(is_commit));
    for (at, record) in records.iter().enumerate() {
        assert!(!records[..at].contains(record), "each state is another one");
    }
}

#[test]
fn attestation_itself_does_not_lengthen_the_journal() {
    let mut session = Setup::mirror(PcrMirror::Off).start();
    let records = session.records_of(|session| {
        for nonce in 0..3 {
            session.ok(&command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[nonce; 64]));
            session.ok(&command::nv_write(
                NV_SELECTOR,
                NV_SELECTOR,
                0,
                &[1, 0, 0, 0, 0, 0, 0, 0],
            ));
            for index in command::nv_indices(session) {
                if index != 0x0140_0000 {
                    session.nv_read(index);
                }
            }
        }
    });
    assert_eq!(records, []);
}

#[test]
fn a_reset_is_told_and_starts_the_tpm_again() {
    let mut session = Setup::default().start();
    let measured = session.banks();
    let records = session.records_of(|session| {
        session.ok(&command::pcr_event(4, b"boot loader"));
        session.tpm.reset().unwrap();
    });
    assert_eq!(
        records,
        [Record::Reset, Record::Startup(StartupType::Clear)]
    );
    assert_eq!(
        session.code(&command::startup(command::CLEAR)),
        rc::INITIALIZE
    );
    assert_eq!(session.banks(), measured);
}

#[test]
fn a_summary_comes_before_a_report_if_pcrs_changed() {
    let mut session = Setup::default().start();
    let report = |session: &mut Session| {
        session.records_of(|session| {
            session.ok(&command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[1; 64]));
        })
    };
    let summary = |changes, session: &mut Session| Record::PcrSummary {
        changes,
        banks: attestation::claims::pcr_banks_digest(&session.banks()),
    };
    // L1 has made 14 changes itself.
    let expected = summary(14, &mut session);
    assert_eq!(report(&mut session), [expected]);
    assert_eq!(report(&mut session), []);
    session.ok(&command::pcr_event(9, b"more"));
    session.ok(&command::pcr_reset(23));
    let expected = summary(16, &mut session);
    assert_eq!(report(&mut session), [expected]);
    assert_eq!(report(&mut session), []);
}

#[test]
fn without_a_mirror_nothing_tells_of_pcrs() {
    let mut session = Setup::mirror(PcrMirror::Off).start();
    let records = session.records_of(|session| {
        session.ok(&command::pcr_event(9, b"more"));
        session.ok(&command::nv_write(rh::OWNER, NV_USER_DATA, 0, &[1; 64]));
    });
    assert_eq!(records, []);
}

#[test]
fn an_extend_costs_nothing_of_the_td_unless_it_is_mirrored() {
    for (mirror, cost) in [
        (PcrMirror::Off, 0),
        (PcrMirror::Summary, 0),
        (PcrMirror::Full, 1),
    ] {
        let mut session = Setup::mirror(mirror).start();
        let before = session.td.script().extends;
        session.ok(&command::pcr_event(9, b"more"));
        assert_eq!(session.td.script().extends - before, cost, "{mirror:?}");
    }
}
