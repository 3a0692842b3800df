//! What a guest does with more than one command.

use attestation::digest::{Algorithm, Digest};
use attestation::journal::StartupType;
use attestation::pcr::Bank;
use attestation::tpm::{Fields, NvPublic, PcrSelect, PcrSelection, rh};

use vtpm::Engine;

use super::Session;

pub use attestation::tpm::commands::*;

pub const CLEAR: StartupType = StartupType::Clear;
pub const STATE: StartupType = StartupType::State;

/// TPM_CAP_HANDLES.
const CAP_HANDLES: u32 = 1;
/// The first handle of NV indices.
const NV_INDEX_FIRST: u32 = 0x0100_0000;

/// TPMS_NV_PUBLIC of an index.
pub fn nv_public<E: Engine>(session: &mut Session<E>, index: u32) -> NvPublic {
    let parameters = session.ok(&nv_read_public(index));
    let public = Fields::new(&parameters).sized().unwrap();
    let public = NvPublic::parse(public).unwrap();
    assert_eq!(public.index, index);
    public
}

/// As tpm2_nvread does: the size from the public area, then pieces, authorized by the owner.
pub fn nv_read_whole<E: Engine>(session: &mut Session<E>, index: u32) -> Vec<u8> {
    let size = nv_public(session, index).size;
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
    let parameters = session.ok(&get_capability(CAP_HANDLES, NV_INDEX_FIRST, 100));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    let count = fields.u32().unwrap();
    (0..count).map(|_| fields.u32().unwrap()).collect()
}

/// The banks that there are.
pub fn banks<E: Engine>(session: &mut Session<E>) -> Vec<Bank> {
    Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| {
            let mut values = Vec::new();
            for pcr in 0..24 {
                let parameters = session.ok(&pcr_read(PcrSelect::of(algorithm, [pcr])));
                let mut fields = Fields::new(&parameters);
                fields.u32().unwrap();
                PcrSelection::read(&mut fields).unwrap();
                match fields.u32().unwrap() {
                    0 => return None,
                    count => assert_eq!(count, 1),
                }
                values.push(Digest::new(algorithm, fields.sized().unwrap()).unwrap());
            }
            Some(Bank::from_values(&values).unwrap())
        })
        .collect()
}
