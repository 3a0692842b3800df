//! L2 to L1, L2 to the host, and back to L2.

use super::enter::{run, translate};
use super::event::is_software;
use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::leaf::vmcall::is_mask;
use crate::module::Module;
use crate::platform::{
    Action, Event, EventKind, Exited, HardwareExit, Platform, Register, SegmentName, Vm,
};
use crate::statistics::Route;
use crate::td::seamcall;
use crate::transition::AsynchronousExit;
use crate::vcpu::LastTdExit;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::vmcs::{EntryControls, VmcsField};
use tdx_defs::{Registers, VmIndex};
use x86_defs::efer;
use x86_defs::exit_reason;

/// The hardware has stopped running an L2 VM.
pub(crate) fn handle_exit<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    exited: Exited,
) -> Action {
    let mut guest = Guest::new(module, platform, vm);
    guest.note_exit(exited.vectoring);
    if exited.exit == HardwareExit::Interrupt
        && let Some(action) = exit_for_posted_interrupt(module, platform, vm)
    {
        return action;
    }
    match Guest::new(module, platform, vm).route(exited.exit) {
        Disposition::L1(exit) => {
            if module.faults.take_host_route(exit.reason) {
                return leave(module, platform, vm, exit, exit.to_host());
            }
            module.count_l2_exit(exit.reason, Route::L1);
            exit_to_l1(module, platform, vm, Code::Success, exit)
        }
        Disposition::Host(exit) => leave(module, platform, vm, exit, exit.to_host()),
        Disposition::Tdvmcall { exit, mask } => tdvmcall(module, platform, vm, exit, mask),
        Disposition::Resume { reason, event } => {
            module.count_l2_exit(reason, Route::Module);
            module.vcpu.l2_mut(vm).last_exit = ExitInformation::of(reason);
            resume(module, platform, vm, event)
        }
        Disposition::Fatal(reason) => module.td_exit_fatal(
            seamcall::NON_RECOVERABLE_TD,
            AsynchronousExit {
                reason,
                ..AsynchronousExit::default()
            },
        ),
    }
}

/// TDG.VP.VMCALL of L2, past L1: what L1's own would do.
fn tdvmcall<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    exit: ExitInformation,
    mask: u64,
) -> Action {
    let legal = is_mask(module, mask);
    let mut guest = Guest::new(module, platform, vm);
    let rax = guest.register(Register::Rax);
    let status = if rax != 0 {
        Some(Status::operand_invalid(Operand::RAX))
    } else if !legal {
        Some(Status::operand_invalid(Operand::RCX))
    } else {
        None
    };
    let event = guest.step_over(exit.instruction_length);
    // A single-step trap waits until L2 runs again.
    guest.l2.vectoring = event;
    if let Some(status) = status {
        guest.set_register(Register::Rax, status.0);
        module.count_l2_exit(exit.reason, Route::Module);
        return resume(module, platform, vm, None);
    }
    guest.l2.last_exit = exit;
    guest.set_register(Register::Rax, 0);
    guest.save();
    module.count_l2_exit(exit.reason, Route::Host);
    module.td_exit_tdvmcall(platform, mask)
}

/// TDH.VP.ENTER while an L2 VM is current.
pub(crate) fn td_entry<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    last_td_exit: LastTdExit,
) -> Action {
    let entry = module.vcpu.l2(vm).entry;
    let vapic = module.vcpu.l2(vm).cell(VmcsField::VIRTUAL_APIC_ADDRESS);
    match translate(module, entry.guest_state_gpa, vapic) {
        Ok(entry) => module.vcpu.l2_mut(vm).entry = entry,
        Err(exit) => return module.td_exit(exit),
    }
    let routed = match last_td_exit {
        LastTdExit::Asynchronous => Code::L2ExitHostRoutedAsync,
        LastTdExit::Tdvmcall { .. } => Code::L2ExitHostRoutedTdvmcall,
    };
    if module.vcpu.resume_l1 {
        let exit = ExitInformation {
            extended: 0,
            ..module.vcpu.l2(vm).last_exit
        };
        return exit_to_l1(module, platform, vm, routed, exit);
    }
    if let Some(action) = exit_for_posted_interrupt(module, platform, vm) {
        return action;
    }
    let guest = Guest::new(module, platform, vm);
    if let Some(event) = guest.l2.vectoring
        && guest.is_intercepted_exception(&event)
    {
        let exit = ExitInformation::exception(&event, 0);
        return exit_to_l1(module, platform, vm, routed, exit);
    }
    resume(module, platform, vm, None)
}

/// Posted interrupts that L1 could take end the run of L2.
fn exit_for_posted_interrupt<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
) -> Option<Action> {
    let apic = &mut module.vcpu.l1.apic;
    if !apic.notified() {
        return None;
    }
    apic.accept_posted();
    apic.is_deliverable().then(|| {
        let exit = ExitInformation::of(exit_reason::EXTERNAL_INTERRUPT);
        module.count_l2_exit(exit.reason, Route::L1);
        exit_to_l1(module, platform, vm, Code::L2ExitPendingInterrupt, exit)
    })
}

/// Runs L2 on, with the event whose delivery was cut short, or else with `event`.
fn resume<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    event: Option<Event>,
) -> Action {
    let guest = Guest::new(module, platform, vm);
    let vectoring = guest.l2.vectoring;
    if let Some(event) = vectoring
        && guest.is_intercepted_exception(&event)
    {
        // The VMCS has the exception, and so has R9[63:32]; the other registers keep what the
        // exit had that the module dealt with.
        let mut original = guest.l2.last_exit;
        original.interruption_error_code = event.error_code.unwrap_or(0);
        let exception = ExitInformation::exception(&event, 0);
        let action = exit_to_l1(module, platform, vm, Code::Success, original);
        Guest::new(module, platform, vm).store_exit(&exception);
        return action;
    }
    let mut guest = guest;
    guest.l2.vectoring = None;
    if let Some(event) = vectoring.or(event) {
        guest.set_entry_event(&event);
    }
    run(module, platform, vm)
}

/// A TD exit: the host decides what becomes of L2.
fn leave<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    exit: ExitInformation,
    to_host: AsynchronousExit,
) -> Action {
    module.count_l2_exit(exit.reason, Route::Host);
    let mut guest = Guest::new(module, platform, vm);
    guest.l2.last_exit = exit;
    guest.save();
    module.td_exit(to_host)
}

/// Ends L1's TDG.VP.ENTER with an exit of L2.
pub(super) fn exit_to_l1<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    vm: VmIndex,
    code: Code,
    exit: ExitInformation,
) -> Action {
    let mut guest = Guest::new(module, platform, vm);
    guest.store_exit(&exit);
    guest.save();
    let registers = guest.outputs(code, &exit);
    guest.l2.vectoring = None;
    guest.l2.last_exit = exit;
    platform.carry_over(Vm::L2(vm), Vm::L1);
    platform.set_timer(None);
    module.vcpu.l1.apic.accept_posted();
    module.complete_tdcall(platform, &registers)
}

impl<P: Platform> Guest<'_, P> {
    /// Takes over what the processor saves at every exit.
    fn note_exit(&mut self, vectoring: Option<Event>) {
        let shadow = self.register(Register::InterruptShadow);
        let interrupts = self.register(Register::Rflags) & x86_defs::rflags::IF != 0;
        // Hardware with one kind of shadow calls it STI's, which needs RFLAGS.IF.
        let sti = shadow & 1 != 0 && interrupts;
        let mov_ss = shadow & 2 != 0 || shadow & 1 != 0 && !interrupts;
        let state = self
            .interruptibility()
            .with_blocking_by_sti(sti)
            .with_blocking_by_mov_ss(mov_ss);
        self.set_interruptibility(state);
        self.end_blocking_by_nmi();
        let long_mode = self.register(Register::Efer) & efer::LMA != 0;
        let entry = EntryControls::from_bits(self.l2.cell(VmcsField::ENTRY_CONTROLS) as u32)
            .with_ia32e_mode_guest(long_mode);
        self.l2
            .set_cell(VmcsField::ENTRY_CONTROLS, entry.into_bits().into());
        self.take_vectoring(vectoring);
    }

    /// Whether an event is an exception that L1 asked to exit on.
    fn is_intercepted_exception(&self, event: &Event) -> bool {
        event.kind == EventKind::HardwareException
            && self.exits_on_exception(event.vector, event.error_code.unwrap_or(0))
    }

    /// Fills the VM-exit information fields of the VMCS.
    fn store_exit(&mut self, exit: &ExitInformation) {
        let (idt, idt_error_code) = self.idt_vectoring();
        let length = self.vectoring_length().unwrap_or(exit.instruction_length);
        for (field, value) in [
            (VmcsField::EXIT_REASON, exit.reason.into()),
            (VmcsField::EXIT_QUALIFICATION, exit.qualification),
            (VmcsField::GUEST_LINEAR_ADDRESS, exit.linear_address),
            (VmcsField::EXIT_INTERRUPTION_INFO, exit.interruption.into()),
            (
                VmcsField::EXIT_INTERRUPTION_ERROR_CODE,
                exit.interruption_error_code.into(),
            ),
            (VmcsField::IDT_VECTORING_INFO, idt.into()),
            (VmcsField::IDT_VECTORING_ERROR_CODE, idt_error_code.into()),
            (VmcsField::EXIT_INSTRUCTION_LENGTH, length.into()),
            (
                VmcsField::EXIT_INSTRUCTION_INFO,
                exit.instruction_information.into(),
            ),
        ] {
            self.l2.set_cell(field, value);
        }
        if exit.reason == exit_reason::EPT_VIOLATION {
            self.l2
                .set_cell(VmcsField::GUEST_PHYSICAL_ADDRESS, exit.gpa);
        }
    }

    fn idt_vectoring(&self) -> (u32, u32) {
        match self.l2.vectoring {
            Some(event) => (event.information(), event.error_code.unwrap_or(0)),
            None => (0, 0),
        }
    }

    /// The length of the instruction whose software event was being delivered.
    fn vectoring_length(&self) -> Option<u32> {
        self.l2
            .vectoring
            .filter(|event| is_software(event.kind))
            .map(|event| event.instruction_length.into())
    }

    /// The output registers of TDG.VP.ENTER.
    fn outputs(&mut self, code: Code, exit: &ExitInformation) -> Registers {
        let cs = self.segment(SegmentName::Cs);
        let (idt, idt_error_code) = self.idt_vectoring();
        let length = self.vectoring_length().unwrap_or(exit.instruction_length);
        Registers {
            rax: Status::new(code, exit.reason).0,
            rcx: exit.qualification,
            rdx: exit.linear_address,
            rbx: 0,
            rbp: self.register(Register::Rbp),
            rsi: u64::from(cs.selector)
                | u64::from(cs.access_rights & 0xffff) << 16
                | u64::from(cs.limit) << 32,
            rdi: cs.base,
            r8: self.l2.cell(VmcsField::GUEST_PHYSICAL_ADDRESS),
            r9: pair(exit.interruption, exit.interruption_error_code),
            r10: pair(idt, idt_error_code),
            r11: pair(exit.instruction_information, length),
            r12: self.cpl().into(),
            r13: exit.extended,
            r14: 0,
            r15: 0,
        }
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}
