//! The state that TDH.VP.INIT gives L1 (TDX Module Base Architecture, "Initial State of Guest
//! GPRs, CRs, DRs, MSRs and segment registers").

use crate::l1::msr;
use crate::module::Module;
use crate::platform::{Platform, Register, Segment, SegmentName, Vm};

use tdx_defs::vmcs::SegmentAccessRights as Rights;
use x86_defs::pc::RESET_VECTOR;
/// PE and NE.
const CR0: u64 = 0x21;
/// MCE. VMXE is set too on a real processor, but a guest reads it as 0.
const CR4: u64 = 0x40;
/// SCE, LME and NXE.
const EFER: u64 = 0x901;
const PAT: u64 = 0x0007_0406_0007_0406;

const FLAT: u32 = 0xffff_ffff;

/// Gives L1 its initial registers; `argument` is RCX of TDH.VP.INIT.
pub(crate) fn initialize<P: Platform>(module: &mut Module, platform: &mut P, argument: u64) {
    for register in Register::GENERAL {
        platform.set_register(Vm::L1, register, 0);
    }
    let family_model_stepping = platform.cpuid(1, 0).eax;
    for (register, value) in [
        (Register::Rbx, module.td.gpaw().bits().into()),
        (Register::Rcx, argument),
        (Register::R8, argument),
        (Register::Rdx, family_model_stepping.into()),
        (Register::Rsi, module.vcpu.index.into()),
        (Register::Rip, RESET_VECTOR),
        (Register::Rflags, 2),
        (Register::Cr0, CR0),
        (Register::Cr2, 0),
        (Register::Cr3, 0),
        (Register::Cr4, CR4),
        (Register::Efer, EFER),
        (Register::Dr0, 0),
        (Register::Dr1, 0),
        (Register::Dr2, 0),
        (Register::Dr3, 0),
        (Register::Dr6, 0xffff_0ff0),
        (Register::Dr7, 0x400),
        (Register::Pat, PAT),
        (Register::DebugCtl, 0),
        (Register::KernelGsBase, 0),
        (Register::Star, 0),
        (Register::Lstar, 0),
        (Register::Fmask, 0x20200),
        (Register::SysenterCs, 0),
        (Register::SysenterEsp, 0),
        (Register::SysenterEip, 0),
        (Register::TscAux, 0),
        (Register::SpecCtrl, 0),
        (Register::Xcr0, 1),
        (Register::Xss, 0),
        (Register::InterruptShadow, 0),
    ] {
        platform.set_register(Vm::L1, register, value);
    }
    for (name, access_rights, limit) in [
        (SegmentName::Cs, Rights::CODE_32, FLAT),
        (SegmentName::Ds, Rights::DATA, FLAT),
        (SegmentName::Es, Rights::DATA, FLAT),
        (SegmentName::Fs, Rights::DATA, FLAT),
        (SegmentName::Gs, Rights::DATA, FLAT),
        (SegmentName::Ss, Rights::DATA, FLAT),
        (SegmentName::Ldtr, Rights::NO_LDT, 0xffff),
        (SegmentName::Tr, Rights::BUSY_TSS, 0xffff),
        (SegmentName::Gdtr, Rights::new(), 0xffff),
        (SegmentName::Idtr, Rights::new(), 0),
    ] {
        let segment = Segment {
            selector: 0,
            access_rights: access_rights.into_bits(),
            limit,
            base: 0,
        };
        platform.set_segment(Vm::L1, name, segment);
    }
    msr::open_native(platform);
}
