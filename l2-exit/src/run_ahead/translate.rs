//! Translations of a burst, held as a TLB would hold them.
//!
//! Only plain ones: four levels, a supervisor's page, every entry accessed, the page of L2's memory with the memory type
//! that entry 0 of IA32_PAT has, or of the window. Whatever else the tables say is for the processor to find.

use super::Window;
use crate::memory::GuestPages;
use x86_defs::paging::{
    ACCESSED, ADDRESS, DIRTY, EXECUTE_DISABLE, LARGE, PAGE_4K, PRESENT, USER, WRITABLE,
};

/// Bits 3, 4 of an entry: PWT and PCD.
const TYPE: u64 = 0b11 << 3;
/// PAT of a leaf that maps more than 4 KiB.
const PAT_LARGE: u64 = 1 << 12;
/// Pages that are held; a power of two.
const HELD: usize = 64;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<P> {
    /// In L2's memory.
    Memory(P),
    /// In the window, at this guest-physical address.
    Window(u64),
}

/// A page that the processor could have in its TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation<P> {
    linear: u64,
    /// Writes need nothing of the processor: the entries allow them, and the page is dirty.
    pub(super) writable: bool,
    /// Instructions may be fetched.
    pub(super) executable: bool,
    /// Where it is.
    pub(super) place: Place<P>,
}

/// The translations of one burst.
pub(super) struct Translations<P> {
    held: [Option<Translation<P>>; HELD],
    root: u64,
}

impl<P: Copy> Translations<P> {
    /// None yet, by the tables that CR3 names.
    pub(super) const fn new(cr3: u64) -> Self {
        Self {
            held: [None; HELD],
            root: cr3 & ADDRESS,
        }
    }

    /// The page of `linear`, if its translation is plain.
    #[inline]
    pub(super) fn page<M: GuestPages<Page = P>, W: Window>(
        &mut self,
        memory: &M,
        window: &W,
        linear: u64,
    ) -> Option<&Translation<P>> {
        let page = linear & !(PAGE_4K - 1);
        let held = self.held.get_mut(slot(page))?;
        if held.as_ref().is_none_or(|held| held.linear != page) {
            *held = Some(walk(memory, window, self.root, page)?);
        }
        held.as_ref()
    }
}

/// Where a page is held: neighbours apart, and so pages at the same place in regions of 256 KiB.
const fn slot(page: u64) -> usize {
    (page >> 12 ^ page >> 18) as usize % HELD
}

/// Whether four levels translate it: bits 63:47 are equal.
pub(super) const fn is_canonical(linear: u64) -> bool {
    (linear << 16) as i64 >> 16 == linear as i64
}

#[cold]
#[inline(never)]
fn walk<M: GuestPages, W: Window>(
    memory: &M,
    window: &W,
    root: u64,
    linear: u64,
) -> Option<Translation<M::Page>> {
    if !is_canonical(linear) {
        return None;
    }
    let mut table = root;
    let mut user = true;
    let mut writable = true;
    let mut executable = true;
    for shift in [39, 30, 21, 12] {
        let index = linear >> shift & 0x1FF;
        let entry = memory.load(memory.page(table)?, index as u16 * 8, 8)?;
        if entry & (PRESENT | ACCESSED) != PRESENT | ACCESSED {
            return None;
        }
        user &= entry & USER != 0;
        writable &= entry & WRITABLE != 0;
        executable &= entry & EXECUTE_DISABLE == 0;
        let large = entry & LARGE != 0;
        if shift != 12 && !large {
            table = entry & ADDRESS;
            continue;
        }
        let size = 1_u64 << shift;
        let pat = match shift {
            12 => LARGE,
            _ => PAT_LARGE,
        };
        // Below the address of a large page everything but PAT is reserved.
        let reserved = ADDRESS & (size - 1) & !pat;
        if user || shift == 39 || shift != 12 && entry & reserved != 0 {
            return None;
        }
        let gpa = entry & ADDRESS & !(size - 1) | linear & (size - 1);
        let place = match memory.page(gpa) {
            Some(page) if entry & (TYPE | pat) == 0 => Place::Memory(page),
            None if window.claims(gpa) => Place::Window(gpa),
            _ => return None,
        };
        return Some(Translation {
            linear,
            writable: writable && entry & DIRTY != 0,
            executable,
            place,
        });
    }
    None
}
