//! The commands that a guest's software uses, at the engine.

mod support;

use sha2::{Digest, Sha256};
use support::command::{self, Bytes};
use support::{Session, code, sized, u16_at, u32_at};

#[test]
fn smoke() {
    let mut session = Session::open();
    session.fails(&command::get_random(8), command::RC_INITIALIZE);
    session.ok(&command::startup(command::CLEAR));
    let random = session.ok(&command::get_random(8));
    assert_eq!(sized(&random, 10).len(), 8);
    let key = session.ok(&command::create_primary(
        command::RH_ENDORSEMENT,
        &command::ecc_attestation(),
    ));
    session.ok(&command::quote(u32_at(&key, 10), b"n", &[0]));
    let _ = (u16_at, code, Bytes::new, Sha256::new());
}
