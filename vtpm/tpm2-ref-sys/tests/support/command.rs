//! Templates of keys, and commands with what these tests leave to a default.

use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{
    Curve, Key, NvPublic, ObjectAttributes, PcrSelect, Public, Put, Scheme, Symmetric, alg, rh,
};

pub use attestation::journal::StartupType;
pub use attestation::tpm::commands::*;

pub const CLEAR: StartupType = StartupType::Clear;
pub const STATE: StartupType = StartupType::State;

/// PCRs of the SHA-256 bank.
pub fn sha256(pcrs: &[u8]) -> PcrSelect {
    PcrSelect::of(Algorithm::Sha256, pcrs.iter().copied())
}

pub fn pcr_read_sha256(pcr: u8) -> Vec<u8> {
    pcr_read(sha256(&[pcr]))
}

pub fn pcr_extend_sha256(pcr: u32, digest: &[u8; 32]) -> Vec<u8> {
    pcr_extend(pcr, &[Digest::new(Algorithm::Sha256, digest).unwrap()])
}

/// Of an index that its own authorization reads and writes: NO_DA, AUTHREAD, AUTHWRITE.
pub fn nv_define(index: u32, size: u16) -> Vec<u8> {
    let public = NvPublic::new(index, 0x0204_0004, size);
    nv_define_space(rh::OWNER, &[], &public)
}

const OF_THIS_TPM: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .union(ObjectAttributes::FIXED_PARENT)
    .union(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .union(ObjectAttributes::USER_WITH_AUTH);
const RESTRICTED_STORAGE: ObjectAttributes = OF_THIS_TPM
    .union(ObjectAttributes::RESTRICTED)
    .union(ObjectAttributes::DECRYPT);
const RESTRICTED_SIGNING: ObjectAttributes = OF_THIS_TPM
    .union(ObjectAttributes::RESTRICTED)
    .union(ObjectAttributes::SIGN);
const SIGNING: ObjectAttributes = OF_THIS_TPM.union(ObjectAttributes::SIGN);

/// With AES-128-CFB and without scheme for storage, with `scheme` for signing.
fn template(attributes: ObjectAttributes, scheme: Scheme, key: Key) -> Public {
    let storage = attributes.contains(ObjectAttributes::DECRYPT);
    let (symmetric, scheme) = match storage {
        true => (Symmetric::AesCfb(128), Scheme::Null),
        false => (Symmetric::Null, scheme),
    };
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes,
        auth_policy: Vec::new(),
        symmetric,
        scheme,
        key,
    }
}

fn rsa(attributes: ObjectAttributes, bits: u16) -> Public {
    let key = Key::Rsa {
        bits,
        exponent: 0,
        modulus: Vec::new(),
    };
    template(attributes, Scheme::RsaSsa(Algorithm::Sha256), key)
}

fn ecc(attributes: ObjectAttributes) -> Public {
    let key = Key::Ecc {
        curve: Curve::P256,
        x: Vec::new(),
        y: Vec::new(),
    };
    template(attributes, Scheme::Ecdsa(Algorithm::Sha256), key)
}

pub fn rsa_storage() -> Public {
    rsa(RESTRICTED_STORAGE, 2048)
}
pub fn rsa_attestation() -> Public {
    rsa(RESTRICTED_SIGNING, 2048)
}
/// RSA-3072: takes long to make.
pub fn rsa_3072_attestation() -> Public {
    rsa(RESTRICTED_SIGNING, 3072)
}
pub fn rsa_signing() -> Public {
    rsa(SIGNING, 2048)
}
pub fn ecc_storage() -> Public {
    ecc(RESTRICTED_STORAGE)
}
pub fn ecc_attestation() -> Public {
    ecc(RESTRICTED_SIGNING)
}
pub fn ecc_signing() -> Public {
    ecc(SIGNING)
}

/// TPMT_PUBLIC of sealed data that only `policy` opens.
pub fn sealed(policy: &[u8]) -> Vec<u8> {
    let attributes = ObjectAttributes::FIXED_TPM.union(ObjectAttributes::FIXED_PARENT);
    let mut public = Vec::new();
    public.put_u16(alg::KEYED_HASH);
    public.put_u16(alg::SHA256);
    public.put_u32(attributes.0);
    public.put_sized(policy);
    public.put_u16(alg::NULL);
    public.put_sized(&[]);
    public
}
