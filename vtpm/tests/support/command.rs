//! Commands of a guest, each named as in TPM 2.0 Library, part 3.

use attestation::digest::{Algorithm, Digest};
use attestation::pcr::Bank;
use attestation::tpm::{Command, Fields, PcrSelect, PcrSelection, cc, rh};

use vtpm::Engine;

use super::Session;

pub const CLEAR: u16 = 0;
pub const STATE: u16 = 1;

pub fn startup(kind: u16) -> Vec<u8> {
    Command::new(cc::STARTUP).u16(kind).to_bytes()
}

pub fn shutdown(kind: u16) -> Vec<u8> {
    Command::new(cc::SHUTDOWN).u16(kind).to_bytes()
}

pub fn clear() -> Vec<u8> {
    Command::new(cc::CLEAR)
        .authorized(rh::LOCKOUT, &[])
        .to_bytes()
}

pub fn get_random(size: u16) -> Vec<u8> {
    Command::new(cc::GET_RANDOM).u16(size).to_bytes()
}

pub fn hierarchy_change_auth(hierarchy: u32, old: &[u8], new: &[u8]) -> Vec<u8> {
    Command::new(cc::HIERARCHY_CHANGE_AUTH)
        .authorized(hierarchy, old)
        .sized(new)
        .to_bytes()
}

pub fn pcr_extend(pcr: u32, digests: &[Digest]) -> Vec<u8> {
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

pub fn pcr_event(pcr: u32, data: &[u8]) -> Vec<u8> {
    Command::new(cc::PCR_EVENT)
        .authorized(pcr, &[])
        .sized(data)
        .to_bytes()
}

pub fn pcr_reset(pcr: u32) -> Vec<u8> {
    Command::new(cc::PCR_RESET).authorized(pcr, &[]).to_bytes()
}

/// TPM2_HashSequenceStart of an event sequence.
pub fn event_sequence_start() -> Vec<u8> {
    const HASH_SEQUENCE_START: u32 = 0x186;
    const ALG_NULL: u16 = 0x10;
    Command::new(HASH_SEQUENCE_START)
        .sized(&[])
        .u16(ALG_NULL)
        .to_bytes()
}

pub fn event_sequence_complete(pcr: u32, sequence: u32, data: &[u8]) -> Vec<u8> {
    Command::new(cc::EVENT_SEQUENCE_COMPLETE)
        .authorized(pcr, &[])
        .authorized(sequence, &[])
        .sized(data)
        .to_bytes()
}

/// TPMS_NV_PUBLIC of SHA-256 without policy.
pub fn nv_define(by: u32, auth: &[u8], index: u32, attributes: u32, size: u16) -> Vec<u8> {
    let public = [
        &index.to_be_bytes()[..],
        &Algorithm::Sha256.id().to_be_bytes(),
        &attributes.to_be_bytes(),
        &[0, 0],
        &size.to_be_bytes(),
    ]
    .concat();
    Command::new(cc::NV_DEFINE_SPACE)
        .authorized(by, auth)
        .sized(&[])
        .sized(&public)
        .to_bytes()
}

pub fn nv_undefine(by: u32, auth: &[u8], index: u32) -> Vec<u8> {
    Command::new(cc::NV_UNDEFINE_SPACE)
        .authorized(by, auth)
        .handle(index)
        .to_bytes()
}

pub fn nv_write(by: u32, index: u32, offset: u16, data: &[u8]) -> Vec<u8> {
    Command::new(cc::NV_WRITE)
        .authorized(by, &[])
        .handle(index)
        .sized(data)
        .u16(offset)
        .to_bytes()
}

pub fn nv_read(by: u32, index: u32, offset: u16, size: u16) -> Vec<u8> {
    Command::new(cc::NV_READ)
        .authorized(by, &[])
        .handle(index)
        .u16(size)
        .u16(offset)
        .to_bytes()
}

pub fn nv_read_public(index: u32) -> Vec<u8> {
    Command::new(cc::NV_READ_PUBLIC).handle(index).to_bytes()
}

pub fn read_public(handle: u32) -> Vec<u8> {
    Command::new(cc::READ_PUBLIC).handle(handle).to_bytes()
}

pub fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    Command::new(cc::GET_CAPABILITY)
        .u32(capability)
        .u32(property)
        .u32(count)
        .to_bytes()
}

/// TPMA_NV and size of an index.
pub fn nv_public<E: Engine>(session: &mut Session<E>, index: u32) -> (u32, u16) {
    let parameters = session.ok(&nv_read_public(index));
    let mut fields = Fields::new(&parameters);
    let public = fields.sized().unwrap();
    let mut fields = Fields::new(public);
    assert_eq!(fields.u32(), Ok(index));
    fields.u16().unwrap();
    let attributes = fields.u32().unwrap();
    fields.sized().unwrap();
    (attributes, fields.u16().unwrap())
}

/// As tpm2_nvread does: the size from the public area, then pieces, authorized by the owner.
pub fn nv_read_whole<E: Engine>(session: &mut Session<E>, index: u32) -> Vec<u8> {
    let (_, size) = nv_public(session, index);
    let mut content = Vec::new();
    while content.len() < usize::from(size) {
        let offset = content.len() as u16;
        let part = (size - offset).min(1024);
        let parameters = session.ok(&nv_read(rh::OWNER, index, offset, part));
        content.extend(Fields::new(&parameters).sized().unwrap());
    }
    content
}

/// The NV indices that TPM2_GetCapability lists.
pub fn nv_indices<E: Engine>(session: &mut Session<E>) -> Vec<u32> {
    let parameters = session.ok(&get_capability(1, 0x0100_0000, 100));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    let count = fields.u32().unwrap();
    (0..count).map(|_| fields.u32().unwrap()).collect()
}

pub fn banks<E: Engine>(session: &mut Session<E>) -> Vec<Bank> {
    Algorithm::ALL
        .into_iter()
        .map(|algorithm| {
            let mut values = Vec::new();
            for pcr in 0..24 {
                let selection = PcrSelection(vec![PcrSelect::of(algorithm, [pcr])]);
                let command = Command::new(cc::PCR_READ).bytes(&selection.to_bytes());
                let parameters = session.ok(&command.to_bytes());
                let mut fields = Fields::new(&parameters);
                fields.u32().unwrap();
                PcrSelection::read(&mut fields).unwrap();
                assert_eq!(fields.u32(), Ok(1));
                values.push(Digest::new(algorithm, fields.sized().unwrap()).unwrap());
            }
            Bank::from_values(&values).unwrap()
        })
        .collect()
}
