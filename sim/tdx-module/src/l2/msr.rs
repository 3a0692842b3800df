//! RDMSR and WRMSR of L2: bitmaps, emulation, and the virtual x2APIC registers.

use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use super::msr_policy::{Access, Policy, context_register, is_direct, policy};
use crate::platform::{Event, Platform, Register, SegmentName, Vm};
use x86_defs::efer;
use x86_defs::exit_reason;
use x86_defs::msr::{IA32_PAT, is_pat};

/// MSRs that a bitmap page has bits for.
const LOW: core::ops::Range<u32> = 0..0x2000;
const HIGH: core::ops::Range<u32> = 0xc000_0000..0xc000_2000;
/// Bytes of a bitmap page before the bits for writes.
const WRITES: usize = 0x800;
/// Bytes before the bits for high MSRs.
const HIGHS: usize = 0x400;

/// RDMSR and WRMSR without prefixes.
const LENGTH: u32 = 2;

/// What an MSR access that the module or the processor carries out comes to.
pub(super) enum Outcome {
    /// RDMSR: the value.
    Value(u64),
    /// WRMSR is done.
    Written,
    /// #GP(0).
    Fault,
    /// L1 decides after all.
    L1,
    /// WRMSR is done and causes an exit after it.
    Trap(ExitInformation),
}

impl<P: Platform> Guest<'_, P> {
    /// L1's bit for an access; `None` outside the bitmaps.
    fn is_intercepted_by_l1(&self, msr: u32, access: Access) -> Option<bool> {
        let (first, bit) = if LOW.contains(&msr) {
            (0, msr)
        } else if HIGH.contains(&msr) {
            (HIGHS, msr - HIGH.start)
        } else {
            return None;
        };
        let writes = match access {
            Access::Read => 0,
            Access::Write => WRITES,
        };
        let qword = (first + writes) / 8 + bit as usize / 64;
        Some(self.l2.msr_bitmaps[qword] >> (bit % 64) & 1 != 0)
    }

    /// L1 has changed some bits of a quadword of its bitmaps: the hardware follows where it can.
    pub(super) fn apply_msr_bitmap(&mut self, qword: usize, changed: u64) {
        let byte = qword * 8;
        let first = byte % WRITES;
        let start = if first >= HIGHS {
            HIGH.start
        } else {
            LOW.start
        };
        for bit in (0..64).filter(|bit| changed >> bit & 1 != 0) {
            let msr = start + (first % HIGHS) as u32 * 8 + bit;
            if is_direct(msr) {
                let intercepted = |access| self.is_intercepted_by_l1(msr, access).unwrap_or(true);
                let (read, write) = (intercepted(Access::Read), intercepted(Access::Write));
                self.platform
                    .set_msr_intercept(Vm::L2(self.index), msr, read, write);
            }
        }
    }

    pub(super) fn route_rdmsr(&mut self) -> Disposition {
        let msr = self.register(Register::Rcx) as u32;
        let outcome = match self.policy_of(msr, Access::Read) {
            Policy::L1 => Outcome::L1,
            Policy::GeneralProtection => Outcome::Fault,
            Policy::Native => self.read_native(msr),
            Policy::Emulated => self.read_emulated(msr),
        };
        self.finish_msr(exit_reason::RDMSR, outcome)
    }

    pub(super) fn route_wrmsr(&mut self) -> Disposition {
        let msr = self.register(Register::Rcx) as u32;
        let low = self.register(Register::Rax) & 0xffff_ffff;
        let value = self.register(Register::Rdx) << 32 | low;
        let outcome = match self.policy_of(msr, Access::Write) {
            Policy::L1 => Outcome::L1,
            Policy::GeneralProtection => Outcome::Fault,
            Policy::Native => self.write_native(msr, value),
            Policy::Emulated => self.write_emulated(msr, value),
        };
        self.finish_msr(exit_reason::WRMSR, outcome)
    }

    fn policy_of(&self, msr: u32, access: Access) -> Policy {
        match self.is_intercepted_by_l1(msr, access) {
            Some(false) => policy(msr, access),
            Some(true) | None => Policy::L1,
        }
    }

    fn finish_msr(&mut self, reason: u32, outcome: Outcome) -> Disposition {
        let length = self
            .fetch()
            .map_or(LENGTH, |instruction| instruction.len() as u32);
        match outcome {
            Outcome::Value(value) => {
                self.set_register(Register::Rax, value & 0xffff_ffff);
                self.set_register(Register::Rdx, value >> 32);
                self.emulated(reason, length)
            }
            Outcome::Written => self.emulated(reason, length),
            Outcome::Fault => Disposition::fault(reason, Event::GENERAL_PROTECTION),
            Outcome::L1 => Disposition::L1(ExitInformation::instruction(reason, length)),
            Outcome::Trap(exit) => self.trap(exit, length),
        }
    }

    fn read_native(&mut self, msr: u32) -> Outcome {
        if let Some(register) = context_register(msr) {
            return Outcome::Value(self.register(register));
        }
        match msr {
            0x10 => Outcome::Value(self.platform.tsc()),
            // Write-only.
            0x49 | 0x10b => Outcome::Fault,
            0x800..=0x8ff => self.read_x2apic(msr),
            0xc000_0100 => Outcome::Value(self.segment(SegmentName::Fs).base),
            0xc000_0101 => Outcome::Value(self.segment(SegmentName::Gs).base),
            _ => Outcome::Value(self.platform.rdmsr(msr)),
        }
    }

    fn write_native(&mut self, msr: u32, value: u64) -> Outcome {
        const ADDRESSES: [u32; 6] = [
            0x175,
            0x176,
            0xc000_0082,
            0xc000_0100,
            0xc000_0101,
            0xc000_0102,
        ];
        if ADDRESSES.contains(&msr) && (value as i64) << 7 >> 7 != value as i64 {
            return Outcome::Fault;
        }
        if msr == IA32_PAT && !is_pat(value) {
            return Outcome::Fault;
        }
        if let Some(register) = context_register(msr) {
            self.set_register(register, value);
            return Outcome::Written;
        }
        match msr {
            // Commands: a barrier, a cache flush.
            0x49 | 0x10b if value & !1 != 0 => Outcome::Fault,
            0x49 | 0x10b => Outcome::Written,
            0x800..=0x8ff => self.write_x2apic(msr, value),
            0xc000_0100 => self.write_base(SegmentName::Fs, value),
            0xc000_0101 => self.write_base(SegmentName::Gs, value),
            _ => {
                self.platform.wrmsr(msr, value);
                Outcome::Written
            }
        }
    }

    fn write_base(&mut self, name: SegmentName, value: u64) -> Outcome {
        let mut segment = self.segment(name);
        segment.base = value;
        self.platform.set_segment(Vm::L2(self.index), name, segment);
        Outcome::Written
    }

    fn read_emulated(&mut self, msr: u32) -> Outcome {
        const TSX_CTRL: u64 = 1 << 7;
        const PERFMON_AVAILABLE: u64 = 1 << 7;
        const PEBS_UNAVAILABLE: u64 = 1 << 12;
        Outcome::Value(match msr {
            0x1d9 => self.register(Register::DebugCtl),
            // LEGACY_XAPIC_DISABLED.
            0xbd => 1,
            0x10a => self.platform.rdmsr(msr) & !TSX_CTRL,
            0x1a0 => self.platform.rdmsr(msr) & !PERFMON_AVAILABLE | PEBS_UNAVAILABLE,
            // IA32_PERF_CAPABILITIES: none.
            _ => 0,
        })
    }

    fn write_emulated(&mut self, msr: u32, value: u64) -> Outcome {
        match msr {
            0x1d9 => {
                const RESERVED: u64 = !0xffc7;
                const TR: u64 = 1 << 6;
                const BTS: u64 = 1 << 7;
                if value & RESERVED != 0 {
                    return Outcome::Fault;
                }
                if value & (TR | BTS) == TR {
                    return Outcome::L1;
                }
                self.set_register(Register::DebugCtl, value);
                Outcome::Written
            }
            0xda0 if value & !self.shape.xss() != 0 => Outcome::Fault,
            0xda0 => {
                self.set_register(Register::Xss, value);
                Outcome::Written
            }
            _ => self.write_efer(value),
        }
    }

    /// SCE and LME may change, LMA is ignored, any other change is L1's.
    fn write_efer(&mut self, value: u64) -> Outcome {
        const WRITABLE: u64 = efer::SCE | efer::LME;
        let old = self.register(Register::Efer);
        if (old ^ value) & !(WRITABLE | efer::LMA) != 0 {
            return Outcome::L1;
        }
        let paging = self.register(Register::Cr0) & x86_defs::cr0::PG != 0;
        if paging && (old ^ value) & efer::LME != 0 {
            return Outcome::Fault;
        }
        self.set_register(Register::Efer, old & !WRITABLE | value & WRITABLE);
        Outcome::Written
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::HardwareExit;

    fn fault() -> Disposition {
        Disposition::fault(exit_reason::WRMSR, Event::GENERAL_PROTECTION)
    }

    fn reason(disposition: Disposition) -> Option<u32> {
        match disposition {
            Disposition::L1(exit) => Some(exit.reason),
            _ => None,
        }
    }

    #[test]
    fn bits_are_by_range_and_access() {
        let rows = [
            (0x0000_0010, Access::Read, 0, 16),
            (0x0000_1b01, Access::Read, 108, 1),
            (0xc000_0080, Access::Read, 130, 0),
            (0x0000_083f, Access::Write, 256 + 32, 63),
            (0xc000_0102, Access::Write, 256 + 128 + 4, 2),
        ];
        for (msr, access, qword, bit) in rows {
            let mut fake = Fake::new();
            fake.l2.msr_bitmaps.fill(0);
            let guest = fake.guest();
            assert_eq!(guest.is_intercepted_by_l1(msr, access), Some(false));
            guest.l2.msr_bitmaps[qword] = 1 << bit;
            assert_eq!(
                guest.is_intercepted_by_l1(msr, access),
                Some(true),
                "{msr:#x}"
            );
        }
        let mut fake = Fake::new();
        assert_eq!(
            fake.guest().is_intercepted_by_l1(0x4b56_4d00, Access::Read),
            None
        );
    }

    #[test]
    fn efer_changes_within_what_the_module_lets() {
        let rows = [
            (0x901, Some(0x901), None),
            (0x900, Some(0x900), None),
            (0x801, Some(0x801), None),
            (0xd01, Some(0x901), None),
            (0x101, None, Some(32)),
        ];
        for (value, written, exit) in rows {
            let mut fake = Fake::at_msr(0xc000_0080, value);
            let disposition = fake.guest().route(HardwareExit::WriteMsr);
            assert_eq!(reason(disposition), exit, "{value:#x}");
            if let Some(written) = written {
                assert_eq!(fake.guest().register(Register::Efer), written);
            }
        }
    }

    #[test]
    fn reserved_bits_and_absent_features_fault() {
        let rows = [
            (0x1d9, 1 << 3),
            (0xda0, 1 << 11),
            (0x808, 1 << 8),
            (0x80b, 1),
            (0x80a, 0),
            (0x83f, 1 << 8),
            (0x840, 0),
            (0x48b, 0),
            (0x6a0, 0),
            (0xc000_0082, 1 << 63),
            (0x277, 0x0007_0406_0007_0402),
            (0x277, 0x0807_0406_0007_0406),
        ];
        for (msr, value) in rows {
            let mut fake = Fake::at_msr(msr, value);
            assert_eq!(
                fake.guest().route(HardwareExit::WriteMsr),
                fault(),
                "{msr:#x}"
            );
            assert_eq!(fake.guest().register(Register::Rip), 0x1000);
        }
    }

    #[test]
    fn tracing_branches_without_a_buffer_is_l1s() {
        let mut fake = Fake::at_msr(0x1d9, 1 << 6);
        assert_eq!(
            reason(fake.guest().route(HardwareExit::WriteMsr)),
            Some(exit_reason::WRMSR)
        );
    }

    #[test]
    fn an_unswitched_msr_is_the_contexts() {
        let mut fake = Fake::at_msr(0xc000_0082, 0xffff_8000_1234_5678);
        fake.guest().route(HardwareExit::WriteMsr);
        assert_eq!(
            fake.guest().register(Register::Lstar),
            0xffff_8000_1234_5678
        );
        fake.guest().set_register(Register::Rip, 0x1000);
        fake.guest().route(HardwareExit::ReadMsr);
        assert_eq!(fake.guest().register(Register::Rdx), 0xffff_8000);
    }
}
