//! Commands as bytes, each named as in TPM 2.0 Library, part 3.
//!
//! Where a command takes an entity that must authorize its use, a bare handle stands for one with an
//! empty password.

use super::wire::Put;
use super::{Command, Entity, NvPublic, PcrSelect, PcrSelection, Public, Scheme, alg, cc, rh};
use crate::digest::Digest;
use crate::journal::StartupType;
use alloc::vec::Vec;

/// TPM_ST_HASHCHECK.
const HASH_CHECK: u16 = 0x8024;

/// TPM2_Startup.
pub fn startup(startup_type: StartupType) -> Vec<u8> {
    Command::new(cc::STARTUP)
        .u16(startup_type.code())
        .to_bytes()
}

/// TPM2_Shutdown.
pub fn shutdown(shutdown_type: StartupType) -> Vec<u8> {
    Command::new(cc::SHUTDOWN)
        .u16(shutdown_type.code())
        .to_bytes()
}

/// TPM2_SelfTest; `full` tests what has been tested already, too.
pub fn self_test(full: bool) -> Vec<u8> {
    Command::new(cc::SELF_TEST).u8(full.into()).to_bytes()
}

/// TPM2_GetCapability: `count` properties of a capability (TPM_CAP), from `property` on.
pub fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    Command::new(cc::GET_CAPABILITY)
        .u32(capability)
        .u32(property)
        .u32(count)
        .to_bytes()
}

/// TPM2_ReadClock.
pub fn read_clock() -> Vec<u8> {
    Command::new(cc::READ_CLOCK).to_bytes()
}

/// TPM2_GetRandom.
pub fn get_random(size: u16) -> Vec<u8> {
    Command::new(cc::GET_RANDOM).u16(size).to_bytes()
}

/// TPM2_Clear, by the lockout hierarchy with an empty password.
pub fn clear() -> Vec<u8> {
    Command::new(cc::CLEAR)
        .authorized(rh::LOCKOUT, &[])
        .to_bytes()
}

/// TPM2_HierarchyChangeAuth.
pub fn hierarchy_change_auth<'a>(hierarchy: impl Into<Entity<'a>>, new: &[u8]) -> Vec<u8> {
    Command::new(cc::HIERARCHY_CHANGE_AUTH)
        .entity(hierarchy)
        .sized(new)
        .to_bytes()
}

/// TPM2_PCR_Extend with one digest a bank.
pub fn pcr_extend(pcr: u32, digests: &[Digest]) -> Vec<u8> {
    let mut values = Vec::new();
    values.put_u32(u32::try_from(digests.len()).unwrap_or(u32::MAX));
    for digest in digests {
        values.put_u16(digest.algorithm().id());
        values.extend(digest.bytes());
    }
    Command::new(cc::PCR_EXTEND)
        .authorized(pcr, &[])
        .bytes(&values)
        .to_bytes()
}

/// TPM2_PCR_Event.
pub fn pcr_event(pcr: u32, data: &[u8]) -> Vec<u8> {
    Command::new(cc::PCR_EVENT)
        .authorized(pcr, &[])
        .sized(data)
        .to_bytes()
}

/// TPM2_PCR_Read.
pub fn pcr_read(pcrs: PcrSelect) -> Vec<u8> {
    Command::new(cc::PCR_READ)
        .bytes(&PcrSelection::from(pcrs).to_bytes())
        .to_bytes()
}

/// TPM2_PCR_Reset.
pub fn pcr_reset(pcr: u32) -> Vec<u8> {
    Command::new(cc::PCR_RESET).authorized(pcr, &[]).to_bytes()
}

/// TPM2_HashSequenceStart of an event sequence.
pub fn event_sequence_start() -> Vec<u8> {
    Command::new(cc::HASH_SEQUENCE_START)
        .sized(&[])
        .u16(alg::NULL)
        .to_bytes()
}

/// TPM2_EventSequenceComplete.
pub fn event_sequence_complete(pcr: u32, sequence: u32, data: &[u8]) -> Vec<u8> {
    Command::new(cc::EVENT_SEQUENCE_COMPLETE)
        .authorized(pcr, &[])
        .authorized(sequence, &[])
        .sized(data)
        .to_bytes()
}

/// TPM2_NV_DefineSpace of an index with an authorization value.
pub fn nv_define_space<'a>(by: impl Into<Entity<'a>>, auth: &[u8], public: &NvPublic) -> Vec<u8> {
    Command::new(cc::NV_DEFINE_SPACE)
        .entity(by)
        .sized(auth)
        .sized(&public.to_bytes())
        .to_bytes()
}

/// TPM2_NV_UndefineSpace.
pub fn nv_undefine_space<'a>(by: impl Into<Entity<'a>>, index: u32) -> Vec<u8> {
    Command::new(cc::NV_UNDEFINE_SPACE)
        .entity(by)
        .handle(index)
        .to_bytes()
}

/// TPM2_NV_Write.
pub fn nv_write<'a>(by: impl Into<Entity<'a>>, index: u32, offset: u16, data: &[u8]) -> Vec<u8> {
    Command::new(cc::NV_WRITE)
        .entity(by)
        .handle(index)
        .sized(data)
        .u16(offset)
        .to_bytes()
}

/// TPM2_NV_Read.
pub fn nv_read<'a>(by: impl Into<Entity<'a>>, index: u32, offset: u16, size: u16) -> Vec<u8> {
    Command::new(cc::NV_READ)
        .entity(by)
        .handle(index)
        .u16(size)
        .u16(offset)
        .to_bytes()
}

/// TPM2_NV_ReadPublic.
pub fn nv_read_public(index: u32) -> Vec<u8> {
    Command::new(cc::NV_READ_PUBLIC).handle(index).to_bytes()
}

/// TPM2_CreatePrimary of a key with an empty authorization value, bound to no PCR.
pub fn create_primary<'a>(hierarchy: impl Into<Entity<'a>>, template: &Public) -> Vec<u8> {
    creation(
        Command::new(cc::CREATE_PRIMARY).entity(hierarchy),
        &[],
        &template.to_bytes(),
    )
}

/// TPM2_Create of an object with an empty authorization value, bound to no PCR. `data` is what it
/// seals; `template` is its TPMT_PUBLIC.
pub fn create<'a>(parent: impl Into<Entity<'a>>, data: &[u8], template: &[u8]) -> Vec<u8> {
    creation(Command::new(cc::CREATE).entity(parent), data, template)
}

fn creation(command: Command, data: &[u8], template: &[u8]) -> Vec<u8> {
    // TPMS_SENSITIVE_CREATE.
    let mut sensitive = Vec::new();
    sensitive.put_sized(&[]);
    sensitive.put_sized(data);
    command
        .sized(&sensitive)
        .sized(template)
        // No information from outside, no PCRs.
        .sized(&[])
        .u32(0)
        .to_bytes()
}

/// TPM2_Load of what TPM2_Create has returned: TPM2B_PRIVATE and TPM2B_PUBLIC, without their sizes.
pub fn load<'a>(parent: impl Into<Entity<'a>>, private: &[u8], public: &[u8]) -> Vec<u8> {
    Command::new(cc::LOAD)
        .entity(parent)
        .sized(private)
        .sized(public)
        .to_bytes()
}

/// TPM2_ReadPublic.
pub fn read_public(object: u32) -> Vec<u8> {
    Command::new(cc::READ_PUBLIC).handle(object).to_bytes()
}

/// TPM2_EvictControl by the owner: makes a transient object persistent, or a persistent one not.
pub fn evict_control(object: u32, persistent: u32) -> Vec<u8> {
    Command::new(cc::EVICT_CONTROL)
        .authorized(rh::OWNER, &[])
        .handle(object)
        .u32(persistent)
        .to_bytes()
}

/// TPM2_FlushContext.
pub fn flush_context(handle: u32) -> Vec<u8> {
    // A handle among the parameters.
    Command::new(cc::FLUSH_CONTEXT).u32(handle).to_bytes()
}

/// TPM2_Unseal.
pub fn unseal<'a>(object: impl Into<Entity<'a>>) -> Vec<u8> {
    Command::new(cc::UNSEAL).entity(object).to_bytes()
}

/// TPM2_Quote; the key's own scheme is used where `scheme` is null.
pub fn quote(key: u32, qualifying_data: &[u8], scheme: Scheme, pcrs: PcrSelect) -> Vec<u8> {
    Command::new(cc::QUOTE)
        .authorized(key, &[])
        .sized(qualifying_data)
        .bytes(&scheme.to_bytes())
        .bytes(&PcrSelection::from(pcrs).to_bytes())
        .to_bytes()
}

/// TPM2_Certify of `object` by `key`, with the key's own scheme.
pub fn certify(object: u32, key: u32) -> Vec<u8> {
    Command::new(cc::CERTIFY)
        .authorized(object, &[])
        .authorized(key, &[])
        .sized(&[])
        .u16(alg::NULL)
        .to_bytes()
}

/// TPM2_Sign with the key's own scheme, and with no ticket that says who hashed.
pub fn sign(key: u32, digest: &[u8]) -> Vec<u8> {
    Command::new(cc::SIGN)
        .authorized(key, &[])
        .sized(digest)
        .u16(alg::NULL)
        .u16(HASH_CHECK)
        .u32(rh::NULL)
        .sized(&[])
        .to_bytes()
}

/// TPM2_VerifySignature of a TPMT_SIGNATURE.
pub fn verify_signature(key: u32, digest: &[u8], signature: &[u8]) -> Vec<u8> {
    Command::new(cc::VERIFY_SIGNATURE)
        .handle(key)
        .sized(digest)
        .bytes(signature)
        .to_bytes()
}

/// TPM_SE: what a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// TPM_SE_HMAC.
    Hmac,
    /// TPM_SE_POLICY.
    Policy,
    /// TPM_SE_TRIAL.
    Trial,
}

/// TPM2_StartAuthSession of a session that is neither bound nor salted, with SHA-256 and without
/// encryption of parameters.
pub fn start_auth_session(session_type: SessionType, nonce: &[u8]) -> Vec<u8> {
    let session_type = match session_type {
        SessionType::Hmac => 0,
        SessionType::Policy => 1,
        SessionType::Trial => 3,
    };
    Command::new(cc::START_AUTH_SESSION)
        .handle(rh::NULL)
        .handle(rh::NULL)
        .sized(nonce)
        .sized(&[])
        .u8(session_type)
        .u16(alg::NULL)
        .u16(alg::SHA256)
        .to_bytes()
}

/// TPM2_PolicyPCR, of the PCRs' values at that time.
pub fn policy_pcr(session: u32, pcrs: PcrSelect) -> Vec<u8> {
    Command::new(cc::POLICY_PCR)
        .handle(session)
        .sized(&[])
        .bytes(&PcrSelection::from(pcrs).to_bytes())
        .to_bytes()
}

/// TPM2_PolicyGetDigest.
pub fn policy_get_digest(session: u32) -> Vec<u8> {
    Command::new(cc::POLICY_GET_DIGEST)
        .handle(session)
        .to_bytes()
}
