//! Public areas to create the vTPM's keys from.
//!
//! EKs: TCG EK Credential Profile for TPM Family 2.0, Level 0, version 2.5, annex B ("Default EK
//! Templates"): L-1, L-2 and H-3.

use super::{Curve, Key, ObjectAttributes, Public, Scheme, Symmetric};
use crate::digest::Algorithm;
use alloc::vec;
use alloc::vec::Vec;

/// PolicyA for SHA-256: TPM2_PolicySecret(TPM_RH_ENDORSEMENT).
pub const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];

/// PolicyB for SHA-384: TPM2_PolicyOR of PolicyA and PolicyC.
pub const POLICY_B_SHA384: [u8; 48] = [
    0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A,
    0x07, 0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA,
    0xCB, 0x47, 0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12,
];

/// Attributes of an EK of the low range.
const EK_LOW: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .union(ObjectAttributes::FIXED_PARENT)
    .union(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .union(ObjectAttributes::ADMIN_WITH_POLICY)
    .union(ObjectAttributes::RESTRICTED)
    .union(ObjectAttributes::DECRYPT);

/// Attributes of an EK of the high range.
const EK_HIGH: ObjectAttributes = EK_LOW.union(ObjectAttributes::USER_WITH_AUTH);

/// Attributes of the AK. It has an empty authorization, so there is nothing that dictionary-attack
/// protection could protect.
const AK: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .union(ObjectAttributes::FIXED_PARENT)
    .union(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .union(ObjectAttributes::USER_WITH_AUTH)
    .union(ObjectAttributes::NO_DA)
    .union(ObjectAttributes::RESTRICTED)
    .union(ObjectAttributes::SIGN);

/// Template L-1: EK, RSA-2048.
pub fn ek_rsa_2048() -> Public {
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: EK_LOW,
        auth_policy: POLICY_A_SHA256.to_vec(),
        symmetric: Symmetric::AesCfb(128),
        scheme: Scheme::Null,
        key: Key::Rsa {
            bits: 2048,
            exponent: 0,
            modulus: vec![0; 256],
        },
    }
}

/// Template L-2: EK, P-256.
pub fn ek_p256() -> Public {
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: EK_LOW,
        auth_policy: POLICY_A_SHA256.to_vec(),
        symmetric: Symmetric::AesCfb(128),
        scheme: Scheme::Null,
        key: Key::Ecc {
            curve: Curve::P256,
            x: vec![0; 32],
            y: vec![0; 32],
        },
    }
}

/// Template H-3: EK, P-384.
pub fn ek_p384() -> Public {
    Public {
        name_algorithm: Algorithm::Sha384,
        attributes: EK_HIGH,
        auth_policy: POLICY_B_SHA384.to_vec(),
        symmetric: Symmetric::AesCfb(256),
        scheme: Scheme::Null,
        key: Key::Ecc {
            curve: Curve::P384,
            x: Vec::new(),
            y: Vec::new(),
        },
    }
}

/// The AK: RSA-2048, restricted, RSASSA with SHA-256, in the endorsement hierarchy.
pub fn ak_rsa_2048() -> Public {
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: AK,
        auth_policy: Vec::new(),
        symmetric: Symmetric::Null,
        scheme: Scheme::RsaSsa(Algorithm::Sha256),
        key: Key::Rsa {
            bits: 2048,
            exponent: 0,
            modulus: Vec::new(),
        },
    }
}
