//! A machine for the tests of this folder: registers and memory in maps, nothing runs.

use super::control_registers::ControlRegister;
use super::guest::Guest;
use super::shape::Shape;
use super::state::L2;
use crate::platform::{
    CpuidResult, Event, Intercepts, Permissions, Platform, Register, Segment, SegmentName, Vm,
};
use crate::td::sept::{Leaf, LeafState, SecureEpt};
use alloc::collections::BTreeMap;
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

#[derive(Default)]
pub(super) struct FakePlatform {
    pub(super) registers: BTreeMap<(Vm, Register), u64>,
    pub(super) segments: BTreeMap<(Vm, SegmentName), Segment>,
    pub(super) memory: BTreeMap<u64, u8>,
    pub(super) injected: Option<Event>,
    pub(super) intercepts: Intercepts,
    pub(super) direct_msrs: BTreeMap<u32, (bool, bool)>,
    pub(super) timer: Option<u64>,
    pub(super) tsc: u64,
    pub(super) msrs: BTreeMap<u32, u64>,
}

impl Platform for FakePlatform {
    fn read(&mut self, hpa: u64, into: &mut [u8]) {
        for (address, byte) in (hpa..).zip(into) {
            *byte = self.memory.get(&address).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, hpa: u64, from: &[u8]) {
        self.memory.extend((hpa..).zip(from.iter().copied()));
    }

    fn zero(&mut self, hpa: u64, length: u64) {
        self.memory
            .retain(|&address, _| !(hpa..hpa + length).contains(&address));
    }

    fn map(&mut self, _: Vm, _: u64, _: PageLevel, _: u64, _: Permissions) {}

    fn unmap(&mut self, _: Vm, _: u64, _: PageLevel) {}

    fn shared_page(&mut self, _: u64) -> Option<u64> {
        None
    }

    fn set_shared_access(&mut self, _: Vm, _: bool) {}

    fn register(&mut self, vm: Vm, register: Register) -> u64 {
        self.registers.get(&(vm, register)).copied().unwrap_or(0)
    }

    fn set_register(&mut self, vm: Vm, register: Register, value: u64) {
        self.registers.insert((vm, register), value);
    }

    fn segment(&mut self, vm: Vm, name: SegmentName) -> Segment {
        self.segments.get(&(vm, name)).copied().unwrap_or_default()
    }

    fn set_segment(&mut self, vm: Vm, name: SegmentName, segment: Segment) {
        self.segments.insert((vm, name), segment);
    }

    fn inject(&mut self, _: Vm, event: Option<Event>) {
        self.injected = event;
    }

    fn set_intercepts(&mut self, _: Vm, intercepts: Intercepts) {
        self.intercepts = intercepts;
    }

    fn set_msr_intercept(&mut self, _: Vm, msr: u32, read: bool, write: bool) {
        self.direct_msrs.insert(msr, (read, write));
    }

    fn tsc(&mut self) -> u64 {
        self.tsc
    }

    fn set_timer(&mut self, deadline: Option<u64>) {
        self.timer = deadline;
    }

    fn random(&mut self, into: &mut [u8]) {
        into.fill(0x5a);
    }

    fn cpuid(&mut self, _: u32, _: u32) -> CpuidResult {
        CpuidResult {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        }
    }

    fn rdmsr(&mut self, msr: u32) -> u64 {
        self.msrs.get(&msr).copied().unwrap_or(0)
    }

    fn wrmsr(&mut self, msr: u32, value: u64) {
        self.msrs.insert(msr, value);
    }

    fn xsetbv(&mut self, _: u64) -> bool {
        true
    }
}

/// One L2 VM after TDH.VP.INIT, in a TD whose memory is identity-mapped up to 1 GiB.
pub(super) struct Fake {
    pub(super) l2: L2,
    pub(super) platform: FakePlatform,
    pub(super) sept: SecureEpt,
}

impl Fake {
    pub(super) const VM: Vm = Vm::L2(VmIndex::FIRST);
    /// Where the virtual-APIC page is.
    pub(super) const VAPIC: u64 = 0x5000;

    pub(super) fn new() -> Fake {
        let mut l2 = L2::new();
        let mut platform = FakePlatform::default();
        l2.initialize(&mut platform, Fake::VM, shape());
        l2.entry.vapic_hpa = Fake::VAPIC;
        let mut sept = SecureEpt::default();
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

    pub(super) fn guest(&mut self) -> Guest<'_> {
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
