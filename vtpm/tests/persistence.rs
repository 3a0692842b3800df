//! Starts from the state of an earlier boot, resumes, and engines that fail.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::sync::{Arc, Mutex};

use attestation::digest::Digest;
use attestation::journal::{PcrMirror, Record, StartupType};
use attestation::tpm::{Command as Build, NvPublic, cc, rc, rh};
use proptest::prelude::*;
use sha2::{Digest as _, Sha384};
use support::{Setup, command};
use tpm2_ref_sys::{NvError, NvStore};
use vtpm::reference::Reference;
use vtpm::{Engine, EngineFailure, Locality};

/// A store in memory that outlives its TPM, and can break.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<(Option<Vec<u8>>, bool)>>);

impl Shared {
    fn digest(&self) -> [u8; 48] {
        Sha384::digest(self.0.lock().unwrap().0.as_ref().unwrap()).into()
    }

    fn break_down(&self) {
        self.0.lock().unwrap().1 = true;
    }
}

impl NvStore for Shared {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(self.0.lock().unwrap().0.clone())
    }

    fn store(&mut self, state: &[u8]) -> Result<(), NvError> {
        let mut kept = self.0.lock().unwrap();
        if kept.1 {
            return Err(NvError);
        }
        kept.0 = Some(state.to_vec());
        Ok(())
    }
}

fn setup(store: &Shared) -> Setup {
    Setup {
        store: Box::new(store.clone()),
        ..Setup::default()
    }
}

#[test]
fn the_journal_tells_the_state_that_the_tpm_started_from_and_each_it_left() {
    let store = Shared::default();
    let index = 0x0150_0001;
    let (names, ak) = {
        let mut session = setup(&store).start();
        let records = session.records_of(|session| {
            let define =
                command::nv_define_space(rh::OWNER, &[], &NvPublic::new(index, 0x0206_0006, 8));
            session.ok(&define);
        });
        let state = store.digest();
        assert_eq!(records, [Record::NvCommit { state }]);
        (
            session.tpm.ek_names().unwrap().clone(),
            session.tpm.ak().unwrap().clone(),
        )
    };
    let state = store.digest();
    let mut session = setup(&store).start();
    let Some(Record::Start(start)) = session.journal().into_iter().next() else {
        panic!("no start");
    };
    assert_eq!(start.state, Some(state));
    assert_eq!(start.eks, names);
    assert_eq!(start.ak, ak.name());
    assert_eq!(command::nv_public(&mut session, index).size, 8);
    // The certificates are those of this boot's authority.
    let certificate = session.nv_read(rh::NV_EK_P256);
    assert!(certificate.len() > 500);
    session.ok(&command::read_public(rh::AK));
}

#[test]
fn a_command_that_failed_may_have_changed_the_state() {
    let store = Shared::default();
    let mut session = setup(&store).start();
    let index = 0x0150_0001;
    // AUTHREAD and AUTHWRITE, under dictionary-attack protection.
    let public = NvPublic::new(index, 0x0004_0004, 8);
    session.ok(&command::nv_define_space(rh::OWNER, b"password", &public));
    let guess = command::nv_write((index, b"guess".as_slice()), index, 0, &[0; 8]);
    let records = session.records_of(|session| while session.code(&guess) == rc::RETRY {});
    let state = store.digest();
    assert_eq!(records.last(), Some(&Record::NvCommit { state }));
}

/// An engine whose power goes away and comes back at a command of no specification: nobody but the
/// guest starts it again.
struct PowerCycled {
    engine: Reference,
    /// Whether PCRs can be read afterwards.
    readable: bool,
    cycled: bool,
}

impl PowerCycled {
    const fn new(engine: Reference, readable: bool) -> Self {
        Self {
            engine,
            readable,
            cycled: false,
        }
    }
}

/// TPM_CC with the vendor's bit.
const POWER_CYCLE: u32 = 0x2000_0001;

impl Engine for PowerCycled {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        let code = command.get(6..10);
        if code == Some(&POWER_CYCLE.to_be_bytes()) {
            self.cycled = true;
            self.engine.reset()?;
        }
        if self.cycled && !self.readable && code == Some(&cc::PCR_READ.to_be_bytes()) {
            return Err(EngineFailure);
        }
        self.engine.execute(locality, command, response)
    }

    fn reset(&mut self) -> Result<(), EngineFailure> {
        self.engine.reset()
    }

    fn establishment(&self) -> bool {
        self.engine.establishment()
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        self.engine.reset_establishment(locality)
    }
}

#[test]
fn a_resume_tells_every_pcr() {
    let setup = Setup::mirror(PcrMirror::Full);
    let mut session = setup
        .try_start_behind(|engine| PowerCycled::new(engine, true))
        .unwrap();
    session.ok(&command::pcr_event(10, b"before"));
    session.ok(&command::shutdown(command::STATE));
    session.code(&Build::new(POWER_CYCLE).to_bytes());
    let records = session.records_of(|session| {
        session.ok(&command::startup(command::STATE));
    });
    let (first, values) = records.split_first().unwrap();
    assert_eq!(*first, Record::Startup(StartupType::State));
    let banks = session.banks();
    for (pcr, record) in (0u8..24).zip(values) {
        let values = banks.iter().map(|bank| bank.value(pcr.into()).unwrap());
        let values = values.collect();
        assert_eq!(*record, Record::PcrValue { pcr, values });
    }
}

#[test]
fn pcrs_that_changed_and_cannot_be_told_end_the_service() {
    let setup = Setup::mirror(PcrMirror::Full);
    let mut session = setup
        .try_start_behind(|engine| PowerCycled::new(engine, false))
        .unwrap();
    session.ok(&command::shutdown(command::STATE));
    session.code(&Build::new(POWER_CYCLE).to_bytes());
    assert_eq!(session.code(&command::startup(command::STATE)), rc::FAILURE);
    assert!(session.tpm.failure().is_some());
    assert_eq!(session.code(&command::get_random(8)), rc::FAILURE);
}

#[test]
fn an_engine_that_fails_is_reported_and_can_be_reset() {
    let store = Shared::default();
    let mut session = setup(&store).start();
    store.break_down();
    let mut response = [0; 4096];
    let failed = session
        .tpm
        .execute(Locality::Zero, &command::clear(), &mut response);
    assert_eq!(failed, Err(EngineFailure));
    let again = session
        .tpm
        .execute(Locality::Zero, &command::get_random(8), &mut response);
    assert_eq!(again, Err(EngineFailure));
    store.0.lock().unwrap().1 = false;
    session.tpm.reset().unwrap();
    assert!(session.tpm.failure().is_none());
    assert_eq!(session.code(&command::get_random(8)), rc::SUCCESS);
}

#[test]
fn mutated_commands_get_responses() {
    let mut session = Setup::mirror(PcrMirror::Full).start();
    let bases: Vec<Vec<u8>> = vec![
        command::pcr_extend(8, &[Digest::zero(attestation::digest::Algorithm::Sha256)]),
        command::pcr_event(8, b"event"),
        command::event_sequence_complete(8, 0x8000_0000, b"data"),
        command::nv_write(rh::OWNER, attestation::window::NV_USER_DATA, 0, &[1; 64]),
        command::nv_write(rh::OWNER, attestation::window::NV_SELECTOR, 0, &[1; 8]),
        command::nv_define_space(
            rh::PLATFORM,
            &[],
            &NvPublic::new(0x0180_0000, 0x4201_0001, 8),
        ),
        command::nv_undefine_space(rh::OWNER, rh::NV_EK_CHAIN),
        command::nv_read(rh::OWNER, rh::NV_EK_CHAIN, 0, 100),
        command::get_capability(1, 0x0100_0000, 100),
        command::hierarchy_change_auth(rh::OWNER, b"secret"),
        command::shutdown(command::STATE),
        command::clear(),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = (
        prop::sample::select(bases),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    let session = std::cell::RefCell::new(&mut session);
    runner
        .run(&strategy, |(mut command, changes, length, cut)| {
            for (at, byte) in changes {
                let at = at.index(command.len());
                command[at] = byte;
            }
            if cut {
                command.truncate(length.index(command.len()));
            }
            let response = session.borrow_mut().execute(&command);
            prop_assert!(response.len() >= 10);
            Ok(())
        })
        .unwrap();
    session.borrow().journal();
}
