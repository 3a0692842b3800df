//! With the same entropy, clock and commands the engine makes the same keys and numbers, hosted or
//! not: these are the values.

mod support;

use attestation::tpm::{Public, rh};
use sha2::{Digest, Sha256};
use support::command;
use support::{Session, sized};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digest of the public area that TPM2_CreatePrimary returns.
fn primary(session: &mut Session, hierarchy: u32, template: &Public) -> String {
    let created = session.ok(&command::create_primary(hierarchy, template));
    let handle = support::u32_at(&created, 10);
    session.ok(&command::flush_context(handle));
    hex(&Sha256::digest(sized(&created, 18)))
}

#[test]
fn seeded_tpm_is_always_the_same() {
    let mut session = Session::started();
    assert_eq!(
        hex(sized(&session.ok(&command::get_random(16)), 10)),
        "5ea41aa57677aacc7da0d6244e1c0291"
    );
    assert_eq!(
        primary(&mut session, rh::ENDORSEMENT, &command::ecc_attestation()),
        "5bb4cd69c94ed32276baf04cef966235df291dd798edfea3cfb04a28e37d486e"
    );
    assert_eq!(
        primary(&mut session, rh::OWNER, &command::rsa_storage()),
        "4d046d10dbef821438577168d2792a754a174ed9518518df3f04f602acee9b9b"
    );
}

#[test]
fn another_seed_makes_another_tpm() {
    let numbers = [1, 2].map(|seed| {
        let mut session = Session::with(seed, support::config());
        session.ok(&command::startup(command::CLEAR));
        primary(&mut session, rh::ENDORSEMENT, &command::ecc_attestation())
    });
    assert_ne!(numbers[0], numbers[1]);
}
