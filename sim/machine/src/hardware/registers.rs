//! Registers of a VM that does not run: most are in its control block, some stay in the processor.

use tdx_module::platform::Register;

use super::Hardware;
use crate::arch::cpu::{self, Msr};
use crate::svm::StateSaveArea;

impl Hardware {
    /// Reads a register of a VM.
    pub(super) fn read_register(&mut self, vm: usize, register: Register) -> u64 {
        let machine = &mut self.context.machines[vm];
        if let Some(number) = general_number(register) {
            return machine.general(number);
        }
        let control = machine.control_registers();
        match register {
            Register::Cr0 => return control.cr0,
            Register::Cr3 => return control.cr3,
            Register::Cr4 => return control.cr4,
            Register::Efer => return control.efer,
            Register::InterruptShadow => return machine.interrupt_shadow(),
            Register::Dr0 => return cpu::debug_address(0),
            Register::Dr1 => return cpu::debug_address(1),
            Register::Dr2 => return cpu::debug_address(2),
            Register::Dr3 => return cpu::debug_address(3),
            Register::TscAux => return cpu::rdmsr(Msr::TSC_AUX),
            Register::SpecCtrl => return cpu::rdmsr(Msr::SPEC_CTRL),
            Register::Xss => return cpu::rdmsr(Msr::XSS),
            Register::Xcr0 => return cpu::xcr0(),
            _ => {}
        }
        let state = machine.state();
        match register {
            Register::Cpl => u64::from(state.cpl),
            _ => state_slot(state, register).map_or(0, |slot| *slot),
        }
    }

    /// Writes a register of a VM.
    pub(super) fn write_register(&mut self, vm: usize, register: Register, value: u64) {
        let machine = &mut self.context.machines[vm];
        if let Some(number) = general_number(register) {
            return machine.set_general(number, value);
        }
        match register {
            Register::Cr0 => return machine.control_registers_mut().cr0 = value,
            Register::Cr3 => return machine.control_registers_mut().cr3 = value,
            Register::Cr4 => return machine.control_registers_mut().cr4 = value,
            Register::Efer => return machine.control_registers_mut().efer = value,
            Register::InterruptShadow => return machine.set_interrupt_shadow(value),
            Register::Dr0 | Register::Dr1 | Register::Dr2 | Register::Dr3 => {
                let number = register as u8 - Register::Dr0 as u8;
                if cpu::debug_address(number) != value {
                    cpu::set_debug_address(number, value);
                }
                return;
            }
            Register::TscAux => return set_msr(Msr::TSC_AUX, value),
            Register::SpecCtrl => return set_msr(Msr::SPEC_CTRL, value),
            Register::Xss => return set_msr(Msr::XSS, value),
            Register::Xcr0 => {
                if cpu::xcr0() != value {
                    cpu::set_xcr0(value);
                }
                return;
            }
            _ => {}
        }
        let state = machine.state();
        match register {
            Register::Cpl => state.cpl = value as u8 & 3,
            _ => {
                if let Some(slot) = state_slot(state, register) {
                    *slot = value;
                }
            }
        }
    }
}

impl Hardware {
    /// Copies what VMRUN, VMLOAD and VMSAVE switch of [`Register::UNSWITCHED`]. The others of them
    /// stay in the processor.
    pub(super) fn carry_over_state(&mut self, from: usize, to: usize) {
        let StateSaveArea {
            cr2,
            dr6,
            kernel_gs_base,
            star,
            lstar,
            cstar,
            sfmask,
            ..
        } = *self.context.machines[from].state();
        let state = self.context.machines[to].state();
        state.cr2 = cr2;
        state.dr6 = dr6;
        state.kernel_gs_base = kernel_gs_base;
        state.star = star;
        state.lstar = lstar;
        state.cstar = cstar;
        state.sfmask = sfmask;
    }
}

/// Writes an MSR that TDX leaves to the TD.
pub(super) fn set_msr(msr: Msr, value: u64) {
    const OWN: [Msr; 2] = [Msr::EFER, Msr::VM_HSAVE_PA];
    assert!(!OWN.contains(&msr), "{msr:x?} is not the TD's");
    if cpu::rdmsr(msr) != value {
        // SAFETY: the module writes only MSRs that the TD owns while it runs; none of them
        // changes how this program's code and memory are reached.
        unsafe { cpu::wrmsr(msr, value) };
    }
}

/// The number of a general register in instruction encodings, which is its number as a
/// [`Register`] too.
fn general_number(register: Register) -> Option<usize> {
    const _: () = assert!(Register::GENERAL[15] as usize == 15);
    let number = register as usize;
    (number < Register::GENERAL.len()).then_some(number)
}

/// Where the VMCB has a register.
fn state_slot(state: &mut StateSaveArea, register: Register) -> Option<&mut u64> {
    Some(match register {
        Register::Rip => &mut state.rip,
        Register::Rflags => &mut state.rflags,
        Register::Cr2 => &mut state.cr2,
        Register::Dr6 => &mut state.dr6,
        Register::Dr7 => &mut state.dr7,
        Register::Pat => &mut state.g_pat,
        Register::DebugCtl => &mut state.debug_ctl,
        Register::KernelGsBase => &mut state.kernel_gs_base,
        Register::Star => &mut state.star,
        Register::Lstar => &mut state.lstar,
        Register::Cstar => &mut state.cstar,
        Register::Fmask => &mut state.sfmask,
        Register::SysenterCs => &mut state.sysenter_cs,
        Register::SysenterEsp => &mut state.sysenter_esp,
        Register::SysenterEip => &mut state.sysenter_eip,
        _ => return None,
    })
}
