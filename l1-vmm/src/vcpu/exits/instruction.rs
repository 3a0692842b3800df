//! CPUID, RDTSC, XSETBV and control-register accesses.

use l2_exit::exit::ControlRegisterAccess;
use l2_exit::{Gpr, Vcpu};
use tdcall::tdvmcall::CpuidResult;
use x86_defs::cr4;

use super::L2;
use crate::machine::cpuid::Dynamic;
use crate::run::environment::{Environment, Processor};
use crate::vcpu::control_registers;
use crate::vcpu::{Refusal, xcr0};

impl<E: Environment> L2<'_, E> {
    pub(super) fn cpuid(&mut self) -> Result<(), Refusal> {
        let leaf = self.vcpu.vmcs.gpr(Gpr::Rax) as u32;
        let subleaf = self.vcpu.vmcs.gpr(Gpr::Rcx) as u32;
        let result = self.cpuid_leaf(leaf, subleaf);
        for (register, value) in [
            (Gpr::Rax, result.eax),
            (Gpr::Rbx, result.ebx),
            (Gpr::Rcx, result.ecx),
            (Gpr::Rdx, result.edx),
        ] {
            self.vcpu.vmcs.set_gpr(register, u64::from(value));
        }
        Ok(())
    }

    pub(super) fn cpuid_leaf(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        self.machine.cpuid.get(leaf, subleaf, || Dynamic {
            os_xsave: self.vcpu.vmcs.cr4() & cr4::OSXSAVE != 0,
            xcr0: self.vcpu.processor.l2_xcr0(),
            id: self.vcpu.index as u8,
        })
    }

    pub(super) fn rdtsc(&mut self) -> Result<(), Refusal> {
        let tsc = self.vcpu.processor.tsc();
        self.set_edx_eax(tsc);
        Ok(())
    }

    /// XSETBV: CPL and CR4.OSXSAVE were checked before the exit (SDM Vol. 3C, "Relative
    /// Priority of Faults and VM Exits").
    pub(super) fn xsetbv(&mut self) -> Result<(), Refusal> {
        let value = self.edx_eax();
        let is_xcr0 = self.vcpu.vmcs.gpr(Gpr::Rcx) as u32 == 0;
        if !is_xcr0 || !xcr0::is_valid(value, self.machine.cpuid.xcr0()) {
            return Err(Refusal::GENERAL_PROTECTION);
        }
        self.vcpu.processor.set_l2_xcr0(value);
        Ok(())
    }

    /// `mask`: the bits of the general register that the instruction uses.
    pub(super) fn access_control_register(
        &mut self,
        access: ControlRegisterAccess,
        mask: u64,
    ) -> Result<(), Refusal> {
        let (vcpu, memory) = (&mut self.vcpu.vmcs, &self.machine.memory);
        match access {
            ControlRegisterAccess::Write { number, from } => {
                let value = vcpu.gpr(from) & mask;
                match number {
                    0 => control_registers::write_cr0(vcpu, memory, value),
                    3 => control_registers::write_cr3(vcpu, memory, value),
                    4 => {
                        let offered = self.machine.cpuid.cr4();
                        control_registers::write_cr4(vcpu, memory, value, offered)
                    }
                    8 => self.write_cr8(value),
                    _ => Err(Refusal::INVALID_OPCODE),
                }
            }
            ControlRegisterAccess::Read { number, to } => {
                let value = match number {
                    3 => vcpu.cr3(),
                    8 => u64::from(self.vcpu.apic.task_priority() >> 4),
                    _ => return Err(Refusal::INVALID_OPCODE),
                };
                self.vcpu.vmcs.set_gpr(to, value & mask);
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
        self.vcpu.apic.set_task_priority((value as u8) << 4);
        Ok(())
    }

    pub(super) fn edx_eax(&self) -> u64 {
        self.vcpu.vmcs.gpr(Gpr::Rdx) << 32 | self.vcpu.vmcs.gpr(Gpr::Rax) & 0xFFFF_FFFF
    }

    pub(super) fn set_edx_eax(&mut self, value: u64) {
        self.vcpu.vmcs.set_gpr(Gpr::Rax, value & 0xFFFF_FFFF);
        self.vcpu.vmcs.set_gpr(Gpr::Rdx, value >> 32);
    }
}
