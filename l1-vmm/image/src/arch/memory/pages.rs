//! Pages of L1's that the processor or the module writes while L2 runs.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::run::VapicPage;
use l1_vmm::trust_domain::OperandPage;
use tdx_defs::Gpa;

use super::{copy_in, copy_out};

/// One page of 4 KiB.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u32; 1024]>);

// SAFETY: each page has one owner (`Vapic`, `Operands`), of which there is one.
unsafe impl Sync for Page {}

static VAPIC: Page = Page(UnsafeCell::new([0; 1024]));
static VAPIC_TAKEN: AtomicBool = AtomicBool::new(false);

static OPERANDS: Page = Page(UnsafeCell::new([0; 1024]));
static OPERANDS_TAKEN: AtomicBool = AtomicBool::new(false);

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

/// The page for operands of TDG.MR.RTMR.EXTEND and TDG.MR.REPORT. There is one.
#[derive(Debug)]
pub(crate) struct Operands(());

impl Operands {
    /// The page, at the first call.
    pub(crate) fn take() -> Option<Self> {
        (!OPERANDS_TAKEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }

    /// Address of `length` bytes at `offset`, if they are inside.
    fn address(offset: usize, length: usize) -> Option<u64> {
        let end = offset.checked_add(length)?;
        (end <= size_of::<Page>()).then_some(OPERANDS.0.get() as u64 + offset as u64)
    }
}

impl OperandPage for Operands {
    fn gpa(&self) -> Gpa {
        Gpa(OPERANDS.0.get() as u64)
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        if let Some(address) = Self::address(offset, into.len()) {
            // SAFETY: inside the static page, which the module writes only within a TDCALL of its
            // owner's, and to which there are no references.
            unsafe { copy_out(address, into) };
        }
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        if let Some(address) = Self::address(offset, from.len()) {
            // SAFETY: as above, and `self` is exclusive.
            unsafe { copy_in(address, from) };
        }
    }
}
