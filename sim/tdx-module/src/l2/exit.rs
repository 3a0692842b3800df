//! Where an exit of L2 goes (TDX Module Base Architecture, "L2 VM Exits"), by the kind the hardware
//! reports.

use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::{Event, HardwareExit, Platform, Register};
use iced_x86::{Instruction, Mnemonic};
use tdx_defs::vmcs::VmcsField;
use x86_defs::exit_reason;

/// What becomes of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// L1 gets it, with status 0.
    L1(ExitInformation),
    /// The host gets it as a TD exit, and may route it to L1.
    Host(ExitInformation),
    /// L2's TDG.VP.VMCALL, which L1 has allowed to go to the host.
    Tdvmcall {
        exit: ExitInformation,
        /// RCX of the call, not yet checked.
        mask: u64,
    },
    /// The module has dealt with it. L2 runs on, after `event` if there is one.
    Resume { reason: u32, event: Option<Event> },
    /// It ends the TD.
    Fatal(u32),
}

impl Disposition {
    /// The instruction faults in L2.
    pub(super) fn fault(reason: u32, event: Event) -> Disposition {
        Disposition::Resume {
            reason,
            event: Some(event),
        }
    }
}

/// An NMI as VM-exit interruption information.
const NMI: u32 = 0x8000_0202;
/// An external interrupt whose vector the hardware does not tell.
const EXTERNAL_INTERRUPT: u32 = 0x8000_0000;

impl<P: Platform> Guest<'_, P> {
    /// Decides about an exit, and does what the module itself has to do about it.
    pub(super) fn route(&mut self, exit: HardwareExit) -> Disposition {
        match exit {
            HardwareExit::Exception {
                vector,
                error_code,
                cr2,
            } => self.route_exception(vector, error_code, cr2),
            HardwareExit::Interrupt if self.platform.tsc() >= self.l2.tsc_deadline => {
                Disposition::L1(ExitInformation::of(exit_reason::PREEMPTION_TIMER))
            }
            HardwareExit::Interrupt => Disposition::Host(ExitInformation {
                interruption: EXTERNAL_INTERRUPT,
                ..ExitInformation::of(exit_reason::EXTERNAL_INTERRUPT)
            }),
            HardwareExit::Nmi => Disposition::Host(ExitInformation {
                interruption: NMI,
                ..ExitInformation::of(exit_reason::EXCEPTION_OR_NMI)
            }),
            HardwareExit::InterruptWindow if self.primary().interrupt_window() => {
                Disposition::L1(ExitInformation::of(exit_reason::INTERRUPT_WINDOW))
            }
            // The window was for a virtual interrupt; the next entry delivers it.
            HardwareExit::InterruptWindow => Disposition::Resume {
                reason: exit_reason::INTERRUPT_WINDOW,
                event: None,
            },
            HardwareExit::NmiWindow => {
                Disposition::L1(ExitInformation::of(exit_reason::NMI_WINDOW))
            }
            // It runs now; the next exit comes behind it.
            HardwareExit::Iret => {
                self.l2.nmi_iret = Some(self.register(Register::Rip));
                Disposition::Resume {
                    reason: exit_reason::NMI_WINDOW,
                    event: None,
                }
            }
            HardwareExit::Cpuid => self.instruction_exit(exit_reason::CPUID, 2),
            HardwareExit::Hlt => self.instruction_exit(exit_reason::HLT, 1),
            HardwareExit::Io(io) => self.route_io(io),
            HardwareExit::ReadMsr => self.route_rdmsr(),
            HardwareExit::WriteMsr => self.route_wrmsr(),
            HardwareExit::NestedPageFault {
                gpa,
                write,
                fetch,
                page_walk,
            } => self.route_ept_violation(gpa, write, fetch, page_walk),
            HardwareExit::CrAccess => self.route_cr_access(),
            HardwareExit::DrAccess => self.route_dr_access(),
            HardwareExit::Xsetbv => self.instruction_exit(exit_reason::XSETBV, 3),
            HardwareExit::CacheFlush => self.route_cache_flush(),
            HardwareExit::Rdtsc => {
                let reason = match self.fetch().map(|instruction| instruction.mnemonic()) {
                    Some(Mnemonic::Rdtscp) => exit_reason::RDTSCP,
                    _ => exit_reason::RDTSC,
                };
                self.instruction_exit(reason, 2)
            }
            HardwareExit::Rdpmc => self.instruction_exit(exit_reason::RDPMC, 2),
            HardwareExit::Invlpg => self.route_invlpg(),
            HardwareExit::DescriptorTable => self.route_descriptor_table(),
            HardwareExit::Pause => self.instruction_exit(exit_reason::PAUSE, 2),
            HardwareExit::Monitor => self.instruction_exit(exit_reason::MONITOR, 3),
            HardwareExit::Mwait => self.instruction_exit(exit_reason::MWAIT, 3),
            HardwareExit::Vmcall => match self.fetch().map(|instruction| instruction.mnemonic()) {
                Some(Mnemonic::Vmmcall) => {
                    Disposition::fault(exit_reason::VMCALL, Event::INVALID_OPCODE)
                }
                _ => self.instruction_exit(exit_reason::VMCALL, 3),
            },
            HardwareExit::VirtualizationInstruction => {
                Disposition::fault(exit_reason::EXCEPTION_OR_NMI, Event::INVALID_OPCODE)
            }
            HardwareExit::TaskSwitch => self.route_task_switch(),
            HardwareExit::TripleFault => {
                Disposition::L1(ExitInformation::of(exit_reason::TRIPLE_FAULT))
            }
            HardwareExit::Invalid => Disposition::L1(ExitInformation::of(
                exit_reason::INVALID_GUEST_STATE | exit_reason::ENTRY_FAILURE,
            )),
        }
    }

    /// An exit to L1 by the instruction at RIP; `usual` is its length if it can not be fetched.
    pub(super) fn instruction_exit(&mut self, reason: u32, usual: u32) -> Disposition {
        let length = self
            .fetch()
            .map_or(usual, |instruction| instruction.len() as u32);
        Disposition::L1(ExitInformation::instruction(reason, length))
    }

    /// The module has carried out an instruction.
    pub(super) fn emulated(&mut self, reason: u32, length: u32) -> Disposition {
        let event = self.step_over(length);
        Disposition::Resume { reason, event }
    }

    /// An instruction is complete, and causes an exit after it.
    pub(super) fn trap(&mut self, exit: ExitInformation, length: u32) -> Disposition {
        if self.step_over(length).is_some() {
            const SINGLE_STEP: u64 = 1 << 14;
            self.l2
                .set_cell(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, SINGLE_STEP);
        }
        Disposition::L1(exit)
    }

    fn route_cache_flush(&mut self) -> Disposition {
        const WBNOINVD: u64 = 1;
        let (reason, qualification) = match self.fetch().map(|instruction| instruction.mnemonic()) {
            Some(Mnemonic::Invd) => (exit_reason::INVD, 0),
            Some(Mnemonic::Wbnoinvd) => (exit_reason::WBINVD, WBNOINVD),
            _ => (exit_reason::WBINVD, 0),
        };
        match self.instruction_exit(reason, 2) {
            Disposition::L1(exit) => Disposition::L1(exit.with_qualification(qualification)),
            other => other,
        }
    }

    fn route_invlpg(&mut self) -> Disposition {
        let Some(instruction) = self.fetch() else {
            return self.instruction_exit(exit_reason::INVLPG, 3);
        };
        let length = instruction.len() as u32;
        if instruction.mnemonic() == Mnemonic::Invpcid {
            return Disposition::L1(self.operand_exit(exit_reason::INVPCID, &instruction));
        }
        let address = self.operand_address(&instruction, 0).unwrap_or(0);
        Disposition::L1(
            ExitInformation::instruction(exit_reason::INVLPG, length).with_qualification(address),
        )
    }

    fn route_descriptor_table(&mut self) -> Disposition {
        let Some(instruction) = self.fetch() else {
            return self.instruction_exit(exit_reason::GDTR_IDTR_ACCESS, 3);
        };
        let reason = match instruction.mnemonic() {
            Mnemonic::Lldt | Mnemonic::Sldt | Mnemonic::Ltr | Mnemonic::Str => {
                exit_reason::LDTR_TR_ACCESS
            }
            _ => exit_reason::GDTR_IDTR_ACCESS,
        };
        Disposition::L1(self.operand_exit(reason, &instruction))
    }

    /// Qualification: the TSS selector in 15:0, the source in 31:30. The selector is known for far
    /// branches with an immediate one only.
    fn route_task_switch(&mut self) -> Disposition {
        const CALL: u64 = 0;
        const IRET: u64 = 1;
        const JUMP: u64 = 2;
        const GATE: u64 = 3;
        let fetched = self.fetch();
        let source = match fetched.as_ref().map(Instruction::mnemonic) {
            _ if self.l2.vectoring.is_some() => GATE,
            Some(Mnemonic::Iret | Mnemonic::Iretd) => IRET,
            Some(Mnemonic::Jmp) => JUMP,
            _ => CALL,
        };
        let selector = fetched.map_or(0, |instruction| instruction.far_branch_selector());
        let length = fetched.map_or(0, |instruction| instruction.len() as u32);
        Disposition::L1(
            ExitInformation::instruction(exit_reason::TASK_SWITCH, length)
                .with_qualification(u64::from(selector) | source << 30),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::Platform;
    use tdx_defs::vmcs::{InterruptibilityState, PrimaryControls};

    fn at(bytes: &[u8]) -> Fake {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, bytes);
        fake.guest().set_register(Register::Rip, 0x1000);
        fake
    }

    #[test]
    fn what_l1_always_gets() {
        let rows: [(HardwareExit, &[u8], u32, u32); 16] = [
            (HardwareExit::Cpuid, &[0x0f, 0xa2], 10, 2),
            (HardwareExit::Cpuid, &[0x2e, 0x0f, 0xa2], 10, 3),
            (HardwareExit::Hlt, &[0xf4], 12, 1),
            (HardwareExit::CacheFlush, &[0x0f, 0x08], 13, 2),
            (HardwareExit::Rdpmc, &[0x0f, 0x33], 15, 2),
            (HardwareExit::Rdtsc, &[0x0f, 0x31], 16, 2),
            (HardwareExit::Rdtsc, &[0x0f, 0x01, 0xf9], 51, 3),
            (HardwareExit::Vmcall, &[0x0f, 0x01, 0xc1], 18, 3),
            (HardwareExit::Mwait, &[0x0f, 0x01, 0xc9], 36, 3),
            (HardwareExit::Monitor, &[0x0f, 0x01, 0xc8], 39, 3),
            (HardwareExit::Pause, &[0xf3, 0x90], 40, 2),
            (HardwareExit::CacheFlush, &[0x0f, 0x09], 54, 2),
            (HardwareExit::CacheFlush, &[0xf3, 0x0f, 0x09], 54, 3),
            (HardwareExit::Xsetbv, &[0x0f, 0x01, 0xd1], 55, 3),
            (HardwareExit::TripleFault, &[], 2, 0),
            (HardwareExit::Invalid, &[], 33 | 1 << 31, 0),
        ];
        for (exit, bytes, reason, length) in rows {
            let mut fake = at(bytes);
            let Disposition::L1(information) = fake.guest().route(exit) else {
                panic!("{exit:?}");
            };
            assert_eq!(information.reason, reason, "{exit:?}");
            assert_eq!(information.instruction_length, length, "{exit:?}");
            assert_eq!(fake.guest().register(Register::Rip), 0x1000);
        }
    }

    #[test]
    fn an_interrupt_is_the_hosts_until_the_deadline_is_over() {
        let mut fake = Fake::new();
        let Disposition::Host(exit) = fake.guest().route(HardwareExit::Interrupt) else {
            panic!();
        };
        assert_eq!((exit.reason, exit.interruption), (1, 0x8000_0000));
        fake.l2.tsc_deadline = 100;
        fake.platform.tsc = 100;
        assert!(matches!(
            fake.guest().route(HardwareExit::Interrupt),
            Disposition::L1(ExitInformation { reason: 52, .. })
        ));
    }

    /// SDM volume 3, "Handling Multiple NMIs".
    #[test]
    fn an_iret_that_has_run_ends_blocking_by_nmi() {
        let mut fake = Fake::new();
        let window = PrimaryControls::new().with_nmi_window(true);
        let cell = fake.l2.cell(VmcsField::PRIMARY_CONTROLS);
        fake.l2.set_cell(
            VmcsField::PRIMARY_CONTROLS,
            cell | u64::from(window.into_bits()),
        );
        let mut guest = fake.guest();
        let wants = |guest: &mut Guest<'_, _>| {
            let intercepts = guest.intercepts();
            (intercepts.nmi_window(), intercepts.iret())
        };
        assert_eq!(wants(&mut guest), (true, false));
        guest.set_interruptibility(InterruptibilityState::new().with_blocking_by_nmi(true));
        assert_eq!(wants(&mut guest), (false, true));
        guest.set_register(Register::Rip, 0x1000);
        assert!(matches!(
            guest.route(HardwareExit::Iret),
            Disposition::Resume { event: None, .. }
        ));
        // It is not stopped at again, and has not run where an interrupt came first.
        assert_eq!(wants(&mut guest), (false, false));
        guest.end_blocking_by_nmi();
        assert!(guest.interruptibility().blocking_by_nmi());
        guest.set_register(Register::Rip, 0x2000);
        guest.end_blocking_by_nmi();
        assert!(!guest.interruptibility().blocking_by_nmi());
        assert_eq!(wants(&mut guest), (true, false));
    }

    /// SDM volume 3, table "Exit Qualification for Task Switches".
    #[test]
    fn a_task_switch_reports_its_source_and_selector() {
        let rows: [(&[u8], u64, u32); 4] = [
            // CALL and JMP 0x28:0 in 32-bit code, IRET, INT 3.
            (&[0x9a, 0, 0, 0, 0, 0x28, 0], 0x28, 7),
            (&[0xea, 0, 0, 0, 0, 0x28, 0], 2 << 30 | 0x28, 7),
            (&[0xcf], 1 << 30, 1),
            (&[0xcc], 0, 1),
        ];
        for (bytes, qualification, length) in rows {
            let mut fake = at(bytes);
            let Disposition::L1(exit) = fake.guest().route(HardwareExit::TaskSwitch) else {
                panic!();
            };
            assert_eq!(exit.qualification, qualification, "{bytes:x?}");
            assert_eq!((exit.reason, exit.instruction_length), (9, length));
            // Through a gate while an event is delivered, whatever the instruction.
            fake.l2.vectoring = Some(Event::interrupt(0x20));
            let Disposition::L1(exit) = fake.guest().route(HardwareExit::TaskSwitch) else {
                panic!();
            };
            assert_eq!(exit.qualification >> 30, 3, "{bytes:x?}");
        }
    }

    #[test]
    fn invlpg_reports_the_linear_address() {
        let mut fake = at(&[0x0f, 0x01, 0x38]);
        fake.guest().set_register(Register::Rax, 0x1234_5000);
        let Disposition::L1(exit) = fake.guest().route(HardwareExit::Invlpg) else {
            panic!();
        };
        assert_eq!((exit.reason, exit.qualification), (14, 0x1234_5000));
    }
}
