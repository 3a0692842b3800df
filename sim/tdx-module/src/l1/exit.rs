//! What the module does when L1's run ends.

use crate::l1::{VeInfo, control_registers, cpuid, ept_violation, msr};
use crate::leaf;
use crate::module::Module;
use crate::platform::{Action, Event, Exited, HardwareExit, IoExit, Platform, Register, Vm};
use crate::td::seamcall;
use crate::transition::AsynchronousExit;
use iced_x86::{Code, OpKind};
use x86_defs::cr4;
use x86_defs::exit_reason;

const INVALID_OPCODE: u8 = 6;
/// NMI as VM-exit interruption information.
const NMI_INFORMATION: u32 = 0x8000_0202;
/// A valid external interrupt; the platform does not say which.
const INTERRUPT_INFORMATION: u32 = 0x8000_0000;

/// What the module makes of an instruction that L1 cannot execute itself.
pub(super) enum Emulation {
    /// Carried out: L1 goes on after it.
    Done,
    /// L1 gets an exception at it.
    Exception(Event),
    /// L1 gets #VE at it, with this exit reason and qualification.
    VirtualizationException(u32, u64),
}

impl Emulation {
    pub(super) const GP: Emulation = Emulation::Exception(Event::GENERAL_PROTECTION);
}

/// Handles the end of a run of L1.
pub(crate) fn handle_exit<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    exited: Exited,
) -> Action {
    module.vcpu.l1.reinject(exited.vectoring);
    let emulation = match exited.exit {
        HardwareExit::Exception {
            vector: INVALID_OPCODE,
            ..
        } => {
            return invalid_opcode(module, platform);
        }
        HardwareExit::Exception {
            vector,
            error_code,
            cr2,
        } => {
            if vector == 14 {
                platform.set_register(Vm::L1, Register::Cr2, cr2);
            }
            Emulation::Exception(Event::exception(vector, error_code))
        }
        HardwareExit::Interrupt => {
            return module.td_exit(AsynchronousExit {
                reason: exit_reason::EXTERNAL_INTERRUPT,
                interruption_information: INTERRUPT_INFORMATION,
                ..AsynchronousExit::default()
            });
        }
        HardwareExit::Nmi => {
            return module.td_exit(AsynchronousExit {
                reason: exit_reason::EXCEPTION_OR_NMI,
                interruption_information: NMI_INFORMATION,
                ..AsynchronousExit::default()
            });
        }
        HardwareExit::InterruptWindow | HardwareExit::NmiWindow | HardwareExit::Iret => {
            return module.run_l1(platform);
        }
        HardwareExit::NestedPageFault {
            gpa,
            write,
            fetch,
            page_walk,
        } => {
            let access = ept_violation::Access {
                write,
                fetch,
                page_walk,
            };
            return ept_violation::handle(module, platform, gpa, access);
        }
        HardwareExit::Cpuid => cpuid::emulate(module, platform),
        HardwareExit::ReadMsr => msr::read(module, platform),
        HardwareExit::WriteMsr => msr::write(module, platform),
        HardwareExit::CrAccess => control_registers::emulate(module, platform),
        HardwareExit::Xsetbv => xsetbv(module, platform),
        HardwareExit::Hlt => Emulation::VirtualizationException(exit_reason::HLT, 0),
        HardwareExit::Io(io) => Emulation::VirtualizationException(
            exit_reason::IO_INSTRUCTION,
            io_qualification(module, platform, io),
        ),
        HardwareExit::CacheFlush => cache_flush(module, platform),
        HardwareExit::Monitor => Emulation::VirtualizationException(exit_reason::MONITOR, 0),
        HardwareExit::Mwait => Emulation::VirtualizationException(exit_reason::MWAIT, 0),
        HardwareExit::Vmcall => Emulation::VirtualizationException(exit_reason::VMCALL, 0),
        // Without ATTRIBUTES.PERFMON.
        HardwareExit::Rdpmc => Emulation::GP,
        HardwareExit::VirtualizationInstruction => Emulation::Exception(Event::INVALID_OPCODE),
        // Never asked for; nothing has been executed.
        HardwareExit::Rdtsc
        | HardwareExit::Invlpg
        | HardwareExit::DescriptorTable
        | HardwareExit::DrAccess
        | HardwareExit::Pause => return module.run_l1(platform),
        HardwareExit::TripleFault => {
            return fatal(
                module,
                seamcall::NON_RECOVERABLE_VCPU,
                exit_reason::TRIPLE_FAULT,
            );
        }
        HardwareExit::TaskSwitch => {
            return module.td_exit(AsynchronousExit {
                reason: exit_reason::TASK_SWITCH,
                ..AsynchronousExit::default()
            });
        }
        HardwareExit::Invalid => {
            let reason = exit_reason::INVALID_GUEST_STATE | exit_reason::ENTRY_FAILURE;
            return fatal(module, seamcall::NON_RECOVERABLE_TD, reason);
        }
    };
    conclude(module, platform, emulation)
}

fn conclude<P: Platform>(module: &mut Module, platform: &mut P, emulation: Emulation) -> Action {
    match emulation {
        Emulation::Done => {
            let length = instruction_length(module, platform);
            module.advance_l1(platform, length as u64);
        }
        Emulation::Exception(event) => module.vcpu.l1.inject(event),
        Emulation::VirtualizationException(reason, qualification) => {
            let length = instruction_length(module, platform);
            module.inject_ve(platform, VeInfo::instruction(reason, qualification, length));
        }
    }
    module.run_l1(platform)
}

fn fatal(module: &mut Module, code: tdx_defs::status::Code, reason: u32) -> Action {
    module.td_exit_fatal(
        code,
        AsynchronousExit {
            reason,
            ..AsynchronousExit::default()
        },
    )
}

/// The length of the instruction that L1 exited on.
fn instruction_length<P: Platform>(module: &Module, platform: &mut P) -> usize {
    let instruction = module.l1_space(platform).fetch();
    instruction.map_or(0, |instruction| instruction.len())
}

/// #UD, which is also how a processor without TDX reports TDCALL.
fn invalid_opcode<P: Platform>(module: &mut Module, platform: &mut P) -> Action {
    let mut space = module.l1_space(platform);
    let width = space.code_width();
    let event = if !space.is_at_tdcall(width) {
        Event::INVALID_OPCODE
    } else if platform.register(Vm::L1, Register::Cpl) != 0 || width != 64 {
        Event::GENERAL_PROTECTION
    } else {
        return leaf::tdcall(module, platform);
    };
    module.vcpu.l1.inject(event);
    module.run_l1(platform)
}

/// The exit qualification of an I/O instruction (SDM volume 3, "Exit Qualification for I/O
/// Instructions").
fn io_qualification<P: Platform>(module: &Module, platform: &mut P, io: IoExit) -> u64 {
    let immediate = module
        .l1_space(platform)
        .fetch()
        .is_some_and(|instruction| {
            instruction
                .op_kinds()
                .any(|operand| operand == OpKind::Immediate8)
        });
    u64::from(io.width - 1)
        | u64::from(io.input) << 3
        | u64::from(io.string) << 4
        | u64::from(io.repeat) << 5
        | u64::from(immediate) << 6
        | u64::from(io.port) << 16
}

/// INVD, WBINVD and WBNOINVD.
fn cache_flush<P: Platform>(module: &Module, platform: &mut P) -> Emulation {
    let instruction = module.l1_space(platform).fetch();
    let code = instruction.map(|instruction| instruction.code());
    let (reason, qualification) = match code {
        Some(Code::Invd) => (exit_reason::INVD, 0),
        Some(Code::Wbnoinvd) => (exit_reason::WBINVD, 1),
        _ => (exit_reason::WBINVD, 0),
    };
    Emulation::VirtualizationException(reason, qualification)
}

/// XSETBV: XCR0 may have no bit that XFAM does not have.
fn xsetbv<P: Platform>(module: &Module, platform: &mut P) -> Emulation {
    if platform.register(Vm::L1, Register::Cr4) & cr4::OSXSAVE == 0 {
        return Emulation::Exception(Event::INVALID_OPCODE);
    }
    let index = platform.register(Vm::L1, Register::Rcx) as u32;
    let value = msr::operand(platform);
    if platform.register(Vm::L1, Register::Cpl) != 0
        || index != 0
        || value & !module.td.params.xfam != 0
        || !platform.xsetbv(value)
    {
        return Emulation::GP;
    }
    Emulation::Done
}

#[cfg(test)]
mod tests;
