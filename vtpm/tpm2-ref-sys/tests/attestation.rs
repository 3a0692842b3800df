//! Quotes, checked by cryptography that is not the engine's.
#![allow(
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::tpm::{PcrSelection, Scheme, rh};
use p256::ecdsa::signature::Verifier;
use rsa::{BoxedUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};
use support::command;
use support::{Session, sized, u16_at, u32_at};

const NONCE: &[u8] = b"a nonce of the verifier";
const PCRS: [u8; 3] = [0, 9, 23];

/// The TPMT_PUBLIC of TPM2_CreatePrimary's response, from behind its authorization policy.
fn public_parameters(created: &[u8]) -> &[u8] {
    let public = sized(created, 18);
    &public[8 + 2 + sized(public, 8).len()..]
}

struct Quote {
    attest: Vec<u8>,
    /// TPMT_SIGNATURE behind its two algorithms.
    signature: Vec<u8>,
}

fn quote(session: &mut Session, key: u32) -> Quote {
    session.ok(&command::pcr_extend_sha256(9, &[0x77; 32]));
    let response = session.ok(&command::quote(
        key,
        NONCE,
        Scheme::Null,
        command::sha256(&PCRS),
    ));
    let attest = sized(&response, 14).to_vec();
    let signature = response[16 + attest.len() + 4..].to_vec();
    Quote { attest, signature }
}

/// TPMS_ATTEST of TPM2_Quote: this nonce, these PCRs and their digest.
fn check_attest(session: &mut Session, attest: &[u8]) {
    assert_eq!(u32_at(attest, 0), 0xff54_4347, "TPM_GENERATED_VALUE");
    assert_eq!(u16_at(attest, 4), 0x8018, "TPM_ST_ATTEST_QUOTE");
    let at = 8 + sized(attest, 6).len();
    assert_eq!(sized(attest, at), NONCE);
    let at = at + 2 + NONCE.len() + 17 + 8; // clock information, firmware version
    let selection = PcrSelection::from(command::sha256(&PCRS)).to_bytes();
    assert_eq!(attest[at..at + selection.len()], selection);
    let mut values = Sha256::new();
    for pcr in PCRS {
        let read = session.ok(&command::pcr_read_sha256(pcr));
        values.update(sized(&read, 28));
    }
    assert_eq!(
        sized(attest, at + selection.len()),
        values.finalize().as_slice()
    );
}

#[test]
fn ecc_quote_verifies_outside() {
    let mut session = Session::started();
    let created = session.ok(&command::create_primary(
        rh::ENDORSEMENT,
        &command::ecc_attestation(),
    ));
    let parameters = public_parameters(&created);
    let x = sized(parameters, 10); // symmetric, scheme and hash, curve, KDF
    let y = sized(parameters, 12 + x.len());
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&[&[4], x, y].concat()).unwrap();

    let Quote { attest, signature } = quote(&mut session, u32_at(&created, 10));
    check_attest(&mut session, &attest);
    let scalar = |bytes: &[u8]| -> [u8; 32] {
        let mut scalar = [0; 32];
        scalar[32 - bytes.len()..].copy_from_slice(bytes);
        scalar
    };
    let r = sized(&signature, 0);
    let s = sized(&signature, 2 + r.len());
    let signature = p256::ecdsa::Signature::from_scalars(scalar(r), scalar(s)).unwrap();
    key.verify(&attest, &signature).unwrap();
    let mut changed = attest;
    changed[20] ^= 1;
    key.verify(&changed, &signature).unwrap_err();
}

#[test]
fn rsa_quote_verifies_outside() {
    let mut session = Session::started();
    let created = session.ok(&command::create_primary(
        rh::ENDORSEMENT,
        &command::rsa_attestation(),
    ));
    let parameters = public_parameters(&created);
    let modulus = sized(parameters, 12); // symmetric, scheme and hash, bits, exponent
    assert_eq!(modulus.len(), 256);
    let key = RsaPublicKey::new(
        BoxedUint::from_be_slice(modulus, 2048).unwrap(),
        BoxedUint::from(65537u32),
    )
    .unwrap();

    let Quote { attest, signature } = quote(&mut session, u32_at(&created, 10));
    check_attest(&mut session, &attest);
    let signature = sized(&signature, 0);
    let verify = |attest: &[u8]| {
        key.verify(
            Pkcs1v15Sign::new::<Sha256>(),
            &Sha256::digest(attest),
            signature,
        )
    };
    verify(&attest).unwrap();
    let mut changed = attest;
    changed[20] ^= 1;
    verify(&changed).unwrap_err();
}
