//! Memory shared with the host.

use l1_vmm::launch::gpa_range::GpaRange;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::MapGpaError;
use tdx_defs::Gpa;

use super::{copy_in, copy_out};
use crate::arch::paging::SHARED_WINDOW;
use crate::arch::td;

/// A buffer through which the host passes files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounce {
    range: GpaRange,
}

impl Bounce {
    /// Makes `range` shared. Its content is lost.
    ///
    /// # Safety
    /// 1: L1's page tables map the alias of `range` at [`SHARED_WINDOW`] with the SHARED bit, and
    /// nothing to the private one; 2: L1 has no objects in it.
    pub(crate) unsafe fn share(range: GpaRange, shared_bit: u64) -> Result<Self, MapGpaError> {
        td().map_gpa(Gpa(range.start() | shared_bit), range.length())?;
        Ok(Self { range })
    }

    /// Address of `length` bytes at `offset`, if they are inside.
    fn address(&self, offset: usize, length: usize) -> Option<u64> {
        let start = self.range.start().checked_add(offset as u64)?;
        self.linear(start, length)
    }

    /// Linear address of `length` bytes at the guest-physical address `start`, without the SHARED bit, if they are
    /// inside.
    pub(super) fn linear(&self, start: u64, length: usize) -> Option<u64> {
        GpaRange::with_length(start, length as u64)
            .filter(|part| self.range.contains(part))
            .map(|part| SHARED_WINDOW + part.start())
    }
}

impl SharedBuffer for Bounce {
    fn gpa(&self) -> u64 {
        self.range.start()
    }

    fn length(&self) -> usize {
        self.range.length() as usize
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        if let Some(address) = self.address(offset, into.len()) {
            // SAFETY: inside the buffer, which is mapped and has no objects (contract of `share`).
            unsafe { copy_out(address, into) };
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        if let Some(address) = self.address(offset, from.len()) {
            // SAFETY: inside the buffer, which is mapped and has no objects (contract of `share`).
            unsafe { copy_in(address, from) };
        }
    }
}
