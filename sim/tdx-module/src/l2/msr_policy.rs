//! What the module does with an MSR that L1 lets L2 use: its own MSR bitmaps and exit table (TDX
//! Module ABI, "MSR Virtualization").

use crate::platform::Register;

/// Which instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What becomes of an access whose bit in L1's bitmap is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The module does not intercept it: the processor carries it out.
    Native,
    /// The module carries it out.
    Emulated,
    /// #GP(0) in L2.
    GeneralProtection,
    /// The module intercepts it for L1.
    L1,
}

use Policy::{Emulated, GeneralProtection, L1, Native};

/// MSRs by number: first, last, RDMSR, WRMSR. What is not here is L1's.
///
/// MSRs of features that a TD of the modelled platform does not have (WAITPKG, XFD, TSX control,
/// CET, PKRS, UINTR, PT, LBR, PMU) are #GP.
#[rustfmt::skip]
const TABLE: &[(u32, u32, Policy, Policy)] = &[
    (0x10, 0x10, Native, L1), // IA32_TIME_STAMP_COUNTER
    (0x48, 0x48, Native, Native), // IA32_SPEC_CTRL
    (0x49, 0x49, Native, Native), // IA32_PRED_CMD
    (0x87, 0x87, GeneralProtection, GeneralProtection), // IA32_MKTME_KEYID_PARTITIONING
    (0x8c, 0x8f, GeneralProtection, GeneralProtection), // IA32_SGXLEPUBKEYHASHx
    (0x98, 0x9b, GeneralProtection, GeneralProtection), // IA32_SMM_MONITOR_CTL and others
    (0x9e, 0x9e, GeneralProtection, GeneralProtection), // IA32_SMBASE
    (0xbc, 0xbc, Native, L1), // IA32_MISC_PACKAGE_CTLS
    (0xbd, 0xbd, Emulated, Native), // IA32_XAPIC_DISABLE_STATUS
    (0xc1, 0xc8, GeneralProtection, GeneralProtection), // IA32_PMCx
    (0xe1, 0xe1, GeneralProtection, GeneralProtection), // IA32_UMWAIT_CONTROL
    (0x10a, 0x10a, Emulated, Native), // IA32_ARCH_CAPABILITIES
    (0x10b, 0x10b, Native, Native), // IA32_FLUSH_CMD
    (0x122, 0x122, GeneralProtection, GeneralProtection), // IA32_TSX_CTRL
    (0x174, 0x176, Native, Native), // IA32_SYSENTER_*
    (0x186, 0x18d, GeneralProtection, GeneralProtection), // IA32_PERFEVTSELx
    (0x195, 0x195, GeneralProtection, GeneralProtection),
    (0x1a0, 0x1a0, Emulated, L1), // IA32_MISC_ENABLE
    (0x1a6, 0x1a7, GeneralProtection, GeneralProtection), // MSR_OFFCORE_RSPx
    (0x1c4, 0x1c5, GeneralProtection, GeneralProtection), // IA32_XFD, IA32_XFD_ERR
    (0x1d9, 0x1d9, Emulated, Emulated), // IA32_DEBUGCTL
    (0x1f8, 0x1fa, GeneralProtection, GeneralProtection), // IA32_PLATFORM_DCA_CAP to IA32_DCA_0_CAP
    (0x276, 0x276, GeneralProtection, GeneralProtection),
    (0x277, 0x277, Native, Native), // IA32_PAT
    (0x309, 0x310, GeneralProtection, GeneralProtection), // IA32_FIXED_CTRx
    (0x329, 0x329, GeneralProtection, GeneralProtection), // IA32_PERF_METRICS
    (0x345, 0x345, Emulated, GeneralProtection), // IA32_PERF_CAPABILITIES
    (0x38d, 0x392, GeneralProtection, GeneralProtection), // IA32_FIXED_CTR_CTRL to IA32_PERF_GLOBAL_INUSE
    (0x3f1, 0x3f2, GeneralProtection, GeneralProtection), // IA32_PEBS_ENABLE, MSR_PEBS_MATRIX_VECT
    (0x3f6, 0x3f7, GeneralProtection, GeneralProtection), // MSR_PEBS_LD_LATENCY, MSR_PEBS_FRONTEND
    (0x480, 0x492, L1, GeneralProtection), // IA32_VMX_*
    (0x4c1, 0x4c8, GeneralProtection, GeneralProtection), // IA32_A_PMCx
    (0x500, 0x500, GeneralProtection, GeneralProtection), // IA32_SGX_SVN_STATUS
    (0x560, 0x561, GeneralProtection, GeneralProtection), // IA32_RTIT_*
    (0x570, 0x572, GeneralProtection, GeneralProtection),
    (0x580, 0x587, GeneralProtection, GeneralProtection),
    (0x600, 0x600, Native, Native), // IA32_DS_AREA
    (0x6a0, 0x6a0, GeneralProtection, GeneralProtection), // IA32_U_CET
    (0x6a2, 0x6a2, GeneralProtection, GeneralProtection), // IA32_S_CET
    (0x6a4, 0x6a8, GeneralProtection, GeneralProtection), // IA32_PL0_SSP to IA32_INTERRUPT_SSP_TABLE
    (0x6e1, 0x6e1, GeneralProtection, GeneralProtection), // IA32_PKRS
    (0x800, 0x801, GeneralProtection, GeneralProtection),
    (0x804, 0x807, GeneralProtection, GeneralProtection),
    (0x808, 0x80c, Native, Native), // TPR, APR, PPR, EOI, remote read
    (0x80e, 0x80e, Native, Native), // DFR
    (0x810, 0x827, Native, Native), // ISR, TMR, IRR
    (0x829, 0x82e, GeneralProtection, GeneralProtection),
    (0x831, 0x831, GeneralProtection, GeneralProtection),
    (0x83f, 0x83f, Native, Native), // SELF IPI
    (0x840, 0x8ff, GeneralProtection, GeneralProtection),
    (0x981, 0x984, GeneralProtection, GeneralProtection), // IA32_TME_*
    (0x985, 0x98a, GeneralProtection, GeneralProtection), // IA32_UINTR_*
    (0xc80, 0xc80, Native, L1), // IA32_DEBUG_INTERFACE
    (0xd90, 0xd90, GeneralProtection, GeneralProtection), // IA32_BNDCFGS
    (0xd93, 0xd93, GeneralProtection, GeneralProtection),
    (0xda0, 0xda0, Native, Emulated), // IA32_XSS
    (0x1200, 0x12ff, GeneralProtection, GeneralProtection), // IA32_LBR_x_INFO
    (0x14ce, 0x14cf, GeneralProtection, GeneralProtection), // IA32_LBR_CTL, IA32_LBR_DEPTH
    (0x1500, 0x16ff, GeneralProtection, GeneralProtection), // IA32_LBR_x_FROM_IP, IA32_LBR_x_TO_IP
    (0x1b01, 0x1b01, Native, Native), // IA32_UARCH_MISC_CTL
    (0xc000_0080, 0xc000_0080, Native, Emulated), // IA32_EFER
    (0xc000_0081, 0xc000_0082, Native, Native), // IA32_STAR, IA32_LSTAR
    (0xc000_0084, 0xc000_0084, Native, Native), // IA32_FMASK
    (0xc000_0100, 0xc000_0103, Native, Native), // FS and GS bases, KERNEL_GS_BASE, TSC_AUX
];

/// What the module does with an access to an MSR inside the bitmaps' ranges.
pub(super) fn policy(msr: u32, access: Access) -> Policy {
    let index = TABLE.partition_point(|&(_, last, _, _)| last < msr);
    match TABLE.get(index) {
        Some(&(first, _, read, write)) if first <= msr => match access {
            Access::Read => read,
            Access::Write => write,
        },
        _ => L1,
    }
}

/// MSRs that the hardware context has, so that L2 can be given them without an exit.
pub(super) fn context_register(msr: u32) -> Option<Register> {
    Some(match msr {
        0x48 => Register::SpecCtrl,
        0x174 => Register::SysenterCs,
        0x175 => Register::SysenterEsp,
        0x176 => Register::SysenterEip,
        0x277 => Register::Pat,
        0xda0 => Register::Xss,
        0xc000_0080 => Register::Efer,
        0xc000_0081 => Register::Star,
        0xc000_0082 => Register::Lstar,
        0xc000_0084 => Register::Fmask,
        0xc000_0102 => Register::KernelGsBase,
        0xc000_0103 => Register::TscAux,
        _ => return None,
    })
}

/// Whether RDMSR and WRMSR of a native MSR may run on the hardware: it has the MSR in the VM's
/// context, with no bits of its own in it.
pub(super) fn is_direct(msr: u32) -> bool {
    matches!(
        msr,
        0x174..=0x176 | 0x277 | 0xc000_0081 | 0xc000_0082 | 0xc000_0084 | 0xc000_0100..=0xc000_0103
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_does_not_overlap() {
        assert!(TABLE.iter().all(|&(first, last, _, _)| first <= last));
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn rows_of_each_kind() {
        let rows = [
            (0x10, Native, L1),
            (0x1b, L1, L1),
            (0x3a, L1, L1),
            (0x6e0, L1, L1),
            (0x48b, L1, GeneralProtection),
            (0x802, L1, L1),
            (0x80b, Native, Native),
            (0x80d, L1, L1),
            (0x80f, L1, L1),
            (0x828, L1, L1),
            (0x830, L1, L1),
            (0x832, L1, L1),
            (0x83e, L1, L1),
            (0x840, GeneralProtection, GeneralProtection),
            (0xc000_0080, Native, Emulated),
            (0xc000_0083, L1, L1),
        ];
        for (msr, read, write) in rows {
            assert_eq!(policy(msr, Access::Read), read, "{msr:#x}");
            assert_eq!(policy(msr, Access::Write), write, "{msr:#x}");
        }
    }
}
