//! Leaves of TDCALL other than TDG.VP.VMCALL.

use tdx_defs::tdg;

use crate::vcpu::{Gpr, Vcpu};

/// A leaf with its input registers as they are: what is valid in them, the TDX Module ABI says
/// with the leaf, and L1's policy whether the leaf is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaf {
    /// TDG.VP.INFO (1).
    VpInfo,
    /// TDG.MR.RTMR.EXTEND (2).
    MrRtmrExtend {
        /// RCX: GPA of the 48 bytes.
        data: u64,
        /// RDX: register.
        index: u64,
    },
    /// TDG.VP.VEINFO.GET (3).
    VpVeInfoGet,
    /// TDG.MR.REPORT (4).
    MrReport {
        /// RCX: GPA of the report.
        report: u64,
        /// RDX: GPA of REPORTDATA.
        data: u64,
        /// R8.
        subtype: u64,
    },
    /// TDG.VP.CPUIDVE.SET (5).
    VpCpuidVeSet {
        /// RCX.
        flags: u64,
    },
    /// TDG.MEM.PAGE.ACCEPT (6).
    MemPageAccept {
        /// RCX: GPA and level.
        page: u64,
    },
    /// TDG.VM.RD (7).
    VmRd {
        /// RDX: metadata field.
        field: u64,
        /// Version 1: RDX returns the next field.
        next: bool,
    },
    /// TDG.VM.WR (8).
    VmWr {
        /// RDX: metadata field.
        field: u64,
        /// R8.
        value: u64,
        /// R9.
        mask: u64,
    },
    /// TDG.VP.RD (9).
    VpRd {
        /// RDX: metadata field.
        field: u64,
    },
    /// TDG.VP.WR (10).
    VpWr {
        /// RDX: metadata field.
        field: u64,
        /// R8.
        value: u64,
        /// R9.
        mask: u64,
    },
    /// TDG.SYS.RD (11).
    SysRd {
        /// RDX: metadata field.
        field: u64,
    },
    /// Any other leaf of the module: 12 and 22 to 27.
    Other {
        /// Leaf number.
        number: u64,
    },
}

impl Leaf {
    /// None if RAX names no leaf of the module's, or a version it does not have.
    pub(super) fn decode<V: Vcpu>(rax: u64, vcpu: &V) -> Option<Self> {
        const VM_RD_1: u64 = tdg::VM_RD | 1 << tdg::VERSION_SHIFT;
        Some(match rax {
            tdg::VP_INFO => Self::VpInfo,
            tdg::MR_RTMR_EXTEND => Self::MrRtmrExtend {
                data: vcpu.gpr(Gpr::Rcx),
                index: vcpu.gpr(Gpr::Rdx),
            },
            tdg::VP_VEINFO_GET => Self::VpVeInfoGet,
            tdg::MR_REPORT => Self::MrReport {
                report: vcpu.gpr(Gpr::Rcx),
                data: vcpu.gpr(Gpr::Rdx),
                subtype: vcpu.gpr(Gpr::R8),
            },
            tdg::VP_CPUIDVE_SET => Self::VpCpuidVeSet {
                flags: vcpu.gpr(Gpr::Rcx),
            },
            tdg::MEM_PAGE_ACCEPT => Self::MemPageAccept {
                page: vcpu.gpr(Gpr::Rcx),
            },
            tdg::VM_RD | VM_RD_1 => Self::VmRd {
                field: vcpu.gpr(Gpr::Rdx),
                next: rax == VM_RD_1,
            },
            tdg::VM_WR => Self::VmWr {
                field: vcpu.gpr(Gpr::Rdx),
                value: vcpu.gpr(Gpr::R8),
                mask: vcpu.gpr(Gpr::R9),
            },
            tdg::VP_RD => Self::VpRd {
                field: vcpu.gpr(Gpr::Rdx),
            },
            tdg::VP_WR => Self::VpWr {
                field: vcpu.gpr(Gpr::Rdx),
                value: vcpu.gpr(Gpr::R8),
                mask: vcpu.gpr(Gpr::R9),
            },
            tdg::SYS_RD => Self::SysRd {
                field: vcpu.gpr(Gpr::Rdx),
            },
            number @ (tdg::SYS_RDALL | tdg::MR_VERIFYREPORT..=tdg::VP_INVGLA) => {
                Self::Other { number }
            }
            _ => return None,
        })
    }
}
