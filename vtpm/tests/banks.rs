//! PCR banks: the TPM has those that the host chose, from its first command on, and the guest cannot choose others.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::digest::{Algorithm, Digests};
use attestation::event_log::{Log, replay_pcrs};
use attestation::journal::{PcrMirror, Record};
use attestation::pcr::{Bank, PcrBanks};
use attestation::tpm::{Command, PcrSelect, PcrSelection, cc, rh};
use support::{Session, Setup, command, launch};
use vtpm::{Engine, Error};

const CHOICES: [&str; 4] = [
    "sha256+sha384",
    "sha1+sha256+sha384",
    "sha256+sha384+sha512",
    "sha1+sha256+sha384+sha512",
];

fn setup(names: &str) -> Setup {
    Setup {
        banks: PcrBanks::from_names(names).unwrap(),
        ..Setup::mirror(PcrMirror::Full)
    }
}

/// TPM2_GetCapability(TPM_CAP_PCRS) and the PCRs themselves.
#[track_caller]
fn assert_has(session: &mut Session, names: &str) {
    let expected = PcrBanks::from_names(names).unwrap();
    let parameters = session.ok(&command::get_capability(5, 0, 1));
    let mut fields = attestation::tpm::Fields::new(&parameters[5..]);
    let allocated = PcrSelection::read(&mut fields).unwrap().0;
    for algorithm in Algorithm::ALL {
        let found = allocated.iter().find(|select| select.bank == algorithm);
        let pcrs = found.map_or([0; 3], |select| select.pcrs);
        let whole = [if expected.contains(algorithm) {
            0xFF
        } else {
            0
        }; 3];
        assert_eq!(pcrs, whole, "{names}: {}", algorithm.name());
    }
    assert!(
        session
            .banks()
            .iter()
            .map(Bank::algorithm)
            .eq(expected.iter())
    );
}

#[test]
fn the_tpm_has_the_chosen_banks_and_its_log_a_digest_for_each() {
    for names in CHOICES {
        let mut session = setup(names).start();
        assert_has(&mut session, names);
        let log = session.tpm.tcg_log().to_vec();
        let replayed = replay_pcrs(&Log::parse(&log).unwrap()).unwrap();
        assert_eq!(replayed, session.banks(), "{names}");
        let Some(Record::Start(start)) = session.journal().into_iter().next() else {
            panic!("no start");
        };
        assert_eq!(start.banks.names(), names);
        // One digest a bank, whatever the guest sends.
        let records = session.records_of(|session| {
            let digests = Digests::of(b"measured").all();
            session.ok(&command::pcr_extend(10, &digests));
        });
        let [Record::PcrExtend { digests, .. }] = &records[..] else {
            panic!("{records:?}");
        };
        assert!(
            digests
                .iter()
                .map(|digest| digest.algorithm())
                .eq(start.banks.iter())
        );
    }
}

#[test]
fn a_reset_keeps_the_banks_and_the_guest_cannot_choose_others() {
    let mut session = setup("sha256+sha384").start();
    let before = session.banks();
    let all = PcrSelection(Algorithm::ALL.map(PcrSelect::all).into()).to_bytes();
    for by in [rh::PLATFORM, rh::OWNER, rh::LOCKOUT] {
        let allocate = Command::new(cc::PCR_ALLOCATE).entity(by).bytes(&all);
        assert_ne!(session.code(&allocate.to_bytes()), 0);
    }
    session.ok(&command::clear());
    session.tpm.reset().unwrap();
    assert_has(&mut session, "sha256+sha384");
    assert_eq!(session.banks(), before);
}

/// A bank that nothing is measured into would be the guest's to fill as it likes.
#[test]
fn a_launch_without_a_digest_for_a_bank_is_refused() {
    let mut launch = launch();
    launch.kernel.sha1 = None;
    let setup = Setup {
        launch,
        ..setup("sha1+sha256+sha384")
    };
    assert_eq!(setup.try_start().err(), Some(Error::Banks));
}
