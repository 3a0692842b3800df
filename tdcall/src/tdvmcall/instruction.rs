//! Instruction.CPUID, Instruction.HLT, Instruction.RDMSR, Instruction.WRMSR, Instruction.WBINVD.

use crate::raw::RawTdcall;
use crate::td::Td;
use crate::tdvmcall::VmcallError;
use tdx_defs::ghci::sub_function;

/// Registers that CPUID returns.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl<R: RawTdcall> Td<R> {
    /// `TDG.VP.VMCALL<Instruction.CPUID>`: what the host says of a leaf the module does not
    /// virtualize.
    pub fn cpuid(&self, leaf: u32, sub_leaf: u32) -> Result<CpuidResult, VmcallError> {
        let arguments = [u64::from(leaf), u64::from(sub_leaf), 0, 0];
        let out = self.vmcall(sub_function::CPUID, arguments)?;
        Ok(CpuidResult {
            eax: out.r12 as u32,
            ebx: out.r13 as u32,
            ecx: out.r14 as u32,
            edx: out.r15 as u32,
        })
    }

    /// `TDG.VP.VMCALL<Instruction.HLT>`: lets the host run something else until an interrupt is
    /// pending.
    ///
    /// `interrupts_blocked` is what the host is told; it must be false only if interrupts are
    /// enabled at the TDCALL, or become so in its STI shadow.
    pub fn hlt(&self, interrupts_blocked: bool) -> Result<(), VmcallError> {
        self.vmcall(sub_function::HLT, [u64::from(interrupts_blocked), 0, 0, 0])
            .map(drop)
    }

    /// `TDG.VP.VMCALL<Instruction.RDMSR>`: an MSR that the host emulates.
    pub fn rdmsr(&self, index: u32) -> Result<u64, VmcallError> {
        self.vmcall(sub_function::RDMSR, [u64::from(index), 0, 0, 0])
            .map(|out| out.r11)
    }

    /// `TDG.VP.VMCALL<Instruction.WRMSR>`: an MSR that the host emulates.
    pub fn wrmsr(&self, index: u32, value: u64) -> Result<(), VmcallError> {
        self.vmcall(sub_function::WRMSR, [u64::from(index), value, 0, 0])
            .map(drop)
    }

    /// `TDG.VP.VMCALL<Instruction.WBINVD>`: asks the host to write back its caches, and with
    /// `invalidate` to empty them.
    pub fn wbinvd(&self, invalidate: bool) -> Result<(), VmcallError> {
        self.vmcall(sub_function::WBINVD, [u64::from(!invalidate), 0, 0, 0])
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::Registers;

    #[test]
    fn cpuid_returns_in_r12_to_r15() {
        let script = Script::new([Registers {
            r12: 0xFFFF_FFFF_0000_0001,
            r13: 2,
            r14: 3,
            r15: 4,
            ..Default::default()
        }]);
        let result = Td::new(&script).cpuid(0x15, 1).unwrap();
        assert_eq!(
            result,
            CpuidResult {
                eax: 1,
                ebx: 2,
                ecx: 3,
                edx: 4
            }
        );
        let call = script.only_call();
        assert_eq!((call.r11, call.r12, call.r13), (10, 0x15, 1));
    }

    #[test]
    fn msrs_and_halt_pass_their_operands() {
        let script = Script::new([
            Registers {
                r11: 0xABCD,
                ..Default::default()
            },
            Registers::default(),
            Registers::default(),
            Registers::default(),
        ]);
        let td = Td::new(&script);
        assert_eq!(td.rdmsr(0x6E0), Ok(0xABCD));
        td.wrmsr(0x6E0, 5).unwrap();
        td.hlt(false).unwrap();
        td.wbinvd(true).unwrap();
        let calls = script.calls();
        assert_eq!((calls[0].r11, calls[0].r12), (31, 0x6E0));
        assert_eq!((calls[1].r11, calls[1].r12, calls[1].r13), (32, 0x6E0, 5));
        assert_eq!((calls[2].r11, calls[2].r12), (12, 0));
        assert_eq!((calls[3].r11, calls[3].r12), (54, 0));
    }
}
