//! The virtual VMX MSRs: which VMX features an L2 VMCS offers to L1 (TDX Module Base
//! Architecture, "VMX MSRs").
//!
//! A control that L1 can not write is reported as fixed at the value the VMCS has.

use super::shape::Shape;
use super::vmcs_table::{FIELDS, Storage, index_of};
use tdx_defs::vmcs::VmcsField;

/// Initial value and L1's write mask of a control field, for a TD of this shape.
pub(super) fn control(shape: &Shape, field: VmcsField) -> (u64, u64) {
    const RDPMC: u64 = 1 << 11;
    const MWAIT_AND_MONITOR: u64 = 1 << 10 | 1 << 29;
    const WAITPKG_AND_PCONFIG: u64 = 1 << 26 | 1 << 27;
    let (mut initial, mut writable) = match index_of(field).map(|index| &FIELDS[index]) {
        Some(row) => match row.storage {
            Storage::Cell(initial) => (initial, row.write_mask),
            _ => (0, row.write_mask),
        },
        None => (0, 0),
    };
    match field {
        VmcsField::PRIMARY_CONTROLS => {
            // The virtual CPUID has no MONITOR.
            initial |= MWAIT_AND_MONITOR;
            if !shape.attributes.perfmon() {
                initial |= RDPMC;
                writable &= !RDPMC;
            }
        }
        // The virtual CPUID has neither.
        VmcsField::SECONDARY_CONTROLS => writable &= !WAITPKG_AND_PCONFIG,
        VmcsField::TERTIARY_CONTROLS if shape.gpaw == tdx_defs::Gpaw::Bits52 => initial |= 1 << 5,
        VmcsField::ENTRY_CONTROLS => {
            if shape.perfmon_or_debug() {
                initial |= 1 << 13;
            }
            if shape.attributes.pks() || shape.attributes.debug() {
                initial |= 1 << 22;
            }
        }
        VmcsField::EXIT_CONTROLS if shape.perfmon_or_debug() => initial |= 1 << 12 | 1 << 30,
        _ => {}
    }
    (initial, writable)
}

/// What RDMSR of a VMX MSR gives L1; `None` if it is a #VE.
pub(crate) fn virtual_vmx_msr(shape: &Shape, msr: u32) -> Option<u64> {
    Some(match msr {
        // TRUE controls, INS/OUTS information, dual-monitor treatment not offered.
        0x480 => 1 << 54 | 1 << 55 | 1 << 56,
        0x485 => 1 << 5 | 1 << 6 | 1 << 7 | 1 << 14 | 4 << 16 | 1 << 29 | 1 << 30,
        0x486 => 0x20,
        0x487 => 0x8005_003f,
        0x488 => x86_defs::cr4::MCE | x86_defs::cr4::VMXE,
        0x489 => x86_defs::cr4::MCE | x86_defs::cr4::VMXE | shape.writable_cr4(),
        0x48b => allowed(shape, VmcsField::SECONDARY_CONTROLS),
        0x48c => {
            const EXECUTE_ONLY: u64 = 1 << 0;
            const PAGES_2M_AND_1G: u64 = 1 << 16 | 1 << 17;
            const ADVANCED_EXIT_INFORMATION: u64 = 1 << 22;
            const SUPERVISOR_SHADOW_STACK: u64 = 1 << 23;
            let shadow_stack = match shape.has_supervisor_shadow_stacks() {
                true => SUPERVISOR_SHADOW_STACK,
                false => 0,
            };
            EXECUTE_ONLY | PAGES_2M_AND_1G | ADVANCED_EXIT_INFORMATION | shadow_stack
        }
        0x48d => allowed(shape, VmcsField::PIN_BASED_CONTROLS),
        0x48e => allowed(shape, VmcsField::PRIMARY_CONTROLS),
        0x48f => allowed(shape, VmcsField::EXIT_CONTROLS),
        0x490 => allowed(shape, VmcsField::ENTRY_CONTROLS),
        0x491 => 0,
        0x492 => {
            let (initial, writable) = control(shape, VmcsField::TERTIARY_CONTROLS);
            initial | writable
        }
        _ => return None,
    })
}

/// Allowed 0-settings in the low half, allowed 1-settings in the high half.
fn allowed(shape: &Shape, field: VmcsField) -> u64 {
    let (initial, writable) = control(shape, field);
    (initial | writable) << 32 | initial & !writable
}

/// Whether the virtual VMX MSR that governs a control field allows a value's writable bits.
pub(super) fn allows(shape: &Shape, msr: u32, value: u64, writable: u64) -> bool {
    let Some(capability) = virtual_vmx_msr(shape, msr) else {
        return false;
    };
    let (allowed0, allowed1) = match msr {
        0x492 => (0, capability),
        _ => (capability & 0xffff_ffff, capability >> 32),
    };
    value & writable & !allowed1 == 0 && !value & writable & allowed0 == 0
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn capability_msrs_are_those_of_the_module() {
        let shape = fake::shape();
        let rows = [
            (0x480, 0x01c0_0000_0000_0000),
            (0x48b, 0x1379_bffe_1328_81f2),
            (0x48d, 0x0000_0029_0000_0029),
            (0x48e, 0xf9fb_9e8c_b122_0c88),
            (0x48f, 0x1f3c_8204_1f3c_8204),
            (0x490, 0x003e_c204_003e_c004),
            (0x486, 0x20),
            (0x487, 0x8005_003f),
            (0x488, 0x2040),
            (0x491, 0),
            (0x492, 0x8e),
        ];
        for (msr, value) in rows {
            assert_eq!(virtual_vmx_msr(&shape, msr), Some(value), "{msr:#x}");
        }
        for msr in [0x481, 0x482, 0x483, 0x484, 0x48a] {
            assert_eq!(virtual_vmx_msr(&shape, msr), None);
        }
    }

    #[test]
    fn every_cr4_bit_but_the_ungranted_ones_is_writable() {
        let mut shape = fake::shape();
        shape.cr4 = u64::MAX;
        assert_eq!(virtual_vmx_msr(&shape, 0x489), Some(0x37_3fff));
    }

    #[test]
    fn a_fixed_bit_is_not_allowed_to_change() {
        let shape = fake::shape();
        assert!(allows(&shape, 0x48e, 1 << 2, 1 << 2));
        assert!(!allows(&shape, 0x48e, 0, 1 << 7));
        assert!(!allows(&shape, 0x48b, 1 << 17, 1 << 17));
    }

    #[test]
    fn the_shape_of_the_td_moves_bits() {
        let mut shape = fake::shape();
        shape.gpaw = tdx_defs::Gpaw::Bits52;
        assert_eq!(virtual_vmx_msr(&shape, 0x492), Some(0xae));
        shape.attributes = shape.attributes.with_perfmon(true);
        let rdpmc = 1 << 11;
        let (initial, writable) = control(&shape, VmcsField::PRIMARY_CONTROLS);
        assert_eq!((initial & rdpmc, writable & rdpmc), (0, rdpmc));
        assert_eq!(control(&shape, VmcsField::ENTRY_CONTROLS).0, 0x003e_e004);
        assert_eq!(control(&shape, VmcsField::EXIT_CONTROLS).0, 0x5f3c_9204);
        shape.xfam |= 1 << 12;
        let capabilities = virtual_vmx_msr(&shape, 0x48c).unwrap();
        assert_eq!(capabilities, 0x00c3_0001);
    }
}
