//! The machine as L2's virtual platform wants it.

use core::arch::x86_64::__cpuid_count;

use l1_vmm::run::{Environment, Interrupts, Processor};
use tdcall::tdvmcall::CpuidResult;
use tdcall::{RawTdcall, Td, VpEnterError};
use tdx_defs::vp_enter::{GuestState, Outcome, TlbFlush};
use tdx_defs::{Gpa, VmIndex};

use crate::arch::interrupts::{self, Vector};
use crate::arch::memory::{L2Ram, Vapic};
use crate::arch::{Instruction, clock};
use crate::devices;
use crate::fatal;
use crate::heap;
use crate::per_cpu::ThisCpu;
use crate::tpm::Window;

/// The parts that this image is made of.
pub(crate) struct Image;

impl Environment for Image {
    type Raw = Instruction;
    type Processor = Cpu;
    type Memory = L2Ram;
    type Vapic = Vapic;
    type Backend = devices::Behind;
    type Tpm = Window;
}

/// CPUID on the executing processor.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let result = __cpuid_count(leaf, subleaf);
    CpuidResult {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    }
}

/// The processor that L1 runs on.
pub(crate) struct Cpu(pub(crate) ThisCpu);

impl Processor for Cpu {
    fn tsc(&self) -> u64 {
        clock::ticks()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        cpuid(leaf, subleaf)
    }

    /// Not by `td`, which does not have the state that is switched next to the TDCALL.
    fn enter<R: RawTdcall>(
        &mut self,
        _td: &Td<R>,
        vm: VmIndex,
        flush: TlbFlush,
        state: &mut GuestState,
    ) -> Result<Outcome, VpEnterError> {
        if fatal::ended() {
            // Another processor has said why. L2 runs no more, whatever the host makes of that.
            fatal::halt();
        }
        // The module writes through this address: as far as Rust knows, the TDCALL does.
        let address = (&raw mut *state).expose_provenance();
        let td = self.0.extended_state.entry();
        td.vp_enter(vm, flush, Gpa(address as u64))
    }

    fn set_l2_cr2(&mut self, value: u64) {
        self.0.extended_state.set_l2_cr2(value);
    }

    fn reset_l2_debug_registers(&mut self) {
        self.0.extended_state.reset_l2_debug_registers();
    }

    fn reset_l2(&mut self) {
        self.0.extended_state.reset_l2();
    }

    fn allocations(&self) -> u64 {
        heap::allocations()
    }

    fn l2_xcr0(&self) -> u64 {
        self.0.extended_state.l2_xcr0()
    }

    fn set_l2_xcr0(&mut self, value: u64) {
        self.0.extended_state.set_l2_xcr0(value);
    }

    fn take_interrupts(&mut self) -> Interrupts {
        interrupts::open_window();
        Interrupts {
            timer: self.0.noted.take(Vector::Timer),
            console: self.0.noted.take(Vector::Console),
            devices: self.0.noted.take(Vector::Devices),
        }
    }

    /// [`Instruction`] enables interrupts for the length of this call.
    fn halt<R: RawTdcall>(&mut self, td: &Td<R>) {
        // A host that refuses makes L1 poll.
        let _ = td.hlt(false);
    }
}
