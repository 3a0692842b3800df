//! The state: out, in again, damaged, and stored.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use attestation::tpm::{Scheme, rc, rh};
use support::command;
use support::{Session, Shared, code, u32_at};
use tpm2_ref_sys::{
    Config, ExecuteError, Fault, NvError, NvStore, OpenError, StateError, StateKind, Tpm,
};

#[test]
fn both_states_carry_on_without_startup() {
    let mut session = Session::started();
    session.ok(&command::pcr_extend_sha256(10, &[1; 32]));
    let key = session.ok(&command::create_primary(
        rh::ENDORSEMENT,
        &command::ecc_attestation(),
    ));
    let key = u32_at(&key, 10);
    let pcr = session.ok(&command::pcr_read_sha256(10));
    let public = session.ok(&command::read_public(key));
    let permanent = session.tpm.state(StateKind::Permanent).unwrap();
    let volatile = session.tpm.state(StateKind::Volatile).unwrap();

    // Another TPM, in the same place.
    drop(session);
    let mut session = Session::with(2, support::config());
    session.ok(&command::startup(command::CLEAR));
    assert_ne!(code(&session.run(&command::read_public(key))), 0);
    session.tpm.set_state(&permanent, Some(&volatile)).unwrap();
    assert_eq!(session.ok(&command::pcr_read_sha256(10)), pcr);
    assert_eq!(session.ok(&command::read_public(key)), public);
    session.ok(&command::quote(
        key,
        b"nonce",
        Scheme::Null,
        command::sha256(&[10]),
    ));
}

#[test]
fn permanent_state_alone_is_as_after_a_reset() {
    let mut session = Session::started();
    session.ok(&command::nv_define(0x0180_0001, 4));
    session.ok(&command::nv_write(0x0180_0001, 0x0180_0001, 0, b"kept"));
    let permanent = session.tpm.state(StateKind::Permanent).unwrap();
    drop(session);
    let mut session = Session::with(2, support::config());
    session.tpm.set_state(&permanent, None).unwrap();
    session.fails(&command::pcr_read_sha256(0), rc::INITIALIZE);
    session.ok(&command::startup(command::CLEAR));
    let read = session.ok(&command::nv_read(0x0180_0001, 0x0180_0001, 0, 4));
    assert_eq!(support::sized(&read, 14), b"kept");
}

#[test]
fn damaged_states_are_refused_and_change_nothing() {
    let mut session = Session::started();
    session.ok(&command::pcr_extend_sha256(10, &[1; 32]));
    let pcr = session.ok(&command::pcr_read_sha256(10));
    let permanent = session.tpm.state(StateKind::Permanent).unwrap();
    let volatile = session.tpm.state(StateKind::Volatile).unwrap();
    for position in (0..permanent.len()).step_by(7) {
        let mut damaged = permanent.clone();
        damaged[position] ^= 0xff;
        session.tpm.set_state(&damaged, None).unwrap_err();
    }
    let swapped = session.tpm.set_state(&volatile, Some(&permanent));
    assert_eq!(swapped, Err(StateError::Kind));
    assert_eq!(session.ok(&command::pcr_read_sha256(10)), pcr);
}

#[test]
fn stored_state_makes_the_same_tpm_again() {
    let store = Shared::default();
    let config = || Config {
        store: Box::new(store.clone()),
        ..support::config()
    };
    let make = command::create_primary(rh::OWNER, &command::ecc_storage());
    let mut session = Session::with(1, config());
    session.ok(&command::startup(command::CLEAR));
    let first = session.ok(&make);
    session.ok(&command::nv_define(0x0180_0001, 4));
    session.ok(&command::nv_write(0x0180_0001, 0x0180_0001, 0, b"kept"));
    // Power is lost without a shutdown.
    drop(session);

    let mut session = Session::with(2, config());
    session.ok(&command::startup(command::CLEAR));
    assert_eq!(session.ok(&make)[18..], first[18..]);
    let read = session.ok(&command::nv_read(0x0180_0001, 0x0180_0001, 0, 4));
    assert_eq!(support::sized(&read, 14), b"kept");
    drop(session);

    // And never one from a damaged state.
    let turn = support::turn();
    if let Some(state) = store.0.lock().unwrap().as_mut() {
        let middle = state.len() / 2;
        state[middle] ^= 1;
    }
    let opened = Tpm::open(config());
    assert!(matches!(opened, Err(OpenError::State(StateError::Damaged))));
    drop(turn);
}

static FULL: AtomicBool = AtomicBool::new(false);

struct MayBeFull;

impl NvStore for MayBeFull {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(None)
    }

    fn store(&mut self, _state: &[u8]) -> Result<(), NvError> {
        if FULL.load(Ordering::Relaxed) {
            Err(NvError)
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_change_that_cannot_be_stored_is_not_confirmed() {
    let turn = support::turn();
    FULL.store(false, Ordering::Relaxed);
    let mut session = Session::in_turn(
        turn,
        1,
        Config {
            store: Box::new(MayBeFull),
            ..support::config()
        },
    );
    session.ok(&command::startup(command::CLEAR));
    session.ok(&command::nv_define(0x0180_0001, 4));
    FULL.store(true, Ordering::Relaxed);
    let refused = Err(ExecuteError::Fault(Fault::Nv));
    assert_eq!(
        session.try_run(&command::nv_write(0x0180_0001, 0x0180_0001, 0, b"lost")),
        refused
    );
    assert_eq!(session.try_run(&command::get_random(4)), refused);

    FULL.store(false, Ordering::Relaxed);
    session.tpm.reset().unwrap();
    session.ok(&command::startup(command::CLEAR));
    let read = session.run(&command::nv_read(0x0180_0001, 0x0180_0001, 0, 4));
    assert_eq!(code(&read), 0x14a, "defined, and never written");
}
