//! Pages of L1's that the processor or the module writes while L2 runs.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use l1_vmm::run::VapicPage;
use tdcall::OperandPage;
use tdx_defs::Gpa;

use super::{copy_in, copy_out};

/// One page of 4 KiB, of the heap. It is never freed: the module may know its address for as long as
/// the TD runs.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u32; 1024]>);

impl Page {
    fn new() -> &'static Self {
        Box::leak(Box::new(Self(UnsafeCell::new([0; 1024]))))
    }

    fn address(&self) -> u64 {
        self.0.get().expose_provenance() as u64
    }
}

/// The virtual-APIC page of one of L2's virtual processors.
pub(crate) struct Vapic(&'static Page);

impl Vapic {
    /// A page of zeros.
    pub(crate) fn new() -> Self {
        Self(Page::new())
    }

    /// Its address, for TDG.VP.WR.
    pub(crate) fn gpa(&self) -> Gpa {
        Gpa(self.0.address())
    }

    fn dword(&self, offset: u16) -> *mut u32 {
        let first = self.0.0.get().cast::<u32>();
        first.wrapping_add(usize::from(offset & 0xFFF) / 4)
    }
}

impl VapicPage for Vapic {
    fn read(&self, offset: u16) -> u32 {
        // SAFETY: a dword of the page, which only `self` refers to; the processor writes it while L2
        // runs on it, which is not now: that takes the owner of `self`.
        unsafe { self.dword(offset).read_volatile() }
    }

    fn write(&mut self, offset: u16, value: u32) {
        // SAFETY: as above, and `self` is exclusive.
        unsafe { self.dword(offset).write_volatile(value) };
    }
}

/// A page for operands of TDG.MR.RTMR.EXTEND and TDG.MR.REPORT. Whoever makes these calls owns one.
pub(crate) struct Operands(&'static Page);

// SAFETY: the page is its owner's alone, wherever that runs, and no processor has state about it.
unsafe impl Send for Operands {}

impl Operands {
    /// A page of zeros.
    pub(crate) fn new() -> Self {
        Self(Page::new())
    }

    /// Address of `length` bytes at `offset`, if they are inside.
    fn address(&self, offset: usize, length: usize) -> Option<u64> {
        let end = offset.checked_add(length)?;
        (end <= size_of::<Page>()).then_some(self.0.address() + offset as u64)
    }
}

impl OperandPage for Operands {
    fn gpa(&self) -> Gpa {
        Gpa(self.0.address())
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        if let Some(address) = self.address(offset, into.len()) {
            // SAFETY: inside the page, which only `self` refers to, and which the module writes only
            // within a TDCALL of its owner's.
            unsafe { copy_out(address, into) };
        }
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        if let Some(address) = self.address(offset, from.len()) {
            // SAFETY: as above, and `self` is exclusive.
            unsafe { copy_in(address, from) };
        }
    }
}
