//! TDG.MR.KEY.GET, of modules that have it (release 1.5.34 and later).
//!
//! The label that a key is derived from is that of the published source (`tdg_mr_key_get.c`), and so is what it leaves out.
//! What the processor then makes of secret, label and SVNs is nobody's to know; here it is HMAC. CONFIG_FLAGS.SEALING, the
//! host's way to enable the leaf, and LOCK in TD_CTLS are not modelled.

use crate::leaf::operand::{Memory, READ, WRITE};
use crate::leaf::{LeafResult, invalid};
use crate::measurement::sha384;
use crate::module::Module;
use crate::platform::Platform;
use crate::report::hmac_sha256;
use alloc::vec::Vec;
use tdx_defs::Registers;
use tdx_defs::field::TdAttributes;
use tdx_defs::key_request::{TdKeyRequest, key_policy};
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use zerocopy::{FromBytes, FromZeros};

/// Bits of a key, in R9.
const KEY_BITS: u64 = 256;
/// What may be in ATTRIBUTESMASK: the bits of ATTRIBUTES that have a name.
const ATTRIBUTES: u64 = TdAttributes::new()
    .with_debug(true)
    .with_lass(true)
    .with_sept_ve_disable(true)
    .with_migratable(true)
    .with_pks(true)
    .with_kl(true)
    .with_tpa(true)
    .with_perfmon(true)
    .into_bits();
/// What may be in XFAMMASK: the bits of XCR0 and IA32_XSS that are defined.
const XFAM: u64 = 0x7FFFF;
/// KEYPOLICY: MROWNER.
const MROWNER: u64 = 1 << 1;
/// KEYPOLICY: RTMR0; those that follow are the others.
const RTMR_0: u32 = 32;
/// Bytes of TEE_TCB_SVN that count; the others are zero.
const SVN_BYTES: usize = 3;

/// Gives the caller a key that no other TD has, as far as its request says what makes another TD.
pub(super) fn mr_key_get<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let Some(secret) = module.configuration.sealing else {
        return Err(invalid(Operand::RAX));
    };
    if !module.td.td_ctls.enable_hw_keys() {
        return Err(Status::new(Code::MrKeyGetNotSupported, 0).into());
    }
    if registers.r8 > TdKeyRequest::REQUESTOR_MAX {
        return Err(invalid(Operand::R8));
    }
    if !registers.rcx.is_multiple_of(TdKeyRequest::ALIGNMENT) {
        return Err(invalid(Operand::RCX));
    }
    let memory = Memory::Private;
    let hpa = module.operand(platform, Operand::RCX, registers.rcx, memory, READ)?;
    let mut bytes = [0; size_of::<TdKeyRequest>()];
    platform.read(hpa, &mut bytes);
    let request = TdKeyRequest::read_from_bytes(&bytes).unwrap_or(TdKeyRequest::new_zeroed());
    if !registers.rdx.is_multiple_of(TdKeyRequest::KEY_ALIGNMENT) {
        return Err(invalid(Operand::RDX));
    }
    let output = module.operand(platform, Operand::RDX, registers.rdx, memory, READ | WRITE)?;
    check(&request).map_err(invalid)?;
    if module.faults.take_busy(tdg::MR_KEY_GET) {
        return Err(Status::operand_busy(Operand::RTMR).into());
    }
    let tcb = &module.configuration.tcb;
    let above = |asked: &[u8], there: &[u8]| asked.iter().zip(there).any(|(a, t)| a > t);
    if above(&request.cpusvn, &tcb.cpusvn)
        || above(&request.tee_tcb_svn, &tcb.tee_tcb_svn)
        || request.tee_tcb_svn == [0; 16]
    {
        return Err(Status::new(Code::SvnInvalid, 0).into());
    }
    let mut message = Vec::from(sha384(&module.key_label(&request, registers.r8)));
    message.extend(request.cpusvn);
    message.extend(request.tee_tcb_svn);
    platform.write(output, &hmac_sha256(&secret, &message));
    registers.r9 = KEY_BITS;
    Ok(())
}

/// What is wrong with a request, as the operand that is blamed for it.
fn check(request: &TdKeyRequest) -> Result<(), Operand> {
    if u16::from_le_bytes(request.key_name) != TdKeyRequest::SEAL_KEY {
        return Err(Operand::KEYNAME);
    }
    let reserved = request.reserved_4 != [0; 4]
        || request.reserved_102 != [0; 26]
        || u64::from_le_bytes(request.key_policy) & !key_policy::DEFINED != 0
        || request.tee_tcb_svn[SVN_BYTES..] != [0; 16 - SVN_BYTES]
        || u64::from_le_bytes(request.attributes_mask) & !ATTRIBUTES != 0
        || u64::from_le_bytes(request.xfam_mask) & !XFAM != 0;
    if reserved {
        return Err(Operand::RCX);
    }
    if request.key_sizes & TdKeyRequest::SIZE_256 == 0 {
        return Err(Operand::KEYSIZE_BITMAP);
    }
    Ok(())
}

impl Module {
    /// The derivation string. What the policy does not select is zero in it, and so is what the module leaves out:
    /// MRCONFIGID, MROWNERCONFIG, the policy itself.
    fn key_label(&self, request: &TdKeyRequest, requestor: u64) -> Vec<u8> {
        let td = self.td_info();
        let policy = u64::from_le_bytes(request.key_policy);
        let selected = |bit: u64, value: [u8; 48]| if policy & bit == 0 { [0; 48] } else { value };
        let masked = |value: [u8; 8], mask: [u8; 8]| {
            (u64::from_le_bytes(value) & u64::from_le_bytes(mask)).to_le_bytes()
        };
        let mut label = Vec::new();
        label.extend(request.key_name);
        label.push(request.sw_key_name);
        label.push(requestor as u8);
        label.extend([0; 12]);
        label.extend(masked(td.attributes, request.attributes_mask));
        label.extend(request.attributes_mask);
        label.extend(masked(td.xfam, request.xfam_mask));
        label.extend(request.xfam_mask);
        label.extend(selected(key_policy::MRTD, td.mrtd));
        label.extend([0; 48]);
        label.extend(selected(MROWNER, td.mrowner));
        label.extend([0; 48]);
        for (bit, rtmr) in (RTMR_0..).zip(td.rtmr) {
            label.extend(selected(1 << bit, rtmr));
        }
        label.extend([0; 128]);
        label.extend(td.servtd_hash);
        label.extend(request.salt);
        label.extend([0; 64]);
        label
    }
}

#[cfg(test)]
mod tests;
