//! The L2 VMs: their VMCSs as L1 reaches them, TDG.VP.ENTER, and the routing of their exits.
//!
//! An L2 VM's guest registers live in its hardware context. Everything else is in [`L2`], and
//! [`Guest`](guest::Guest) is the two together while the VM does not run. What an exit means is
//! decided in [`exit`], one file for each kind; an exit then goes to L1 (`transition::exit_to_l1`), to the
//! host, or is dealt with here.
//!
//! The hardware is not VMX: what it does not report (instruction lengths, guest linear addresses)
//! is found by decoding the instruction, and what it does not have (read shadows, a virtual APIC)
//! is made up for by exits that the module handles itself.

mod control_registers;
mod cr_access;
mod dr_access;
mod enter;
mod entry_checks;
mod ept_violation;
mod event;
mod exception;
mod exit;
mod exit_information;
#[cfg(test)]
mod fake;
mod guest;
mod instruction;
mod instruction_information;
mod io;
mod linear_address;
mod machine_status;
mod metadata;
mod msr;
mod msr_policy;
mod shape;
mod state;
#[cfg(test)]
mod tests;
mod transition;
pub(crate) mod translations;
mod vapic;
mod virtual_vmx_msr;
mod vmcs_table;
mod x2apic;

pub(crate) use enter::{vp_enter, vp_invept, vp_invgla};
pub(crate) use metadata::{
    controls, deadline, first_field, read_field, set_controls, set_deadline, write_field,
};
pub(crate) use state::L2;
pub(crate) use transition::{handle_exit, td_entry};

use crate::module::Module;
use crate::platform::{Platform, Vm};
use crate::td::sept::l2_vms;
use shape::Shape;

/// TDH.VP.INIT, as far as it concerns L2 VMs.
pub(crate) fn initialize<P: Platform>(module: &mut Module, platform: &mut P) {
    let td = &module.td;
    let shape = Shape::new(platform, td.gpaw(), td.attributes(), td.params.xfam);
    for vm in l2_vms() {
        let has = module.td.has_l2(vm);
        let l2 = module.vcpu.l2_mut(vm);
        l2.initialize(platform, Vm::L2(vm), shape);
        if !has {
            l2.tsc_deadline = 0;
        }
    }
}

/// What RDMSR of a VMX capability MSR gives L1; `None` if it is a #VE.
pub(crate) fn virtual_vmx_msr(module: &Module, msr: u32) -> Option<u64> {
    virtual_vmx_msr::virtual_vmx_msr(&module.vcpu.l2[0].shape, msr)
}
