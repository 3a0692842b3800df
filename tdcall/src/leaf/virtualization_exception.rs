//! TDG.VP.VEINFO.GET and TDG.VP.CPUIDVE.SET.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;

/// Why L1 got a virtualization exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VeInfo {
    /// VMX exit reason.
    pub exit_reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest-linear address.
    pub gla: u64,
    /// Guest-physical address.
    pub gpa: u64,
    /// Length of the instruction in bytes.
    pub instruction_length: u32,
    /// VM-exit instruction information.
    pub instruction_info: u32,
}

/// Why TDG.VP.VEINFO.GET gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VeInfoError {
    /// No virtualization exception is pending.
    #[error("TDG.VP.VEINFO.GET: no #VE information is valid")]
    NotValid,
    /// A status the ABI does not list.
    #[error("TDG.VP.VEINFO.GET: {0}")]
    Unexpected(Status),
}

/// When CPUID of L1 gives a virtualization exception, whatever the leaf.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CpuidVe {
    /// At privilege level 0.
    pub supervisor: bool,
    /// At privilege levels 1 to 3.
    pub user: bool,
}

/// Why TDG.VP.CPUIDVE.SET did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CpuidVeError {
    /// The module does not take this combination.
    #[error("TDG.VP.CPUIDVE.SET: the module refuses the flags")]
    Flags,
    /// A status the ABI does not list.
    #[error("TDG.VP.CPUIDVE.SET: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// TDG.VP.VEINFO.GET: takes the information of the pending #VE. Until this is called another
    /// #VE becomes a double fault.
    pub fn ve_info_get(&self) -> Result<VeInfo, VeInfoError> {
        let out = self.call(Registers {
            rax: tdg::VP_VEINFO_GET,
            ..Default::default()
        });
        match Status(out.rax).code() {
            Code::Success => Ok(VeInfo {
                exit_reason: out.rcx as u32,
                qualification: out.rdx,
                gla: out.r8,
                gpa: out.r9,
                instruction_length: out.r10 as u32,
                instruction_info: (out.r10 >> 32) as u32,
            }),
            Code::NoValidVeInfo => Err(VeInfoError::NotValid),
            _ => Err(VeInfoError::Unexpected(Status(out.rax))),
        }
    }

    /// TDG.VP.CPUIDVE.SET: makes every CPUID of L1 a virtualization exception, or not.
    pub fn cpuid_ve_set(&self, ve: CpuidVe) -> Result<(), CpuidVeError> {
        let rcx = u64::from(ve.supervisor) | u64::from(ve.user) << 1;
        let out = self.call(Registers {
            rax: tdg::VP_CPUIDVE_SET,
            rcx,
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::OperandInvalid, Operand::RCX) => Err(CpuidVeError::Flags),
            _ => Err(CpuidVeError::Unexpected(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn the_length_is_the_low_half_of_r10() {
        let script = Script::new([Registers {
            rcx: 10,
            rdx: 1,
            r8: 2,
            r9: 3,
            r10: 0x7_0000_0002,
            ..Default::default()
        }]);
        let info = Td::new(&script).ve_info_get().unwrap();
        assert_eq!(
            (info.exit_reason, info.qualification, info.gla, info.gpa),
            (10, 1, 2, 3)
        );
        assert_eq!((info.instruction_length, info.instruction_info), (2, 7));
    }

    #[test]
    fn no_information_is_its_own_error() {
        let script = Script::status(0xC000_0704_0000_0000);
        assert_eq!(Td::new(&script).ve_info_get(), Err(VeInfoError::NotValid));
    }

    #[test]
    fn cpuid_ve_flags_are_bits_0_and_1() {
        let script = Script::status(0);
        Td::new(&script)
            .cpuid_ve_set(CpuidVe {
                supervisor: true,
                user: true,
            })
            .unwrap();
        assert_eq!((script.only_call().rax, script.only_call().rcx), (5, 3));
    }

    #[test]
    fn cpuid_ve_statuses() {
        let ve = CpuidVe {
            supervisor: true,
            user: false,
        };
        let other = 0xC000_0100_0000_0000;
        for (rax, expected) in [
            (0, Ok(())),
            (0xC000_0100_0000_0001, Err(CpuidVeError::Flags)),
            (other, Err(CpuidVeError::Unexpected(Status(other)))),
        ] {
            let script = Script::status(rax);
            assert_eq!(Td::new(&script).cpuid_ve_set(ve), expected, "{rax:#x}");
        }
    }
}
