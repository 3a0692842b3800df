//! What a TPM is when the guest meets it first.

mod support;

use attestation::event_log::{Log, replay_pcrs};
use attestation::journal::{Mode, PcrMirror, Record, StartupType};
use attestation::tpm::{Public, rh};
use support::{ScriptedTd, Setup, command};
use vtpm::attested::MeasuredLaunch;
use vtpm::log::MeasurementLog;

/// A state that is not given to the TPM is told where a relying party would look, although there is no vTPM.
#[test]
fn a_refused_state_is_measured() {
    let td = ScriptedTd::default();
    let log = MeasurementLog::continuing(None, 1 << 20).unwrap();
    let measured = MeasuredLaunch::new(td.clone(), log, "1.2.3", &support::launch()).unwrap();
    let [.., before] = td.rtmrs();
    measured.refuse("rolled-back").unwrap();
    let [.., after] = td.rtmrs();
    let reason = "rolled-back".into();
    let event = Record::StateRefused { reason }.to_event();
    let digest = attestation::digest::sha384(&event);
    assert_eq!(
        after,
        attestation::digest::sha384(&[before, digest].concat())
    );
    assert!(td.published().ends_with(&event));
}

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
    assert_eq!(start.processors, Some(support::PROCESSORS));
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
