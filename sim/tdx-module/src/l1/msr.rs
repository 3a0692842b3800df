//! L1's RDMSR and WRMSR (TDX Module ABI, "MSR Virtualization").

use crate::l1::exit::Emulation;
use crate::l2;
use crate::module::Module;
use crate::platform::{Platform, Register, SegmentName, Vm};
use x86_defs::apic::Register as Apic;
use x86_defs::exit_reason;
use x86_defs::msr;
use x86_defs::xcr0;

/// What an access to an MSR comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// The processor's own: no exit, on a machine that has the MSR.
    Native,
    /// The module carries it out.
    Emulated,
    /// #GP(0).
    Gp,
    /// #VE: the host's.
    Ve,
    /// The processor's own with all of these XFAM components, else #GP(0).
    Xfam(u64),
}

use Access::{Emulated, Gp, Native, Ve, Xfam};

const CET: Access = Xfam(xcr0::CET_U | xcr0::CET_S);
const PT: Access = Xfam(xcr0::PT);
const LBR: Access = Xfam(xcr0::LBR);
const ULI: Access = Xfam(xcr0::UINTR);

/// First and last MSR, reads, writes. Sorted; what is not listed gives #VE. The x2APIC registers
/// that hardware would take from the virtual APIC page are emulated.
const TABLE: [(u32, u32, Access, Access); 68] = [
    (0x10, 0x10, Native, Ve),                     // IA32_TIME_STAMP_COUNTER
    (0x48, 0x49, Native, Native),                 // IA32_SPEC_CTRL, IA32_PRED_CMD
    (0x87, 0x87, Gp, Gp),                         // IA32_MKTME_KEYID_PARTITIONING
    (0x8c, 0x8f, Gp, Gp),                         // IA32_SGXLEPUBKEYHASHx
    (0x98, 0x9b, Gp, Gp),                         // MSR_WBINVDP .. IA32_SMM_MONITOR_CTL
    (0x9e, 0x9e, Gp, Gp),                         // IA32_SMBASE
    (0xbc, 0xbc, Native, Ve),                     // IA32_MISC_PACKAGE_CTLS
    (0xbd, 0xbd, Emulated, Gp),                   // IA32_XAPIC_DISABLE_STATUS
    (0xc1, 0xc8, Gp, Gp),                         // IA32_PMCx
    (0xe1, 0xe1, Gp, Gp),                         // IA32_UMWAIT_CONTROL
    (0x10a, 0x10a, Emulated, Gp),                 // IA32_ARCH_CAPABILITIES
    (0x10b, 0x10b, Native, Native),               // IA32_FLUSH_CMD
    (0x122, 0x122, Gp, Gp),                       // IA32_TSX_CTRL
    (0x174, 0x176, Native, Native),               // IA32_SYSENTER_CS, ESP, EIP
    (0x186, 0x18d, Gp, Gp),                       // IA32_PERFEVTSELx
    (0x195, 0x195, Gp, Gp),                       // IA32_OVERCLOCKING_STATUS
    (0x1a0, 0x1a0, Emulated, Ve),                 // IA32_MISC_ENABLE
    (0x1a6, 0x1a7, Gp, Gp),                       // MSR_OFFCORE_RSPx
    (0x1c4, 0x1c5, Gp, Gp),                       // IA32_XFD, IA32_XFD_ERR
    (0x1d9, 0x1d9, Emulated, Emulated),           // IA32_DEBUGCTL
    (0x1f8, 0x1fa, Gp, Gp),                       // IA32_PLATFORM_DCA_CAP .. IA32_DCA_0_CAP
    (0x276, 0x276, Gp, Gp),                       // MSR_SLAM_ENABLE
    (0x277, 0x277, Native, Native),               // IA32_PAT
    (0x309, 0x310, Gp, Gp),                       // IA32_FIXED_CTRx
    (0x329, 0x329, Gp, Gp),                       // IA32_PERF_METRICS
    (0x345, 0x345, Emulated, Gp),                 // IA32_PERF_CAPABILITIES
    (0x38d, 0x392, Gp, Gp),                       // IA32_FIXED_CTR_CTRL .. IA32_PERF_GLOBAL_INUSE
    (0x3f1, 0x3f2, Gp, Gp),                       // IA32_PEBS_ENABLE, MSR_PEBS_MATRIX_VECT
    (0x3f6, 0x3f7, Gp, Gp),                       // MSR_PEBS_LD_LATENCY, MSR_PEBS_FRONTEND
    (0x480, 0x480, Emulated, Gp),                 // IA32_VMX_BASIC
    (0x481, 0x484, Ve, Gp),                       // IA32_VMX_PINBASED_CTLS .. IA32_VMX_ENTRY_CTLS
    (0x485, 0x489, Emulated, Gp),                 // IA32_VMX_MISC .. IA32_VMX_CR4_FIXED1
    (0x48a, 0x48a, Ve, Gp),                       // IA32_VMX_VMCS_ENUM
    (0x48b, 0x492, Emulated, Gp), // IA32_VMX_PROCBASED_CTLS2 .. IA32_VMX_PROCBASED_CTLS3
    (0x4c1, 0x4c8, Gp, Gp),       // IA32_A_PMCx
    (0x500, 0x500, Gp, Gp),       // IA32_SGX_SVN_STATUS
    (0x560, 0x561, PT, PT),       // IA32_RTIT_OUTPUT_BASE, IA32_RTIT_OUTPUT_MASK_PTRS
    (0x570, 0x572, PT, PT),       // IA32_RTIT_CTL, STATUS, CR3_MATCH
    (0x580, 0x587, PT, PT),       // IA32_RTIT_ADDRx
    (0x600, 0x600, Native, Native), // IA32_DS_AREA
    (0x6a0, 0x6a0, CET, CET),     // IA32_U_CET
    (0x6a2, 0x6a2, CET, CET),     // IA32_S_CET
    (0x6a4, 0x6a8, CET, CET),     // IA32_PL0_SSP .. IA32_INTERRUPT_SSP_TABLE_ADDR
    (0x6e1, 0x6e1, Gp, Gp),       // IA32_PKRS
    (0x800, 0x801, Gp, Gp),       // reserved
    (0x804, 0x807, Gp, Gp),       // reserved
    (0x808, 0x808, Emulated, Emulated), // IA32_X2APIC_TPR
    (0x809, 0x80c, Emulated, Emulated), // IA32_X2APIC_PPR, IA32_X2APIC_EOI
    (0x80e, 0x80e, Gp, Gp),       // reserved
    (0x810, 0x827, Emulated, Gp), // IA32_X2APIC_ISRx, TMRx, IRRx
    (0x829, 0x82e, Gp, Gp),       // reserved
    (0x831, 0x831, Gp, Gp),       // reserved
    (0x83f, 0x83f, Gp, Emulated), // IA32_X2APIC_SELF_IPI
    (0x840, 0x8ff, Gp, Gp),       // reserved
    (0x981, 0x984, Gp, Gp),       // IA32_TME_*
    (0x985, 0x98a, ULI, ULI),     // IA32_UINTR_*
    (0xc80, 0xc80, Native, Ve),   // IA32_DEBUG_INTERFACE
    (0xd90, 0xd90, Gp, Gp),       // IA32_BNDCFGS
    (0xd93, 0xd93, Gp, Gp),       // IA32_PASID
    (0xda0, 0xda0, Native, Emulated), // IA32_XSS
    (0x1200, 0x12ff, LBR, LBR),   // IA32_LBR_x_INFO
    (0x14ce, 0x14cf, LBR, LBR),   // IA32_LBR_CTL, IA32_LBR_DEPTH
    (0x1500, 0x16ff, LBR, LBR),   // IA32_LBR_x_FROM_IP, IA32_LBR_x_TO_IP
    (0x1b01, 0x1b01, Native, Native), // IA32_UARCH_MISC_CTL
    (0xc000_0080, 0xc000_0080, Native, Emulated), // IA32_EFER
    (0xc000_0081, 0xc000_0082, Native, Native), // IA32_STAR, IA32_LSTAR
    (0xc000_0084, 0xc000_0084, Native, Native), // IA32_FMASK
    (0xc000_0100, 0xc000_0103, Native, Native), // FS, GS, KERNEL_GS base, TSC_AUX
];

const TSC: u32 = msr::IA32_TIME_STAMP_COUNTER;
const XAPIC_DISABLE_STATUS: u32 = msr::IA32_XAPIC_DISABLE_STATUS;
const ARCH_CAPABILITIES: u32 = msr::IA32_ARCH_CAPABILITIES;
const MISC_ENABLE: u32 = msr::IA32_MISC_ENABLE;
const DEBUGCTL: u32 = msr::IA32_DEBUGCTL;
const PERF_CAPABILITIES: u32 = msr::IA32_PERF_CAPABILITIES;
const X2APIC_TPR: u32 = Apic::TPR.msr();
const X2APIC_PPR: u32 = Apic::PPR.msr();
const X2APIC_EOI: u32 = Apic::EOI.msr();
const X2APIC_ISR: core::ops::RangeInclusive<u32> = Apic::ISR.msr()..=Apic::ISR.element(7).msr();
const X2APIC_TMR: core::ops::RangeInclusive<u32> = Apic::TMR.msr()..=Apic::TMR.element(7).msr();
const X2APIC_IRR: core::ops::RangeInclusive<u32> = Apic::IRR.msr()..=Apic::IRR.element(7).msr();
const X2APIC_SELF_IPI: u32 = Apic::SELF_IPI.msr();
const PAT: u32 = msr::IA32_PAT;
const XSS: u32 = msr::IA32_XSS;
const EFER: u32 = msr::IA32_EFER;
const FS_BASE: u32 = msr::IA32_FS_BASE;
const GS_BASE: u32 = msr::IA32_GS_BASE;

fn find(msr: u32) -> Option<(Access, Access)> {
    TABLE
        .iter()
        .find(|&&(first, last, ..)| (first..=last).contains(&msr))
        .map(|&(_, _, read, write)| (read, write))
}

/// Lets L1 reach what is its processor's own without an exit. EFER is not: the machine's has bits
/// that are not the TD's.
pub(super) fn open_native<P: Platform>(platform: &mut P) {
    for &(first, last, read, write) in &TABLE {
        let (read, write) = (read == Native, write == Native);
        if first == EFER || first == XSS || !read && !write {
            continue;
        }
        for msr in first..=last {
            platform.set_msr_intercept(Vm::L1, msr, !read, !write);
        }
    }
}

/// The value in EDX:EAX.
pub(super) fn operand<P: Platform>(platform: &mut P) -> u64 {
    let low = platform.register(Vm::L1, Register::Rax) as u32;
    let high = platform.register(Vm::L1, Register::Rdx) as u32;
    u64::from(high) << 32 | u64::from(low)
}

fn resolve(module: &Module, access: Access) -> Access {
    match access {
        Xfam(components) if module.td.params.xfam & components == components => Native,
        Xfam(_) => Gp,
        access => access,
    }
}

/// Carries out RDMSR.
pub(super) fn read<P: Platform>(module: &mut Module, platform: &mut P) -> Emulation {
    let msr = platform.register(Vm::L1, Register::Rcx) as u32;
    let access = find(msr).map_or(Ve, |(read, _)| read);
    let value = match resolve(module, access) {
        Ve | Xfam(_) => return Emulation::VirtualizationException(exit_reason::RDMSR, 0),
        Gp => return Emulation::GP,
        Native => read_native(platform, msr),
        Emulated => match read_emulated(module, platform, msr) {
            Some(value) => value,
            None => return Emulation::GP,
        },
    };
    platform.set_register(Vm::L1, Register::Rax, value & 0xffff_ffff);
    platform.set_register(Vm::L1, Register::Rdx, value >> 32);
    Emulation::Done
}

/// Carries out WRMSR.
pub(super) fn write<P: Platform>(module: &mut Module, platform: &mut P) -> Emulation {
    let msr = platform.register(Vm::L1, Register::Rcx) as u32;
    let value = operand(platform);
    let access = find(msr).map_or(Ve, |(_, write)| write);
    match resolve(module, access) {
        Ve | Xfam(_) => Emulation::VirtualizationException(exit_reason::WRMSR, 0),
        Gp => Emulation::GP,
        Native if msr == PAT && !msr::is_pat(value) => Emulation::GP,
        Native => {
            write_native(platform, msr, value);
            Emulation::Done
        }
        Emulated => write_emulated(module, platform, msr, value),
    }
}

/// The register of a context that is an MSR.
fn context_register(msr: u32) -> Option<Register> {
    Some(match msr {
        0x48 => Register::SpecCtrl,
        0x174 => Register::SysenterCs,
        0x175 => Register::SysenterEsp,
        0x176 => Register::SysenterEip,
        PAT => Register::Pat,
        XSS => Register::Xss,
        EFER => Register::Efer,
        0xc000_0081 => Register::Star,
        0xc000_0082 => Register::Lstar,
        0xc000_0084 => Register::Fmask,
        0xc000_0102 => Register::KernelGsBase,
        0xc000_0103 => Register::TscAux,
        _ => return None,
    })
}

fn read_native<P: Platform>(platform: &mut P, msr: u32) -> u64 {
    match (msr, context_register(msr)) {
        (_, Some(register)) => platform.register(Vm::L1, register),
        (TSC, _) => platform.tsc(),
        (FS_BASE, _) => platform.segment(Vm::L1, SegmentName::Fs).base,
        (GS_BASE, _) => platform.segment(Vm::L1, SegmentName::Gs).base,
        _ => platform.rdmsr(msr),
    }
}

fn write_native<P: Platform>(platform: &mut P, msr: u32, value: u64) {
    let base = match (msr, context_register(msr)) {
        (_, Some(register)) => return platform.set_register(Vm::L1, register, value),
        (FS_BASE, _) => SegmentName::Fs,
        (GS_BASE, _) => SegmentName::Gs,
        _ => return platform.wrmsr(msr, value),
    };
    let mut segment = platform.segment(Vm::L1, base);
    segment.base = value;
    platform.set_segment(Vm::L1, base, segment);
}

fn read_emulated<P: Platform>(module: &Module, platform: &mut P, msr: u32) -> Option<u64> {
    const PERFMON_AVAILABLE: u64 = 1 << 7;
    const PEBS_UNAVAILABLE: u64 = 1 << 12;
    const TSX_CTRL: u64 = 1 << 7;
    const LEGACY_XAPIC_DISABLED: u64 = 1;
    let apic = &module.vcpu.l1.apic;
    Some(match msr {
        XAPIC_DISABLE_STATUS => LEGACY_XAPIC_DISABLED,
        ARCH_CAPABILITIES => platform.rdmsr(msr) & !TSX_CTRL,
        MISC_ENABLE => platform.rdmsr(msr) & !PERFMON_AVAILABLE | PEBS_UNAVAILABLE,
        DEBUGCTL => platform.register(Vm::L1, Register::DebugCtl),
        PERF_CAPABILITIES => 0,
        X2APIC_TPR => apic.tpr.into(),
        X2APIC_PPR => apic.ppr().into(),
        _ if X2APIC_ISR.contains(&msr) => apic.isr.word(msr as usize & 7).into(),
        _ if X2APIC_TMR.contains(&msr) => 0,
        _ if X2APIC_IRR.contains(&msr) => apic.irr.word(msr as usize & 7).into(),
        0x480..=0x492 => return l2::virtual_vmx_msr(module, msr),
        _ => return None,
    })
}

fn write_emulated<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    msr: u32,
    value: u64,
) -> Emulation {
    let apic = &mut module.vcpu.l1.apic;
    match (msr, u8::try_from(value)) {
        (X2APIC_TPR, Ok(tpr)) => apic.tpr = tpr,
        (X2APIC_EOI, Ok(0)) => apic.end_of_interrupt(),
        (X2APIC_SELF_IPI, Ok(vector)) => apic.request(vector),
        (XSS, _) if value & !(module.td.params.xfam & XSS_COMPONENTS) == 0 => {
            platform.set_register(Vm::L1, Register::Xss, value);
        }
        (EFER, _) => return write_efer(platform, value),
        (DEBUGCTL, _) => return write_debugctl(platform, value),
        _ => return Emulation::GP,
    }
    Emulation::Done
}

/// The components of XFAM that IA32_XSS has: PT, CET, ULI, LBR.
const XSS_COMPONENTS: u64 = xcr0::PT | xcr0::CET_U | xcr0::CET_S | xcr0::UINTR | xcr0::LBR;

/// SCE alone is L1's.
fn write_efer<P: Platform>(platform: &mut P, value: u64) -> Emulation {
    let old = platform.register(Vm::L1, Register::Efer);
    if (value ^ old) & !x86_defs::efer::SCE != 0 {
        return Emulation::VirtualizationException(exit_reason::WRMSR, 0);
    }
    platform.set_register(Vm::L1, Register::Efer, value);
    Emulation::Done
}

fn write_debugctl<P: Platform>(platform: &mut P, value: u64) -> Emulation {
    const RESERVED: u64 = !0xffc3;
    const TR: u64 = 1 << 6;
    const BTS: u64 = 1 << 7;
    const UNCORE_PMI: u64 = 1 << 13;
    if value & RESERVED != 0 {
        return Emulation::GP;
    }
    if value & (TR | BTS) == TR {
        return Emulation::VirtualizationException(exit_reason::WRMSR, 0);
    }
    platform.set_register(Vm::L1, Register::DebugCtl, value & !UNCORE_PMI);
    Emulation::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_does_not_overlap() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn the_hosts_msrs_are_not_listed() {
        // APIC_BASE, MTRRs, TSC_DEADLINE, x2APIC ID, LVT timer and ICR.
        for msr in [0x1b, 0xfe, 0x2ff, 0x6e0, 0x802, 0x832, 0x830] {
            assert_eq!(find(msr), None, "{msr:#x}");
        }
    }
}
