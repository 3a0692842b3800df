//! TD entry and TD exit: TDH.VP.ENTER.

use crate::l2;
use crate::module::Module;
use crate::platform::{Action, Platform, Register, TdExit, Vm};
use crate::td::{OpState, seamcall};
use crate::vcpu::{LastTdExit, VcpuState};
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use x86_defs::exit_reason;

/// Input operands of TDH.VP.ENTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VpEnterInput {
    /// The host's registers. After a TDVMCALL exit, those in its mask reach the caller.
    pub registers: Registers,
    /// RCX bit 53: enter L1 even if an L2 VM was left.
    pub resume_l1: bool,
    /// RCX bit 52: ORed into the guest's RAX after a trap-like exit.
    pub host_recoverability_hint: bool,
}

impl VpEnterInput {
    const HOST_RECOVERABILITY_HINT: u64 = 1 << 60;
}

/// Extended exit qualification of an EPT-violation TD exit (TDX Module ABI,
/// "EXTENDED_EXIT_QUALIFICATION").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtendedQualification(pub(crate) u64);

impl ExtendedQualification {
    pub(crate) const NONE: ExtendedQualification = ExtendedQualification(0);

    /// Type 1: TDG.MEM.PAGE.ACCEPT. Also the form of type 5, TDG.MEM.PAGE.ATTR.WR.
    pub(crate) const fn page(
        kind: u64,
        requested: u64,
        found: u64,
        state: u64,
        leaf: bool,
    ) -> Self {
        Self(kind | requested << 32 | found << 35 | state << 38 | (leaf as u64) << 46)
    }

    /// Type 2: an L2 secure-EPT page of `vm` is missing.
    pub(crate) const fn l2_walk(vm: u8, requested: u64, found: u64) -> Self {
        Self(2 | requested << 32 | found << 35 | (vm as u64) << 47)
    }

    /// Type 6: an access to a pending page.
    pub(crate) const PENDING: Self = Self(6);
}

/// What an asynchronous TD exit tells the host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsynchronousExit {
    pub(crate) reason: u32,
    pub(crate) qualification: u64,
    pub(crate) extended: ExtendedQualification,
    pub(crate) gpa: u64,
    pub(crate) interruption_information: u32,
}

impl AsynchronousExit {
    /// An EPT violation as the host gets it: no linear-address bits, no page offset.
    pub(crate) fn ept_violation(
        gpa: u64,
        qualification: u64,
        extended: ExtendedQualification,
    ) -> AsynchronousExit {
        AsynchronousExit {
            reason: exit_reason::EPT_VIOLATION,
            qualification: qualification & !0x1f80,
            extended,
            gpa: gpa & !0xfff,
            interruption_information: 0,
        }
    }
}

impl Module {
    /// TDH.VP.ENTER: runs the virtual processor that was taken up, first giving it what the host answered to its
    /// last TDVMCALL.
    ///
    /// Ends in [`Action::TdExit`] with an error in RAX if it cannot be run.
    pub fn tdh_vp_enter<P: Platform>(&mut self, platform: &mut P, input: VpEnterInput) -> Action {
        if let Err(status) = self.check_vp_enter(&input) {
            return Action::TdExit(TdExit {
                registers: Registers {
                    rax: status.0,
                    ..Registers::default()
                },
            });
        }
        self.vcpu.state = VcpuState::Active;
        l2::translations::follow_epoch(self, platform);
        self.vcpu.resume_l1 |= input.resume_l1;
        let last_td_exit =
            core::mem::replace(&mut self.vcpu.last_td_exit, LastTdExit::Asynchronous);
        if let LastTdExit::Tdvmcall { mask } = last_td_exit {
            let vm = self.vcpu.current;
            give_registers(platform, vm, mask, &input.registers);
            if input.host_recoverability_hint {
                let rax = platform.register(vm, Register::Rax);
                platform.set_register(
                    vm,
                    Register::Rax,
                    rax | VpEnterInput::HOST_RECOVERABILITY_HINT,
                );
            }
        }
        match self.vcpu.current {
            Vm::L1 => self.run_l1(platform),
            Vm::L2(vm) => l2::td_entry(self, platform, vm, last_td_exit),
        }
    }

    fn check_vp_enter(&self, input: &VpEnterInput) -> Result<(), Status> {
        if self.td.fatal {
            return Err(Status::new(seamcall::TD_FATAL, 0));
        }
        if self.td.op_state != OpState::Runnable {
            return Err(Status::new(seamcall::OP_STATE_INCORRECT, 0));
        }
        if self.vcpu.state != VcpuState::Ready {
            return Err(Status::new(seamcall::VCPU_STATE_INCORRECT, 0));
        }
        if input.resume_l1 && self.vcpu.current == Vm::L1 {
            return Err(Status::operand_invalid(Operand::RCX));
        }
        Ok(())
    }

    /// Leaves the TD for the host; the VM that runs stays current.
    pub(crate) fn td_exit(&mut self, exit: AsynchronousExit) -> Action {
        self.leave(Code::Success, exit)
    }

    /// Leaves the TD for good: `code` is one of the NON_RECOVERABLE codes.
    pub(crate) fn td_exit_fatal(&mut self, code: Code, exit: AsynchronousExit) -> Action {
        self.td.fatal = code != seamcall::NON_RECOVERABLE_VCPU;
        let action = self.leave(code, exit);
        self.vcpu.state = VcpuState::Disabled;
        action
    }

    /// Leaves the TD because its TDCALLs have failed for too long for the sake of a lock that the host wants.
    pub(crate) fn td_exit_host_priority(&mut self) -> Action {
        self.locks.host_had_it();
        self.leave(
            seamcall::HOST_PRIORITY_BUSY_TIMEOUT,
            AsynchronousExit::default(),
        )
    }

    fn leave(&mut self, code: Code, exit: AsynchronousExit) -> Action {
        self.count_td_exit(exit.reason & 0xffff);
        self.vcpu.last_td_exit = LastTdExit::Asynchronous;
        self.vcpu.state = VcpuState::Ready;
        Action::TdExit(TdExit {
            registers: Registers {
                rax: Status::new(code, exit.reason).0,
                rcx: exit.qualification & 0xffff_ffff | self.vm_number() << 32,
                rdx: exit.extended.0,
                r8: exit.gpa,
                r9: exit.interruption_information.into(),
                ..Registers::default()
            },
        })
    }

    /// TDG.VP.VMCALL of the current VM: leaves the TD with the registers in RCX's mask. The caller
    /// has checked the mask, moved RIP and set RAX.
    pub(crate) fn td_exit_tdvmcall<P: Platform>(&mut self, platform: &mut P, mask: u64) -> Action {
        let vm = self.vcpu.current;
        let mut registers = Registers {
            rax: exit_reason::TDCALL.into(),
            rcx: mask | self.vm_number() << 32,
            ..Registers::default()
        };
        for (register, slot) in masked(mask, &mut registers) {
            *slot = platform.register(vm, register);
        }
        if registers.r10 == 0 {
            self.statistics.count_tdvmcall(registers.r11);
        }
        self.count_td_exit(exit_reason::TDCALL);
        self.vcpu.last_td_exit = LastTdExit::Tdvmcall { mask };
        self.vcpu.state = VcpuState::Ready;
        Action::TdExit(TdExit { registers })
    }

    fn vm_number(&self) -> u64 {
        self.vcpu.current.number().into()
    }
}

/// Copies the registers in `mask` from the host to `vm`.
fn give_registers<P: Platform>(platform: &mut P, vm: Vm, mask: u64, host: &Registers) {
    let mut host = *host;
    for (register, value) in masked(mask, &mut host) {
        platform.set_register(vm, register, *value);
    }
}

/// The registers that a TDVMCALL mask may name (RAX, RCX and RSP never are) and that this one does.
fn masked(
    mask: u64,
    registers: &mut Registers,
) -> impl Iterator<Item = (Register, &mut u64)> + use<'_> {
    [
        (2, Register::Rdx, &mut registers.rdx),
        (3, Register::Rbx, &mut registers.rbx),
        (5, Register::Rbp, &mut registers.rbp),
        (6, Register::Rsi, &mut registers.rsi),
        (7, Register::Rdi, &mut registers.rdi),
        (8, Register::R8, &mut registers.r8),
        (9, Register::R9, &mut registers.r9),
        (10, Register::R10, &mut registers.r10),
        (11, Register::R11, &mut registers.r11),
        (12, Register::R12, &mut registers.r12),
        (13, Register::R13, &mut registers.r13),
        (14, Register::R14, &mut registers.r14),
        (15, Register::R15, &mut registers.r15),
    ]
    .into_iter()
    .filter(move |(bit, _, _)| mask & 1 << bit != 0)
    .map(|(_, register, slot)| (register, slot))
}
