//! The machine's memory: RAM by physical address, and device registers.
//!
//! RAM that this program's own image, heap and stacks use is *owned* and cannot be reached through
//! [`read()`], [`write()`] and [`zero()`]; the rest belongs to the simulated TD and its host.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;
use spin::Once;
use x86_defs::paging::PAGE_4K;

/// Start of the RAM that is not the TD's: this program and its pool.
pub(crate) const POOL_START: u64 = 0x7000_0000;
/// End of the pool.
pub(crate) const POOL_END: u64 = 0x8000_0000;
/// What the firmware may have written below; everything above is as QEMU made it: zero.
const FIRMWARE_END: u64 = 16 << 20;

/// A device's registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmio(u64);

impl Mmio {
    /// The registers at a physical address that is no RAM.
    pub(super) const fn new(base: u64) -> Self {
        Self(base)
    }

    fn write<T>(self, offset: u64, value: T) {
        // SAFETY: only this module's siblings make an `Mmio`, of registers that are no memory.
        unsafe { ((self.0 + offset) as *mut T).write_volatile(value) };
    }

    fn read<T: Copy>(self, offset: u64) -> T {
        // SAFETY: as for writing; `T` is an integer.
        unsafe { ((self.0 + offset) as *const T).read_volatile() }
    }

    pub(super) fn write8(self, offset: u64, value: u8) {
        self.write(offset, value);
    }

    pub(super) fn write16(self, offset: u64, value: u16) {
        self.write(offset, value);
    }

    pub(super) fn write32(self, offset: u64, value: u32) {
        self.write(offset, value);
    }

    pub(super) fn write64(self, offset: u64, value: u64) {
        self.write(offset, value);
    }

    pub(super) fn read8(self, offset: u64) -> u8 {
        self.read(offset)
    }

    pub(super) fn read16(self, offset: u64) -> u16 {
        self.read(offset)
    }

    pub(super) fn read32(self, offset: u64) -> u32 {
        self.read(offset)
    }

    pub(super) fn read64(self, offset: u64) -> u64 {
        self.read(offset)
    }
}

/// Memory of a device that is no RAM: a file of the host's, one to one.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    base: u64,
    length: u64,
}

impl DeviceMemory {
    /// The memory at a physical address.
    ///
    /// # Safety
    /// The range is mapped one to one and is memory of a device, which has no effect but to keep what is written. Nothing
    /// else of this program is there, and no second value is made of it.
    pub(super) const unsafe fn new(base: u64, length: u64) -> Self {
        Self { base, length }
    }

    /// Bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    #[track_caller]
    fn address(&self, offset: u64, length: usize) -> u64 {
        let end = offset.checked_add(length as u64);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "device memory {offset:#x} + {length:#x} of {:#x}",
            self.length
        );
        self.base + offset
    }

    #[track_caller]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        let from = self.address(offset, into.len()) as *const u8;
        // SAFETY: the range is inside the memory, by `address` and by who made the value; no Rust object is there.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    #[track_caller]
    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) {
        let to = self.address(offset, from.len()) as *mut u8;
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
}

/// The machine's RAM that the TD and the host may use.
struct Ram {
    ranges: Vec<Range<u64>>,
    /// One bit a page of the first range: set once the page may hold something other than zeros.
    dirty: Vec<AtomicU64>,
}

static RAM: Once<Ram> = Once::new();
/// The end of the first range, if that begins at 0: nearly everything is below.
static LOW_END: AtomicU64 = AtomicU64::new(0);

/// Declares the RAM, once. None of it may be in use by this program.
///
/// # Safety
/// The ranges are RAM, and no Rust object lies or will lie in them.
pub(crate) unsafe fn declare(ranges: Vec<Range<u64>>) {
    let low = ranges.first().map_or(0, |range| range.end.min(POOL_START));
    let words = (low / PAGE_4K).div_ceil(64) as usize;
    let mut dirty = Vec::with_capacity(words);
    dirty.resize_with(words, || AtomicU64::new(0));
    if let Some(Range { start: 0, end }) = ranges.first() {
        LOW_END.store(*end, Ordering::Relaxed);
    }
    RAM.call_once(|| Ram { ranges, dirty });
    mark_dirty(0, FIRMWARE_END);
}

fn ram() -> &'static Ram {
    match RAM.get() {
        Some(ram) => ram,
        None => panic!("memory is used before it is declared"),
    }
}

#[inline(always)]
#[track_caller]
fn check(address: u64, length: u64) {
    let end = address.checked_add(length);
    if end.is_none_or(|end| end > LOW_END.load(Ordering::Relaxed)) {
        check_ranges(address, length);
    }
}

#[cold]
#[track_caller]
fn check_ranges(address: u64, length: u64) {
    assert!(
        is_ram(address, length),
        "machine memory {address:#x} + {length:#x} is not the TD's or the host's"
    );
}

fn dirty_bit(address: u64) -> Option<(&'static AtomicU64, u64)> {
    let page = address / PAGE_4K;
    let word = ram().dirty.get((page / 64) as usize)?;
    Some((word, 1 << (page % 64)))
}

#[inline]
fn mark_dirty(address: u64, length: u64) {
    let first = address / PAGE_4K;
    let end = (address + length).div_ceil(PAGE_4K);
    // Within a page, nearly always.
    if end == first + 1 {
        mark_page_dirty(first);
    } else {
        mark_pages_dirty(first..end);
    }
}

#[cold]
fn mark_pages_dirty(pages: Range<u64>) {
    for page in pages {
        mark_page_dirty(page);
    }
}

#[inline]
fn mark_page_dirty(page: u64) {
    if let Some((word, bit)) = dirty_bit(page * PAGE_4K)
        && word.load(Ordering::Relaxed) & bit == 0
    {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Whether an address range is RAM that the TD or the host may use.
pub(crate) fn is_ram(address: u64, length: u64) -> bool {
    let end = address.checked_add(length);
    let inside =
        |range: &Range<u64>| address >= range.start && end.is_some_and(|end| end <= range.end);
    ram().ranges.iter().any(inside)
}

/// Reads RAM.
#[inline]
#[track_caller]
pub(crate) fn read(address: u64, into: &mut [u8]) {
    check(address, into.len() as u64);
    // What page walks read, without a call.
    if let Ok(word) = <&mut [u8; 8]>::try_from(&mut *into) {
        // SAFETY: as below; any bytes are eight.
        *word = unsafe { (address as *const [u8; 8]).read() };
        return;
    }
    // SAFETY: `check` keeps the range in declared RAM, where no Rust object lies (`declare`), and
    // no VM runs while the simulator does.
    unsafe {
        core::ptr::copy_nonoverlapping(address as *const u8, into.as_mut_ptr(), into.len());
    }
}

/// Writes RAM.
#[inline]
#[track_caller]
pub(crate) fn write(address: u64, from: &[u8]) {
    check(address, from.len() as u64);
    mark_dirty(address, from.len() as u64);
    // SAFETY: as in `read`.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), address as *mut u8, from.len()) };
}

/// Clears RAM, and takes it for used from then on: whoever clears it is about to hand it out.
///
/// Pages that nobody can have written since QEMU made them are zero already.
#[track_caller]
pub(crate) fn zero(address: u64, length: u64) {
    check(address, length);
    let mut at = address;
    while at < address + length {
        let next = ((at / PAGE_4K + 1) * PAGE_4K).min(address + length);
        let clean = match dirty_bit(at) {
            Some((word, bit)) => word.fetch_or(bit, Ordering::Relaxed) & bit == 0,
            None => false,
        };
        if !clean {
            // SAFETY: as in `read`.
            unsafe { core::ptr::write_bytes(at as *mut u8, 0, (next - at) as usize) };
        }
        at = next;
    }
}

/// RAM that nothing writes any more, as a slice.
///
/// # Safety
/// The range is RAM and is never written again, through this module or by a VM.
pub(crate) unsafe fn frozen(range: Range<u64>) -> &'static [u8] {
    let length = (range.end - range.start) as usize;
    // SAFETY: promised by the caller.
    unsafe { core::slice::from_raw_parts(range.start as *const u8, length) }
}
