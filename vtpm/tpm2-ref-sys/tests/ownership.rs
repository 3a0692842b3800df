//! One engine a process, one thread at a time.

mod support;

use std::thread;
use std::time::Duration;

use attestation::tpm::rh;
use support::command;
use support::{Session, code};
use tpm2_ref_sys::{OpenError, Tpm};

#[test]
fn a_second_tpm_is_refused_until_the_first_is_gone() {
    let session = Session::open();
    let second = Tpm::open(support::config());
    assert!(matches!(second, Err(OpenError::InUse)));
    drop(session);
    drop(Session::open());
}

#[test]
fn engine_works_on_whichever_thread_opened_it() {
    for _ in 0..4 {
        thread::spawn(|| {
            let mut session = Session::started();
            session.ok(&command::create_primary(
                rh::NULL,
                &command::ecc_attestation(),
            ));
        })
        .join()
        .unwrap();
    }
}

#[test]
fn cancel_between_commands_does_nothing() {
    let mut session = Session::started();
    session.tpm.cancel_handle().cancel();
    session.ok(&command::create_primary(
        rh::NULL,
        &command::rsa_attestation(),
    ));
}

#[test]
fn a_running_command_can_be_canceled_from_another_thread() {
    const CANCELED: u32 = 0x909;
    let mut session = Session::started();
    // RSA-3072: long enough that one of many requests meets it running.
    let long = command::create_primary(rh::NULL, &command::rsa_3072_attestation());
    let handle = session.tpm.cancel_handle();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let canceler = thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(1)).is_err() {
            handle.cancel();
        }
    });
    let response = session.run(&long);
    stop.send(()).unwrap();
    canceler.join().unwrap();
    assert_eq!(code(&response), CANCELED);
    session.ok(&command::get_random(8));
}
