//! The TDX half of the state's key: a sealing key of the module (TDG.MR.KEY.GET).
//!
//! The key is bound to MRTD, so to this L1, and to the bits of ATTRIBUTES that give the TD's secrets away: a debug TD with
//! the same MRTD has another key. Both are what the released modules agree on; RTMRs are left out, for they change with
//! the guest's kernel, and what the guest may do with its TPM is for the TPM's policies to say.

use super::{LaunchedTd, operand};
use crate::launch::unlock::{HardwareTcb, Sealing, SealingError};
use l2_exit::GuestMemory;
use tdcall::{OperandPage, RawTdcall, SharedBuffer};
use tdx_defs::FieldId;
use tdx_defs::field::{TdAttributes, TdCtls};
use tdx_defs::key_request::{TdKeyRequest, key_policy};
use tdx_defs::report::TdReport;
use vtpm::TrustDomain;
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::Zeroizing;

/// What of ATTRIBUTES makes another key: DEBUG, by which the host reads the TD, and MIGRATABLE, by which another TD does.
const ATTRIBUTES: u64 = TdAttributes::new()
    .with_debug(true)
    .with_migratable(true)
    .into_bits();

impl<R: RawTdcall, P: OperandPage, B: SharedBuffer, M: GuestMemory> Sealing
    for LaunchedTd<R, P, B, M>
{
    fn tcb(&mut self) -> Result<HardwareTcb, SealingError> {
        let report = self.report(&[0; 64]).map_err(|_| SealingError::NoReport)?;
        let report = TdReport::read_from_bytes(&*report).map_err(|_| SealingError::NoReport)?;
        Ok(HardwareTcb {
            cpusvn: report.report_mac.cpusvn,
            tee_tcb_svn: report.tee_tcb_info.tee_tcb_svn,
        })
    }

    fn sealing_key(
        &mut self,
        tcb: &HardwareTcb,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, SealingError> {
        self.enable_sealing()?;
        let request = TdKeyRequest {
            key_sizes: TdKeyRequest::SIZE_256,
            key_policy: key_policy::MRTD.to_le_bytes(),
            attributes_mask: ATTRIBUTES.to_le_bytes(),
            cpusvn: tcb.cpusvn,
            tee_tcb_svn: tcb.tee_tcb_svn,
            salt: *salt,
            ..TdKeyRequest::new_zeroed()
        };
        let mut key = Zeroizing::new([0; 32]);
        self.parts
            .operands
            .write(operand::KEY_REQUEST, request.as_bytes());
        let got = self.parts.td.mr_key_get(
            self.operand(operand::KEY_REQUEST),
            self.operand(operand::KEY),
        );
        self.parts.operands.read(operand::KEY, &mut *key);
        self.parts.operands.write(operand::KEY, &[0; 32]);
        got.map_err(SealingError::Module)?;
        Ok(key)
    }
}

impl<R: RawTdcall, P: OperandPage, B: SharedBuffer, M: GuestMemory> LaunchedTd<R, P, B, M> {
    /// Sets ENABLE_HW_KEYS in TD_CTLS. A module may take the write and leave the bit, so that it is read back.
    fn enable_sealing(&self) -> Result<(), SealingError> {
        let bit = TdCtls::new().with_enable_hw_keys(true).into_bits();
        let written = self.parts.td.vm_wr(FieldId::TD_CTLS, bit, bit);
        let read = self.parts.td.vm_rd(FieldId::TD_CTLS);
        match (written, read) {
            (_, Ok(controls)) if controls & bit != 0 => Ok(()),
            (Err(error), _) | (Ok(_), Err(error)) => Err(SealingError::NotEnabled(Some(error))),
            (Ok(_), Ok(_)) => Err(SealingError::NotEnabled(None)),
        }
    }
}
