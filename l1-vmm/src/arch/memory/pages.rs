//! Pages of L1's that the processor or the module writes while L2 runs.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::run::VapicPage;
use tdcall::Gpa;

/// One page of 4 KiB.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u32; 1024]>);

// SAFETY: only `Vapic` refers to it, and there is one.
unsafe impl Sync for Page {}

static VAPIC: Page = Page(UnsafeCell::new([0; 1024]));
static VAPIC_TAKEN: AtomicBool = AtomicBool::new(false);

/// L2's virtual-APIC page. There is one.
#[derive(Debug)]
pub(crate) struct Vapic(());

impl Vapic {
    /// The page, at the first call.
    pub(crate) fn take() -> Option<Self> {
        (!VAPIC_TAKEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }

    /// Its address, for TDG.VP.WR.
    pub(crate) fn gpa(&self) -> Gpa {
        Gpa(VAPIC.0.get() as u64)
    }

    fn dword(offset: u16) -> *mut u32 {
        VAPIC
            .0
            .get()
            .cast::<u32>()
            .wrapping_add(usize::from(offset & 0xFFF) / 4)
    }
}

impl VapicPage for Vapic {
    fn read(&self, offset: u16) -> u32 {
        // SAFETY: a dword of the static page; the processor writes it only while L2 runs.
        unsafe { Self::dword(offset).read_volatile() }
    }

    fn write(&mut self, offset: u16, value: u32) {
        // SAFETY: as above, and `self` is exclusive.
        unsafe { Self::dword(offset).write_volatile(value) };
    }
}
