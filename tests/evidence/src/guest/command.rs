//! Commands, each named as in TPM 2.0 Library, part 3.

use attestation::digest::{Algorithm, Digests};
use attestation::tpm::{
    Command, Curve, Key, PcrSelect, PcrSelection, Public, Scheme, alg, cc, rh, template,
};

/// TPM_SU_CLEAR.
const CLEAR: u16 = 0;

/// TPM2_Startup(CLEAR).
pub fn startup() -> Vec<u8> {
    Command::new(cc::STARTUP).u16(CLEAR).to_bytes()
}

/// TPM2_Clear, by the lockout hierarchy.
pub fn clear() -> Vec<u8> {
    Command::new(cc::CLEAR)
        .authorized(rh::LOCKOUT, &[])
        .to_bytes()
}

/// TPM2_HierarchyChangeAuth, from an empty value.
pub fn hierarchy_change_auth(hierarchy: u32, new: &[u8]) -> Vec<u8> {
    Command::new(cc::HIERARCHY_CHANGE_AUTH)
        .authorized(hierarchy, &[])
        .sized(new)
        .to_bytes()
}

/// TPM2_PCR_Extend of all banks.
pub fn pcr_extend(pcr: u32, digests: &Digests) -> Vec<u8> {
    let digests = digests.all();
    let command = Command::new(cc::PCR_EXTEND)
        .authorized(pcr, &[])
        .u32(digests.len() as u32);
    digests
        .iter()
        .fold(command, |command, digest| {
            command.u16(digest.algorithm().id()).bytes(digest.bytes())
        })
        .to_bytes()
}

/// TPM2_PCR_Reset.
pub fn pcr_reset(pcr: u32) -> Vec<u8> {
    Command::new(cc::PCR_RESET).authorized(pcr, &[]).to_bytes()
}

/// TPM2_PCR_Read of one PCR.
pub fn pcr_read(algorithm: Algorithm, pcr: u8) -> Vec<u8> {
    let selection = PcrSelection(vec![PcrSelect::of(algorithm, [pcr])]);
    Command::new(cc::PCR_READ)
        .bytes(&selection.to_bytes())
        .to_bytes()
}

/// TPM2_NV_Write by the index's own authorization.
pub fn nv_write(index: u32, data: &[u8]) -> Vec<u8> {
    Command::new(cc::NV_WRITE)
        .authorized(index, &[])
        .handle(index)
        .sized(data)
        .u16(0)
        .to_bytes()
}

/// TPM2_NV_Read by the index's own authorization.
pub fn nv_read(index: u32, offset: u16, size: u16) -> Vec<u8> {
    Command::new(cc::NV_READ)
        .authorized(index, &[])
        .handle(index)
        .u16(size)
        .u16(offset)
        .to_bytes()
}

/// TPM2_NV_ReadPublic.
pub fn nv_read_public(index: u32) -> Vec<u8> {
    Command::new(cc::NV_READ_PUBLIC).handle(index).to_bytes()
}

/// TPM2_ReadPublic.
pub fn read_public(handle: u32) -> Vec<u8> {
    Command::new(cc::READ_PUBLIC).handle(handle).to_bytes()
}

/// TPM2_CreatePrimary with empty authorizations.
pub fn create_primary(hierarchy: u32, template: &Public) -> Vec<u8> {
    Command::new(cc::CREATE_PRIMARY)
        .authorized(hierarchy, &[])
        // Neither an authorization value nor data.
        .sized(&[0; 4])
        .sized(&template.to_bytes())
        .sized(&[])
        // No PCRs.
        .u32(0)
        .to_bytes()
}

/// TPM2_EvictControl: makes a key persistent.
pub fn evict_control(key: u32, handle: u32) -> Vec<u8> {
    Command::new(cc::EVICT_CONTROL)
        .authorized(rh::OWNER, &[])
        .handle(key)
        .u32(handle)
        .to_bytes()
}

/// TPM2_Quote over all PCRs of the SHA-256 bank.
pub fn quote(key: u32, qualifying: &[u8]) -> Vec<u8> {
    quote_of(key, qualifying, PcrSelect::all(Algorithm::Sha256))
}

/// TPM2_Quote over these PCRs.
pub fn quote_of(key: u32, qualifying: &[u8], pcrs: PcrSelect) -> Vec<u8> {
    Command::new(cc::QUOTE)
        .authorized(key, &[])
        .sized(qualifying)
        .u16(alg::NULL)
        .bytes(&PcrSelection(vec![pcrs]).to_bytes())
        .to_bytes()
}

/// TPM2_Certify of `key` by `by`.
pub fn certify(key: u32, by: u32) -> Vec<u8> {
    Command::new(cc::CERTIFY)
        .authorized(key, &[])
        .authorized(by, &[])
        .sized(&[])
        .u16(alg::NULL)
        .to_bytes()
}

/// A restricted signing key on P-256, as a guest makes it for itself.
pub fn own_ak_p256() -> Public {
    Public {
        scheme: Scheme::Ecdsa(Algorithm::Sha256),
        key: Key::Ecc {
            curve: Curve::P256,
            x: Vec::new(),
            y: Vec::new(),
        },
        ..template::ak_rsa_2048()
    }
}
