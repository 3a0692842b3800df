//! An L2 VM for the tests of this folder, on a machine where nothing runs.

use super::control_registers::ControlRegister;
use super::guest::Guest;
use super::shape::Shape;
use super::state::L2;
use crate::platform::{CpuidResult, Platform, Register, Vm};
use crate::td::sept::{Leaf, LeafState, SecureEpt};
use crate::test_platform::TestPlatform;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::field::TdAttributes;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::{Gpaw, PageLevel, VmIndex};

/// x87, SSE, AVX, and nothing that has a CR4 bit of its own.
pub(super) fn shape() -> Shape {
    Shape {
        gpaw: Gpaw::Bits48,
        attributes: TdAttributes::new(),
        xfam: 7,
        cr4: u64::MAX,
    }
}

/// A machine that has all features, whose time stands.
fn platform() -> TestPlatform {
    let mut platform = TestPlatform::default();
    platform.other_cpuid = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    platform.xcr0 = u64::MAX;
    platform
}

/// One L2 VM after TDH.VP.INIT, in a TD whose memory is identity-mapped up to 1 GiB.
pub(super) struct Fake {
    pub(super) l2: L2,
    pub(super) platform: TestPlatform,
    pub(super) sept: SecureEpt,
}

impl Fake {
    pub(super) const VM: Vm = Vm::L2(VmIndex::FIRST);
    /// Where the virtual-APIC page is.
    pub(super) const VAPIC: u64 = 0x5000;

    pub(super) fn new() -> Fake {
        let mut l2 = L2::new();
        let mut platform = platform();
        l2.initialize(&mut platform, Fake::VM, shape());
        l2.entry.vapic_hpa = Fake::VAPIC;
        let mut sept = SecureEpt::new(4);
        sept.insert(
            &mut platform,
            Leaf {
                gpa: 0,
                hpa: 0,
                level: PageLevel::Page1G,
                state: LeafState::Mapped,
                aliases: [VmAttributes::RWX; 3],
                blocked_at: 0,
            },
        );
        Fake { l2, platform, sept }
    }

    pub(super) fn guest(&mut self) -> Guest<'_, TestPlatform> {
        Guest {
            index: VmIndex::FIRST,
            l2: &mut self.l2,
            shape: shape(),
            platform: &mut self.platform,
            sept: &self.sept,
        }
    }

    /// L2 at RDMSR or WRMSR of an MSR that L1 does not intercept.
    pub(super) fn at_msr(msr: u32, value: u64) -> Fake {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, &[0x0f, 0x30]);
        let mut guest = fake.guest();
        guest.l2.msr_bitmaps.fill(0);
        guest.set_register(Register::Rip, 0x1000);
        guest.set_register(Register::Rcx, msr.into());
        guest.set_register(Register::Rax, value & 0xffff_ffff);
        guest.set_register(Register::Rdx, value >> 32);
        fake
    }

    /// L2 at an instruction in 32-bit protected mode, with L1's mask and shadow for CR0.
    pub(super) fn at_cr0_access(bytes: &[u8], rax: u64, mask: u64, shadow: u64) -> Fake {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, bytes);
        let mut guest = fake.guest();
        guest.set_register(Register::Rip, 0x1000);
        guest.set_register(Register::Rax, rax);
        guest.l2.set_cell(VmcsField::CR0_GUEST_HOST_MASK, mask);
        guest.l2.set_cell(VmcsField::CR0_READ_SHADOW, shadow);
        guest.merge_mask_and_shadow(ControlRegister::Cr0);
        fake
    }
}
