//! A machine of maps, and a TDCALL that goes to the module instead of to a processor.
//!
//! [`ModelTdcall`] implements [`RawTdcall`], so that code written for L1 runs against the module in
//! an ordinary test. Nothing executes: L1 is the test itself, and a run of L2 is a closure that the
//! test has queued, which changes registers and memory and says how the run ended.
//!
//! Machine addresses are guest physical addresses; a shared page is at [`SHARED_MEMORY`] higher.

use crate::leaf::{read_registers, write_registers};
use crate::platform::{
    Action, CpuidResult, Event, Exited, HardwareExit, Intercepts, Permissions, Platform, Register,
    Segment, SegmentName, TdExit, Vm,
};
use crate::td::params::TdParams;
use crate::transition::VpEnterInput;
use crate::{Configuration, Module, exit_reason};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::cell::RefCell;
use tdcall::ghci::CompletionStatus;
use tdcall::{PageLevel, RawTdcall, Registers};

/// Machine address of shared GPA 0.
pub const SHARED_MEMORY: u64 = 1 << 46;

const PAGE: u64 = 0x1000;
const PAGE_2M: u64 = 0x20_0000;

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
    memory: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    registers: BTreeMap<(Vm, Register), u64>,
    segments: BTreeMap<(Vm, SegmentName), Segment>,
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
    /// The time-stamp counter; advances by one at each look.
    pub tsc: u64,
    /// The armed timer.
    pub timer: Option<u64>,
    /// CPUID by leaf and sub-leaf; zero where there is none.
    pub cpuid: BTreeMap<(u32, u32), CpuidResult>,
    /// The machine's MSRs.
    pub msrs: BTreeMap<u32, u64>,
    /// XCR0 bits that the machine has.
    pub xcr0: u64,
    random: u64,
}

impl Platform for TestPlatform {
    fn read(&mut self, hpa: u64, into: &mut [u8]) {
        for (range, address) in pages(hpa, into.len()) {
            let offset = (address % PAGE) as usize;
            let part = &mut into[range];
            match self.memory.get(&(address / PAGE)) {
                Some(page) => part.copy_from_slice(&page[offset..offset + part.len()]),
                None => part.fill(0),
            }
        }
    }

    fn write(&mut self, hpa: u64, from: &[u8]) {
        for (range, address) in pages(hpa, from.len()) {
            let offset = (address % PAGE) as usize;
            let part = &from[range];
            let page = self.memory.entry(address / PAGE);
            let page = page.or_insert_with(|| Box::new([0; PAGE as usize]));
            page[offset..offset + part.len()].copy_from_slice(part);
        }
    }

    fn zero(&mut self, hpa: u64, length: u64) {
        let pages = hpa / PAGE..(hpa + length) / PAGE;
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
        self.tsc += 1;
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
            .unwrap_or_default()
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
        let part = (length - done).min((PAGE - address % PAGE) as usize);
        let range = done..done + part;
        done += part;
        (part != 0).then_some((range, address))
    })
}

/// What a run of an L2 VM does, and how it ends.
pub type L2Run = Box<dyn FnMut(&mut TestPlatform, Vm) -> Exited>;

/// What the host does about a TD exit, and how it enters the TD again.
pub type Host = Box<dyn FnMut(&mut Module, &mut TestPlatform, &TdExit) -> VpEnterInput>;

/// A running TD whose L1 is the caller of [`RawTdcall::tdcall`].
pub struct ModelTdcall {
    state: RefCell<State>,
}

struct State {
    module: Module,
    platform: TestPlatform,
    runs: VecDeque<L2Run>,
    host: Host,
}

/// The page with L1's TDCALL, and L1's page tables, both inside what would be the firmware.
const CODE: u64 = 0xffff_e000;
const PDPT: u64 = 0xffff_d000;
const PML4: u64 = 0xffff_c000;

impl ModelTdcall {
    /// A TD with `memory` bytes from GPA 0 on, a multiple of 2 MiB and all accepted, and L1 in
    /// 64-bit mode with interrupts disabled.
    ///
    /// # Panics
    ///
    /// If the parameters are not ones that TDH.MNG.INIT takes.
    pub fn new(params: &TdParams, memory: u64) -> ModelTdcall {
        let mut platform = TestPlatform {
            xcr0: 0b111,
            ..TestPlatform::default()
        };
        let mut module = Module::new(Configuration::default());
        platform.write(CODE, &[0x66, 0x0f, 0x01, 0xcc]);
        platform.write(PML4, &(PDPT | 3).to_le_bytes());
        for gigabyte in 0..4 {
            platform.write(PDPT + 8 * gigabyte, &(gigabyte << 30 | 0x83).to_le_bytes());
        }
        let built = module
            .tdh_mng_init(&mut platform, params)
            .and_then(|()| {
                [CODE, PDPT, PML4]
                    .into_iter()
                    .try_for_each(|page| module.tdh_mem_page_add(&mut platform, page, page, page))
            })
            .and_then(|()| module.tdh_vp_init(&mut platform, 0))
            .and_then(|()| module.tdh_mr_finalize());
        assert_eq!(built, Ok(()));
        enter_long_mode(&mut platform);
        assert_eq!(
            module.tdh_vp_enter(&mut platform, VpEnterInput::default()),
            Action::Run(Vm::L1)
        );
        let model = ModelTdcall {
            state: RefCell::new(State {
                module,
                platform,
                runs: VecDeque::new(),
                host: Box::new(refuse),
            }),
        };
        for gpa in (0..memory).step_by(PAGE_2M as usize) {
            model.augment(gpa, PageLevel::Page2M);
            let accepted = model.call(Registers {
                rax: tdcall::leaf::number::MEM_PAGE_ACCEPT,
                rcx: gpa | PageLevel::Page2M.number(),
                ..Registers::default()
            });
            assert_eq!(accepted.map(|registers| registers.rax), Ok(0));
        }
        model
    }

    /// Replaces the host. The default one refuses every TDVMCALL, supplies a pending page where one
    /// is missing, and enters the TD again.
    pub fn set_host(
        &self,
        host: impl FnMut(&mut Module, &mut TestPlatform, &TdExit) -> VpEnterInput + 'static,
    ) {
        self.state.borrow_mut().host = Box::new(host);
    }

    /// Queues a run of L2.
    pub fn push_run(&self, run: impl FnMut(&mut TestPlatform, Vm) -> Exited + 'static) {
        self.state.borrow_mut().runs.push_back(Box::new(run));
    }

    /// Queues a run of L2 that only ends.
    pub fn push_exit(&self, exit: HardwareExit) {
        self.push_run(move |_, _| exit.into());
    }

    /// The module and the machine, for what a test does beside L1.
    pub fn with<T>(&self, act: impl FnOnce(&mut Module, &mut TestPlatform) -> T) -> T {
        let State {
            module, platform, ..
        } = &mut *self.state.borrow_mut();
        act(module, platform)
    }

    /// Reads memory by GPA, regardless of its state.
    pub fn read(&self, gpa: u64, into: &mut [u8]) {
        self.with(|_, platform| platform.read(gpa, into));
    }

    /// Writes memory by GPA, regardless of its state.
    pub fn write(&self, gpa: u64, from: &[u8]) {
        self.with(|_, platform| platform.write(gpa, from));
    }

    /// The host offers a page.
    ///
    /// # Panics
    ///
    /// If there is one already.
    pub fn augment(&self, gpa: u64, level: PageLevel) {
        let added =
            self.with(|module, platform| module.tdh_mem_page_aug(platform, gpa, level, gpa));
        assert_eq!(added, Ok(()));
    }

    /// The host maps a shared page; `gpa` is without the shared bit.
    pub fn share(&self, gpa: u64) {
        self.with(|_, platform| platform.shared_pages.insert(gpa, gpa + SHARED_MEMORY));
    }

    /// L1 enables interrupts for a moment: the vectors that it gets, each ended by EOI.
    pub fn take_interrupts(&self) -> Vec<u8> {
        self.with(|module, _| {
            let apic = &mut module.vcpu.l1.apic;
            apic.accept_posted();
            let mut vectors = Vec::new();
            while apic.is_deliverable() {
                vectors.extend(apic.take());
                apic.end_of_interrupt();
            }
            vectors
        })
    }

    /// One TDCALL of L1, or the exception that L1 got instead.
    ///
    /// # Errors
    ///
    /// The exception; the registers are unchanged.
    ///
    /// # Panics
    ///
    /// If L2 runs and no run is queued.
    pub fn call(&self, registers: Registers) -> Result<Registers, Event> {
        let state = &mut *self.state.borrow_mut();
        write_registers(&mut state.platform, Vm::L1, &registers);
        state.platform.set_register(Vm::L1, Register::Rip, CODE);
        let mut action = state.exit(tdcall_exit());
        loop {
            action = match action {
                Action::Run(Vm::L1) => {
                    if let Some(event) = state.platform.injected.remove(&Vm::L1) {
                        return Err(event);
                    }
                    if state.platform.register(Vm::L1, Register::Rip) != CODE {
                        return Ok(read_registers(&mut state.platform, Vm::L1));
                    }
                    state.exit(tdcall_exit())
                }
                Action::Run(vm) => {
                    state.platform.injected.remove(&vm);
                    let run = state.runs.pop_front();
                    let mut run = run.unwrap_or_else(|| panic!("{vm:?} runs without a script"));
                    let exited = run(&mut state.platform, vm);
                    state.exit(exited)
                }
                Action::TdExit(exit) => {
                    let input = (state.host)(&mut state.module, &mut state.platform, &exit);
                    state.module.tdh_vp_enter(&mut state.platform, input)
                }
            };
        }
    }
}

impl State {
    fn exit(&mut self, exited: Exited) -> Action {
        self.module.handle_exit(&mut self.platform, exited)
    }
}

impl RawTdcall for ModelTdcall {
    /// # Panics
    ///
    /// If L1 gets an exception.
    fn tdcall(&self, registers: &mut Registers) {
        match self.call(*registers) {
            Ok(after) => *registers = after,
            Err(event) => panic!("TDCALL leaf {} gave L1 {event:?}", registers.rax & 0xffff),
        }
    }
}

/// How a processor without TDX reports TDCALL.
fn tdcall_exit() -> Exited {
    const INVALID_OPCODE: u8 = 6;
    HardwareExit::Exception {
        vector: INVALID_OPCODE,
        error_code: None,
        cr2: 0,
    }
    .into()
}

/// The default host.
fn refuse(module: &mut Module, platform: &mut TestPlatform, exit: &TdExit) -> VpEnterInput {
    let mut registers = Registers::default();
    match exit.registers.rax {
        status if status == u64::from(exit_reason::TDCALL) => {
            registers.r10 = CompletionStatus::InvalidOperand.r10();
        }
        status if status == u64::from(exit_reason::EPT_VIOLATION) => {
            let gpa = exit.registers.r8;
            let added = module.tdh_mem_page_aug(platform, gpa, PageLevel::Page4K, gpa);
            assert_eq!(added, Ok(()), "EPT violation at {gpa:#x}");
        }
        status if status == u64::from(exit_reason::EXTERNAL_INTERRUPT) => {}
        status => panic!("TD exit with status {status:#x}"),
    }
    VpEnterInput {
        registers,
        ..VpEnterInput::default()
    }
}

/// What L1's own start-up code would have done.
fn enter_long_mode(platform: &mut TestPlatform) {
    for (register, value) in [
        (Register::Cr0, 0x8001_0033),
        (Register::Cr3, PML4),
        (Register::Cr4, 0x660),
        (Register::Efer, 0xd01),
        (Register::Rip, CODE),
    ] {
        platform.set_register(Vm::L1, register, value);
    }
    let code = Segment {
        selector: 0x38,
        access_rights: 0xa09b,
        limit: 0xffff_ffff,
        base: 0,
    };
    platform.set_segment(Vm::L1, SegmentName::Cs, code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tdcall::field::FieldId;
    use tdcall::leaf::number;
    use tdcall::status::Code;
    use tdcall::vmcs::VmcsField;
    use tdcall::vp_enter::{EntryStatus, GuestState, Outcome};
    use tdcall::{VmIndex, status::Status};

    const GUEST_STATE: u64 = 0x10_0000;
    const VAPIC: u64 = 0x10_1000;
    const VM: VmIndex = VmIndex::FIRST;

    fn ready() -> ModelTdcall {
        let model = ModelTdcall::new(&TdParams::default(), PAGE_2M);
        let written = model.call(Registers {
            rax: number::VP_WR,
            rdx: FieldId::l2_vmcs(VM, VmcsField::VIRTUAL_APIC_ADDRESS).0,
            r8: VAPIC,
            r9: u64::MAX,
            ..Registers::default()
        });
        assert_eq!(written.unwrap().rax, 0);
        model.write(GUEST_STATE + 0x80, &2_u64.to_le_bytes());
        model
    }

    fn enter(model: &ModelTdcall) -> Registers {
        model
            .call(Registers {
                rax: number::VP_ENTER,
                rcx: u64::from(VM.get()) << 52,
                rdx: GUEST_STATE,
                ..Registers::default()
            })
            .unwrap()
    }

    #[test]
    fn a_scripted_run_of_l2_ends_l1s_entry() {
        let model = ready();
        model.push_run(|platform, vm| {
            assert_eq!(vm, Vm::L2(VM));
            platform.set_register(vm, Register::Rbx, 0x1234);
            platform.set_register(vm, Register::Rip, 0x5000);
            HardwareExit::Hlt.into()
        });
        let outcome = Outcome::from_registers(&enter(&model)).unwrap();
        assert_eq!(outcome.status, EntryStatus::Exit);
        assert_eq!(outcome.exit_reason, exit_reason::HLT);
        let mut state = [0; GuestState::ABI_SIZE];
        model.read(GUEST_STATE, &mut state);
        assert_eq!(state[0x18..0x20], 0x1234_u64.to_le_bytes());
        assert_eq!(state[0x88..0x90], 0x5000_u64.to_le_bytes());
    }

    #[test]
    fn a_pending_interrupt_of_l1_keeps_l2_out_until_taken() {
        let model = ready();
        model.with(|module, _| module.post_interrupt(0xe0));
        let status = Status(enter(&model).rax);
        assert_eq!(status.code(), Code::PendingInterrupt);
        assert_eq!(model.take_interrupts(), [0xe0]);
        model.push_exit(HardwareExit::Hlt);
        assert_eq!(Status(enter(&model).rax).code(), Code::Success);
    }

    #[test]
    fn an_interrupt_posted_while_l2_is_left_ends_its_run() {
        let model = ready();
        model.set_host(|module, _, exit| {
            assert_eq!(
                exit.registers.rax,
                u64::from(exit_reason::EXTERNAL_INTERRUPT)
            );
            assert_eq!(exit.registers.rcx >> 32, 1);
            module.post_interrupt(0x40);
            VpEnterInput::default()
        });
        model.push_exit(HardwareExit::Interrupt);
        assert_eq!(enter(&model).rax, 0x0000_1102_0000_0001);
    }

    #[test]
    fn a_host_that_resumes_l1_routes_the_exit_to_it() {
        let model = ready();
        model.with(|module, _| module.faults().route_to_host(exit_reason::CPUID));
        model.set_host(|_, _, _| VpEnterInput {
            resume_l1: true,
            ..VpEnterInput::default()
        });
        model.push_exit(HardwareExit::Cpuid);
        assert_eq!(enter(&model).rax, 0x0000_1100_0000_000a);
    }

    #[test]
    fn what_the_module_does_not_switch_is_left_to_the_next_vm() {
        let model = ready();
        model.push_run(|platform, vm| {
            platform.set_register(vm, Register::Lstar, 0xdead);
            HardwareExit::Hlt.into()
        });
        enter(&model);
        let lstar = model.with(|_, platform| platform.register(Vm::L1, Register::Lstar));
        assert_eq!(lstar, 0xdead);
    }
}
