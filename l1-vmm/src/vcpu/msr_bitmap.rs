//! Which MSRs L2 reaches without an exit to L1.
//!
//! A clear bit of L1's bitmap leaves the MSR to the module, which gives L2 the register itself,
//! emulates it, or raises #GP (TDX Module ABI, "MSR Virtualization"). Everything not named here
//! exits, and L1's MSR policy answers.

use tdcall::RawTdcall;
use tdx_defs::field::FieldId;
use x86_defs::apic::Register;
use x86_defs::msr;

use super::L2Vcpu;
use crate::run::end::Failure;

/// MSRs of one kind of access that are not L1's business.
struct Native {
    first: u32,
    last: u32,
    read: bool,
    write: bool,
}

const fn native(first: u32, last: u32, read: bool, write: bool) -> Native {
    Native {
        first,
        last,
        read,
        write,
    }
}

const fn one(msr: u32, read: bool, write: bool) -> Native {
    native(msr, msr, read, write)
}

/// Registers that the processor switches between L1 and L2, or that L1 never uses.
const NATIVE: [Native; 13] = [
    one(msr::IA32_TIME_STAMP_COUNTER, true, false),
    native(msr::IA32_SPEC_CTRL, msr::IA32_PRED_CMD, true, true),
    one(msr::IA32_ARCH_CAPABILITIES, true, false), // emulated by the module
    one(msr::IA32_FLUSH_CMD, false, true),
    native(msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_EIP, true, true),
    one(msr::IA32_DEBUGCTL, true, true), // emulated by the module
    one(msr::IA32_PAT, true, true),
    one(msr::IA32_XSS, true, false),
    one(msr::IA32_EFER, true, false),
    native(msr::IA32_STAR, msr::IA32_LSTAR, true, true),
    one(msr::IA32_FMASK, true, true),
    native(msr::IA32_FS_BASE, msr::IA32_KERNEL_GS_BASE, true, true),
    one(msr::IA32_TSC_AUX, true, true),
];

/// x2APIC registers that the processor virtualizes on the virtual-APIC page.
const NATIVE_X2APIC: [Native; 5] = [
    one(Register::TPR.msr(), true, true),
    one(Register::PPR.msr(), true, false),
    one(Register::EOI.msr(), false, true),
    native(
        Register::ISR.msr(),
        Register::IRR.element(7).msr(),
        true,
        false,
    ),
    one(Register::SELF_IPI.msr(), false, true),
];

/// Quadwords of the four bitmaps: reads of the low and the high MSRs, then writes.
const QWORDS: u16 = 512;
/// Quadwords of one of them.
const QWORDS_PER_BITMAP: u16 = 128;
/// The quadwords of reads and of writes that hold the x2APIC's registers.
const X2APIC_QWORDS: [u16; 2] = [
    msr::X2APIC as u16 / 64,
    2 * QWORDS_PER_BITMAP + msr::X2APIC as u16 / 64,
];

/// Quadword `index` of L1's bitmaps; a set bit exits.
fn qword(index: u16, x2apic: bool) -> u64 {
    let write = index >= 2 * QWORDS_PER_BITMAP;
    let high = (index / QWORDS_PER_BITMAP) & 1 != 0;
    let base = u32::from(index % QWORDS_PER_BITMAP) * 64 + if high { 0xC000_0000 } else { 0 };
    let apic: &[Native] = if x2apic { &NATIVE_X2APIC } else { &[] };
    let mut bits = u64::MAX;
    for range in NATIVE.iter().chain(apic) {
        if if write { range.write } else { range.read } {
            for msr in range.first..=range.last {
                if msr & !63 == base {
                    bits &= !(1 << (msr & 63));
                }
            }
        }
    }
    bits
}

impl<R: RawTdcall> L2Vcpu<'_, R> {
    /// Writes the bitmaps, which are all ones after the TD's start.
    pub(super) fn write_msr_bitmaps(&self, x2apic: bool) -> Result<(), Failure> {
        for index in 0..QWORDS {
            let bits = qword(index, x2apic);
            if bits != u64::MAX {
                self.write_msr_bitmap(index, bits)?;
            }
        }
        Ok(())
    }

    /// Lets L2 reach the x2APIC registers that the processor virtualizes, or not.
    pub fn set_x2apic_native(&self, x2apic: bool) -> Result<(), Failure> {
        for index in X2APIC_QWORDS {
            self.write_msr_bitmap(index, qword(index, x2apic))?;
        }
        Ok(())
    }

    fn write_msr_bitmap(&self, index: u16, bits: u64) -> Result<(), Failure> {
        let field = FieldId::l2_msr_bitmap(self.vm, index);
        self.td
            .vp_wr(field, bits, u64::MAX)
            .map(drop)
            .map_err(|error| Failure::Field { field, error })
    }
}

/// Whether an access of L2's to an MSR exits to L1.
#[cfg(test)]
pub(crate) fn exits(msr: u32, write: bool, x2apic: bool) -> bool {
    let bitmap = match (msr >= 0xC000_0000, write) {
        (false, false) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (true, true) => 3,
    };
    let index = bitmap * QWORDS_PER_BITMAP + (msr & 0x1FFF) as u16 / 64;
    qword(index, x2apic) >> (msr & 63) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2_owns_what_is_switched_and_nothing_else() {
        for (msr, read, write) in [
            (0x010, false, true),
            (0x01B, true, true),
            (0x048, false, false),
            (0x0FE, true, true),
            (0x10A, false, true),
            (0x176, false, false),
            (0x177, true, true),
            (0x277, false, false),
            (0x6E0, true, true),
            (0xDA0, false, true),
            (0xC000_0080, false, true),
            (0xC000_0082, false, false),
            (0xC000_0083, true, true),
            (0xC000_0102, false, false),
            (0xC000_0104, true, true),
        ] {
            assert_eq!(
                (exits(msr, false, true), exits(msr, true, true)),
                (read, write),
                "{msr:#x}"
            );
        }
    }

    #[test]
    fn apic_registers_exit_outside_x2apic_mode() {
        for (msr, read, write) in [
            (0x802, true, true),
            (0x808, false, false),
            (0x80A, false, true),
            (0x80B, true, false),
            (0x827, false, true),
            (0x828, true, true),
            (0x830, true, true),
            (0x83F, true, false),
        ] {
            assert_eq!(
                (exits(msr, false, true), exits(msr, true, true)),
                (read, write),
                "{msr:#x}"
            );
            assert!(
                exits(msr, false, false) && exits(msr, true, false),
                "{msr:#x}"
            );
        }
        for index in (0..QWORDS).filter(|index| !X2APIC_QWORDS.contains(index)) {
            assert_eq!(qword(index, false), qword(index, true));
        }
    }
}
