extern crate std;

use std::vec::Vec;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::*;
use crate::event::Event;
use crate::exit::Reason;
use crate::test_vcpu::{
    CODE_16, CODE_32, DEVICE, DEVICE_SIZE, Seen, TestDevice, TestMemory, TestVcpu,
};
use crate::vcpu::{Gpr, SegmentRegister};

mod basic;
mod cached;
mod faults;
mod hostile;
mod legacy;
mod strings;

const CODE: u64 = 0xFFFF_FFFF_8100_0000;
const CODE_GPA: u64 = 0x20_0000;
const RAM: u64 = 0xFFFF_8880_0030_0000;
const RAM_GPA: u64 = 0x30_0000;
const MMIO: u64 = 0xFFFF_C900_0000_0000;

/// A vCPU with code at [`CODE`], two pages of memory at [`RAM`] and the device at [`MMIO`].
struct Machine {
    vcpu: TestVcpu,
    memory: TestMemory,
    device: TestDevice,
    cache: DecodeCache,
    cpl: u8,
}

impl Machine {
    /// 64-bit kernel.
    fn long() -> Self {
        let memory = TestMemory::default();
        for page in 0..2 {
            let at = page << 12;
            memory.poke(CODE_GPA + at, &[0xCC; 4096]);
            memory.map(CODE + at, CODE_GPA + at, 0b001);
            memory.poke(RAM_GPA + at, &[0; 4096]);
            memory.map(RAM + at, RAM_GPA + at, 0b011);
            memory.map(MMIO + at, DEVICE + at, 0b011);
        }
        let mut vcpu = TestVcpu::long();
        vcpu.rip = CODE;
        for (number, gpr) in (0..).zip(&mut vcpu.gprs) {
            *gpr = 0x1122_3344_5566_7700 + number * 0x0101_0101_0101_0101;
        }
        Self {
            vcpu,
            memory,
            device: TestDevice::new(),
            cache: DecodeCache::new(),
            cpl: 0,
        }
    }

    /// No paging: code, memory and device at their guest-physical addresses.
    fn flat(vcpu: TestVcpu) -> Self {
        let mut machine = Self::long();
        machine.vcpu = vcpu;
        machine.vcpu.rip = CODE_GPA;
        machine
    }

    fn set(&mut self, gpr: Gpr, value: u64) {
        self.vcpu.gprs[gpr as usize] = value;
    }

    fn get(&self, gpr: Gpr) -> u64 {
        self.vcpu.gprs[gpr as usize]
    }

    /// Puts `code` at RIP, whose guest-physical address is `gpa`.
    fn load(&mut self, gpa: u64, code: &[u8]) {
        self.memory.poke(gpa, code);
    }

    /// An EPT violation of an access to `linear`.
    fn violation(&self, linear: u64, write: bool) -> EptViolation {
        let gpa = if (MMIO..MMIO + DEVICE_SIZE).contains(&linear) {
            linear - MMIO + DEVICE
        } else {
            linear
        };
        EptViolation {
            gpa,
            linear: Some(linear),
            read: !write,
            write,
            fetch: false,
            final_access: true,
            nmi_unblocked: false,
            pending: false,
        }
    }

    fn emulate(&mut self, violation: EptViolation) -> Result<Outcome, EmulationError> {
        let exit = self.vcpu.exit(Reason::EptViolation(violation), self.cpl);
        emulate(
            &exit,
            &violation,
            &mut self.vcpu,
            &self.memory,
            &mut self.device,
            &mut self.cache,
        )
    }

    /// Assembles one 64-bit instruction at [`CODE`] and executes it as the exit of an access
    /// to `linear`.
    fn run(
        &mut self,
        linear: u64,
        write: bool,
        instruction: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<Outcome, EmulationError> {
        let code = assemble(64, self.vcpu.rip, instruction);
        self.load(self.vcpu.rip - CODE + CODE_GPA, &code);
        let violation = self.violation(linear, write);
        self.emulate(violation)
    }
}

fn assemble(
    bits: u32,
    rip: u64,
    instruction: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(bits).unwrap();
    instruction(&mut assembler).unwrap();
    assembler.assemble(rip).unwrap()
}
