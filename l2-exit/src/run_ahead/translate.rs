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
/// Pages of code that are known.
const CODE: usize = 32;

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

/// What no address is equal to that has lost its offset but for what aligns it.
const NOWHERE: u64 = PAGE_4K / 2;

/// A translation that is held, and for what it may be used without a further question.
#[derive(Clone, Copy)]
struct Held<P> {
    /// The page's address if it is L2's memory, else [`NOWHERE`].
    load: u64,
    /// The same if it may be written besides, and is no page of code.
    store: u64,
    translation: Option<Translation<P>>,
}

/// The translations of one burst.
pub(super) struct Translations<P> {
    held: [Held<P>; HELD],
    /// A bit for each of them that may be stored to.
    stores: u64,
    /// Pages that were executed from, as far as they are known.
    code: [Option<P>; CODE],
    /// How many they are.
    codes: usize,
    root: u64,
}

impl<P: Copy + PartialEq> Translations<P> {
    /// None yet, by the tables that CR3 names.
    pub(super) const fn new(cr3: u64) -> Self {
        let none = Held {
            load: NOWHERE,
            store: NOWHERE,
            translation: None,
        };
        Self {
            held: [none; HELD],
            stores: 0,
            code: [None; CODE],
            codes: 0,
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
        let found = |found: &Translation<P>| found.linear == page;
        if !held.translation.as_ref().is_some_and(found) {
            let translation = walk(memory, window, self.root, page)?;
            let code = self.code.get(..self.codes).unwrap_or_default();
            *held = Held::of(translation, code);
            self.stores |= u64::from(held.store != NOWHERE) << slot(page);
        }
        held.translation.as_ref()
    }

    /// The page of L2's memory that the `width` bytes at `linear` are loaded from, if it is held and they are aligned.
    #[inline]
    pub(super) fn for_load(&self, linear: u64, width: u8) -> Option<P> {
        let held = self.held.get(slot(linear))?;
        let page = linear & !(PAGE_4K - u64::from(width));
        held.memory(page == held.load)
    }

    /// The same for a store. Never a page that was executed from.
    #[inline]
    pub(super) fn for_store(&self, linear: u64, width: u8) -> Option<P> {
        let held = self.held.get(slot(linear))?;
        let page = linear & !(PAGE_4K - u64::from(width));
        held.memory(page == held.store)
    }

    /// Instructions of `page` are executed: a store to it is no longer one like another. False if there are too many such
    /// pages; then none is known any more.
    pub(super) fn execute_from(&mut self, page: P) -> bool {
        if self.is_code(page) {
            return true;
        }
        let mut stores = self.stores;
        while stores != 0 {
            let slot = stores.trailing_zeros() as usize;
            stores &= stores - 1;
            if let Some(held) = self
                .held
                .get_mut(slot)
                .filter(|held| held.memory(true) == Some(page))
            {
                held.store = NOWHERE;
            }
        }
        let room = self.codes < CODE;
        if !room {
            self.codes = 0;
        }
        if let Some(place) = self.code.get_mut(self.codes) {
            *place = Some(page);
            self.codes += 1;
        }
        room
    }

    /// Whether `page` was executed from.
    pub(super) fn is_code(&self, page: P) -> bool {
        let code = self.code.get(..self.codes).unwrap_or_default();
        code.contains(&Some(page))
    }
}

impl<P: Copy + PartialEq> Held<P> {
    fn of(translation: Translation<P>, code: &[Option<P>]) -> Self {
        let if_it_is = |right: bool| if right { translation.linear } else { NOWHERE };
        let (load, store) = match translation.place {
            Place::Memory(page) => (true, translation.writable && !code.contains(&Some(page))),
            Place::Window(_) => (false, false),
        };
        Self {
            load: if_it_is(load),
            store: if_it_is(store),
            translation: Some(translation),
        }
    }

    /// The page of L2's memory, if `wanted`.
    #[inline]
    const fn memory(&self, wanted: bool) -> Option<P> {
        match self.translation {
            Some(Translation {
                place: Place::Memory(page),
                ..
            }) if wanted => Some(page),
            _ => None,
        }
    }
}

/// Where a page is held: neighbours apart, and so pages at the same place in regions of 256 KiB.
#[inline]
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
