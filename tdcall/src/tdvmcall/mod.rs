//! TDVMCALLs: TDG.VP.VMCALL with a standard sub-function, one file a family.
//!
//! Every answer is the untrusted host's. What comes back is cut to the width that was asked for
//! and otherwise passed on: the caller treats it as hostile.

mod attestation;
mod instruction;
mod io;
mod map_gpa;
mod notification;

pub use instruction::CpuidResult;
pub use map_gpa::MapGpaError;

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::ghci::{CompletionStatus, STANDARD, mask};
use tdx_defs::status::Status;
use tdx_defs::tdg;

/// Why a TDVMCALL failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VmcallError {
    /// The TDCALL itself ended with this status; the host was not asked or its answer is void.
    #[error("TDVMCALL: {0}")]
    Tdcall(Status),
    /// The host asks to call again. Only [`Td::map_gpa`] does so on its own.
    #[error("TDVMCALL: the host asks to call again")]
    Retry,
    /// The host refuses an operand; an older one also says this of a sub-function it lacks.
    #[error("TDVMCALL: the host refuses an operand")]
    InvalidOperand,
    /// The GPA is in use.
    #[error("TDVMCALL: the GPA is in use")]
    GpaInUse,
    /// An operand is not aligned.
    #[error("TDVMCALL: an operand is not aligned")]
    AlignError,
    /// The host lacks the sub-function.
    #[error("TDVMCALL: the host lacks the sub-function")]
    Unsupported,
    /// The host answered with something the GHCI does not define.
    #[error("TDVMCALL: the host answered {0:#x}")]
    Unknown(u64),
}

impl VmcallError {
    fn of(status: CompletionStatus) -> Result<(), Self> {
        match status {
            CompletionStatus::Success => Ok(()),
            CompletionStatus::Retry => Err(Self::Retry),
            CompletionStatus::InvalidOperand => Err(Self::InvalidOperand),
            CompletionStatus::GpaInUse => Err(Self::GpaInUse),
            CompletionStatus::AlignError => Err(Self::AlignError),
            CompletionStatus::SubfuncUnsupported => Err(Self::Unsupported),
            CompletionStatus::Unknown(value) => Err(Self::Unknown(value)),
        }
    }
}

impl<R: RawTdcall> Td<R> {
    /// A standard TDVMCALL that passes R10 to R15: `arguments` are R12 to R15.
    fn vmcall(&self, sub_function: u64, arguments: [u64; 4]) -> Result<Registers, VmcallError> {
        let out = self.vmcall_raw(sub_function, arguments)?;
        VmcallError::of(CompletionStatus::from_r10(out.r10))?;
        Ok(out)
    }

    /// As [`Td::vmcall`], with the host's status left in R10.
    fn vmcall_raw(&self, sub_function: u64, arguments: [u64; 4]) -> Result<Registers, VmcallError> {
        let [r12, r13, r14, r15] = arguments;
        let out = self.call(Registers {
            rax: tdg::VP_VMCALL,
            rcx: mask::R10_TO_R15,
            r10: STANDARD,
            r11: sub_function,
            r12,
            r13,
            r14,
            r15,
            ..Default::default()
        });
        // The module says success or something about a mask that is constant here.
        if Status(out.rax).upper32() != 0 {
            return Err(VmcallError::Tdcall(Status(out.rax)));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn a_standard_call_passes_r10_to_r15_and_nothing_else() {
        let script = Script::status(0);
        Td::new(&script).vmcall(12, [1, 2, 3, 4]).unwrap();
        let expected = Registers {
            rcx: 0xFC00,
            r11: 12,
            r12: 1,
            r13: 2,
            r14: 3,
            r15: 4,
            ..Default::default()
        };
        assert_eq!(script.only_call(), expected);
    }

    #[test]
    fn statuses_of_the_host_are_decoded() {
        let rows = [
            (1, VmcallError::Retry),
            (0x8000_0000_0000_0000, VmcallError::InvalidOperand),
            (0x8000_0000_0000_0001, VmcallError::GpaInUse),
            (0x8000_0000_0000_0002, VmcallError::AlignError),
            (0x8000_0000_0000_0003, VmcallError::Unsupported),
            (77, VmcallError::Unknown(77)),
        ];
        for (r10, expected) in rows {
            let script = Script::new([Registers {
                r10,
                ..Default::default()
            }]);
            assert_eq!(
                Td::new(&script).vmcall(12, [0; 4]),
                Err(expected),
                "{r10:#x}"
            );
        }
    }

    #[test]
    fn a_refused_mask_is_not_taken_for_an_answer() {
        let script = Script::status(0xC000_0100_0000_0001);
        let error = VmcallError::Tdcall(Status(0xC000_0100_0000_0001));
        assert_eq!(Td::new(&script).vmcall(12, [0; 4]), Err(error));
    }
}
