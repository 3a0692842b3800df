//! Processors of QEMU's that each run the VMs of one virtual processor, all at the same time: QEMU gives each a thread of
//! the host's, and what races in a TD races here.
//!
//! All decisions stay with the first processor: the module and the host role are on it alone. It gives a runner a virtual
//! processor's whole context as an order, and has it back when the run has ended. An interrupt ends a run early.
//!
//! A run that goes on may have a translation in its TLB, and walks the nested page tables: no entry that is there is
//! changed before every run has ended ([`Hardware::stop`]), as a host does with TDH.MEM.TRACK and its interrupts (TDX
//! Module Base specification, "TLB Tracking"). VMRUN begins with an empty TLB in QEMU.

use alloc::boxed::Box;
use alloc::vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use tdx_module::{Exited, HardwareExit, Vm};

use super::contexts::Context;
use super::{Hardware, index};
use crate::arch::cpu;
use crate::arch::{clock, descriptors, interrupts, memory};
use crate::svm::Processor;

/// How many virtual processors can have one.
pub(crate) const MOST: usize = 16;
/// Where the runners start, in real mode: the TD has the page later, cleared.
const START: u64 = 0x8000;
const STACK: usize = 0x10000;

/// A run that a runner is to carry out, and has carried out when it is given back.
struct Order {
    context: Box<Context>,
    vm: usize,
}

/// What the first processor and a runner share. Who swaps the pointer out owns the order.
struct Slot {
    order: AtomicPtr<Order>,
    done: AtomicPtr<Order>,
    /// The run of the order is to end. The interrupt that says so may come while the runner still waits for the order,
    /// and then ends the wait alone.
    called: AtomicBool,
}

static SLOTS: [Slot; MOST] = [const {
    Slot {
        order: AtomicPtr::new(core::ptr::null_mut()),
        done: AtomicPtr::new(core::ptr::null_mut()),
        called: AtomicBool::new(false),
    }
}; MOST];

/// How many have started.
static STARTED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    /// What a runner starts with: paging and its stack (`crate::arch::boot`).
    static runner_cr3: AtomicU64;
    static runner_cr4: AtomicU64;
    static runner_stack: AtomicU64;
    /// Its first code in protected mode.
    static runner_start32: u8;
}

/// A virtual processor whose context is with its runner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    /// The module's deadline.
    pub(super) deadline: Option<u64>,
    /// How many changes the tables had had.
    changes: u64,
}

/// The first Rust code of a runner, on its own stack.
pub(crate) extern "sysv64" fn main() -> ! {
    descriptors::install_more();
    interrupts::start_more();
    let mut processor = Processor::start();
    let slot = &SLOTS[STARTED.load(Ordering::Acquire) as usize];
    STARTED.fetch_add(1, Ordering::Release);
    loop {
        let order = slot.order.swap(core::ptr::null_mut(), Ordering::Acquire);
        if order.is_null() {
            interrupts::rest();
            continue;
        }
        // SAFETY: the pointer is of a `Box`, by `Hardware::begin`, and whoever swaps it out owns it.
        let mut order = unsafe { Box::from_raw(order) };
        // Interrupts are disabled: one that comes from here on ends the run.
        if slot.called.load(Ordering::SeqCst) {
            interrupts::end_next_run();
        }
        order.context.run(order.vm, &mut processor);
        slot.done.store(Box::into_raw(order), Ordering::Release);
        interrupts::call(0);
    }
}

impl Context {
    /// Runs a VM on this processor, which has nothing of the virtual processor's before and afterwards.
    fn run(&mut self, vm: usize, processor: &mut Processor) {
        processor.swap_sse(&mut self.kept.sse);
        self.kept.processor.load();
        let machine = &mut self.machines[vm];
        machine.run_prepared(processor);
        self.kept.processor.save();
        processor.swap_sse(&mut self.kept.sse);
        interrupts::take_calls();
    }
}

impl Hardware {
    /// Starts a runner for each virtual processor. From now on [`begin`](Self::begin) runs nothing on this processor.
    pub(crate) fn start_runners(&mut self, count: u32) {
        clock::set_ticks_per_millisecond(interrupts::measure_tsc());
        memory::write(START, &real_mode_start());
        let (cr3, cr4) = cpu::paging();
        for number in 0..count {
            let stack = Box::leak(vec![0_u128; STACK / size_of::<u128>()].into_boxed_slice());
            let top = stack.as_ptr_range().end.expose_provenance() as u64;
            // SAFETY: the boot code defines them, of this size, and they are written to here alone.
            unsafe {
                runner_cr3.store(cr3, Ordering::Release);
                runner_cr4.store(cr4, Ordering::Release);
                runner_stack.store(top, Ordering::Release);
            }
            interrupts::start_processor(apic_id(number), (START >> 12) as u8);
            while STARTED.load(Ordering::Acquire) <= number {
                spin_loop();
            }
        }
        for paging in &mut self.paging {
            paging.keep_directory();
        }
        self.parallel = true;
    }

    /// Runs a VM of the virtual processor that was taken up. Answers why it exited, or nothing if a runner has it now.
    pub(crate) fn begin(&mut self, vm: Vm) -> Option<Exited> {
        if !self.parallel {
            return Some(self.run(vm));
        }
        let number = index(vm);
        self.follow_shared_access(number);
        let paging = &mut self.paging[number];
        if let Err(ended) = self.context.machines[number].prepare(paging) {
            return Some(ended.exited);
        }
        let context = self.give_out();
        let out = Out {
            deadline: context.deadline(),
            changes: self.changes,
        };
        self.out.insert(self.vcpu, out);
        let order = Box::into_raw(Box::new(Order {
            context,
            vm: number,
        }));
        let slot = &SLOTS[self.vcpu as usize];
        slot.called.store(false, Ordering::SeqCst);
        slot.order.store(order, Ordering::Release);
        interrupts::call(apic_id(self.vcpu));
        None
    }

    /// Whether a runner has this virtual processor.
    pub(crate) fn is_out(&self, vcpu: u32) -> bool {
        self.out.contains_key(&vcpu)
    }

    /// Takes a virtual processor back whose run has ended; answers whether it has.
    pub(crate) fn take_back(&mut self, vcpu: u32) -> bool {
        let slot = &SLOTS[vcpu as usize];
        let order = slot.done.swap(core::ptr::null_mut(), Ordering::Acquire);
        if order.is_null() {
            return false;
        }
        // SAFETY: the pointer is of a `Box`, by `main`, and whoever swaps it out owns it.
        let order = unsafe { Box::from_raw(order) };
        let out = self.out.remove(&vcpu);
        self.changed_since = out.is_none_or(|out| out.changes != self.changes);
        self.have_back(vcpu, order.context);
        true
    }

    /// Why the run has ended of the virtual processor that was taken back and up; nothing if it is to go on.
    pub(crate) fn ended(&mut self, vm: Vm) -> Option<Exited> {
        let machine = &mut self.context.machines[index(vm)];
        let ended = machine.finish(&self.paging[index(vm)]);
        if ended.ran {
            let (entered, left) = machine.run_times();
            self.profile.ran(vm, entered, left, &ended.exited.exit);
        }
        if ended.resume || self.is_served(vm, &ended.exited.exit) {
            return None;
        }
        // What was not there when the run came to it is there now.
        let late = self.changed_since && self.is_allowed(vm, &ended.exited.exit);
        (!late || ended.exited.vectoring.is_some()).then_some(ended.exited)
    }

    fn is_allowed(&self, vm: Vm, exit: &HardwareExit) -> bool {
        let &HardwareExit::NestedPageFault {
            gpa,
            write,
            fetch,
            page_walk,
        } = exit
        else {
            return false;
        };
        self.paging[index(vm)].allows(gpa, write || page_walk, fetch)
    }

    /// Ends the run of a virtual processor, if it has one.
    pub(crate) fn call(&mut self, vcpu: u32) {
        if self.is_out(vcpu) {
            end_run(vcpu);
        }
    }

    /// Ends the runs whose deadline has come.
    pub(crate) fn call_expired(&mut self) {
        let now = cpu::rdtsc();
        for (vcpu, out) in &mut self.out {
            if out.deadline.is_some_and(|deadline| deadline <= now) {
                out.deadline = None;
                end_run(*vcpu);
            }
        }
    }

    /// Ends every run, and waits until they have ended: none begins before [`begin`](Self::begin).
    pub(super) fn stop(&mut self) {
        for vcpu in self.out.keys() {
            end_run(*vcpu);
        }
        for vcpu in self.out.keys() {
            let slot = &SLOTS[*vcpu as usize];
            while slot.done.load(Ordering::Acquire).is_null() {
                spin_loop();
            }
        }
    }
}

/// Ends the run that the virtual processor's runner has, or is about to begin.
fn end_run(vcpu: u32) {
    SLOTS[vcpu as usize].called.store(true, Ordering::SeqCst);
    interrupts::call(apic_id(vcpu));
}

/// The first processor is 0.
fn apic_id(vcpu: u32) -> u8 {
    vcpu as u8 + 1
}

/// From real mode to `runner_start32`: loads flat descriptors, sets CR0.PE, and jumps.
fn real_mode_start() -> [u8; 64] {
    const POINTER: usize = 28;
    const DESCRIPTORS: usize = 40;
    let entry = (&raw const runner_start32).expose_provenance() as u32;
    let mut page = [0; 64];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    // CLI; XOR AX, AX; MOV DS, AX; LGDT [pointer]; MOV EAX, CR0; OR AL, 1; MOV CR0, EAX; JMP 8:entry.
    put(0, &[0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x66, 0x0F, 0x01, 0x16]);
    put(9, &(START as u16 + POINTER as u16).to_le_bytes());
    put(11, &[0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0]);
    put(19, &[0x66, 0xEA]);
    put(21, &entry.to_le_bytes());
    put(25, &8_u16.to_le_bytes());
    put(POINTER, &23_u16.to_le_bytes());
    put(
        POINTER + 2,
        &(START as u32 + DESCRIPTORS as u32).to_le_bytes(),
    );
    put(DESCRIPTORS + 8, &0x00CF_9B00_0000_FFFF_u64.to_le_bytes());
    put(DESCRIPTORS + 16, &0x00CF_9300_0000_FFFF_u64.to_le_bytes());
    page
}
