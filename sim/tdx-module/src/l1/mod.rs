//! L1 as a guest of the module: what it gets instead of the processor's own behaviour.
//!
//! The TD gets #VE for what only its host can do (TDX Module Base Architecture, "Virtualization
//! Exception"), #GP for what it must not do, and the rest is emulated here as the real module does
//! in its VM-exit handlers or hardware does from the TD VMCS.

pub(crate) mod apic;
mod control_registers;
mod cpuid;
mod ept_violation;
mod exit;
mod msr;
mod reset;

use crate::leaf::TDCALL_LENGTH;
use crate::module::Module;
use crate::platform::{Action, Event, Intercepts, Platform, Register, Vm};
use apic::VirtualApic;
use x86_defs::exit_reason;
use x86_defs::{debugctl, rflags};

pub(crate) use exit::handle_exit;
pub(crate) use reset::initialize;

const DR6_BS: u64 = 1 << 14;

/// VE_INFO (TDX Module ABI, TDG.VP.VEINFO.GET).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VeInfo {
    pub(crate) exit_reason: u32,
    pub(crate) qualification: u64,
    pub(crate) gla: u64,
    pub(crate) gpa: u64,
    pub(crate) instruction_length: u32,
    pub(crate) instruction_information: u32,
}

/// What the module keeps of L1 beside its registers.
pub(crate) struct L1 {
    /// Valid from the #VE until TDG.VP.VEINFO.GET.
    pub(crate) ve_info: Option<VeInfo>,
    /// CPUID_SUPERVISOR_VE; bit 0 counts.
    pub(crate) cpuid_supervisor_ve: u8,
    /// CPUID_USER_VE; bit 0 counts.
    pub(crate) cpuid_user_ve: u8,
    /// Element 0 of L2_CTLS, without effect.
    pub(crate) l2_ctls: u64,
    /// Element 0 of TSC_DEADLINE, without effect.
    pub(crate) tsc_deadline: u64,
    /// CPUID_CONTROL: bit 0 supervisor #VE, bit 1 user #VE, by entry of the CPUID table.
    pub(crate) cpuid_control: [u8; 128],
    pub(crate) apic: VirtualApic,
    /// PEND_NMI.
    pub(crate) nmi_pending: bool,
    /// What the next entry delivers.
    event: Option<Event>,
}

impl L1 {
    pub(crate) fn new() -> L1 {
        L1 {
            ve_info: None,
            cpuid_supervisor_ve: 0,
            cpuid_user_ve: 0,
            l2_ctls: 0,
            tsc_deadline: u64::MAX,
            cpuid_control: [0; 128],
            apic: VirtualApic::default(),
            nmi_pending: false,
            event: None,
        }
    }

    /// Delivers `event` on the next entry, unless one that was cut short has to come first.
    pub(crate) fn inject(&mut self, event: Event) {
        self.event.get_or_insert(event);
    }

    /// An exit has cut the delivery of `event` short: it is delivered again.
    pub(crate) fn reinject(&mut self, event: Option<Event>) {
        if event.is_some() {
            self.event = event;
        }
    }
}

impl Module {
    /// Enters L1: makes it current, and delivers what is due.
    pub(crate) fn run_l1<P: Platform>(&mut self, platform: &mut P) -> Action {
        self.vcpu.current = Vm::L1;
        self.vcpu.resume_l1 = false;
        let l1 = &mut self.vcpu.l1;
        l1.apic.accept_posted();
        let mut event = l1.event.take();
        let interruptible = event.is_none()
            && platform.register(Vm::L1, Register::Rflags) & rflags::IF != 0
            && platform.register(Vm::L1, Register::InterruptShadow) == 0;
        let mut waits = l1.apic.is_deliverable();
        // L1 deals with a #VE first.
        if l1.nmi_pending && event.is_none() && l1.ve_info.is_none() {
            l1.nmi_pending = false;
            event = Some(Event::NMI);
        } else if waits && interruptible {
            event = l1.apic.take().map(Event::interrupt);
            waits = l1.apic.is_deliverable();
        }
        platform.inject(Vm::L1, event);
        platform.set_intercepts(
            Vm::L1,
            Intercepts::new()
                .with_interrupt_window(waits)
                .with_rdpmc(true),
        );
        Action::Run(Vm::L1)
    }

    /// Steps L1 over an instruction that the module has carried out.
    pub(crate) fn advance_l1<P: Platform>(&mut self, platform: &mut P, length: u64) {
        let next = platform
            .register(Vm::L1, Register::Rip)
            .wrapping_add(length);
        let next = match self.l1_space(platform).code_width() {
            64 => next,
            _ => next & 0xffff_ffff,
        };
        self.advance_l1_to(platform, next);
    }

    /// Steps L1 over its TDCALL, which only 64-bit code has come to.
    pub(crate) fn advance_l1_over_tdcall<P: Platform>(&mut self, platform: &mut P) {
        let rip = platform.register(Vm::L1, Register::Rip);
        self.advance_l1_to(platform, rip.wrapping_add(TDCALL_LENGTH));
    }

    fn advance_l1_to<P: Platform>(&mut self, platform: &mut P, next: u64) {
        platform.set_register(Vm::L1, Register::Rip, next);
        platform.set_register(Vm::L1, Register::InterruptShadow, 0);
        let rflags = platform.register(Vm::L1, Register::Rflags);
        platform.set_register(Vm::L1, Register::Rflags, rflags & !rflags::RF);
        let debugctl = platform.register(Vm::L1, Register::DebugCtl);
        if rflags & rflags::TF != 0 && debugctl & debugctl::BTF == 0 {
            let dr6 = platform.register(Vm::L1, Register::Dr6);
            platform.set_register(Vm::L1, Register::Dr6, dr6 | DR6_BS);
            self.vcpu.l1.inject(Event::exception(1, None));
        }
    }

    /// Gives L1 a #VE, or #DF if it has not yet asked about the last one or is getting
    /// another event.
    pub(crate) fn inject_ve<P: Platform>(&mut self, platform: &mut P, information: VeInfo) {
        let l1 = &mut self.vcpu.l1;
        if l1.ve_info.is_some() || l1.event.is_some() {
            l1.event = Some(Event::DOUBLE_FAULT);
        } else {
            l1.ve_info = Some(information);
            l1.inject(Event::VIRTUALIZATION);
            self.statistics
                .count_virtualization_exception(information.exit_reason);
        }
        let rflags = platform.register(Vm::L1, Register::Rflags);
        platform.set_register(Vm::L1, Register::Rflags, rflags | rflags::RF);
    }
}

impl VeInfo {
    /// A #VE for an instruction of `length` bytes.
    pub(crate) fn instruction(exit_reason: u32, qualification: u64, length: usize) -> VeInfo {
        VeInfo {
            exit_reason,
            qualification,
            instruction_length: length as u32,
            ..VeInfo::default()
        }
    }

    /// A #VE for an access to a pending page.
    pub(crate) fn ept_violation(qualification: u64, gpa: u64) -> VeInfo {
        VeInfo {
            exit_reason: exit_reason::EPT_VIOLATION,
            qualification,
            gpa,
            ..VeInfo::default()
        }
    }
}
