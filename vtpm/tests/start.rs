//! What a TPM is when the guest meets it first.

mod support;

use attestation::event_log::{Log, replay_pcrs};
use attestation::journal::{Mode, PcrMirror, Record, StartupType};
use attestation::tpm::{Public, rh};
use support::{Setup, command};

#[test]
fn the_journal_begins_with_start_and_startup() {
    let session = Setup::default().start();
    let journal = session.journal();
    let [Record::Start(start), Record::Startup(StartupType::Clear)] = &journal[..] else {
        panic!("{journal:x?}");
    };
    assert_eq!(
        (start.engine.as_str(), start.interface.as_str()),
        (tpm2_ref_sys::ENGINE, "PTP FIFO")
    );
    assert_eq!(
        (start.mode, start.mirror, start.state),
        (Mode::Ephemeral, PcrMirror::Summary, None)
    );
    assert_eq!(start.eks, *session.tpm.ek_names().unwrap());
    assert_eq!(start.ak, session.tpm.ak().unwrap().name());
}

#[test]
fn pcrs_are_what_the_tcg_log_says() {
    let mut session = Setup::default().start();
    let replayed = {
        let log = Log::parse(session.tpm.tcg_log()).unwrap();
        assert_eq!(log.events.len(), 6 + 8);
        replay_pcrs(&log).unwrap()
    };
    assert_eq!(session.banks(), replayed);
}

#[test]
fn the_ak_is_at_its_handle() {
    let mut session = Setup::default().start();
    let parameters = session.ok(&command::read_public(rh::AK));
    let public = attestation::tpm::Fields::new(&parameters).sized().unwrap();
    assert_eq!(Public::parse(public).unwrap(), *session.tpm.ak().unwrap());
}
