//! A machine of maps, and a TDCALL that goes to the module instead of to a processor.
//!
//! [`ModelTdcall`] implements [`RawTdcall`](tdcall::RawTdcall), so that code written for L1 runs against the module in
//! an ordinary test. Nothing executes: L1 is the test itself, and a run of L2 is a closure that the
//! test has queued, which changes registers and memory and says how the run ended.
//!
//! [`ModelPage`] and [`ModelShared`] are memory of that TD, for the operands of calls.
//!
//! Machine addresses are guest physical addresses; a shared page is at [`SHARED_MEMORY`] higher.

mod memory;
mod model;

pub use memory::{ModelPage, ModelShared};
pub use model::{Host, L2Run, ModelTdcall};

use crate::platform::{
    CpuidResult, Event, Intercepts, Permissions, Platform, Register, Segment, SegmentName, Vm,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::mem;
use tdx_defs::PageLevel;
use x86_defs::paging::PAGE_4K;

/// Machine address of shared GPA 0.
pub const SHARED_MEMORY: u64 = 1 << 46;

/// A page of a VM's second-stage tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPage {
    /// Its size.
    pub level: PageLevel,
    /// Where it is.
    pub hpa: u64,
    /// What the VM may do with it.
    pub permissions: Permissions,
}

/// The machine. Its state is open: a test is also the hardware.
#[derive(Default)]
pub struct TestPlatform {
    memory: BTreeMap<u64, Box<[u8; PAGE_4K as usize]>>,
    registers: BTreeMap<(Vm, Register), u64>,
    segments: BTreeMap<(Vm, SegmentName), Segment>,
    /// The virtual processor whose registers, segments, intercepts, timer and events these are.
    vcpu: u32,
    /// Those of the others.
    parked: BTreeMap<u32, Context>,
    /// Second-stage tables by VM and first GPA.
    pub pages: BTreeMap<(Vm, u64), MappedPage>,
    /// Shared pages by GPA without the shared bit.
    pub shared_pages: BTreeMap<u64, u64>,
    /// VMs that reach shared memory.
    pub shared_access: BTreeMap<Vm, bool>,
    /// What the next run of a VM starts with.
    pub injected: BTreeMap<Vm, Event>,
    /// What ends a VM's runs.
    pub intercepts: BTreeMap<Vm, Intercepts>,
    /// (read, write) by VM and MSR.
    pub msr_intercepts: BTreeMap<(Vm, u32), (bool, bool)>,
    /// The time-stamp counter.
    pub tsc: u64,
    /// How far it advances at each look; 0 for one that stands.
    pub tsc_step: u64,
    /// The armed timer.
    pub timer: Option<u64>,
    /// CPUID by leaf and sub-leaf.
    pub cpuid: BTreeMap<(u32, u32), CpuidResult>,
    /// What the leaves have that [`cpuid`](Self::cpuid) does not.
    pub other_cpuid: CpuidResult,
    /// The machine's MSRs.
    pub msrs: BTreeMap<u32, u64>,
    /// XCR0 bits that the machine has.
    pub xcr0: u64,
    random: u64,
}

/// What a virtual processor has for itself.
#[derive(Default)]
struct Context {
    registers: BTreeMap<(Vm, Register), u64>,
    segments: BTreeMap<(Vm, SegmentName), Segment>,
    shared_access: BTreeMap<Vm, bool>,
    injected: BTreeMap<Vm, Event>,
    intercepts: BTreeMap<Vm, Intercepts>,
    msr_intercepts: BTreeMap<(Vm, u32), (bool, bool)>,
    timer: Option<u64>,
}

impl TestPlatform {
    fn exchange(&mut self, context: &mut Context) {
        mem::swap(&mut self.registers, &mut context.registers);
        mem::swap(&mut self.segments, &mut context.segments);
        mem::swap(&mut self.shared_access, &mut context.shared_access);
        mem::swap(&mut self.injected, &mut context.injected);
        mem::swap(&mut self.intercepts, &mut context.intercepts);
        mem::swap(&mut self.msr_intercepts, &mut context.msr_intercepts);
        mem::swap(&mut self.timer, &mut context.timer);
    }
}

impl Platform for TestPlatform {
    fn take_up(&mut self, vcpu: u32) {
        let mut context = self.parked.remove(&vcpu).unwrap_or_default();
        self.exchange(&mut context);
        self.parked.insert(self.vcpu, context);
        self.vcpu = vcpu;
    }

    fn read(&mut self, hpa: u64, into: &mut [u8]) {
        for (range, address) in pages(hpa, into.len()) {
            let offset = (address % PAGE_4K) as usize;
            let part = &mut into[range];
            match self.memory.get(&(address / PAGE_4K)) {
                Some(page) => part.copy_from_slice(&page[offset..offset + part.len()]),
                None => part.fill(0),
            }
        }
    }

    fn write(&mut self, hpa: u64, from: &[u8]) {
        for (range, address) in pages(hpa, from.len()) {
            let offset = (address % PAGE_4K) as usize;
            let part = &from[range];
            let page = self.memory.entry(address / PAGE_4K);
            let page = page.or_insert_with(|| Box::new([0; PAGE_4K as usize]));
            page[offset..offset + part.len()].copy_from_slice(part);
        }
    }

    fn zero(&mut self, hpa: u64, length: u64) {
        let pages = hpa / PAGE_4K..(hpa + length) / PAGE_4K;
        self.memory.retain(|page, _| !pages.contains(page));
    }

    fn map(&mut self, vm: Vm, gpa: u64, level: PageLevel, hpa: u64, permissions: Permissions) {
        let page = MappedPage {
            level,
            hpa,
            permissions,
        };
        self.pages.insert((vm, gpa), page);
    }

    fn unmap(&mut self, vm: Vm, gpa: u64, _level: PageLevel) {
        self.pages.remove(&(vm, gpa));
    }

    fn shared_page(&mut self, gpa: u64) -> Option<u64> {
        self.shared_pages.get(&gpa).copied()
    }

    fn set_shared_access(&mut self, vm: Vm, allowed: bool) {
        self.shared_access.insert(vm, allowed);
    }

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

    fn inject(&mut self, vm: Vm, event: Option<Event>) {
        match event {
            Some(event) => self.injected.insert(vm, event),
            None => self.injected.remove(&vm),
        };
    }

    fn set_intercepts(&mut self, vm: Vm, intercepts: Intercepts) {
        self.intercepts.insert(vm, intercepts);
    }

    fn set_msr_intercept(&mut self, vm: Vm, msr: u32, read: bool, write: bool) {
        self.msr_intercepts.insert((vm, msr), (read, write));
    }

    fn tsc(&mut self) -> u64 {
        self.tsc += self.tsc_step;
        self.tsc
    }

    fn set_timer(&mut self, deadline: Option<u64>) {
        self.timer = deadline;
    }

    fn random(&mut self, into: &mut [u8]) {
        for byte in into {
            // Knuth's MMIX generator: any sequence will do, as long as it is always the same.
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.random >> 56) as u8;
        }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        self.cpuid
            .get(&(leaf, subleaf))
            .copied()
            .unwrap_or(self.other_cpuid)
    }

    fn rdmsr(&mut self, msr: u32) -> u64 {
        self.msrs.get(&msr).copied().unwrap_or(0)
    }

    fn wrmsr(&mut self, msr: u32, value: u64) {
        self.msrs.insert(msr, value);
    }

    fn xsetbv(&mut self, value: u64) -> bool {
        const X87: u64 = 1;
        let valid = value & X87 != 0 && value & !self.xcr0 == 0;
        if valid {
            self.set_register(Vm::L1, Register::Xcr0, value);
        }
        valid
    }
}

/// The parts of a buffer that are in one page each, with their addresses.
fn pages(hpa: u64, length: usize) -> impl Iterator<Item = (core::ops::Range<usize>, u64)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let address = hpa + done as u64;
        let part = (length - done).min((PAGE_4K - address % PAGE_4K) as usize);
        let range = done..done + part;
        done += part;
        (part != 0).then_some((range, address))
    })
}
