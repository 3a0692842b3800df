//! A TPM whose state is kept beyond the TD's life: nothing is answered that is not kept.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::sync::{Arc, Mutex};

use attestation::digest::{Algorithm, Digest};
use attestation::journal::{KeyHalves, Mode, Record, Rollback, StartupType, Unlock};
use attestation::tpm::{Command as Build, Fields, NvPublic, rc, rh};
use sha2::{Digest as _, Sha384};
use support::{Kept, Session, Setup, command};
use vtpm::attested::IdentityTime;
use vtpm::state::{Keeper, NotKept};
use vtpm::{Error, Failure};

/// What the keeper does next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Storage {
    #[default]
    Works,
    Unavailable,
    Over,
}

#[derive(Default)]
struct Disk {
    storage: Storage,
    kept: Vec<Vec<u8>>,
    asked: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Disk>>);

impl Shared {
    fn set(&self, storage: Storage) {
        self.0.lock().unwrap().storage = storage;
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().kept.len()
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    fn last(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().kept.last().cloned()
    }

    fn setup(&self) -> Setup {
        Setup {
            unlock: Some(UNLOCK),
            keeper: Some(Kept {
                state: self.last(),
                keeper: Box::new(self.clone()),
            }),
            ..Setup::default()
        }
    }
}

impl Keeper for Shared {
    fn keep(&mut self, state: &[u8]) -> Result<(), NotKept> {
        let mut disk = self.0.lock().unwrap();
        disk.asked += 1;
        match disk.storage {
            Storage::Works => {
                disk.kept.push(state.to_vec());
                Ok(())
            }
            Storage::Unavailable => Err(NotKept::Unavailable("the disk is away".into())),
            Storage::Over => Err(NotKept::Never("another machine has it".into())),
        }
    }
    fn keep_anew(&mut self, state: &[u8]) -> Result<(), NotKept> {
        self.keep(state)
    }
    fn due(&self) -> Option<u64> {
        Some(DUE)
    }
    fn tend(&mut self, now: u64) -> Result<(), NotKept> {
        assert!(now >= DUE);
        match self.0.lock().unwrap().storage {
            Storage::Works => Ok(()),
            Storage::Unavailable => Err(NotKept::Unavailable("the ledger is away".into())),
            Storage::Over => Err(NotKept::Never("another machine has it".into())),
        }
    }
}

/// When the keeper has something left to do.
const DUE: u64 = 7;

const UNLOCK: Unlock = Unlock {
    machine: [1; 32],
    broker: Some([2; 32]),
    key: KeyHalves::Both,
    rollback: Rollback::Ledger,
    epoch: 3,
    counter: 4,
};

/// TPM2_NV_Increment.
const NV_INCREMENT: u32 = 0x134;
/// TPMA_NV: OWNERWRITE, OWNERREAD, NO_DA; TPM_NT_COUNTER.
const COUNTER: u32 = 0x0202_0012;
const INDEX: u32 = 0x0150_0001;

fn increment() -> Vec<u8> {
    Build::new(NV_INCREMENT)
        .authorized(rh::OWNER, &[])
        .handle(INDEX)
        .to_bytes()
}

fn counter(session: &mut Session) -> u64 {
    let parameters = session.ok(&command::nv_read(rh::OWNER, INDEX, 0, 8));
    let value = Fields::new(&parameters).sized().unwrap();
    u64::from_be_bytes(value.try_into().unwrap())
}

/// A session whose counter is there and was incremented once.
fn with_counter(disk: &Shared) -> Session {
    let mut session = disk.setup().start();
    let public = NvPublic::new(INDEX, COUNTER, 8);
    session.ok(&command::nv_define_space(rh::OWNER, &[], &public));
    session.ok(&increment());
    session
}

#[test]
fn a_command_that_changes_the_state_is_answered_when_it_is_kept_and_once() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    let before = disk.count();
    let records = session.records_of(|session| {
        session.ok(&increment());
    });
    assert_eq!(disk.count(), before + 1);
    let state = Sha384::digest(disk.last().unwrap()).into();
    assert_eq!(records, [Record::NvCommit { state }]);

    // These change nothing that is kept.
    let asked = disk.asked();
    session.ok(&command::get_random(8));
    session.ok(&command::pcr_extend(8, &[Digest::zero(Algorithm::Sha256)]));
    session.ok(&command::pcr_event(9, b"event"));
    counter(&mut session);
    assert_eq!(disk.asked(), asked);
}

#[test]
fn the_journal_tells_what_unlocked_the_state() {
    let disk = Shared::default();
    let session = disk.setup().start();
    let journal = session.journal();
    let [Record::Start(start), unlock, startup] = &journal[..] else {
        panic!("{journal:?}");
    };
    assert_eq!(start.mode, Mode::Persistent);
    assert_eq!(*unlock, Record::Unlock(UNLOCK));
    assert_eq!(*startup, Record::Startup(StartupType::Clear));
}

#[test]
fn all_of_the_start_is_kept_at_once() {
    let disk = Shared::default();
    let session = disk.setup().start();
    assert_eq!(disk.count(), 1);
    drop(session);
    let session = disk.setup().start();
    assert_eq!(disk.count(), 2);
    drop(session);
}

#[test]
fn a_kept_tpm_is_found_again() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    let value = counter(&mut session);
    let names = session.tpm.ek_names().unwrap().clone();
    drop(session);
    let mut session = disk.setup().start();
    assert_eq!(counter(&mut session), value);
    assert_eq!(session.tpm.ek_names(), Some(&names));
}

#[test]
fn what_cannot_be_kept_never_was() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    let value = counter(&mut session);
    session.ok(&command::pcr_event(16, b"event"));
    let banks = session.banks();
    let started = session.journal();

    disk.set(Storage::Unavailable);
    for _ in 0..3 {
        assert_eq!(session.code(&increment()), rc::NV_UNAVAILABLE);
        assert_eq!(
            session.code(&command::nv_undefine_space(rh::OWNER, INDEX)),
            rc::NV_UNAVAILABLE
        );
        assert_eq!(session.code(&command::clear()), rc::NV_UNAVAILABLE);
    }
    // The rest goes on, where it was.
    assert_eq!(counter(&mut session), value);
    session.ok(&command::get_random(8));
    assert_eq!(session.banks(), banks);
    session.ok(&command::pcr_event(16, b"event"));
    assert_eq!(session.journal(), started);

    disk.set(Storage::Works);
    session.ok(&increment());
    assert_eq!(counter(&mut session), value + 1);
    drop(session);
    assert_eq!(counter(&mut disk.setup().start()), value + 1);
}

#[test]
fn a_wrong_authorization_is_counted_however_the_disk_is() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    let index = INDEX + 1;
    // AUTHREAD and AUTHWRITE, under dictionary-attack protection.
    let public = NvPublic::new(index, 0x0004_0004, 8);
    session.ok(&command::nv_define_space(rh::OWNER, b"password", &public));
    let guess = |password: &'static [u8]| command::nv_write((index, password), index, 0, &[0; 8]);

    disk.set(Storage::Unavailable);
    while session.code(&guess(b"guess")) == rc::RETRY {}
    let state = session
        .tpm
        .engine()
        .tpm()
        .state(tpm2_ref_sys::StateKind::Permanent);
    // It has not run when the right one has no better answer than a wrong one.
    assert_eq!(session.code(&guess(b"password")), rc::NV_UNAVAILABLE);
    assert_eq!(session.code(&guess(b"guess")), rc::NV_UNAVAILABLE);
    let after = session
        .tpm
        .engine()
        .tpm()
        .state(tpm2_ref_sys::StateKind::Permanent);
    assert_eq!(state, after);
    session.ok(&command::get_random(8));

    disk.set(Storage::Works);
    let kept = disk.count();
    session.ok(&guess(b"password"));
    assert!(disk.count() > kept);
}

#[test]
fn a_state_that_another_machine_has_ends_the_service() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    disk.set(Storage::Over);
    session.ok(&command::get_random(8));
    let records = session.records_of(|session| {
        assert_eq!(session.code(&increment()), rc::FAILURE);
    });
    let reason = "another machine has it".into();
    assert_eq!(records, [Record::StateRefused { reason }]);
    assert_eq!(
        session.tpm.failure(),
        Some(&Failure::State("another machine has it".into()))
    );
    disk.set(Storage::Works);
    assert_eq!(session.code(&command::get_random(8)), rc::FAILURE);
}

/// What was answered before it was acknowledged, and is refused then.
#[test]
fn a_state_that_another_machine_has_ends_the_service_between_commands() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    assert_eq!(session.tpm.due(), Some(DUE));
    for storage in [Storage::Works, Storage::Unavailable] {
        disk.set(storage);
        let records = session.records_of(|session| session.tpm.tend(DUE));
        assert_eq!(records, []);
        session.ok(&command::get_random(8));
    }
    disk.set(Storage::Over);
    let records = session.records_of(|session| session.tpm.tend(DUE));
    let reason = "another machine has it".into();
    assert_eq!(records, [Record::StateRefused { reason }]);
    assert_eq!(session.tpm.due(), None, "nothing is left to do");
    assert_eq!(session.code(&command::get_random(8)), rc::FAILURE);
}

#[test]
fn no_tpm_starts_whose_state_cannot_be_kept() {
    for storage in [Storage::Unavailable, Storage::Over] {
        let disk = Shared::default();
        disk.set(storage);
        let error = disk.setup().try_start().err().unwrap();
        assert!(matches!(error, Error::Failed(Failure::State(_))), "{error}");
    }
}

#[test]
fn keys_that_are_made_at_first_need_are_kept_before_they_are_seen() {
    let disk = Shared::default();
    let setup = Setup {
        identity: IdentityTime::FirstNeed,
        ..disk.setup()
    };
    let mut session = setup.start();
    disk.set(Storage::Unavailable);
    let read = command::read_public(rh::AK);
    assert_eq!(session.code(&read), rc::NV_UNAVAILABLE);
    disk.set(Storage::Works);
    session.ok(&command::clear());
    session.ok(&read);
    let kept = disk.count();
    let ak = session.tpm.ak().unwrap().clone();
    drop(session);
    assert!(kept > 1);
    assert_eq!(disk.setup().start().tpm.ak(), Some(&ak));
}

#[test]
fn a_reset_is_kept() {
    let disk = Shared::default();
    let mut session = with_counter(&disk);
    let before = disk.count();
    vtpm::Engine::reset(&mut session.tpm).unwrap();
    assert_eq!(disk.count(), before + 1);
    // The guest does not come back to a machine that cannot start for its disk.
    disk.set(Storage::Unavailable);
    vtpm::Engine::reset(&mut session.tpm).unwrap();
    session.ok(&command::get_random(8));
    assert_eq!(session.code(&increment()), rc::NV_UNAVAILABLE);
    disk.set(Storage::Works);
    session.ok(&increment());
    assert_eq!(session.code(&command::nv_read_public(INDEX)), rc::SUCCESS);
}
