//! CPUID, RDTSC, XSETBV and control-register accesses.

use l2_exit::exit::ControlRegisterAccess;
use l2_exit::{Gpr, Vcpu};
use tdcall::tdvmcall::CpuidResult;
use x86_defs::cr4;

use super::Platform;
use crate::machine::cpuid::Dynamic;
use crate::run::environment::{Environment, Processor};
use crate::vcpu::control_registers;
use crate::vcpu::{Refusal, xcr0};

impl<E: Environment> Platform<'_, E> {
    pub(super) fn cpuid(&mut self) -> Result<(), Refusal> {
        let leaf = self.vcpu.gpr(Gpr::Rax) as u32;
        let subleaf = self.vcpu.gpr(Gpr::Rcx) as u32;
        let result = self.cpuid_leaf(leaf, subleaf);
        for (register, value) in [
            (Gpr::Rax, result.eax),
            (Gpr::Rbx, result.ebx),
            (Gpr::Rcx, result.ecx),
            (Gpr::Rdx, result.edx),
        ] {
            self.vcpu.set_gpr(register, u64::from(value));
        }
        Ok(())
    }

    pub(super) fn cpuid_leaf(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        self.cpuid.get(leaf, subleaf, || Dynamic {
            os_xsave: self.vcpu.cr4() & cr4::OSXSAVE != 0,
            xcr0: self.processor.l2_xcr0(),
        })
    }

    pub(super) fn rdtsc(&mut self) -> Result<(), Refusal> {
        let tsc = self.processor.tsc();
        self.set_edx_eax(tsc);
        Ok(())
    }

    /// XSETBV: CPL and CR4.OSXSAVE were checked before the exit (SDM Vol. 3C, "Relative
    /// Priority of Faults and VM Exits").
    pub(super) fn xsetbv(&mut self) -> Result<(), Refusal> {
        let value = self.edx_eax();
        let is_xcr0 = self.vcpu.gpr(Gpr::Rcx) as u32 == 0;
        if !is_xcr0 || !xcr0::is_valid(value, self.cpuid.xcr0()) {
            return Err(Refusal::GENERAL_PROTECTION);
        }
        self.processor.set_l2_xcr0(value);
        Ok(())
    }

    /// `mask`: the bits of the general register that the instruction uses.
    pub(super) fn access_control_register(
        &mut self,
        access: ControlRegisterAccess,
        mask: u64,
    ) -> Result<(), Refusal> {
        let (vcpu, memory) = (&mut self.vcpu, &self.memory);
        match access {
            ControlRegisterAccess::Write { number, from } => {
                let value = vcpu.gpr(from) & mask;
                match number {
                    0 => control_registers::write_cr0(vcpu, memory, value),
                    3 => control_registers::write_cr3(vcpu, memory, value),
                    4 => {
                        let offered = self.cpuid.cr4();
                        control_registers::write_cr4(vcpu, memory, value, offered)
                    }
                    8 => self.write_cr8(value),
                    _ => Err(Refusal::INVALID_OPCODE),
                }
            }
            ControlRegisterAccess::Read { number, to } => {
                let value = match number {
                    3 => vcpu.cr3(),
                    8 => u64::from(self.devices.apic.task_priority() >> 4),
                    _ => return Err(Refusal::INVALID_OPCODE),
                };
                self.vcpu.set_gpr(to, value & mask);
                Ok(())
            }
            ControlRegisterAccess::Clts => control_registers::clear_ts(vcpu),
            ControlRegisterAccess::Lmsw { value } => {
                control_registers::load_machine_status(vcpu, memory, value)
            }
        }
    }

    fn write_cr8(&mut self, value: u64) -> Result<(), Refusal> {
        if value > 0xF {
            return Err(Refusal::GENERAL_PROTECTION);
        }
        self.devices.apic.set_task_priority((value as u8) << 4);
        Ok(())
    }

    pub(super) fn edx_eax(&self) -> u64 {
        self.vcpu.gpr(Gpr::Rdx) << 32 | self.vcpu.gpr(Gpr::Rax) & 0xFFFF_FFFF
    }

    pub(super) fn set_edx_eax(&mut self, value: u64) {
        self.vcpu.set_gpr(Gpr::Rax, value & 0xFFFF_FFFF);
        self.vcpu.set_gpr(Gpr::Rdx, value >> 32);
    }
}
