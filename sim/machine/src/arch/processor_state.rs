//! What VMRUN leaves in the processor, and no code here uses: kept for a virtual processor while another one runs.

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;

use super::cpu::{self, Msr};

/// MSRs that neither VMRUN nor VMLOAD switches, of those that a TD may write and QEMU has.
const MSRS: [Msr; 3] = [Msr::TSC_AUX, Msr::SPEC_CTRL, Msr::XSS];
/// The SSE registers are this program's as well, and are switched at every run (`crate::svm`).
const SSE: u64 = 1 << 1;
/// XCR0 after reset.
const X87: u64 = 1;
/// Offset of MXCSR in an XSAVE area, in words, and its value after reset (SDM volume 1, "Format of an FXSAVE Image").
const MXCSR: usize = 24 / 8;
const MXCSR_RESET: u64 = 0x1F80;

/// An XSAVE area is 64-byte aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Block([u64; 8]);

/// The state of a virtual processor that does not run.
#[derive(Debug)]
pub(crate) struct ProcessorState {
    /// All extended state but SSE's.
    extended: Vec<Block>,
    xcr0: u64,
    msrs: [u64; MSRS.len()],
    debug_addresses: [u64; 4],
}

impl ProcessorState {
    /// The state after reset.
    pub(crate) fn initial() -> Self {
        let [_, _, size, _] = cpu::cpuid(0xD, 0);
        let mut extended = vec![Block([0; 8]); (size as usize).div_ceil(size_of::<Block>())];
        extended[0].0[MXCSR] = MXCSR_RESET;
        Self {
            extended,
            xcr0: X87,
            msrs: [0; MSRS.len()],
            debug_addresses: [0; 4],
        }
    }

    /// Takes the state out of the processor.
    pub(crate) fn save(&mut self) {
        self.xcr0 = cpu::xcr0();
        let (low, high) = open();
        // SAFETY: the area has the size that CPUID gives for all components that XCR0 can have, and is aligned; XCR0
        // has them all.
        unsafe {
            asm!("xsave64 [{}]", in(reg) self.extended.as_mut_ptr(), in("eax") low, in("edx") high,
                 options(nostack));
        }
        self.msrs = MSRS.map(cpu::rdmsr);
        self.debug_addresses = [0, 1, 2, 3].map(cpu::debug_address);
    }

    /// Gives the processor the state.
    pub(crate) fn load(&self) {
        let (low, high) = open();
        // SAFETY: the area was filled by XSAVE, or is the initial one, whose header says that every component has its
        // initial value. No code here uses x87 or the upper halves of vector registers, and MXCSR is the one that this
        // program had at `save`, or the reset value.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) self.extended.as_ptr(), in("eax") low, in("edx") high,
                 options(nostack));
        }
        cpu::set_xcr0(self.xcr0);
        for (msr, value) in MSRS.into_iter().zip(self.msrs) {
            if cpu::rdmsr(msr) != value {
                // SAFETY: none of them changes how this program's code and data are reached.
                unsafe { cpu::wrmsr(msr, value) };
            }
        }
        for (number, value) in (0..).zip(self.debug_addresses) {
            if cpu::debug_address(number) != value {
                cpu::set_debug_address(number, value);
            }
        }
    }
}

/// Sets XCR0 to all that the processor has; the halves of the mask of all components but SSE.
fn open() -> (u32, u32) {
    let [low, _, _, high] = cpu::cpuid(0xD, 0);
    cpu::set_xcr0(u64::from(high) << 32 | u64::from(low));
    (low & !(SSE as u32), high)
}
