//! The application processors: woken up one at a time, and ready for a job.
//!
//! Which processor comes when it is called is the host's doing, and whether one comes at all. So nobody is called by the
//! name of a stack or a job: each says which processor of the TD it is by what the module tells it
//! ([`entry`]), and counts itself. When the boot processor has called all, it closes the count, in one
//! step: who has counted is one of those that run L1, whoever comes later halts for ever, on a stack of its own.

use core::hint::spin_loop;
use core::iter;
use core::sync::atomic::{AtomicU32, Ordering};

use l1_vmm::launch::wakeup::ApicIds;
use l1_vmm::machine::host::{self, KICK_VECTOR};
use spin::Once;
use tdshim_config::layout::mailbox::BROADCAST;
use x86_defs::apic::Register;

use crate::arch::interrupts::Vector;
use crate::arch::memory::Mailbox;
use crate::arch::{self, clock, entry, image, td};
use crate::fatal::{FatalCode, OrFatal, ended, halt};
use crate::per_cpu::ThisCpu;

/// What a processor does when all are here; the number counts those that are, from 0 for the boot processor. A processor
/// whose job is done halts for ever.
pub(crate) type Job = dyn Fn(ThisCpu, usize) + Sync;

/// How long one that was called may take to come, in nanoseconds. A host with less than a processor for each still runs
/// all of them in that time.
const PATIENCE: u64 = 2_000_000_000;
/// How long a processor that waits for another one sleeps at most, in nanoseconds: an interrupt that wakes it up is the host's to lose.
const NAP: u64 = 20_000_000;

/// The processors that run L1, a bit each by VCPU_INDEX.
static HERE: AtomicU32 = AtomicU32::new(0);
/// In [`HERE`]: nobody counts any more.
const CLOSED: u32 = 1 << 31;
const _: () = assert!(image::PROCESSORS < 31);

/// By VCPU_INDEX, what each processor that is here calls its APIC ID: good for sending it an interrupt.
static APIC_IDS: [AtomicU32; image::PROCESSORS] = [const { AtomicU32::new(0) }; image::PROCESSORS];

static JOB: Once<&'static Job> = Once::new();

/// Where the processors wait and what they are called.
pub(crate) struct Waiting {
    /// Where.
    pub(crate) mailbox: Mailbox,
    /// What the firmware's table calls them.
    pub(crate) apic_ids: ApicIds,
    /// How many there are, with the boot processor.
    pub(crate) processors: u32,
}

/// The processors that run L1. Their number stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    here: u32,
}

impl Started {
    /// How many.
    pub(crate) fn count(self) -> usize {
        self.here.count_ones() as usize
    }

    /// The number of a processor that is one of them.
    fn number(self, index: usize) -> usize {
        indices(self.here)
            .take_while(|other| *other < index)
            .count()
    }
}

/// The VCPU_INDEX of each bit, lowest first.
fn indices(here: u32) -> impl Iterator<Item = usize> {
    (0..image::PROCESSORS).filter(move |index| here >> index & 1 != 0)
}

/// Calls every processor, on the boot processor; once. One that does not come is left out, with a line in the log. L1's
/// page tables are in use, and its clock, heap and random numbers.
pub(crate) fn start(this: &ThisCpu, waiting: Option<Waiting>) -> Started {
    enlist(this);
    if let Some(waiting) = waiting {
        call(&waiting);
    }
    let here = HERE.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED;
    Started { here }
}

fn call(waiting: &Waiting) {
    let Waiting {
        mailbox,
        apic_ids,
        processors,
    } = waiting;
    let own = apic_id();
    // Who does not come by the name that the firmware has for it answers to the one that all have: td-shim's names need
    // not be the host's.
    let named = apic_ids.iter().filter(|id| *id != own);
    let nameless = iter::repeat_n(BROADCAST, *processors as usize);
    for id in named.chain(nameless) {
        let before = HERE.load(Ordering::Acquire);
        if before.count_ones() >= *processors {
            break;
        }
        mailbox.wake_up(id, entry::wakeup_vector());
        let end = clock::nanoseconds().saturating_add(PATIENCE);
        let came = || HERE.load(Ordering::Acquire) != before;
        while !came() && clock::nanoseconds() < end {
            spin_loop();
        }
        if !came() {
            mailbox.withdraw();
            match id {
                BROADCAST => break,
                id => log::warn!("no virtual processor came as APIC ID {id}"),
            }
        }
    }
    let here = HERE.load(Ordering::Acquire);
    for index in (0..*processors).filter(|index| here >> index & 1 == 0) {
        log::warn!("virtual processor {index} did not come: L1 goes on without it");
    }
}

/// Counts the executing processor. False if it is too late for that.
fn enlist(this: &ThisCpu) -> bool {
    if let Some(slot) = APIC_IDS.get(this.index) {
        slot.store(apic_id(), Ordering::Relaxed);
    }
    let count = |here: u32| (here & CLOSED == 0).then_some(here | 1 << this.index);
    HERE.fetch_update(Ordering::AcqRel, Ordering::Acquire, count)
        .is_ok()
}

/// The executing processor's x2APIC ID: the extended topology of CPUID has it in EDX at any sub-leaf.
fn apic_id() -> u32 {
    core::arch::x86_64::__cpuid_count(0xB, 0).edx
}

/// Gives every processor but this one its job; once.
pub(crate) fn give(this: &ThisCpu, processors: Started, job: &'static Job) {
    JOB.call_once(|| job);
    kick(indices(processors.here).filter(|index| *index != this.index));
}

/// Makes every processor look at what there is to look at. For a TD of one, nothing.
pub(crate) fn kick_all() {
    let here = HERE.load(Ordering::Acquire) & !CLOSED;
    if here.count_ones() > 1 {
        kick(indices(here));
    }
}

/// Only hurries them: the host may lose it.
fn kick(indices: impl Iterator<Item = usize>) {
    for id in indices.filter_map(|index| APIC_IDS.get(index)) {
        let target = u64::from(id.load(Ordering::Relaxed)) << 32;
        let _ = td().wrmsr(Register::ICR.msr(), target | u64::from(KICK_VECTOR));
    }
}

/// Called by the entry code of an application processor, on its own stack and L1's page tables.
pub(crate) extern "sysv64" fn application_main(index: u32) -> ! {
    let this = arch::start(index as usize);
    this.thread.start().or_fatal(FatalCode::Entropy);
    host::set_up_timer(&td()).or_fatal(FatalCode::Launch);
    if enlist(&this) {
        let job = wait_for_job(&this);
        let here = HERE.load(Ordering::Acquire) & !CLOSED;
        let number = Started { here }.number(this.index);
        job(this, number);
    }
    halt()
}

fn wait_for_job(this: &ThisCpu) -> &'static Job {
    let job = wait_for(|| JOB.get());
    this.noted.take(Vector::Timer);
    this.noted.take(Vector::Kick);
    *job
}

/// Waits for something that another processor does. [`kick_all`] hurries it.
pub(crate) fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let td = td();
    loop {
        if let Some(found) = look() {
            return found;
        }
        if ended() {
            halt();
        }
        // A host that refuses makes it poll.
        let end = clock::nanoseconds().saturating_add(NAP);
        let _ = host::arm_timer(&td, Some(clock::ticks_at(end)));
        let _ = td.hlt(false);
    }
}
