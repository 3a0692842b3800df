//! The platform against the model of the TDX module: L1 is the real code, the module answers its
//! TDCALLs, and each run of L2 is scripted.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "the model of the module is of one thread"
)]

mod devices;
mod exits;
mod host_routed;
mod interrupts;
mod modes;
mod msrs;
mod processors;
mod services;
mod tdcalls;
mod tpm_interrupt;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use tdcall::leaf::VpEnterError;
use tdcall::tdvmcall::CpuidResult;
use tdcall::{OperandPage, RawTdcall, Td};
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::{GuestState, Outcome, TlbFlush};
use tdx_defs::{Gpa, PageLevel, VmIndex};
use tdx_module::platform::{HardwareExit, Platform as _, Register};
use tdx_module::test_platform::{ModelPage, ModelTdcall, TestPlatform};
use tdx_module::{TdParams, Vm, VpEnterInput};
use vtpm::service::{Answer, Call, Guid, ServiceError};
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::machine::MachineParts;
use crate::model_ram::ModelRam;
use crate::run::environment::{Device, Interrupts, Services, VapicPage};

const MIB: u64 = 1 << 20;
/// L2's memory is below, L1's from here to [`L1_END`].
const L1_START: u64 = 2 * MIB;
const L1_END: u64 = 4 * MIB;
const GUEST_STATE: u64 = L1_START;
const VAPIC: u64 = L1_START + 0x1000;
/// From one processor's two pages to the next one's.
const OWN_PAGES: u64 = 0x2000;
/// From the APIC id that the host has for one processor to the next one's: not L2's numbers.
const HOST_IDS: u32 = 0x10;
/// L2's page tables: 4 GiB to themselves, and the same again at the top of the address space.
const PAGE_TABLES: u64 = 0x1_0000;
/// L2's code, by its address in the upper half.
const CODE: u64 = 0x2_0000;
const UPPER: u64 = 0xFFFF_FF80_0000_0000;
const SHARED: u64 = 1 << 47;
const VM: VmIndex = VmIndex::FIRST;
const TPM: u64 = tcg_defs::ptp::BASE;

/// DR0 to DR3 and DR6, which the module does not switch, after INIT.
const DEBUG_AFTER_INIT: [(Register, u64); 5] = [
    (Register::Dr0, 0),
    (Register::Dr1, 0),
    (Register::Dr2, 0),
    (Register::Dr3, 0),
    (Register::Dr6, 0xFFFF_0FF0),
];

/// What the tests see of L1's surroundings.
#[derive(Default)]
struct Seen {
    /// Port writes that reached the host.
    ports: Vec<(u16, u8)>,
    /// What the host answers on port reads, by port.
    answers: Vec<(u16, u8)>,
    /// WRMSRs that reached the host.
    msrs: Vec<(u32, u64)>,
    /// Accesses to the TPM window.
    tpm: Vec<(u32, Vec<u8>, bool)>,
    /// Resets of the TPM.
    tpm_resets: u32,
    /// When the TPM has something to do, and when it did.
    tpm_due: Option<u64>,
    /// Pieces of work that the TPM has.
    tpm_pieces: usize,
    /// Until when it was to work.
    tpm_worked: Vec<u64>,
    tpm_did: Vec<u64>,
    /// The level of the TPM's line after the next write, or after what it did.
    tpm_line: bool,
    /// Commands to services: GUID, data, room for the response.
    services: Vec<(Guid, Vec<u8>, usize)>,
    /// Where each call had its command and its response.
    service_places: Vec<[u64; 2]>,
    /// What services answer; by default, that there are none.
    service_answers: VecDeque<Answer>,
    /// How often a call is told to come again before it is answered.
    service_slices: usize,
    /// TLB flushes of entries.
    flushes: Vec<TlbFlush>,
    halts: u32,
    /// What happens while L1 waits in the host.
    when_halted: VecDeque<Box<dyn FnOnce()>>,
    /// How far the TSC advances at each look of L1's.
    tsc_step: u64,
    cr2: Option<u64>,
    xcr0: u64,
    /// How often what the processor has of L2's was reset.
    l2_resets: u32,
    interrupts: VecDeque<Interrupts>,
}

/// The TDCALL instruction, on the virtual processor that a test is at.
#[derive(Clone)]
struct Current {
    model: ModelTdcall,
    vcpu: Rc<Cell<u32>>,
}

impl RawTdcall for Current {
    fn tdcall(&self, registers: &mut tdx_defs::Registers) {
        self.model.on_vcpu(self.vcpu.get()).tdcall(registers);
    }
}

struct Modelled;

impl Environment for Modelled {
    type Raw = Current;
    type Processor = Cpu;
    type Memory = ModelRam;
    type Vapic = ModelPage;
    type Backend = dyn crate::machine::devices::virtio::backend::Backend;
    type Tpm = Registers;
}

struct Cpu {
    model: ModelTdcall,
    seen: Rc<RefCell<Seen>>,
    guest_state: u64,
    /// What the host says that its APIC id is.
    host_id: u32,
}

impl Cpu {
    fn new(model: &ModelTdcall, index: u8, seen: Rc<RefCell<Seen>>) -> Self {
        Self {
            model: model.on_vcpu(index.into()),
            seen,
            guest_state: GUEST_STATE + u64::from(index) * OWN_PAGES,
            host_id: HOST_IDS * u32::from(index),
        }
    }
}

impl Processor for Cpu {
    fn tsc(&self) -> u64 {
        let step = self.seen.borrow().tsc_step;
        self.model.with(|_, platform| {
            platform.tsc += step;
            platform.tsc
        })
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let registers = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
        match (leaf, subleaf) {
            (0, _) => registers(0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69),
            (0xB, _) if self.host_id != 0 => registers(0, 0, 0, self.host_id),
            (0xD, 0) => registers(7, 832, 832, 0),
            (0xD, 2) => registers(256, 576, 0, 0),
            (0x8000_0008, _) => registers(0x302E, 0, 0, 0),
            _ => self.model.with(|_, platform| {
                let values = platform.cpuid.get(&(leaf, subleaf)).copied();
                values.map_or(registers(0, 0, 0, 0), |v| {
                    registers(v.eax, v.ebx, v.ecx, v.edx)
                })
            }),
        }
    }

    fn enter<R: RawTdcall>(
        &mut self,
        td: &Td<R>,
        vm: VmIndex,
        flush: TlbFlush,
        state: &mut GuestState,
    ) -> Result<Outcome, VpEnterError> {
        self.seen.borrow_mut().flushes.push(flush);
        self.model.write(self.guest_state, state.as_bytes());
        let outcome = td.vp_enter(vm, flush, Gpa(self.guest_state))?;
        let mut bytes = [0; size_of::<GuestState>()];
        self.model.read(self.guest_state, &mut bytes);
        *state = GuestState::read_from_bytes(&bytes).unwrap();
        Ok(outcome)
    }

    fn set_l2_cr2(&mut self, value: u64) {
        self.seen.borrow_mut().cr2 = Some(value);
    }

    fn reset_l2_debug_registers(&mut self) {
        let vm = Vm::L1;
        self.model.with(|_, platform| {
            for (register, value) in DEBUG_AFTER_INIT {
                platform.set_register(vm, register, value);
            }
        });
    }

    fn reset_l2(&mut self) {
        self.reset_l2_debug_registers();
        let mut seen = self.seen.borrow_mut();
        (seen.xcr0, seen.cr2) = (1, Some(0));
        seen.l2_resets += 1;
    }

    fn allocations(&self) -> u64 {
        0
    }

    fn l2_xcr0(&self) -> u64 {
        self.seen.borrow().xcr0
    }

    fn set_l2_xcr0(&mut self, value: u64) {
        self.seen.borrow_mut().xcr0 = value;
    }

    fn take_interrupts(&mut self) -> Interrupts {
        self.model.take_interrupts();
        self.seen
            .borrow_mut()
            .interrupts
            .pop_front()
            .unwrap_or_default()
    }

    fn halt<R: RawTdcall>(&mut self, td: &Td<R>) {
        self.seen.borrow_mut().halts += 1;
        let happens = self.seen.borrow_mut().when_halted.pop_front();
        if let Some(happens) = happens {
            happens();
        }
        td.hlt(false).unwrap();
        // The host woke it when its timer was due.
        let armed = self.seen.borrow().msrs.last().copied();
        if let Some((0x6E0, deadline @ 1..)) = armed {
            self.model
                .with(|_, platform| platform.tsc = platform.tsc.max(deadline));
        }
    }
}

impl VapicPage for ModelPage {
    fn read(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        OperandPage::read(self, offset.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write(&mut self, offset: u16, value: u32) {
        OperandPage::write(self, offset.into(), &value.to_le_bytes());
    }
}

struct Registers(Rc<RefCell<Seen>>);

impl Device for Registers {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        into.fill(0xA5);
        self.0.borrow_mut().tpm.push((offset, into.to_vec(), false));
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        self.0.borrow_mut().tpm.push((offset, from.to_vec(), true));
    }

    fn line(&self) -> bool {
        self.0.borrow().tpm_line
    }

    fn expiry(&self) -> Option<u64> {
        self.0.borrow().tpm_due
    }

    fn expire(&mut self, now: u64) {
        let mut seen = self.0.borrow_mut();
        seen.tpm_due = None;
        seen.tpm_did.push(now);
    }

    fn has_work(&self) -> bool {
        self.0.borrow().tpm_pieces != 0
    }

    fn work(&mut self, until: u64) {
        let mut seen = self.0.borrow_mut();
        seen.tpm_pieces = seen.tpm_pieces.saturating_sub(1);
        seen.tpm_worked.push(until);
    }

    fn reset(&mut self) {
        self.0.borrow_mut().tpm_resets += 1;
    }
}

impl Services for Registers {
    fn serve(&mut self, call: Call) -> Option<Answer> {
        let mut seen = self.0.borrow_mut();
        seen.service_places.push(call.places);
        let left = seen.service_slices.checked_sub(1);
        if let Some(left) = left {
            seen.service_slices = left;
            return None;
        }
        seen.services
            .push((call.guid, call.data.to_vec(), call.room));
        let answer = seen.service_answers.pop_front();
        Some(answer.unwrap_or(Err(ServiceError::Unsupported)))
    }
}

/// A machine of L2's, on a TD that has some code in its memory.
struct Surroundings {
    model: ModelTdcall,
    seen: Rc<RefCell<Seen>>,
    current: Rc<Cell<u32>>,
    machine: Arc<Machine<'static, Modelled>>,
}

impl Surroundings {
    /// With `processors` virtual processors, and, if `window`, with the TPM window accepted by L1.
    fn new(code: &[u8], window: bool, processors: u16) -> Self {
        let params = TdParams {
            max_vcpus: processors,
            ..TdParams::default()
        };
        let model = ModelTdcall::new(&params, L1_END);
        let current = Rc::new(Cell::new(0));
        let raw = Current {
            model: model.clone(),
            vcpu: Rc::clone(&current),
        };
        let td: &'static Td<Current> = Box::leak(Box::new(Td::new(raw)));
        let seen = Rc::new(RefCell::new(Seen {
            xcr0: 1,
            ..Seen::default()
        }));
        let host = Rc::clone(&seen);
        model.set_host(move |module, platform, exit| answer(&host, module, platform, exit));
        if window {
            for page in (TPM..TPM + 0x5000).step_by(0x1000) {
                model.augment(page, PageLevel::Page4K);
                td.mem_page_accept(Gpa(page), PageLevel::Page4K).unwrap();
            }
        }
        let entry = |gpa: u64, value: u64| model.write(gpa, &value.to_le_bytes());
        for slot in [0, 511] {
            entry(PAGE_TABLES + 8 * slot, PAGE_TABLES + 0x1023);
        }
        for gigabyte in 0..4 {
            entry(PAGE_TABLES + 0x1000 + 8 * gigabyte, gigabyte << 30 | 0xE3);
        }
        model.write(CODE, code);
        let parts = MachineParts::<Modelled> {
            memory: ModelRam {
                model: model.clone(),
                l1_start: L1_START,
                end: L1_END,
            },
            tpm: Registers(Rc::clone(&seen)),
            bus: None,
            shared_bit: SHARED,
            run_ahead: false,
            processors: processors.into(),
            clock: || 0,
        };
        let processor = Cpu::new(&model, 0, Rc::clone(&seen));
        let machine =
            Machine::new(td, parts, |leaf, subleaf| processor.cpuid(leaf, subleaf)).unwrap();
        Self {
            model,
            seen,
            current,
            machine: Arc::new(machine),
        }
    }

    /// Processor `index`. The first is in 64-bit mode before the code.
    fn processor(&self, index: u8, seen: Rc<RefCell<Seen>>) -> L2<'static, Modelled> {
        self.current.set(index.into());
        let layout = layout(index);
        let parts = ProcessorParts {
            processor: Cpu::new(&self.model, index, seen),
            vapic: ModelPage::new(&self.model, layout.vapic.0),
        };
        L2::new(Arc::clone(&self.machine), &layout, parts, &boot_state()).unwrap()
    }
}

fn layout(index: u8) -> Layout {
    Layout {
        vm: VM,
        index,
        vapic: Gpa(VAPIC + u64::from(index) * OWN_PAGES),
    }
}

/// What the first processor starts with.
fn boot_state() -> EntryState {
    let mut state = EntryState::new(UPPER + CODE);
    state.rip = UPPER + CODE;
    state.cr3 = PAGE_TABLES;
    state
}

/// A platform whose L2 stands before some code.
struct Fixture {
    model: ModelTdcall,
    seen: Rc<RefCell<Seen>>,
    platform: L2<'static, Modelled>,
}

impl Fixture {
    /// L2 in 64-bit mode at `code`, with the TPM window accepted by L1.
    fn new(code: &[u8]) -> Self {
        Self::with(code, true)
    }

    fn with(code: &[u8], window: bool) -> Self {
        let surroundings = Surroundings::new(code, window, 1);
        let seen = Rc::clone(&surroundings.seen);
        let mut platform = surroundings.processor(0, Rc::clone(&seen));
        platform.vcpu.apic.set_base(0xFEE0_0D00).unwrap();
        Self {
            model: surroundings.model,
            seen,
            platform,
        }
    }

    /// Enters L2, which exits at once.
    fn exit(&mut self, exit: HardwareExit) -> Result<(), End> {
        self.model.push_exit(exit);
        self.platform.step()
    }

    /// Enters L2, which changes its registers and then exits.
    fn exit_with(&mut self, registers: &[(Register, u64)], exit: HardwareExit) -> Result<(), End> {
        self.prepare_exit(registers, exit);
        self.platform.step()
    }

    /// Lets L2 change its registers and exit when it is next entered.
    fn prepare_exit(&mut self, registers: &[(Register, u64)], exit: HardwareExit) {
        let registers = registers.to_vec();
        self.model.push_run(move |platform, vm| {
            for (register, value) in &registers {
                platform.set_register(vm, *register, *value);
            }
            exit.into()
        });
    }

    /// Enters L2 once more and says what it then sees.
    fn look<T: 'static>(&mut self, look: impl Fn(&mut TestPlatform, Vm) -> T + 'static) -> T {
        let seen = Rc::new(Cell::new(None));
        let result = Rc::clone(&seen);
        self.model.push_run(move |platform, vm| {
            result.set(Some(look(platform, vm)));
            HardwareExit::Interrupt.into()
        });
        assert_eq!(self.platform.step(), Ok(()));
        seen.take().expect("L2 was entered")
    }

    fn register(&mut self, register: Register) -> u64 {
        self.look(move |platform, vm| platform.register(vm, register))
    }

    /// What L2's next entry injects.
    fn injected(&mut self) -> Option<u32> {
        let information = self
            .platform
            .vcpu
            .vmcs
            .read(VmcsField::ENTRY_INTERRUPTION_INFO)
            .unwrap();
        assert_eq!(information & 1 << 31, 0, "not yet");
        self.model.push_run(|_, _| HardwareExit::Interrupt.into());
        let injection = self.platform.vcpu.vmcs.pending_injection();
        assert_eq!(self.platform.step(), Ok(()));
        injection.map(|event| event.information().into_bits())
    }

    /// TDCALLs since the last call, by leaf.
    fn tdcalls(&self) -> u64 {
        self.model
            .with(|module, _| module.statistics().tdcalls().values().sum())
    }

    fn rip(&self) -> u64 {
        self.platform.vcpu.vmcs.rip() - UPPER - CODE
    }

    fn vmcs(&self, field: VmcsField) -> u64 {
        self.platform.vcpu.vmcs.read(field).unwrap()
    }
}

/// The host: ports, MSRs and HLT are served; whatever else ends a run of L2 is L1's business.
fn answer(
    seen: &RefCell<Seen>,
    _: &mut tdx_module::Module,
    _: &mut TestPlatform,
    exit: &tdx_module::TdExit,
) -> VpEnterInput {
    let mut input = VpEnterInput::default();
    let call = exit.registers;
    let mut seen = seen.borrow_mut();
    if call.rax & 0xFFFF != 77 {
        input.resume_l1 = true;
        return input;
    }
    match call.r11 {
        30 if call.r13 == 1 => seen.ports.push((call.r14 as u16, call.r15 as u8)),
        30 => {
            let port = call.r14 as u16;
            let found = seen.answers.iter().position(|(known, _)| *known == port);
            let value = found.map_or(0xFF, |index| seen.answers.remove(index).1);
            input.registers.r11 = u64::from(value);
        }
        32 => seen.msrs.push((call.r12 as u32, call.r13)),
        _ => {}
    }
    input
}
