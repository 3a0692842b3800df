//! Why a run ended, in the module's words.

use tdx_module::platform::{Event, EventKind, Exited, HardwareExit, IoExit};

use super::machine::VirtualMachine;
use super::nested_paging::NestedPaging;
use super::vmcb::{EventInformation, IoInformation, NestedFaultInformation, exit_code};

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) exited: Exited,
    /// The VM was entered at all.
    pub(crate) ran: bool,
    /// The exit was ours and is dealt with: the VM can go on.
    pub(crate) resume: bool,
}

impl Ended {
    pub(super) fn without_running(exit: HardwareExit) -> Self {
        Self {
            exited: exit.into(),
            ran: false,
            resume: false,
        }
    }
}

/// Reads the exit out of the control block.
pub(super) fn decode(machine: &mut VirtualMachine, paging: &NestedPaging) -> Ended {
    let control = &machine.vmcb.control;
    let (info1, info2) = (control.exit_info1, control.exit_info2);
    let exit = match control.exit_code {
        exit_code::READ_CR0..=exit_code::WRITE_CR15 | exit_code::CR0_SELECTIVE_WRITE => {
            HardwareExit::CrAccess
        }
        exit_code::READ_DR0..=exit_code::WRITE_DR15 => HardwareExit::DrAccess,
        code @ exit_code::EXCEPTION0..=exit_code::EXCEPTION31 => {
            let vector = (code - exit_code::EXCEPTION0) as u8;
            let pushed = has_error_code(vector) && !machine.control_registers.is_real_mode();
            HardwareExit::Exception {
                vector,
                error_code: pushed.then_some(info1 as u32),
                cr2: if vector == 14 { info2 } else { 0 },
            }
        }
        exit_code::INTR => HardwareExit::Interrupt,
        exit_code::NMI => HardwareExit::Nmi,
        exit_code::VINTR => HardwareExit::InterruptWindow,
        // RDTSCP shows as RDTSC in QEMU.
        exit_code::RDTSC | exit_code::RDTSCP => HardwareExit::Rdtsc,
        exit_code::IDTR_READ..=exit_code::TR_WRITE => HardwareExit::DescriptorTable,
        exit_code::RDPMC => HardwareExit::Rdpmc,
        exit_code::IRET => HardwareExit::Iret,
        exit_code::CPUID => HardwareExit::Cpuid,
        exit_code::INVD | exit_code::WBINVD => HardwareExit::CacheFlush,
        exit_code::PAUSE => HardwareExit::Pause,
        exit_code::HLT => HardwareExit::Hlt,
        exit_code::INVLPG => HardwareExit::Invlpg,
        exit_code::IOIO => {
            let information = IoInformation::from(info1);
            HardwareExit::Io(IoExit {
                port: information.port(),
                width: information.width(),
                input: information.input(),
                string: information.string(),
                repeat: information.repeat(),
            })
        }
        exit_code::MSR if info1 & 1 != 0 => HardwareExit::WriteMsr,
        exit_code::MSR => HardwareExit::ReadMsr,
        exit_code::TASK_SWITCH => HardwareExit::TaskSwitch,
        exit_code::SHUTDOWN => HardwareExit::TripleFault,
        exit_code::VMMCALL => HardwareExit::Vmcall,
        exit_code::VMRUN | exit_code::VMLOAD..=exit_code::SKINIT | exit_code::INVLPGA => {
            HardwareExit::VirtualizationInstruction
        }
        exit_code::MONITOR => HardwareExit::Monitor,
        exit_code::MWAIT | exit_code::MWAIT_CONDITIONAL => HardwareExit::Mwait,
        exit_code::XSETBV => HardwareExit::Xsetbv,
        exit_code::NPF => {
            let information = NestedFaultInformation::from(info1);
            HardwareExit::NestedPageFault {
                gpa: info2,
                // QEMU checks every access to a guest page table as a write.
                write: information.write() && !information.page_walk(),
                fetch: information.fetch(),
                page_walk: information.page_walk(),
            }
        }
        _ => HardwareExit::Invalid,
    };
    let vectoring = vectoring(control.exit_interrupt_info);
    if vectoring.is_some() {
        // The event that this run was to deliver is still to be delivered: from where it was.
        let save = &mut machine.vmcb.save;
        save.rip = save.rip.wrapping_sub(machine.rip_advance);
    }
    let resume = exit == HardwareExit::CrAccess && machine.emulate_cr_access(paging);
    Ended {
        exited: Exited { exit, vectoring },
        ran: true,
        resume,
    }
}

/// Exceptions that push an error code (SDM volume 3, table 6-1).
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// The event whose delivery the exit cut short.
fn vectoring(information: EventInformation) -> Option<Event> {
    if !information.valid() {
        return None;
    }
    let vector = information.vector();
    let (kind, instruction_length) = match (information.kind(), vector) {
        (0, _) => (EventKind::ExternalInterrupt, 0),
        (2, _) => (EventKind::Nmi, 0),
        // INT3 and INTO, one byte each.
        (3, 3 | 4) => (EventKind::SoftwareException, 1),
        (3, _) => (EventKind::HardwareException, 0),
        (4, _) => (EventKind::SoftwareInterrupt, 2),
        _ => return None,
    };
    Some(Event {
        vector,
        kind,
        error_code: information
            .error_code_valid()
            .then_some(information.error_code()),
        instruction_length,
    })
}
