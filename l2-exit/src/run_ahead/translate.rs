//! Translations of a burst, held as a TLB would hold them.
//!
//! Only plain ones: four levels, a supervisor's page, every entry accessed, the page of L2's memory with the memory type
//! that entry 0 of IA32_PAT has, or of the window. Whatever else the tables say is for the processor to find.

use alloc::boxed::Box;

use super::Window;
use crate::memory::GuestPages;
use x86_defs::paging::{
    ACCESSED, ADDRESS, DIRTY, EXECUTE_DISABLE, LARGE, PAGE_4K, PRESENT, USER, WRITABLE,
};

/// Bits 3, 4 of an entry: PWT and PCD.
const TYPE: u64 = 0b11 << 3;
/// PAT of a leaf that maps more than 4 KiB.
const PAT_LARGE: u64 = 1 << 12;
/// Pages that are held; a power of two. A driver's burst has some twenty, and two at one place cost a walk each time.
const HELD: usize = 256;
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
    /// With the burst's mark, where it is held.
    linear: u64,
    /// Writes need nothing of the processor: the entries allow them, and the page is dirty.
    pub(super) writable: bool,
    /// Instructions may be fetched.
    pub(super) executable: bool,
    /// Where it is.
    pub(super) place: Place<P>,
}

/// What no address of a burst is equal to.
const NOWHERE: u64 = 0;
/// A burst's mark is counted in these: above what aligns eight bytes.
const MARK: u64 = 8;

/// A page of L2's memory, and for what it may be used without a further question.
#[derive(Clone, Copy)]
struct Plain<P> {
    /// Its address with the mark of the burst, or [`NOWHERE`].
    load: u64,
    /// The same if it may be written besides, and is no page of code.
    store: u64,
    /// The same if it is a page of code.
    fetch: u64,
    page: P,
}

/// The translations of a burst. What others left has another mark.
pub(super) struct Translations<P> {
    /// What is asked first.
    plain: Box<[Plain<P>; HELD]>,
    held: Box<[Option<Translation<P>>; HELD]>,
    /// A bit for each of them that may be stored to.
    stores: [u64; HELD / 64],
    /// Pages that were executed from, as far as they are known.
    code: [Option<P>; CODE],
    /// How many they are.
    codes: usize,
    root: u64,
    mark: u64,
}

impl<P: Copy + PartialEq> Translations<P> {
    /// None. Any page will do. Allocates.
    pub(super) fn new(page: P) -> Self {
        let none = Plain {
            load: NOWHERE,
            store: NOWHERE,
            fetch: NOWHERE,
            page,
        };
        Self {
            plain: Box::new([none; HELD]),
            held: Box::new([None; HELD]),
            stores: [0; HELD / 64],
            code: [None; CODE],
            codes: 0,
            root: 0,
            mark: 0,
        }
    }

    /// None again, by the tables that CR3 names.
    pub(super) fn begin(&mut self, cr3: u64) {
        self.stores = [0; HELD / 64];
        self.codes = 0;
        self.root = cr3 & ADDRESS;
        self.mark += MARK;
        if self.mark < PAGE_4K {
            return;
        }
        // Of the first that had it, some may be left.
        self.mark = MARK;
        self.held.fill(None);
        for plain in self.plain.iter_mut() {
            (plain.load, plain.store, plain.fetch) = (NOWHERE, NOWHERE, NOWHERE);
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
        let marked = self.aligned(linear, 1);
        let held = self.held.get_mut(slot(linear))?;
        let found = |found: &Translation<P>| found.linear == marked;
        if !held.as_ref().is_some_and(found) {
            let translation = walk(memory, window, self.root, linear & !(PAGE_4K - 1))?;
            let code = self.code.get(..self.codes).unwrap_or_default();
            let plain = self.plain.get_mut(slot(linear))?;
            plain.is(&translation, marked, code);
            let bit = 1 << (slot(linear) % 64);
            let stores = self.stores.get_mut(slot(linear) / 64)?;
            match plain.store {
                NOWHERE => *stores &= !bit,
                _ => *stores |= bit,
            }
            *held = Some(Translation {
                linear: marked,
                ..translation
            });
        }
        held.as_ref()
    }

    /// The page of L2's memory that the `width` bytes at `linear` are loaded from, if it is held and they are aligned.
    #[inline]
    pub(super) fn for_load(&self, linear: u64, width: u8) -> Option<P> {
        let plain = self.plain.get(slot(linear))?;
        (self.aligned(linear, width) == plain.load).then_some(plain.page)
    }

    /// The same for a store. Never a page that was executed from.
    #[inline]
    pub(super) fn for_store(&self, linear: u64, width: u8) -> Option<P> {
        let plain = self.plain.get(slot(linear))?;
        (self.aligned(linear, width) == plain.store).then_some(plain.page)
    }

    /// The page of L2's memory that is executed from at `linear`, if it is held and was executed from.
    #[inline]
    pub(super) fn for_fetch(&self, linear: u64) -> Option<P> {
        let plain = self.plain.get(slot(linear))?;
        (self.aligned(linear, 1) == plain.fetch).then_some(plain.page)
    }

    /// The address in the window that the `width` bytes at `linear` are at, if the page is held and they are aligned; for a
    /// store, if the page may be written.
    #[inline]
    pub(super) fn for_window(&self, linear: u64, width: u8, store: bool) -> Option<u64> {
        let held = self.held.get(slot(linear))?.as_ref()?;
        let found = held.linear == self.aligned(linear, width) && (held.writable || !store);
        match held.place {
            Place::Window(gpa) if found => Some(gpa | linear & (PAGE_4K - 1)),
            _ => None,
        }
    }

    /// Instructions of `page`, which is held for `linear`, are executed: a store to it is no longer one like another. False
    /// if there are too many such pages; then none is known any more.
    pub(super) fn execute_from(&mut self, linear: u64, page: P) -> bool {
        let room = self.is_code(page) || self.add_code(page);
        let linear = self.aligned(linear, 1);
        if let Some(plain) = self.plain.get_mut(slot(linear))
            && plain.load == linear
            && plain.page == page
        {
            plain.fetch = linear;
        }
        room
    }

    /// The same for one that is not known for it.
    fn add_code(&mut self, page: P) -> bool {
        for (stores, plain) in self
            .stores
            .iter_mut()
            .zip(self.plain.as_chunks_mut::<64>().0)
        {
            let mut rest = *stores;
            while rest != 0 {
                let slot = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if let Some(plain) = plain.get_mut(slot).filter(|plain| plain.page == page) {
                    plain.store = NOWHERE;
                    *stores &= !(1 << slot);
                }
            }
        }
        let room = self.codes < CODE;
        if !room {
            self.codes = 0;
            for plain in self.plain.iter_mut() {
                plain.fetch = NOWHERE;
            }
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

    /// `linear` without its offset but for what should be 0 where `width` bytes, a power of two, are aligned, and with the
    /// burst's mark in it.
    #[inline]
    const fn aligned(&self, linear: u64, width: u8) -> u64 {
        linear & !(PAGE_4K - width as u64) | self.mark
    }
}

impl<P: Copy + PartialEq> Plain<P> {
    /// Makes it that of `translation`, at the address `marked`, where `code` was executed from.
    fn is(&mut self, translation: &Translation<P>, marked: u64, code: &[Option<P>]) {
        (self.load, self.store, self.fetch) = (NOWHERE, NOWHERE, NOWHERE);
        if let Place::Memory(page) = translation.place {
            self.page = page;
            self.load = marked;
            if translation.writable && !code.contains(&Some(page)) {
                self.store = marked;
            }
        }
    }
}

/// Where the page of an address is held: neighbours apart, and so pages at the same place in regions of 1 MiB.
#[inline]
const fn slot(linear: u64) -> usize {
    (linear >> 12 ^ linear >> 20) as usize % HELD
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
