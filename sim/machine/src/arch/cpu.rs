//! Instructions without a Rust name.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc};

use x86_defs::msr;

/// A model-specific register of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Msr(pub(crate) u32);

impl Msr {
    pub(crate) const SPEC_CTRL: Self = Self(msr::IA32_SPEC_CTRL);
    pub(crate) const XSS: Self = Self(msr::IA32_XSS);
    pub(crate) const TSC_AUX: Self = Self(msr::IA32_TSC_AUX);
    pub(crate) const EFER: Self = Self(msr::IA32_EFER);
    /// VM_HSAVE_PA: where VMRUN saves the host's state (APM volume 2, 15.30.4).
    pub(crate) const VM_HSAVE_PA: Self = Self(0xC001_0117);
}

/// Reads an MSR. QEMU answers 0 for one it does not have.
pub(crate) fn rdmsr(msr: Msr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading has no effect on memory; QEMU's TCG raises no #GP for unknown indices.
    unsafe {
        asm!("rdmsr", in("ecx") msr.0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
/// The new value must not change how this program's own code and data are reached.
pub(crate) unsafe fn wrmsr(msr: Msr, value: u64) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("wrmsr", in("ecx") msr.0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack));
    }
}

/// The time-stamp counter; under QEMU's `-icount shift=0` the instructions executed so far.
pub(crate) fn rdtsc() -> u64 {
    // SAFETY: every 64-bit processor has the instruction.
    unsafe { _rdtsc() }
}

/// The machine's CPUID, as EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = __cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Reads DR0-DR3.
pub(crate) fn debug_address(index: u8) -> u64 {
    let value: u64;
    // SAFETY: reads without effects.
    unsafe {
        match index {
            0 => asm!("mov {}, dr0", out(reg) value, options(nomem, nostack)),
            1 => asm!("mov {}, dr1", out(reg) value, options(nomem, nostack)),
            2 => asm!("mov {}, dr2", out(reg) value, options(nomem, nostack)),
            _ => asm!("mov {}, dr3", out(reg) value, options(nomem, nostack)),
        }
    }
    value
}

/// Writes DR0-DR3. They have no effect on this program, whose DR7 enables none.
pub(crate) fn set_debug_address(index: u8, value: u64) {
    // SAFETY: see above.
    unsafe {
        match index {
            0 => asm!("mov dr0, {}", in(reg) value, options(nomem, nostack)),
            1 => asm!("mov dr1, {}", in(reg) value, options(nomem, nostack)),
            2 => asm!("mov dr2, {}", in(reg) value, options(nomem, nostack)),
            _ => asm!("mov dr3, {}", in(reg) value, options(nomem, nostack)),
        }
    }
}

/// Lets XGETBV and XSETBV work, if the processor has them.
pub(crate) fn enable_xsave() -> bool {
    const XSAVE: u32 = 1 << 26;
    if cpuid(1, 0)[2] & XSAVE == 0 {
        return false;
    }
    // SAFETY: CR4.OSXSAVE changes nothing for code that does not use the instructions.
    unsafe {
        asm!("mov {0}, cr4", "or {0}, 0x40000", "mov cr4, {0}", out(reg) _, options(nostack));
    }
    true
}

/// XCR0. Only after [`enable_xsave`] said yes.
pub(crate) fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller enabled the instruction.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Sets XCR0 if the processor takes the value: x87 always, AVX only with SSE, nothing that CPUID
/// leaf 0DH does not name.
pub(crate) fn set_xcr0(value: u64) -> bool {
    let [low, _, _, high] = cpuid(0xD, 0);
    let supported = u64::from(high) << 32 | u64::from(low);
    if value & 1 == 0 || value & !supported != 0 || value & 6 == 4 {
        return false;
    }
    // SAFETY: the value is one the processor takes, and keeps the SSE state this program uses:
    // SSE instructions do not depend on XCR0.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nomem, nostack));
    }
    true
}

/// CR3 and CR4.
pub(crate) fn paging() -> (u64, u64) {
    let (cr3, cr4): (u64, u64);
    // SAFETY: reads without effects.
    unsafe {
        asm!("mov {}, cr3", "mov {}, cr4", out(reg) cr3, out(reg) cr4, options(nomem, nostack));
    }
    (cr3, cr4)
}

/// Levels of the paging in use, and so of every nested page table.
pub(crate) fn paging_levels() -> u32 {
    let (_, cr4) = paging();
    if cr4 & 1 << 12 != 0 { 5 } else { 4 }
}

/// 64 random bits of the machine, if it has the instruction and it delivered.
pub(crate) fn rdrand() -> Option<u64> {
    const RDRAND: u32 = 1 << 30;
    if cpuid(1, 0)[2] & RDRAND == 0 {
        return None;
    }
    let (value, carry): (u64, u8);
    // SAFETY: CPUID says that the instruction exists.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) carry, options(nomem, nostack));
    }
    (carry != 0).then_some(value)
}
