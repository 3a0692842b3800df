//! No entropy, no service. The stock engine goes on with the time and the process number.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use attestation::tpm::rh;
use support::Session;
use support::command;
use tpm2_ref_sys::{Config, ExecuteError, Fault, NoEntropy, OpenError, Tpm};

#[test]
fn a_tpm_is_not_manufactured_without_entropy() {
    let _turn = support::turn();
    let opened = Tpm::open(Config {
        entropy: support::dead,
        ..support::config()
    });
    assert!(matches!(opened, Err(OpenError::Fault(Fault::Entropy))));
    // And the failed one is out of the way.
    drop(Tpm::open(support::config()).unwrap());
}

static DEAD: AtomicBool = AtomicBool::new(false);

fn switched(into: &mut [u8]) -> Result<(), NoEntropy> {
    if DEAD.load(Ordering::Relaxed) {
        // A source that fills something before it fails must not be believed either.
        into.fill(0x55);
        return Err(NoEntropy);
    }
    support::seeded(into)
}

fn switched_session() -> Session {
    let turn = support::turn();
    DEAD.store(false, Ordering::Relaxed);
    Session::in_turn(
        turn,
        1,
        Config {
            entropy: switched,
            ..support::config()
        },
    )
}

#[test]
fn startup_fails_without_entropy_and_so_does_all_that_follows() {
    let mut session = switched_session();
    DEAD.store(true, Ordering::Relaxed);
    let refused = Err(ExecuteError::Fault(Fault::Entropy));
    assert_eq!(session.try_run(&command::startup(command::CLEAR)), refused);
    DEAD.store(false, Ordering::Relaxed);
    assert_eq!(session.try_run(&command::get_random(16)), refused);
    assert_eq!(session.try_run(&command::self_test(false)), refused);

    session.tpm.reset().unwrap();
    session.ok(&command::startup(command::CLEAR));
    session.ok(&command::get_random(16));
}

/// OpenSSL draws directly for an RSA key.
#[test]
fn a_key_is_not_created_without_entropy() {
    let rsa_key = command::rsa_signing();
    let mut session = switched_session();
    session.ok(&command::startup(command::CLEAR));
    let parent = session.ok(&command::create_primary(rh::OWNER, &command::ecc_storage()));
    let parent = support::u32_at(&parent, 10);
    let create = command::create(parent, &[], &rsa_key.to_bytes());
    session.ok(&create);
    DEAD.store(true, Ordering::Relaxed);
    assert_eq!(
        session.try_run(&create),
        Err(ExecuteError::Fault(Fault::Entropy))
    );
}
