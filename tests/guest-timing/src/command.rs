//! The commands that are timed, with names for messages.

use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{
    Curve, Key, NvPublic, ObjectAttributes, PcrSelect, Public, Response, Scheme, Symmetric,
    commands, rh,
};

/// An index of the owner's, and bytes of its content.
const INDEX: u32 = 0x0150_0F16;
pub(crate) const INDEX_SIZE: u16 = 64;
/// As many as one command moves.
pub(crate) const LONG_INDEX_SIZE: u16 = 1024;
/// TPMA_NV_OWNERWRITE, TPMA_NV_OWNERREAD, TPMA_NV_NO_DA.
const INDEX_ATTRIBUTES: u32 = 1 << 1 | 1 << 17 | 1 << 25;

/// TPM_CAP_TPM_PROPERTIES, the first of the fixed ones (TPM_PT_FIXED), and how many are asked for.
const CAP_TPM_PROPERTIES: u32 = 6;
const PT_FIXED: u32 = 0x100;
const PROPERTIES: u32 = 40;

/// What the guest quotes with.
#[derive(Clone, Copy)]
pub(crate) enum SigningKey {
    /// P-256, ECDSA with SHA-256.
    P256,
    /// RSA-2048, RSASSA with SHA-256.
    Rsa2048,
    /// The same with RSA-3072.
    Rsa3072,
}

/// A command's bytes and its name.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Command {
    pub(crate) fn get_random(count: u16) -> Self {
        Self {
            name: "GetRandom",
            bytes: commands::get_random(count),
        }
    }

    pub(crate) fn pcr_extend_sha256(pcr: u32) -> Self {
        let digest = Digest::new(Algorithm::Sha256, &[0x5A; 32]);
        let digests: Vec<Digest> = digest.into_iter().collect();
        Self {
            name: "PCR_Extend",
            bytes: commands::pcr_extend(pcr, &digests),
        }
    }

    pub(crate) fn pcr_read_sha256() -> Self {
        Self {
            name: "PCR_Read",
            bytes: commands::pcr_read(first_pcrs()),
        }
    }

    /// Properties of the TPM: a response that is long beside the work for it.
    pub(crate) fn get_properties() -> Self {
        Self {
            name: "GetCapability",
            bytes: commands::get_capability(CAP_TPM_PROPERTIES, PT_FIXED, PROPERTIES),
        }
    }

    pub(crate) fn self_test() -> Self {
        Self {
            name: "SelfTest",
            bytes: commands::self_test(true),
        }
    }

    pub(crate) fn quote(handle: u32, key: SigningKey) -> Self {
        Self {
            name: "Quote",
            bytes: commands::quote(handle, &[0xA5; 20], key.scheme(), first_pcrs()),
        }
    }

    /// A primary key of the null hierarchy.
    pub(crate) fn create_primary(key: SigningKey) -> Self {
        Self {
            name: "CreatePrimary",
            bytes: commands::create_primary(rh::NULL, &key.template()),
        }
    }

    /// An ordinary index of the owner's, whose authorization value is empty.
    pub(crate) fn nv_define(size: u16) -> Self {
        let public = NvPublic::new(INDEX, INDEX_ATTRIBUTES, size);
        Self {
            name: "NV_DefineSpace",
            bytes: commands::nv_define_space(rh::OWNER, &[], &public),
        }
    }

    /// Fills that index with this byte.
    pub(crate) fn nv_write(size: u16, byte: u8) -> Self {
        Self {
            name: "NV_Write",
            bytes: commands::nv_write(rh::OWNER, INDEX, 0, &vec![byte; size.into()]),
        }
    }

    /// All of that index.
    pub(crate) fn nv_read(size: u16) -> Self {
        Self {
            name: "NV_Read",
            bytes: commands::nv_read(rh::OWNER, INDEX, 0, size),
        }
    }

    pub(crate) fn nv_undefine() -> Self {
        Self {
            name: "NV_UndefineSpace",
            bytes: commands::nv_undefine_space(rh::OWNER, INDEX),
        }
    }

    pub(crate) fn flush(handle: u32) -> Self {
        Self {
            name: "FlushContext",
            bytes: commands::flush_context(handle),
        }
    }
}

/// The transient handle that a response to CreatePrimary starts with; `None` for a response to another
/// command.
pub(crate) fn created_handle(response: &[u8]) -> Option<u32> {
    const TRANSIENT: u32 = 0x80;
    let created = Response::parse_with_handle(response).ok()?;
    let public = created.parameters.clone().sized().ok()?;
    Public::parse(public).ok()?;
    created.handle.filter(|handle| handle >> 24 == TRANSIENT)
}

/// PCRs 0 to 7 of the SHA-256 bank.
fn first_pcrs() -> PcrSelect {
    PcrSelect::of(Algorithm::Sha256, 0..8)
}

impl SigningKey {
    fn scheme(self) -> Scheme {
        match self {
            Self::P256 => Scheme::Ecdsa(Algorithm::Sha256),
            Self::Rsa2048 | Self::Rsa3072 => Scheme::RsaSsa(Algorithm::Sha256),
        }
    }

    /// Of a restricted signing key.
    fn template(self) -> Public {
        Public {
            name_algorithm: Algorithm::Sha256,
            attributes: ObjectAttributes::FIXED_TPM
                | ObjectAttributes::FIXED_PARENT
                | ObjectAttributes::SENSITIVE_DATA_ORIGIN
                | ObjectAttributes::USER_WITH_AUTH
                | ObjectAttributes::RESTRICTED
                | ObjectAttributes::SIGN,
            auth_policy: Vec::new(),
            symmetric: Symmetric::Null,
            scheme: self.scheme(),
            key: match self {
                Self::P256 => Key::Ecc {
                    curve: Curve::P256,
                    x: Vec::new(),
                    y: Vec::new(),
                },
                Self::Rsa2048 | Self::Rsa3072 => Key::Rsa {
                    bits: if matches!(self, Self::Rsa3072) {
                        3072
                    } else {
                        2048
                    },
                    exponent: 0,
                    modulus: Vec::new(),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_its_own_length() {
        for command in [
            Command::get_random(32),
            Command::pcr_extend_sha256(16),
            Command::pcr_read_sha256(),
            Command::get_properties(),
            Command::self_test(),
            Command::quote(0x8000_0000, SigningKey::Rsa2048),
            Command::create_primary(SigningKey::P256),
            Command::nv_define(INDEX_SIZE),
            Command::nv_write(LONG_INDEX_SIZE, 7),
            Command::nv_read(LONG_INDEX_SIZE),
            Command::nv_undefine(),
            Command::flush(1),
        ] {
            let length = u32::from_be_bytes(command.bytes[2..6].try_into().unwrap());
            assert_eq!(length as usize, command.bytes.len(), "{}", command.name);
        }
    }

    #[test]
    fn only_a_created_object_has_a_handle() {
        let public = SigningKey::P256.template().to_sized_bytes();
        let response = |handle: u32, parameters: &[u8]| {
            let length = 10 + 4 + 4 + parameters.len() as u32 + 5;
            let mut response = [0x80, 0x02].to_vec();
            for field in [length, 0, handle, parameters.len() as u32] {
                response.extend(field.to_be_bytes());
            }
            response.extend(parameters);
            response.extend([0; 5]);
            response
        };
        let created = response(0x8000_0000, &public);
        assert_eq!(created_handle(&created), Some(0x8000_0000));
        assert_eq!(created_handle(&created[..20]), None);
        assert_eq!(created_handle(&response(0x4000_0001, &public)), None);
        // A PCR's digests, say: what is behind the header is no handle.
        assert_eq!(created_handle(&response(0x8000_0000, &[0; 40])), None);
    }
}
