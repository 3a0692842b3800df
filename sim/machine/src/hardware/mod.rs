//! The machine below the TDX module: the VMs of each virtual processor on one processor, and its timer.
//!
//! [`Hardware`] is the module's platform; [`registers`] is the larger part of that. [`contexts`] has what is a virtual
//! processor's own.

mod contexts;
mod registers;
pub(crate) mod runners;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use tdx_defs::PageLevel;
use tdx_module::platform::{
    CpuidResult, Event, Intercepts, Permissions, Register, Segment, SegmentName,
};
use tdx_module::{Exited, HardwareExit, Platform, Vm};

use crate::arch::cpu::{self, Msr};
use crate::arch::interrupts::{self, Noted};
use crate::arch::memory;
use crate::options::Cpuid;
use crate::profile::Profile;
use crate::svm::Processor;
use crate::svm::nested_paging::{Access, NestedPaging};
use contexts::Context;
use runners::Out;

/// L1 and three L2 VMs.
const VMS: usize = 4;
/// EFER always ends a run: a read would show SVM's bit, a write without it would end the VM.
const EFER: u32 = x86_defs::msr::IA32_EFER;
/// IA32_PAT always ends a run: QEMU's VMRUN does not switch it, nor does anything else there use it, so that the VMCB's is
/// enough, and no run has to look what a VM left in the register.
const PAT: u32 = x86_defs::msr::IA32_PAT;

/// What the host asked the timer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The module's: the deadline of an L2 VM.
    Module = 0,
    /// The next of the virtual local APICs of L1.
    LocalApic = 1,
    /// The end of a run without progress.
    Watchdog = 2,
    /// When the next quote is made.
    Quote = 3,
    /// When a slow device answers.
    Device = 4,
    /// The end of a virtual processor's turn.
    Turn = 5,
    /// When an interrupt comes that is late.
    Late = 6,
    /// When a virtual processor may run again.
    Stall = 7,
}

/// The deadlines of all timers, and the first of them: it is asked for at each run.
#[derive(Debug)]
struct Deadlines {
    all: [u64; 8],
    next: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            all: [Self::NEVER; 8],
            next: Self::NEVER,
        }
    }
}

impl Deadlines {
    /// A TSC value that does not come.
    const NEVER: u64 = u64::MAX;

    fn get(&self, timer: Timer) -> Option<u64> {
        Self::coming(self.all[timer as usize])
    }

    fn set(&mut self, timer: Timer, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(Self::NEVER);
        let before = core::mem::replace(&mut self.all[timer as usize], deadline);
        if deadline <= self.next {
            self.next = deadline;
        } else if before == self.next {
            self.next = self.all.into_iter().fold(Self::NEVER, u64::min);
        }
    }

    fn next(&self) -> Option<u64> {
        Self::coming(self.next)
    }

    fn coming(deadline: u64) -> Option<u64> {
        (deadline != Self::NEVER).then_some(deadline)
    }
}

/// A page that the host shares with the TD.
#[derive(Clone, Copy, Debug)]
struct SharedPage {
    level: PageLevel,
    hpa: u64,
}

/// The machine.
pub(crate) struct Hardware {
    processor: Processor,
    /// Of the virtual processor `vcpu`.
    context: Box<Context>,
    vcpu: u32,
    /// Of the others.
    parked: BTreeMap<u32, Box<Context>>,
    /// The runners run the VMs, and those of these virtual processors they run now.
    parallel: bool,
    out: BTreeMap<u32, Out>,
    /// The context of `vcpu` was given out: `context` is nobody's, as this is while it was not.
    is_given_out: bool,
    spare: Option<Box<Context>>,
    /// How often the nested page tables were changed, and whether they were during the run that was taken back last.
    changes: u64,
    changed_since: bool,
    /// Of each VM, whichever virtual processor runs it.
    paging: [NestedPaging; VMS],
    shared: BTreeMap<u64, SharedPage>,
    shared_bit: u64,
    /// What CPUID shows.
    cpuid: Cpuid,
    /// The VMs whose tables have the shared pages.
    shared_mapped: [bool; VMS],
    deadlines: Deadlines,
    armed: Option<u64>,
    noted: Noted,
    pub(crate) profile: Profile,
}

fn index(vm: Vm) -> usize {
    usize::from(vm.number())
}

fn level_number(level: PageLevel) -> u32 {
    level.number() as u32 + 1
}

impl Hardware {
    /// Switches the machine's virtualization on. `shared_bit` is the shared bit's GPA value.
    pub(crate) fn start(shared_bit: u64, cpuid: Cpuid) -> Self {
        let levels = cpu::paging_levels();
        // Of a machine before this one.
        interrupts::set_timer(None);
        interrupts::take();
        let mut hardware = Self {
            processor: Processor::start(),
            context: Box::new(Context::new()),
            vcpu: 0,
            parked: BTreeMap::new(),
            parallel: false,
            out: BTreeMap::new(),
            is_given_out: false,
            spare: None,
            changes: 0,
            changed_since: false,
            paging: [(); VMS].map(|()| NestedPaging::new(levels)),
            shared: BTreeMap::new(),
            shared_bit,
            cpuid,
            shared_mapped: [true, false, false, false],
            deadlines: Deadlines::default(),
            armed: None,
            noted: Noted::default(),
            profile: Profile::new(0),
        };
        hardware.profile = Profile::new(hardware.entry_cost());
        hardware
    }

    /// The instructions that a run takes of its own: measured with a VM that has no memory, and
    /// so cannot execute any.
    fn entry_cost(&mut self) -> u64 {
        const FLAT_CODE: Segment = Segment {
            selector: 0,
            access_rights: 0xC09B,
            limit: u32::MAX,
            base: 0,
        };
        let machine = &mut self.context.machines[1];
        machine.control_registers_mut().cr0 = 0x21;
        machine.set_segment(SegmentName::Cs, FLAT_CODE);
        let ended = machine.run(&mut self.processor, &mut self.paging[1]);
        assert!(
            matches!(ended.exited.exit, HardwareExit::NestedPageFault { .. }),
            "a VM without memory ended with {:x?}",
            ended.exited
        );
        let (entered, left) = machine.run_times();
        left - entered
    }

    /// Runs a VM until it exits; an interrupt that ended it has been taken.
    pub(crate) fn run(&mut self, vm: Vm) -> Exited {
        self.follow_shared_access(index(vm));
        loop {
            self.arm();
            let machine = &mut self.context.machines[index(vm)];
            let ended = machine.run(&mut self.processor, &mut self.paging[index(vm)]);
            if ended.ran {
                let (entered, left) = machine.run_times();
                self.profile.ran(vm, entered, left, &ended.exited.exit);
            }
            match ended.exited.exit {
                _ if ended.resume => continue,
                HardwareExit::Interrupt => {
                    self.note(interrupts::take());
                    let devices = self.noted.serial || self.noted.messages != 0;
                    let outside = self.noted.uart || devices;
                    if ended.exited.vectoring.is_none() && !outside && !self.expired() {
                        continue;
                    }
                }
                // As if the end of the turn had come at the instruction after it.
                HardwareExit::Pause if machine.skip_pause() => {
                    self.set_deadline(Timer::Turn, Some(0));
                    return HardwareExit::Interrupt.into();
                }
                exit if self.is_served(vm, &exit) => continue,
                _ => {}
            }
            return ended.exited;
        }
    }

    /// Answers RDMSR of EFER where that is to look like one that ends no run, and whether it was one.
    fn is_served(&mut self, vm: Vm, exit: &HardwareExit) -> bool {
        let machine = &mut self.context.machines[index(vm)];
        let served = *exit == HardwareExit::ReadMsr
            && self.context.efer_reads[index(vm)]
            && machine.general(1) as u32 == EFER;
        if served {
            // RDMSR is two bytes.
            let value = machine.control_registers().efer;
            machine.set_general(0, value & u64::from(u32::MAX));
            machine.set_general(2, value >> 32);
            machine.state().rip += 2;
        }
        served
    }

    /// Takes the interrupts that are pending on this processor.
    pub(crate) fn take_pending(&mut self) {
        self.note(interrupts::take());
    }

    /// The tables of a VM, for a change there. No run goes on that may know what it takes away.
    fn tables_to_change(&mut self, machine: usize, gpa: u64, level: u32) -> &mut NestedPaging {
        self.changes += 1;
        if self.parallel && self.paging[machine].is_in_use(gpa, level) {
            self.stop();
        }
        &mut self.paging[machine]
    }

    /// Waits for an interrupt while no VM can run.
    pub(crate) fn wait(&mut self) {
        self.arm();
        let before = cpu::rdtsc();
        let noted = interrupts::wait();
        self.profile.idle(cpu::rdtsc() - before);
        self.note(noted);
    }

    /// Whether any interrupt came since they were last taken.
    pub(crate) fn has_noted(&self) -> bool {
        self.noted != Noted::default()
    }

    /// The interrupts that came since this was last asked.
    pub(crate) fn take_noted(&mut self) -> Noted {
        core::mem::take(&mut self.noted)
    }

    fn note(&mut self, noted: Noted) {
        self.noted.timer |= noted.timer;
        self.noted.uart |= noted.uart;
        self.noted.serial |= noted.serial;
        self.noted.messages |= noted.messages;
        if noted.timer {
            self.armed = None;
        }
    }

    /// Asks for an interrupt at a TSC value.
    pub(crate) fn set_deadline(&mut self, timer: Timer, deadline: Option<u64>) {
        self.deadlines.set(timer, deadline);
    }

    /// The deadline of a timer.
    pub(crate) fn deadline(&self, timer: Timer) -> Option<u64> {
        self.deadlines.get(timer)
    }

    fn next_deadline(&self) -> Option<u64> {
        let next = self.deadlines.next();
        if self.out.is_empty() {
            return next;
        }
        let out = self.out.values().filter_map(|out| out.deadline);
        next.into_iter().chain(out).min()
    }

    fn expired(&self) -> bool {
        let now = cpu::rdtsc();
        self.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Arms the machine's timer, unless it comes early enough as it is: writing to it is slow, and
    /// an interrupt that finds nothing expired is dropped.
    fn arm(&mut self) {
        let Some(next) = self.next_deadline() else {
            return;
        };
        if self.armed.is_none_or(|armed| next < armed) {
            interrupts::set_timer(Some(next));
            self.armed = Some(next);
        }
    }

    /// Whether PAUSE ends the turn of the virtual processor.
    pub(crate) fn set_pause_yields(&mut self, yields: bool) {
        for machine in &mut self.context.machines {
            machine.set_pause_yields(yields);
        }
    }

    /// Gives the TD machine memory at a shared GPA, given without the shared bit.
    pub(crate) fn share(&mut self, gpa: u64, level: PageLevel, hpa: u64) {
        self.shared.insert(gpa, SharedPage { level, hpa });
        for machine in 0..VMS {
            if self.shared_mapped[machine] {
                self.map_shared(machine, gpa, SharedPage { level, hpa });
            }
        }
    }

    /// Takes a shared page from the TD.
    pub(crate) fn unshare(&mut self, gpa: u64) {
        if let Some(page) = self.shared.remove(&gpa) {
            let shared_gpa = gpa | self.shared_bit;
            let level = level_number(page.level);
            for machine in 0..VMS {
                if self.shared_mapped[machine] {
                    self.tables_to_change(machine, shared_gpa, level)
                        .unmap(shared_gpa, level);
                }
            }
        }
    }

    /// Makes a VM's tables have the shared pages, or not, as the virtual processor that is to run it wants.
    #[inline]
    fn follow_shared_access(&mut self, machine: usize) {
        let allowed = self.context.shared_access[machine];
        if self.shared_mapped[machine] != allowed {
            self.change_shared_access(machine, allowed);
        }
    }

    #[cold]
    fn change_shared_access(&mut self, machine: usize, allowed: bool) {
        self.shared_mapped[machine] = allowed;
        let pages: alloc::vec::Vec<_> = self
            .shared
            .iter()
            .map(|(gpa, page)| (*gpa, *page))
            .collect();
        for (gpa, page) in pages {
            if allowed {
                self.map_shared(machine, gpa, page);
            } else {
                let (gpa, level) = (gpa | self.shared_bit, level_number(page.level));
                self.tables_to_change(machine, gpa, level).unmap(gpa, level);
            }
        }
    }

    fn map_shared(&mut self, machine: usize, gpa: u64, page: SharedPage) {
        let (gpa, level) = (gpa | self.shared_bit, level_number(page.level));
        self.tables_to_change(machine, gpa, level).map(
            gpa,
            level,
            page.hpa,
            Access {
                write: true,
                // Shared memory is never executable on TDX.
                execute: false,
            },
        );
    }
}

impl Platform for Hardware {
    fn take_up(&mut self, vcpu: u32) {
        self.turn_to(vcpu);
    }

    #[inline]
    fn read(&mut self, hpa: u64, into: &mut [u8]) {
        memory::read(hpa, into);
    }

    #[inline]
    fn write(&mut self, hpa: u64, from: &[u8]) {
        memory::write(hpa, from);
    }

    fn zero(&mut self, hpa: u64, length: u64) {
        memory::zero(hpa, length);
    }

    fn map(&mut self, vm: Vm, gpa: u64, level: PageLevel, hpa: u64, permissions: Permissions) {
        let size = level.size();
        assert!(memory::is_ram(hpa, size), "no memory at {hpa:#x} to map");
        let paging = self.tables_to_change(index(vm), gpa, level_number(level));
        if permissions.read {
            let access = Access {
                write: permissions.write,
                execute: permissions.execute_supervisor,
            };
            paging.map(gpa, level_number(level), hpa, access);
        } else {
            paging.unmap(gpa, level_number(level));
        }
    }

    fn unmap(&mut self, vm: Vm, gpa: u64, level: PageLevel) {
        let level = level_number(level);
        self.tables_to_change(index(vm), gpa, level)
            .unmap(gpa, level);
    }

    fn shared_page(&mut self, gpa: u64) -> Option<u64> {
        let (start, page) = self.shared.range(..=gpa).next_back()?;
        let size = page.level.size();
        (gpa - start < size).then(|| page.hpa + (gpa - start))
    }

    fn set_shared_access(&mut self, vm: Vm, allowed: bool) {
        self.context.shared_access[index(vm)] = allowed;
    }

    #[inline]
    fn register(&mut self, vm: Vm, register: Register) -> u64 {
        self.read_register(index(vm), register)
    }

    fn set_register(&mut self, vm: Vm, register: Register, value: u64) {
        self.write_register(index(vm), register, value);
    }

    fn general_registers(&mut self, vm: Vm) -> [u64; 16] {
        self.context.machines[index(vm)].all_general()
    }

    fn set_general_registers(&mut self, vm: Vm, values: &[u64; 16]) {
        self.context.machines[index(vm)].set_all_general(values);
    }

    fn carry_over(&mut self, from: Vm, to: Vm) {
        self.carry_over_state(index(from), index(to));
    }

    fn segment(&mut self, vm: Vm, name: SegmentName) -> Segment {
        self.context.machines[index(vm)].segment(name)
    }

    fn set_segment(&mut self, vm: Vm, name: SegmentName, segment: Segment) {
        self.context.machines[index(vm)].set_segment(name, segment);
    }

    fn inject(&mut self, vm: Vm, event: Option<Event>) {
        self.context.machines[index(vm)].inject(event);
    }

    fn set_intercepts(&mut self, vm: Vm, intercepts: Intercepts) {
        self.context.machines[index(vm)].set_intercepts(intercepts);
    }

    fn set_msr_intercept(&mut self, vm: Vm, msr: u32, read: bool, write: bool) {
        let machine = index(vm);
        if msr == EFER {
            self.context.efer_reads[machine] = !read;
            return;
        }
        if msr == PAT {
            return;
        }
        self.context.machines[machine].set_msr_intercept(msr, read, write);
    }

    fn tsc(&mut self) -> u64 {
        cpu::rdtsc()
    }

    fn set_timer(&mut self, deadline: Option<u64>) {
        self.set_deadline(Timer::Module, deadline);
    }

    fn random(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let Some(random) = cpu::rdrand() else {
                panic!("QEMU's processor has no random numbers");
            };
            chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
        }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        const MCE_MTRR_MCA: u32 = 1 << 7 | 1 << 12 | 1 << 14;
        let [eax, ebx, ecx, mut edx] = cpu::cpuid(leaf, subleaf);
        match (self.cpuid, leaf) {
            (Cpuid::Reduced, 1) => edx &= !MCE_MTRR_MCA,
            (Cpuid::Reduced, 2 | 4) => return CpuidResult::default(),
            _ => {}
        }
        CpuidResult { eax, ebx, ecx, edx }
    }

    fn rdmsr(&mut self, msr: u32) -> u64 {
        cpu::rdmsr(Msr(msr))
    }

    fn wrmsr(&mut self, msr: u32, value: u64) {
        registers::set_msr(Msr(msr), value);
    }

    fn xsetbv(&mut self, value: u64) -> bool {
        cpu::set_xcr0(value)
    }
}
