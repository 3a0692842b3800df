//! RDMSR and WRMSR of what L2 does not reach by itself. Unknown registers: #GP(0).

use l2_exit::{Gpr, Vcpu};

use super::L2;
use crate::run::environment::{Environment, Processor};
use crate::vcpu::apic::InvalidAccess;
use crate::vcpu::processor::MISC_ENABLE_RESET;
use crate::vcpu::{Refusal, control_registers};
use x86_defs::apic::Register;
use x86_defs::msr::{
    EBL_CR_POWERON, IA32_APIC_BASE, IA32_BIOS_SIGN_ID, IA32_BIOS_UPDT_TRIG, IA32_CSTAR, IA32_EFER,
    IA32_FEATURE_CONTROL, IA32_MCG_CAP, IA32_MCG_STATUS, IA32_MISC_ENABLE, IA32_PLATFORM_ID,
    IA32_TIME_STAMP_COUNTER, IA32_TSC_DEADLINE, IA32_XSS, PLATFORM_INFO, X2APIC, X2APIC_LAST,
};

/// IA32_FEATURE_CONTROL: locked, nothing enabled.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// The microcode's revision, in bits 63:32: any but 0.
const MICROCODE_REVISION: u64 = 1 << 32;
/// IA32_MISC_ENABLE: what may be written, fast strings.
const MISC_ENABLE_WRITABLE: u64 = 1;

impl<E: Environment> L2<'_, E> {
    pub(super) fn rdmsr(&mut self) -> Result<(), Refusal> {
        let value = self.read_msr(self.vcpu.vmcs.gpr(Gpr::Rcx) as u32)?;
        self.set_edx_eax(value);
        Ok(())
    }

    pub(super) fn wrmsr(&mut self) -> Result<(), Refusal> {
        let (msr, value) = (self.vcpu.vmcs.gpr(Gpr::Rcx) as u32, self.edx_eax());
        self.write_msr(msr, value)
    }

    pub(super) fn read_msr(&mut self, msr: u32) -> Result<u64, Refusal> {
        let now = self.vcpu.processor.tsc();
        Ok(match msr {
            X2APIC..=X2APIC_LAST => {
                let register = Register((msr - X2APIC) as u8);
                self.vcpu.apic.read_msr(register, now)?
            }
            IA32_TSC_DEADLINE => self.vcpu.apic.deadline(),
            IA32_APIC_BASE => self.vcpu.apic.base(),
            IA32_TIME_STAMP_COUNTER => now,
            IA32_FEATURE_CONTROL => FEATURE_CONTROL_LOCKED,
            IA32_BIOS_SIGN_ID => MICROCODE_REVISION,
            IA32_MISC_ENABLE => self.vcpu.misc_enable,
            IA32_EFER => self.vcpu.vmcs.efer(),
            IA32_CSTAR => self.vcpu.cstar,
            // No machine-check banks, no CPUID faulting, nothing to tell apart.
            IA32_MCG_CAP | IA32_MCG_STATUS | PLATFORM_INFO | IA32_PLATFORM_ID | EBL_CR_POWERON
            | IA32_XSS => 0,
            msr => self
                .vcpu
                .mtrrs
                .read(msr)
                .ok_or(Refusal::GENERAL_PROTECTION)?,
        })
    }

    pub(super) fn write_msr(&mut self, msr: u32, value: u64) -> Result<(), Refusal> {
        match msr {
            IA32_TSC_DEADLINE => self.vcpu.apic.set_deadline(value),
            X2APIC..=X2APIC_LAST => {
                let now = self.vcpu.processor.tsc();
                let register = Register((msr - X2APIC) as u8);
                let effect = self.vcpu.apic.write_msr(register, value, now)?;
                self.apply(effect);
            }
            IA32_APIC_BASE => self.vcpu.apic.set_base(value)?,
            IA32_EFER => control_registers::write_efer(&mut self.vcpu.vmcs, value)?,
            IA32_MISC_ENABLE if (value ^ MISC_ENABLE_RESET) & !MISC_ENABLE_WRITABLE == 0 => {
                self.vcpu.misc_enable = value;
            }
            IA32_CSTAR if is_canonical(value) => self.vcpu.cstar = value,
            // The TSC cannot be moved in a TD; software that tries finds it unmoved.
            IA32_TIME_STAMP_COUNTER => {}
            // No update is ever taken, as under other hypervisors.
            IA32_BIOS_UPDT_TRIG | IA32_BIOS_SIGN_ID => {}
            IA32_MCG_STATUS | EBL_CR_POWERON | IA32_XSS if value == 0 => {}
            msr if self.vcpu.mtrrs.write(msr, value) => {}
            _ => return Err(Refusal::GENERAL_PROTECTION),
        }
        Ok(())
    }
}

impl From<InvalidAccess> for Refusal {
    fn from(_: InvalidAccess) -> Self {
        Self::GENERAL_PROTECTION
    }
}

/// Whether the upper bits of a linear address of 48 bits are copies of its highest: what WRMSR of an address checks.
const fn is_canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}
