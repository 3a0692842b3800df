//! L2's RAM.

use l1_vmm::launch::gpa_range::{GpaRange, GpaRanges};
use l1_vmm::launch::plan::MemoryPlan;
use l1_vmm::paging::linear;
use l1_vmm::run::{L2Memory, Owner};
use l2_exit::{GuestMemory, GuestPages, MemoryError};
use x86_defs::paging::PAGE_4K;

use super::{Bounce, clear, copy_across, copy_in, copy_out, load, store};
use tdcall::SharedBuffer;

/// The RAM that the memory plan gives to L2, and what of the rest is L1's.
#[derive(Clone, Debug)]
pub(crate) struct L2Ram {
    l2: GpaRanges,
    all: GpaRanges,
    /// The memory shared with the host.
    shared: Bounce,
}

impl L2Ram {
    /// Access to the RAM that `plan` gives to L2; `all` is everything that is memory of this TD, `shared` what
    /// of it the host sees.
    ///
    /// # Safety
    /// 1: L1's page tables map the plan's L2 ranges, writable, where [`linear`] says; 2: none of L1's own
    /// objects is in them, which is what a plan is for.
    pub(crate) unsafe fn new(plan: &MemoryPlan, all: GpaRanges, shared: Bounce) -> Self {
        Self {
            l2: plan.l2().clone(),
            all,
            shared,
        }
    }

    /// All of it becomes zeros.
    pub(crate) fn clear(&self) {
        for range in self.l2.iter() {
            let mut at = range.start();
            while at < range.end() {
                let (address, together) = linear(at);
                let length = together.min(range.end() - at);
                // SAFETY: all of it is L2's RAM, so mapped writable and no object of L1's (contract of `new`); what is
                // together has linear addresses in a row.
                unsafe { clear(address, length) };
                at += length;
            }
        }
    }

    fn check(&self, gpa: u64, length: usize) -> Result<(), MemoryError> {
        if L2Memory::is_l2(self, gpa, length as u64) {
            Ok(())
        } else {
            Err(MemoryError { gpa })
        }
    }

    /// Linear address of `length` bytes at `offset` of `part`, which is a part of the shared memory.
    fn shared(
        &self,
        gpa: u64,
        part: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        let end = offset.checked_add(length);
        end.filter(|end| *end <= part.length())
            .and_then(|_| part.gpa().checked_add(offset as u64))
            .and_then(|start| self.shared.linear(start, length))
            .ok_or(MemoryError { gpa })
    }
}

/// How many of `length` bytes at `gpa` have linear addresses in a row. The others follow at an
/// address of their own.
#[inline]
fn first_part(gpa: u64, length: usize) -> usize {
    let (_, together) = linear(gpa);
    usize::try_from(together).map_or(length, |together| together.min(length))
}

impl GuestMemory for L2Ram {
    #[inline]
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.check(gpa, into.len())?;
        let (first, rest) = into.split_at_mut(first_part(gpa, into.len()));
        // SAFETY: all of it is L2's RAM, so mapped and no object of L1's (contract of `new`).
        unsafe { copy_out(linear(gpa).0, first) };
        if !rest.is_empty() {
            // SAFETY: as above.
            unsafe { copy_out(gpa + first.len() as u64, rest) };
        }
        Ok(())
    }

    #[inline]
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.check(gpa, from.len())?;
        let (first, rest) = from.split_at(first_part(gpa, from.len()));
        // SAFETY: all of it is L2's RAM, so mapped and no object of L1's (contract of `new`).
        unsafe { copy_in(linear(gpa).0, first) };
        if !rest.is_empty() {
            // SAFETY: as above.
            unsafe { copy_in(gpa + first.len() as u64, rest) };
        }
        Ok(())
    }
}

/// A page that is L2's RAM, all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct L2Page {
    linear: u64,
}

impl L2Page {
    /// Linear address of `width` bytes at `offset`, if they are in the page.
    #[inline]
    fn address(self, offset: u16, width: u8) -> Option<u64> {
        (u64::from(offset) + u64::from(width) <= PAGE_4K).then(|| self.linear + u64::from(offset))
    }
}

impl GuestPages for L2Ram {
    type Page = L2Page;

    #[inline]
    fn page(&self, gpa: u64) -> Option<L2Page> {
        self.check(gpa, PAGE_4K as usize).ok()?;
        let (linear, together) = linear(gpa);
        (together >= PAGE_4K).then_some(L2Page { linear })
    }

    #[inline]
    fn load(&self, page: L2Page, offset: u16, width: u8) -> Option<u64> {
        let address = page.address(offset, width)?;
        // SAFETY: all of it is L2's RAM, as who made the page has checked, so mapped and no object of L1's (contract
        // of `new`).
        unsafe { load(address, width) }
    }

    #[inline]
    fn store(&self, page: L2Page, offset: u16, width: u8, value: u64) -> Option<()> {
        let address = page.address(offset, width)?;
        // SAFETY: all of it is L2's RAM, as who made the page has checked, so mapped and no object of L1's (contract
        // of `new`).
        unsafe { store(address, width, value) }
    }
}

impl L2Memory for L2Ram {
    fn owner(&self, gpa: u64) -> Owner {
        let Some(byte) = GpaRange::with_length(gpa, 1) else {
            return Owner::Nobody;
        };
        if self.l2.contains(&byte) {
            Owner::L2
        } else if self.all.contains(&byte) {
            Owner::L1
        } else {
            Owner::Nobody
        }
    }

    #[inline]
    fn is_l2(&self, gpa: u64, length: u64) -> bool {
        GpaRange::with_length(gpa, length).is_some_and(|range| self.l2.contains(&range))
    }

    fn copy_to_shared(
        &self,
        gpa: u64,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        self.check(gpa, length)?;
        let to = self.shared(gpa, shared, offset, length)?;
        let first = first_part(gpa, length);
        // SAFETY: all of it is L2's RAM (contract of `new`) on one side, on the other the shared buffer (contract of
        // `Bounce::share`): mapped, no objects of L1's, and apart.
        unsafe { copy_across(linear(gpa).0, to, first) };
        if first < length {
            // SAFETY: as above.
            unsafe { copy_across(gpa + first as u64, to + first as u64, length - first) };
        }
        Ok(length as u64)
    }

    fn copy_from_shared(
        &self,
        gpa: u64,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        self.check(gpa, length)?;
        let from = self.shared(gpa, shared, offset, length)?;
        let first = first_part(gpa, length);
        // SAFETY: as in `copy_to_shared`.
        unsafe { copy_across(from, linear(gpa).0, first) };
        if first < length {
            // SAFETY: as above.
            unsafe { copy_across(from + first as u64, gpa + first as u64, length - first) };
        }
        Ok(length as u64)
    }
}
