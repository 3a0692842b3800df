//! L2's memory and L2's devices, as an emulated instruction sees them.

use tdx_defs::ghci::Width;
use x86_defs::paging::PAGE_4K;

/// A guest-physical range that is not wholly private L2 memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical address {gpa:#x} is not private L2 memory")]
pub struct MemoryError {
    /// First address of the refused range.
    pub gpa: u64,
}

/// Private memory that L2 may itself read and write.
///
/// Everything else is refused as a whole: shared pages, holes, device windows and every page
/// of L1's, so that an instruction L1 emulates reaches no more than the instruction itself
/// would have. L2 can change the memory at any time; a value is read once and then checked.
///
/// Addresses come from L2's page tables unfiltered: any of 52 bits may be set, the shared bit
/// among them.
pub trait GuestMemory {
    /// Copies `into.len()` bytes from `gpa`, all or none. An emulated instruction asks for 1 to 16, inside one
    /// 4 KiB page.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Copies `from` to `gpa`, all or none. An emulated instruction has 1 to 16 bytes, inside one 4 KiB page.
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError>;
}

/// [`GuestMemory`] by pages: what is asked once for a page costs nothing at each access to it.
///
/// An access is a single one of its width, as L2's own instruction would have made it, and comes in the order in which
/// the calls are made.
pub trait GuestPages: GuestMemory {
    /// A 4 KiB page of L2's memory.
    type Page: Copy + PartialEq;

    /// The page at `gpa`, a multiple of 4096, if [`GuestMemory`] has all of it.
    fn page(&self, gpa: u64) -> Option<Self::Page>;

    /// The `width` (1, 2, 4 or 8) bytes at `offset` of the page, zero-extended. None if they are not in it.
    fn load(&self, page: Self::Page, offset: u16, width: u8) -> Option<u64>;

    /// Replaces the `width` (1, 2, 4 or 8) bytes at `offset` of the page by the low bytes of `value`. None, and nothing
    /// is written, if they are not in it.
    fn store(&self, page: Self::Page, offset: u16, width: u8, value: u64) -> Option<()>;
}

/// [`GuestPages::load`] for memory that is reached by address.
pub fn load_copied<M: GuestMemory>(memory: &M, page: u64, offset: u16, width: u8) -> Option<u64> {
    let mut bytes = [0; 8];
    let into = bytes.get_mut(..usize::from(width))?;
    memory.read(inside(page, offset, width)?, into).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// [`GuestPages::store`] for memory that is reached by address.
pub fn store_copied<M: GuestMemory>(
    memory: &M,
    page: u64,
    offset: u16,
    width: u8,
    value: u64,
) -> Option<()> {
    let bytes = value.to_le_bytes();
    let from = bytes.get(..usize::from(width))?;
    memory.write(inside(page, offset, width)?, from).ok()
}

/// The address of `width` bytes at `offset` of `page`, if they are in it.
fn inside(page: u64, offset: u16, width: u8) -> Option<u64> {
    (u64::from(offset) + u64::from(width) <= PAGE_4K).then(|| page + u64::from(offset))
}

/// The devices that live in L2's guest-physical address space.
///
/// Accesses are 1, 2, 4 or 8 bytes and stay inside one 4 KiB page, but need not be aligned.
/// The address is the one L2 used, with the shared bit if it was set: the bus masks it.
pub trait MmioBus {
    /// Whether a device answers at `gpa`. Never true for an address of [`GuestMemory`].
    fn claims(&self, gpa: u64) -> bool;

    /// Reads `into.len()` bytes at `gpa`, which [`MmioBus::claims`] said is a device's.
    fn read(&mut self, gpa: u64, into: &mut [u8]);

    /// Writes `from` at `gpa`, which [`MmioBus::claims`] said is a device's.
    fn write(&mut self, gpa: u64, from: &[u8]);
}

/// The devices that live in L2's I/O port space.
pub trait PortBus {
    /// Reads `width` bytes at `port`; bits above `width` are ignored. No device: all ones.
    fn read(&mut self, port: u16, width: Width) -> u32;

    /// Writes the low `width` bytes of `value` (the rest is zero) to `port`.
    fn write(&mut self, port: u16, width: Width, value: u32);
}
