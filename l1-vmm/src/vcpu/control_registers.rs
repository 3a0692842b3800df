//! Writes of CR0, CR3, CR4 and IA32_EFER, with what the processor checks and what follows.
//!
//! L2 changes most of CR0 and CR4 by itself. What comes here are PG (with it IA-32e mode and
//! the PDPTEs change), bits that the module fixes and L2 sees a shadow of (NE, NW, CD, MCE), and
//! CR4 bits that L2 is not offered. The checks are those of SDM Vol. 3A, section "Control
//! Registers", and Vol. 2, "MOV—Move to/from Control Registers".

use l2_exit::{GuestMemory, SegmentRegister, Vcpu};
use tdcall::RawTdcall;
use x86_defs::{cr0, cr4, efer};

use super::Refusal;
use crate::vcpu::L2Vcpu;

/// Bits that LMSW writes: PE, MP, EM, TS.
const LMSW: u64 = 0xF;

type Result = core::result::Result<(), Refusal>;

/// MOV to CR0.
pub fn write_cr0<R: RawTdcall, M: GuestMemory>(
    vcpu: &mut L2Vcpu<'_, R>,
    memory: &M,
    value: u64,
) -> Result {
    let old = vcpu.cr0();
    let high = value >> 32 != 0;
    let unprotected_paging = value & cr0::PG != 0 && value & cr0::PE == 0;
    let write_through = value & cr0::NW != 0 && value & cr0::CD == 0;
    if high || unprotected_paging || write_through {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    let value = value | cr0::ET;
    match (old & cr0::PG != 0, value & cr0::PG != 0) {
        (false, true) => enable_paging(vcpu, memory, value)?,
        (true, false) => disable_paging(vcpu)?,
        _ => {}
    }
    if (old ^ value) & (cr0::PG | cr0::WP) != 0 {
        vcpu.flush_translations();
    }
    Ok(vcpu.set_cr0(value)?)
}

/// CLTS.
pub fn clear_ts<R: RawTdcall>(vcpu: &mut L2Vcpu<'_, R>) -> Result {
    let value = vcpu.cr0() & !cr0::TS;
    Ok(vcpu.set_cr0(value)?)
}

/// LMSW: PE can be set, not cleared.
pub fn load_machine_status<R: RawTdcall, M: GuestMemory>(
    vcpu: &mut L2Vcpu<'_, R>,
    memory: &M,
    operand: u16,
) -> Result {
    let old = vcpu.cr0();
    let value = old & !LMSW | u64::from(operand) & LMSW | old & cr0::PE;
    write_cr0(vcpu, memory, value)
}

/// MOV to CR3, where it exits.
pub fn write_cr3<R: RawTdcall, M: GuestMemory>(
    vcpu: &mut L2Vcpu<'_, R>,
    memory: &M,
    value: u64,
) -> Result {
    const NO_FLUSH: u64 = 1 << 63;
    let (cr0, cr4, efer) = (vcpu.cr0(), vcpu.cr4(), vcpu.efer());
    let value = if cr4 & cr4::PCIDE != 0 {
        value & !NO_FLUSH
    } else {
        value
    };
    if value >> vcpu.physical_address_width().min(52) != 0 {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    load_pdptes(vcpu, memory, (cr0, cr4, efer), value)?;
    vcpu.flush_translations();
    Ok(vcpu.set_cr3(value)?)
}

/// MOV to CR4. `offered` are the bits that L2's CPUID promises.
pub fn write_cr4<R: RawTdcall, M: GuestMemory>(
    vcpu: &mut L2Vcpu<'_, R>,
    memory: &M,
    value: u64,
    offered: u64,
) -> Result {
    let (old, cr0, efer) = (vcpu.cr4(), vcpu.cr0(), vcpu.efer());
    let long = efer & efer::LMA != 0;
    let reserved = value & !(offered | cr4::MCE) != 0;
    let leaves_long = long && (value & cr4::PAE == 0 || (value ^ old) & cr4::LA57 != 0);
    let enables_pcid =
        value & cr4::PCIDE != 0 && old & cr4::PCIDE == 0 && (!long || vcpu.cr3() & 0xFFF != 0);
    if reserved || leaves_long || enables_pcid {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    if (old ^ value) & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::PCIDE) != 0 {
        let cr3 = vcpu.cr3();
        load_pdptes(vcpu, memory, (cr0, value, efer), cr3)?;
        vcpu.flush_translations();
    }
    Ok(vcpu.set_cr4(value)?)
}

/// WRMSR of IA32_EFER. The module keeps NXE set, so clearing it is taken and has no effect:
/// only a paging entry with bit 63 set, which no software leaves in use there, could tell.
pub fn write_efer<R: RawTdcall>(vcpu: &mut L2Vcpu<'_, R>, value: u64) -> Result {
    let (old, cr0) = (vcpu.efer(), vcpu.cr0());
    let reserved = value & !(efer::SCE | efer::LME | efer::LMA | efer::NXE) != 0;
    let mode_change = (value ^ old) & efer::LME != 0 && cr0 & cr0::PG != 0;
    if reserved || mode_change {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    Ok(vcpu.set_efer(value & !efer::LMA | old & efer::LMA)?)
}

fn enable_paging<R: RawTdcall, M: GuestMemory>(
    vcpu: &mut L2Vcpu<'_, R>,
    memory: &M,
    cr0: u64,
) -> Result {
    let (efer, cr3, cr4) = (vcpu.efer(), vcpu.cr3(), vcpu.cr4());
    if efer & efer::LME == 0 {
        return load_pdptes(vcpu, memory, (cr0, cr4, efer), cr3);
    }
    let code_is_64_bit = vcpu.segment(SegmentRegister::Cs).access_rights.long();
    if cr4 & cr4::PAE == 0 || code_is_64_bit {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    vcpu.make_task_register_64_bit()?;
    Ok(vcpu.set_efer(efer | efer::LMA)?)
}

fn disable_paging<R: RawTdcall>(vcpu: &mut L2Vcpu<'_, R>) -> Result {
    let efer = vcpu.efer();
    // Outside IA-32e mode CS.L means nothing (SDM Vol. 3A, "Segment Descriptors").
    let in_64_bit_code =
        efer & efer::LMA != 0 && vcpu.segment(SegmentRegister::Cs).access_rights.long();
    if in_64_bit_code || vcpu.cr4() & cr4::PCIDE != 0 {
        return Err(Refusal::GENERAL_PROTECTION);
    }
    if efer & efer::LMA != 0 {
        vcpu.set_efer(efer & !efer::LMA)?;
    }
    Ok(())
}

fn load_pdptes<R: RawTdcall, M: GuestMemory>(
    vcpu: &L2Vcpu<'_, R>,
    memory: &M,
    (cr0, cr4, efer): (u64, u64, u64),
    cr3: u64,
) -> Result {
    if L2Vcpu::<R>::uses_pdptes(cr0, cr4, efer) {
        let entries = vcpu
            .pdptes_at(memory, cr3)
            .ok_or(Refusal::GENERAL_PROTECTION)?;
        vcpu.set_pdptes(entries)?;
    }
    Ok(())
}
