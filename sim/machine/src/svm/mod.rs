//! Virtual machines: AMD's SVM and nested paging in the place of VMX and EPT.
//!
//! QEMU's SVM has gaps, each met where it matters: no decode assists and no next RIP (the module
//! decodes), an interrupt shadow that VMRUN does not load, state that VMRUN does not switch.

pub(crate) mod exit;
pub(crate) mod machine;
pub(crate) mod nested_paging;
mod permissions;
pub(crate) mod run;
mod unpaged;
mod vmcb;

use alloc::boxed::Box;

use crate::arch::cpu::{Msr, rdmsr, wrmsr};
use run::{GeneralRegisters, HostState, SseState};
pub(crate) use vmcb::StateSaveArea;
use vmcb::Vmcb;

/// A processor with SVM switched on.
pub(crate) struct Processor {
    host: Box<HostState>,
    /// Held because VM_HSAVE_PA refers to it.
    _save_area: Box<HostState>,
    sse: Box<SseState>,
}

impl Processor {
    /// Switches SVM on, once.
    pub(crate) fn start() -> Self {
        const SVME: u64 = 1 << 12;
        const SCE: u64 = 1;
        let save_area = Box::new(HostState([0; 4096]));
        let mut host = Box::new(HostState([0; 4096]));
        let save_address = save_area.0.as_ptr().expose_provenance() as u64;
        // SAFETY: SVME and SCE change nothing for running code; the save area is a page of its
        // own that lives as long as the processor; VMSAVE writes another such page. FNINIT sets
        // the x87 state that VMs start with, which no code here uses.
        unsafe {
            core::arch::asm!("fninit", options(nomem, nostack));
            wrmsr(Msr::EFER, rdmsr(Msr::EFER) | SVME | SCE);
            wrmsr(Msr::VM_HSAVE_PA, save_address);
            core::arch::asm!("vmsave rax", in("rax") &raw mut *host, options(nostack));
        }
        Self {
            host,
            _save_area: save_area,
            sse: Box::new(SseState::new()),
        }
    }

    /// Exchanges the SSE registers that VMs find and leave.
    pub(crate) fn swap_sse(&mut self, sse: &mut Box<SseState>) {
        core::mem::swap(&mut self.sse, sse);
    }

    /// Runs a VM until it exits.
    fn run(&mut self, vmcb: &mut Vmcb, registers: &mut GeneralRegisters) {
        // SAFETY: `Processor` exists, so SVM is on and `host` is filled; interrupts are disabled
        // but in `arch::interrupts`; only `VirtualMachine` calls this, whose VMCB always has the
        // intercepts and whose tables hold what `crate::platform` may map.
        unsafe {
            run::vmrun(vmcb, registers, &raw mut *self.sse, &raw mut *self.host);
        }
    }
}
