//! What each virtual processor of L1 has of its own.
//!
//! A processor's [`Area`] is claimed once, by the processor itself, which gets it as [`ThisCpu`]: that
//! value is all access of main code to the area, and stays on the processor. Interrupt handlers,
//! which have no value of main code's, find the area behind GS and reach only [`Noted`] there, whose
//! fields are atomics. So nothing here depends on how many processors run L1; today one does.
//!
//! GS of L1 and GS of L2 never meet: the GS base is in the VMCS, and TDG.VP.ENTER switches it.
//! IA32_KERNEL_GS_BASE is not switched and L2's, so L1 has no SWAPGS and reads no such register. L1
//! has no user mode, so its handlers have the GS of main code.
//!
//! What a processor has elsewhere: the page of L2's guest state and its virtual-APIC page, memory of
//! the heap that the owner of the virtual processor owns; and its stacks, which the boot processor
//! has from the linker script.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr;
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
    area: UnsafeCell<Area>,
}

// SAFETY: the area is reached only through the `ThisCpu` of the processor that claimed it, which
// is one and does not leave it, and by that processor's handlers, which reach atomics.
unsafe impl Sync for Slot {}

/// The boot processor's. Another processor's is memory of the heap.
static BOOT: Slot = Slot {
    claimed: AtomicBool::new(false),
    area: UnsafeCell::new(Area {
        own_address: ptr::null(),
        noted: Noted::new(),
        segments: Segments::new(),
        thread: ThreadBlock::new(),
        extended_state: ExtendedState::new(),
    }),
};

/// The executing processor's area, for its main code: one value a processor.
pub(crate) struct ThisCpu {
    /// The interrupts of this processor.
    pub(crate) noted: &'static Noted,
    /// The block behind FS.
    pub(crate) thread: &'static ThreadBlock,
    /// What TDG.VP.ENTER does not switch.
    pub(crate) extended_state: &'static mut ExtendedState,
    /// Neither `Send` nor `Sync`: it means the processor that has it.
    here: PhantomData<*mut ()>,
}

/// Makes the area the boot processor's: loads its segments and its GS base.
///
/// Must come before interrupts can happen, and uses no instruction that causes a #VE.
pub(crate) fn start() -> ThisCpu {
    if BOOT.claimed.swap(true, Ordering::Relaxed) {
        fatal(
            FatalCode::Processor,
            format_args!("the boot processor's area is in use"),
        );
    }
    let area = BOOT.area.get();
    // SAFETY: just claimed, so nothing else refers to the area. Each field is borrowed once; none of
    // the references covers `own_address` or another field.
    let (segments, this) = unsafe {
        (*area).own_address = area;
        let this = ThisCpu {
            noted: &(*area).noted,
            thread: &(*area).thread,
            extended_state: &mut (*area).extended_state,
            here: PhantomData,
        };
        (&mut (*area).segments, this)
    };
    segments::load(segments, core::array::from_fn(image::interrupt_stack_top));
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
}

impl Noted {
    const fn new() -> Self {
        Self {
            timer: AtomicBool::new(false),
            console: AtomicBool::new(false),
        }
    }

    fn flag(&self, vector: Vector) -> &AtomicBool {
        match vector {
            Vector::Timer => &self.timer,
            Vector::Console => &self.console,
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
