//! Stepping over an instruction that L1 executed.

use crate::exit::Exit;
use crate::vcpu::Vcpu;
use x86_defs::rflags;

/// Completes the instruction that caused `exit`, whose length the exit gives
/// ([`crate::Reason::is_instruction`]).
pub fn advance<V: Vcpu>(exit: &Exit, vcpu: &mut V) {
    complete(exit, vcpu, exit.instruction_length);
}

/// Completes an instruction of `length` bytes: RIP behind it, RFLAGS.RF clear, and a
/// single-step trap pending if RFLAGS.TF was set when it started.
///
/// Outside 64-bit code RIP wraps at 4 GiB. In 16-bit code it does not wrap at 64 KiB: the
/// processor faults at the segment limit, and so does the next entry.
pub(crate) fn complete<V: Vcpu>(exit: &Exit, vcpu: &mut V, length: u8) {
    let rip = vcpu.rip();
    let next = rip.wrapping_add(u64::from(length));
    let wraps = rip >> 32 == 0 && next >> 32 != 0 && !exit.is_64_bit(vcpu);
    vcpu.set_rip(if wraps { next & 0xFFFF_FFFF } else { next });
    let rflags = vcpu.rflags();
    if rflags & rflags::RF != 0 {
        vcpu.set_rflags(rflags & !rflags::RF);
    }
    if rflags & rflags::TF != 0 {
        vcpu.single_step();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Reason;
    use crate::test_vcpu::TestVcpu;

    fn after(mut vcpu: TestVcpu, rip: u64) -> u64 {
        vcpu.rip = rip;
        let exit = Exit {
            instruction_length: 2,
            ..vcpu.exit(Reason::Cpuid, 0)
        };
        advance(&exit, &mut vcpu);
        vcpu.rip
    }

    #[test]
    fn rip_wraps_where_it_has_32_bits() {
        assert_eq!(after(TestVcpu::long(), 0x1000), 0x1002);
        assert_eq!(after(TestVcpu::long(), 0xFFFF_FFFF), 0x1_0000_0001);
        assert_eq!(after(TestVcpu::protected(), 0xFFFF_FFFF), 1);
        assert_eq!(after(TestVcpu::real(), 0xFFFF), 0x1_0001);
        // CS.L outside IA-32e mode means nothing.
        let mut vcpu = TestVcpu::long();
        vcpu.efer = 0;
        assert_eq!(after(vcpu, 0xFFFF_FFFF), 1);
    }

    #[test]
    fn stepping_over_costs_no_tdcall() {
        let vcpu = TestVcpu::long();
        let exit = vcpu.exit(Reason::Cpuid, 0);
        for rip in [0, 0x1000, 0xFFFF_FFFF_8100_0000] {
            let mut vcpu = vcpu.clone();
            vcpu.rip = rip;
            advance(&exit, &mut vcpu);
            assert_eq!(vcpu.tdcalls.get(), 0);
        }
    }
}
