//! What each virtual processor of L1 has of its own.
//!
//! A processor's [`Area`] is claimed once, by the processor itself, which gets it as [`ThisCpu`]: that
//! value is all access of main code to the area, and stays on the processor. Interrupt handlers,
//! which have no value of main code's, find the area behind GS and reach only [`Noted`] there, whose
//! fields are atomics. There is an area for each processor that L1 has room for, by VCPU_INDEX.
//!
//! GS of L1 and GS of L2 never meet: the GS base is in the VMCS, and TDG.VP.ENTER switches it.
//! IA32_KERNEL_GS_BASE is not switched and L2's, so L1 has no SWAPGS and reads no such register. L1
//! has no user mode, so its handlers have the GS of main code.
//!
//! What a processor has elsewhere: the page of L2's guest state and its virtual-APIC page, memory of
//! the heap that the owner of the virtual processor owns; and its stacks, from the linker script.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use x86::msr::{IA32_GS_BASE, wrmsr};

use crate::arch::extended_state::ExtendedState;
use crate::arch::image;
use crate::arch::interrupts::Vector;
use crate::arch::segments::{self, Segments};
use crate::arch::thread::ThreadBlock;
use crate::fatal::{FatalCode, fatal};

/// What one processor has.
#[repr(C)]
struct Area {
    /// Its own address, at offset 0: what `gs:[0]` reads.
    own_address: *const Area,
    noted: Noted,
    segments: Segments,
    thread: ThreadBlock,
    extended_state: ExtendedState,
}

/// Memory for the area of one processor.
struct Slot {
    claimed: AtomicBool,
    area: UnsafeCell<MaybeUninit<Area>>,
}

// SAFETY: the area is written once and then reached only through the `ThisCpu` of the processor that
// claimed it, which is one and does not leave it, and by that processor's handlers, which reach atomics.
unsafe impl Sync for Slot {}

/// Each processor's, by its VCPU_INDEX.
static SLOTS: [Slot; image::PROCESSORS] = [const {
    Slot {
        claimed: AtomicBool::new(false),
        area: UnsafeCell::new(MaybeUninit::uninit()),
    }
}; image::PROCESSORS];

/// The executing processor's area, for its main code: one value a processor.
pub(crate) struct ThisCpu {
    /// VCPU_INDEX of the processor.
    pub(crate) index: usize,
    /// The interrupts of this processor.
    pub(crate) noted: &'static Noted,
    /// The block behind FS.
    pub(crate) thread: &'static ThreadBlock,
    /// What TDG.VP.ENTER does not switch.
    pub(crate) extended_state: &'static mut ExtendedState,
    /// Neither `Send` nor `Sync`: it means the processor that has it.
    here: PhantomData<*mut ()>,
}

/// Makes area `index` the executing processor's, whose VCPU_INDEX it is: loads its segments and its GS base.
///
/// Must come before interrupts can happen, and uses no instruction that causes a #VE.
pub(crate) fn start(index: usize) -> ThisCpu {
    let slot = SLOTS
        .get(index)
        .filter(|slot| !slot.claimed.swap(true, Ordering::Relaxed))
        .unwrap_or_else(|| {
            fatal(
                FatalCode::Processor,
                format_args!("there is no area for virtual processor {index}, or it is in use"),
            )
        });
    let area = slot.area.get().cast::<Area>();
    // SAFETY: just claimed, so nothing else refers to the area, which is written before any reference. Each field is
    // borrowed once; none of the references covers `own_address` or another field.
    let (segments, this) = unsafe {
        area.write(Area {
            own_address: area,
            noted: Noted::new(),
            segments: Segments::new(),
            thread: ThreadBlock::new(),
            extended_state: ExtendedState::new(),
        });
        let this = ThisCpu {
            index,
            noted: &(*area).noted,
            thread: &(*area).thread,
            extended_state: &mut (*area).extended_state,
            here: PhantomData,
        };
        (&mut (*area).segments, this)
    };
    let stack_top = |stack| image::interrupt_stack_top(index, stack);
    segments::load(segments, core::array::from_fn(stack_top));
    // SAFETY: after `segments::load`, which clears it; nothing else of L1 uses GS, and the area is
    // static and mapped to its own address by td-shim's page tables and L1's.
    unsafe { wrmsr(IA32_GS_BASE, area.expose_provenance() as u64) };
    this
}

/// The interrupts of the executing processor, for its handlers.
pub(crate) fn noted() -> &'static Noted {
    let area: *const Area;
    // SAFETY: the GS base has been the address of this processor's area since `start`, before any
    // interrupt could happen, and the area begins with its own address. Of it, only atomics are
    // referred to.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) area, options(pure, readonly, nostack, preserves_flags));
        &(*area).noted
    }
}

/// The interrupts of L1's own that have happened on a processor. Its handlers write it, its main code
/// takes from it.
pub(crate) struct Noted {
    timer: AtomicBool,
    console: AtomicBool,
    devices: AtomicBool,
    kick: AtomicBool,
}

impl Noted {
    const fn new() -> Self {
        Self {
            timer: AtomicBool::new(false),
            console: AtomicBool::new(false),
            devices: AtomicBool::new(false),
            kick: AtomicBool::new(false),
        }
    }

    fn flag(&self, vector: Vector) -> &AtomicBool {
        match vector {
            Vector::Timer => &self.timer,
            Vector::Console => &self.console,
            Vector::Devices => &self.devices,
            Vector::Kick => &self.kick,
        }
    }

    /// The interrupt has happened.
    pub(crate) fn note(&self, vector: Vector) {
        self.flag(vector).store(true, Ordering::Relaxed);
    }

    /// Whether the interrupt has happened since this was last asked.
    pub(crate) fn take(&self, vector: Vector) -> bool {
        self.flag(vector).swap(false, Ordering::Relaxed)
    }
}
