//! When the TPM gets its identity, and that nobody can tell.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::{NvPublic, rh};
use attestation::window::NV_USER_DATA;
use support::{Session, Setup, command};
use vtpm::attested::IdentityTime;

/// TPM_RC_FAILURE.
const FAILURE: u32 = 0x101;

fn waiting() -> Setup {
    Setup {
        identity: IdentityTime::FirstNeed,
        ..Setup::default()
    }
}

fn has_begun(session: &Session) -> bool {
    match &session.journal()[..] {
        [] => false,
        [
            Record::Start(start),
            Record::Startup(StartupType::Clear),
            ..,
        ] => {
            assert_eq!(start.eks, *session.tpm.ek_names().unwrap());
            true
        }
        other => panic!("{other:x?}"),
    }
}

fn extend(pcr: u32) -> Vec<u8> {
    command::pcr_extend(pcr, &[Digest::new(Algorithm::Sha256, &[7; 32]).unwrap()])
}

#[test]
fn what_a_booting_kernel_sends_does_not_wait_for_keys() {
    let mut session = waiting().start();
    for command in [
        command::get_random(32),
        command::get_capability(6, 0x100, 8),
        command::get_capability(5, 0, 1),
        extend(10),
        command::pcr_event(11, b"event"),
    ] {
        session.ok(&command);
        assert!(!has_begun(&session));
    }
    session.banks();
    assert!(!has_begun(&session));
    assert_eq!(session.td.rtmrs()[3], [0; 48]);
}

#[test]
fn whatever_could_see_or_hinder_it_finds_it_made() {
    for (name, command) in [
        ("handles", command::get_capability(1, 0x0100_0000, 8)),
        (
            "persistent handles",
            command::get_capability(1, 0x8100_0000, 8),
        ),
        ("certificate", command::nv_read_public(rh::NV_EK_RSA_2048)),
        (
            "user data",
            command::nv_write(NV_USER_DATA, NV_USER_DATA, 0, &[1; 64]),
        ),
        ("AK", command::read_public(rh::AK)),
        ("transient slot", command::event_sequence_start()),
        (
            "NV space",
            command::nv_define_space(rh::OWNER, &[], &NvPublic::new(0x0150_0000, 0x0004_0004, 8)),
        ),
        (
            "hierarchy",
            command::hierarchy_change_auth(rh::ENDORSEMENT, b"secret"),
        ),
        ("clear", command::clear()),
        ("shutdown", command::shutdown(command::CLEAR)),
    ] {
        let mut session = waiting().start();
        session.ok(&command);
        assert!(has_begun(&session), "{name}");
        assert!(session.tpm.ak().is_some());
    }
}

#[test]
fn a_report_tells_what_happened_before_the_journal_began() {
    let mut session = waiting().start();
    session.ok(&extend(10));
    session.tpm.report([3; 64]).unwrap();
    assert!(has_begun(&session));
    let changes = session
        .journal()
        .into_iter()
        .find_map(|record| match record {
            Record::PcrSummary { changes, .. } => Some(changes),
            _ => None,
        });
    // Those of the launch, and one.
    assert_eq!(changes, Some(6 + 8 + 1));
}

#[test]
fn a_full_mirror_begins_at_once() {
    let setup = Setup {
        mirror: PcrMirror::Full,
        ..waiting()
    };
    assert!(has_begun(&setup.start()));
}

#[test]
fn without_a_journal_there_is_no_service() {
    let mut session = waiting().start();
    session.td.script().extends_left = Some(0);
    assert_eq!(session.code(&command::read_public(rh::AK)), FAILURE);
    session.td.script().extends_left = None;
    assert!(session.tpm.failure().is_some());
    assert_eq!(session.code(&command::get_random(8)), FAILURE);
}
