//! The TDG.* leaves that L1 calls, one file for each family.
//!
//! A leaf reads and writes a copy of the caller's registers; the copy reaches the caller only if
//! the leaf completes. Whatever is not a plain success is an `Err` with a [`LeafEnd`].

mod accept;
mod attributes;
mod info;
mod metadata;
mod operand;
mod report;
mod rtmr;
mod veinfo;
mod vmcall;

use crate::l1::VeInfo;
use crate::l2;
use crate::module::Module;
use crate::platform::{Action, Event, Platform, Register, Vm};
use crate::transition::AsynchronousExit;
use tdcall::Registers;
use tdcall::leaf::number;
use tdcall::status::{Operand, Status};

/// Length of the TDCALL instruction.
pub(crate) const TDCALL_LENGTH: u64 = 4;

/// How a TDCALL ends, if not in success.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeafEnd {
    /// The leaf completed with this status: RAX has it, RIP is past the TDCALL.
    Status(Status),
    /// TDG.VP.VMCALL: RIP is past the TDCALL, and the host gets the registers in the mask.
    Tdvmcall { mask: u64 },
    /// The host has to act first: nothing changes, and the call is repeated after the TD entry.
    TdExit(AsynchronousExit),
    /// The caller gets #VE: nothing else changes.
    VirtualizationException(VeInfo),
    /// The caller gets an exception: nothing else changes.
    Exception(Event),
    /// An interrupt came first: nothing changes, and the call is repeated.
    Interrupted,
    /// TDG.VP.ENTER got as far as L2, or left the TD on the way: RIP is still at the TDCALL, and
    /// [`Module::complete_tdcall`] ends the call later.
    Left(Action),
}

impl From<Status> for LeafEnd {
    fn from(status: Status) -> LeafEnd {
        LeafEnd::Status(status)
    }
}

/// What a leaf returns; see [`LeafEnd`].
pub(crate) type LeafResult = Result<(), LeafEnd>;

/// A status error for the operand in `operand`.
pub(crate) fn invalid(operand: Operand) -> LeafEnd {
    Status::operand_invalid(operand).into()
}

/// Serves the TDCALL at L1's RIP. The caller has checked CPL and mode.
pub(crate) fn tdcall<P: Platform>(module: &mut Module, platform: &mut P) -> Action {
    let mut registers = read_registers(platform, Vm::L1);
    let leaf = registers.rax & 0xffff;
    module.statistics.count_tdcall(leaf);
    let end = match dispatch(module, platform, &mut registers) {
        Ok(()) => LeafEnd::Status(Status::SUCCESS),
        Err(end) => end,
    };
    match end {
        LeafEnd::Status(status) => {
            registers.rax = status.0;
            module.complete_tdcall(platform, &registers)
        }
        LeafEnd::Tdvmcall { mask } => {
            platform.set_register(Vm::L1, Register::Rax, 0);
            module.advance_l1(platform, TDCALL_LENGTH);
            module.td_exit_tdvmcall(platform, mask)
        }
        LeafEnd::TdExit(exit) => module.td_exit(exit),
        LeafEnd::VirtualizationException(information) => {
            module.inject_ve(platform, information);
            module.run_l1(platform)
        }
        LeafEnd::Exception(event) => {
            module.vcpu.l1.inject(event);
            module.run_l1(platform)
        }
        LeafEnd::Interrupted => module.run_l1(platform),
        LeafEnd::Left(action) => action,
    }
}

fn dispatch<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let leaf = registers.rax & 0xffff;
    let version = registers.rax >> number::VERSION_SHIFT & 0xff;
    let reserved = registers.rax >> 24;
    let highest_version = u64::from(leaf == number::VM_RD);
    if reserved != 0 || version > highest_version {
        return Err(invalid(Operand::RAX));
    }
    match leaf {
        number::VP_VMCALL => vmcall::vp_vmcall(module, registers),
        number::VP_INFO => info::vp_info(module, registers),
        number::MR_RTMR_EXTEND => rtmr::mr_rtmr_extend(module, platform, registers),
        number::VP_VEINFO_GET => veinfo::vp_veinfo_get(module, registers),
        number::MR_REPORT => report::mr_report(module, platform, registers),
        number::VP_CPUIDVE_SET => info::vp_cpuidve_set(module, registers),
        number::MEM_PAGE_ACCEPT => accept::mem_page_accept(module, platform, registers),
        number::VM_RD => metadata::vm_rd(module, registers, version),
        number::VM_WR => metadata::vm_wr(module, registers),
        number::VP_RD => metadata::vp_rd(module, platform, registers),
        number::VP_WR => metadata::vp_wr(module, platform, registers),
        number::SYS_RD => metadata::sys_rd(module, registers),
        number::SYS_RDALL => metadata::sys_rdall(module, platform, registers),
        number::MR_VERIFYREPORT => report::mr_verifyreport(module, platform, registers),
        number::MEM_PAGE_ATTR_RD => attributes::mem_page_attr_rd(module, registers),
        number::MEM_PAGE_ATTR_WR => attributes::mem_page_attr_wr(module, platform, registers),
        number::VP_ENTER => Err(l2::vp_enter(module, platform, registers)),
        number::VP_INVEPT => l2::vp_invept(module, platform, registers),
        number::VP_INVGLA => l2::vp_invgla(module, platform, registers),
        _ => Err(invalid(Operand::RAX)),
    }
}

impl Module {
    /// Ends L1's TDCALL: `registers` are the caller's, RAX included; RIP moves past the call.
    pub(crate) fn complete_tdcall<P: Platform>(
        &mut self,
        platform: &mut P,
        registers: &Registers,
    ) -> Action {
        write_registers(platform, Vm::L1, registers);
        self.advance_l1(platform, TDCALL_LENGTH);
        self.run_l1(platform)
    }
}

/// The general registers of `vm` but RSP.
pub(crate) fn read_registers<P: Platform>(platform: &mut P, vm: Vm) -> Registers {
    let mut read = |register| platform.register(vm, register);
    Registers {
        rax: read(Register::Rax),
        rcx: read(Register::Rcx),
        rdx: read(Register::Rdx),
        rbx: read(Register::Rbx),
        rbp: read(Register::Rbp),
        rsi: read(Register::Rsi),
        rdi: read(Register::Rdi),
        r8: read(Register::R8),
        r9: read(Register::R9),
        r10: read(Register::R10),
        r11: read(Register::R11),
        r12: read(Register::R12),
        r13: read(Register::R13),
        r14: read(Register::R14),
        r15: read(Register::R15),
    }
}

/// Sets the general registers of `vm` but RSP.
pub(crate) fn write_registers<P: Platform>(platform: &mut P, vm: Vm, registers: &Registers) {
    for (register, value) in [
        (Register::Rax, registers.rax),
        (Register::Rcx, registers.rcx),
        (Register::Rdx, registers.rdx),
        (Register::Rbx, registers.rbx),
        (Register::Rbp, registers.rbp),
        (Register::Rsi, registers.rsi),
        (Register::Rdi, registers.rdi),
        (Register::R8, registers.r8),
        (Register::R9, registers.r9),
        (Register::R10, registers.r10),
        (Register::R11, registers.r11),
        (Register::R12, registers.r12),
        (Register::R13, registers.r13),
        (Register::R14, registers.r14),
        (Register::R15, registers.r15),
    ] {
        platform.set_register(vm, register, value);
    }
}
