//! L2's memory and L2's devices, as an emulated instruction sees them.

use tdx_defs::ghci::Width;

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
