//! [`ModelTdcall`]: a running TD whose L1 is a test.

use crate::leaf::{read_registers, write_registers};
use crate::platform::{
    Action, Event, Exited, HardwareExit, Platform, Register, Segment, SegmentName, TdExit, Vm,
};
use crate::td::params::TdParams;
use crate::test_platform::{SHARED_MEMORY, TestPlatform};
use crate::transition::VpEnterInput;
use crate::{Configuration, Module};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;
use tdcall::RawTdcall;
use tdx_defs::ghci::CompletionStatus;
use tdx_defs::status::Status;
use tdx_defs::{PageLevel, Registers};
use x86_defs::exit_reason;
use x86_defs::paging::PAGE_2M;

/// What a run of an L2 VM does, and how it ends.
pub type L2Run = Box<dyn FnMut(&mut TestPlatform, Vm) -> Exited>;

/// What the host does about a TD exit, and how it enters the TD again.
pub type Host = Box<dyn FnMut(&mut Module, &mut TestPlatform, &TdExit) -> VpEnterInput>;

/// A running TD whose L1 is the caller of [`RawTdcall::tdcall`], on one of its virtual processors. A clone is the same
/// virtual processor.
#[derive(Clone)]
pub struct ModelTdcall {
    state: Rc<RefCell<State>>,
    vcpu: u32,
}

struct State {
    module: Module,
    platform: TestPlatform,
    /// By virtual processor.
    runs: BTreeMap<u32, VecDeque<L2Run>>,
    host: Host,
}

/// The page with L1's TDCALL, and L1's page tables, both inside what would be the firmware.
const CODE: u64 = 0xffff_e000;
const PDPT: u64 = 0xffff_d000;
const PML4: u64 = 0xffff_c000;

impl ModelTdcall {
    /// Where L1's TDCALL and its page tables are.
    pub const L1_PAGES: Range<u64> = PML4..CODE + 0x1000;

    /// A TD with `memory` bytes from GPA 0 on, a multiple of 2 MiB and all accepted, and L1 in
    /// 64-bit mode with interrupts disabled. It has all MAX_VCPUS virtual processors; this is number 0.
    ///
    /// # Panics
    ///
    /// If the parameters are not ones that TDH.MNG.INIT takes.
    pub fn new(params: &TdParams, memory: u64) -> ModelTdcall {
        ModelTdcall::on(Configuration::default(), params, memory)
    }

    /// As [`new`](Self::new), on this platform.
    ///
    /// # Panics
    ///
    /// If the parameters are not ones that TDH.MNG.INIT takes.
    pub fn on(configuration: Configuration, params: &TdParams, memory: u64) -> ModelTdcall {
        ModelTdcall::built_on(configuration, params, memory, |module, platform| {
            [CODE, PDPT, PML4]
                .into_iter()
                .try_for_each(|page| module.tdh_mem_page_add(platform, page, page, page))
        })
    }

    /// As [`new`](Self::new), of a TD whose firmware `build` adds and measures. Among its pages are
    /// those of [`L1_PAGES`](Self::L1_PAGES), each at the machine address that is its GPA; L1 writes
    /// them when the TD runs.
    ///
    /// # Panics
    ///
    /// If a SEAMCALL that builds the TD fails.
    pub fn built(
        params: &TdParams,
        memory: u64,
        build: impl FnOnce(&mut Module, &mut TestPlatform) -> Result<(), Status>,
    ) -> ModelTdcall {
        ModelTdcall::built_on(Configuration::default(), params, memory, build)
    }

    /// As [`built`](Self::built), on this platform.
    ///
    /// # Panics
    ///
    /// If a SEAMCALL that builds the TD fails.
    pub fn built_on(
        configuration: Configuration,
        params: &TdParams,
        memory: u64,
        build: impl FnOnce(&mut Module, &mut TestPlatform) -> Result<(), Status>,
    ) -> ModelTdcall {
        let mut platform = TestPlatform {
            xcr0: 0b111,
            tsc_step: 1,
            ..TestPlatform::default()
        };
        let mut module = Module::new(configuration);
        let built = module
            .tdh_mng_init(&mut platform, params)
            .and_then(|()| build(&mut module, &mut platform))
            .and_then(|()| {
                (0..params.max_vcpus).try_for_each(|_| module.tdh_vp_init(&mut platform, 0))
            })
            .and_then(|()| module.tdh_mr_finalize());
        assert_eq!(built, Ok(()));
        platform.write(CODE, &[0x66, 0x0f, 0x01, 0xcc]);
        platform.write(PML4, &(PDPT | 3).to_le_bytes());
        for gigabyte in 0..4 {
            platform.write(PDPT + 8 * gigabyte, &(gigabyte << 30 | 0x83).to_le_bytes());
        }
        for vcpu in (0..params.max_vcpus.into()).rev() {
            assert_eq!(module.take_up_vcpu(&mut platform, vcpu), Ok(()));
            enter_long_mode(&mut platform);
            assert_eq!(
                module.tdh_vp_enter(&mut platform, VpEnterInput::default()),
                Action::Run(Vm::L1)
            );
        }
        let model = ModelTdcall {
            state: Rc::new(RefCell::new(State {
                module,
                platform,
                runs: BTreeMap::new(),
                host: Box::new(refuse),
            })),
            vcpu: 0,
        };
        for gpa in (0..memory).step_by(PAGE_2M as usize) {
            model.augment(gpa, PageLevel::Page2M);
            let accepted = model.call(Registers {
                rax: tdx_defs::tdg::MEM_PAGE_ACCEPT,
                rcx: gpa | PageLevel::Page2M.number(),
                ..Registers::default()
            });
            assert_eq!(accepted.map(|registers| registers.rax), Ok(0));
        }
        model
    }

    /// Virtual processor `vcpu` of the same TD. Each call runs to its end before the next one of any of them.
    #[must_use]
    pub fn on_vcpu(&self, vcpu: u32) -> ModelTdcall {
        ModelTdcall {
            state: Rc::clone(&self.state),
            vcpu,
        }
    }

    /// Replaces the host. The default one refuses every TDVMCALL, supplies a pending page where one
    /// is missing, and enters the TD again.
    pub fn set_host(
        &self,
        host: impl FnMut(&mut Module, &mut TestPlatform, &TdExit) -> VpEnterInput + 'static,
    ) {
        self.state.borrow_mut().host = Box::new(host);
    }

    /// Queues a run of L2 on this virtual processor.
    pub fn push_run(&self, run: impl FnMut(&mut TestPlatform, Vm) -> Exited + 'static) {
        let runs = &mut self.state.borrow_mut().runs;
        let runs = runs.entry(self.vcpu).or_default();
        runs.push_back(Box::new(run));
    }

    /// Queues a run of L2 that only ends.
    pub fn push_exit(&self, exit: HardwareExit) {
        self.push_run(move |_, _| exit.into());
    }

    /// The module and the machine, for what a test does beside L1.
    pub fn with<T>(&self, act: impl FnOnce(&mut Module, &mut TestPlatform) -> T) -> T {
        let state = &mut *self.state.borrow_mut();
        state.take_up(self.vcpu);
        act(&mut state.module, &mut state.platform)
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
        state.take_up(self.vcpu);
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
                    let runs = state.runs.entry(self.vcpu).or_default();
                    let run = runs.pop_front();
                    let mut run = run.unwrap_or_else(|| panic!("{vm:?} runs without a script"));
                    let exited = run(&mut state.platform, vm);
                    state.exit(exited)
                }
                Action::Held => state.module.finish_held(&mut state.platform),
                Action::TdExit(exit) => {
                    let input = (state.host)(&mut state.module, &mut state.platform, &exit);
                    state.take_up(self.vcpu);
                    state.module.tdh_vp_enter(&mut state.platform, input)
                }
            };
        }
    }
}

impl State {
    fn take_up(&mut self, vcpu: u32) {
        let taken = self.module.take_up_vcpu(&mut self.platform, vcpu);
        assert_eq!(taken, Ok(()), "virtual processor {vcpu}");
    }

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
    use tdx_defs::VmIndex;
    use tdx_defs::field::FieldId;
    use tdx_defs::status::Code;
    use tdx_defs::tdg;
    use tdx_defs::vmcs::VmcsField;
    use tdx_defs::vp_enter::{EntryStatus, GuestState, Outcome};

    const GUEST_STATE: u64 = 0x10_0000;
    const VAPIC: u64 = 0x10_1000;
    const VM: VmIndex = VmIndex::FIRST;

    fn ready() -> ModelTdcall {
        let model = ModelTdcall::new(&TdParams::default(), PAGE_2M);
        let written = model.call(Registers {
            rax: tdg::VP_WR,
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
                rax: tdg::VP_ENTER,
                rcx: u64::from(VM.get()) << 52,
                rdx: GUEST_STATE,
                ..Registers::default()
            })
            .unwrap()
    }

    #[test]
    fn a_td_is_measured_as_it_was_built() {
        let model = ModelTdcall::built(&TdParams::default(), PAGE_2M, |module, platform| {
            ModelTdcall::L1_PAGES
                .step_by(0x1000)
                .try_for_each(|page| module.tdh_mem_page_add(platform, page, page, page))?;
            module.tdh_mr_extend(platform, CODE)
        });
        let other = ModelTdcall::new(&TdParams::default(), PAGE_2M);
        let mrtd = |model: &ModelTdcall| model.with(|module, _| module.td_info().mrtd);
        assert_ne!(mrtd(&model), mrtd(&other));
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
        model.with(|module, _| module.post_interrupt(0, 0xe0));
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
            module.post_interrupt(0, 0x40);
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
