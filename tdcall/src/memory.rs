//! Memory that calls name by its address, as traits: access to it is whoever maps it to give.

use tdx_defs::Gpa;

/// A page of L1's own that the TDX module reads operands from and writes results to. Private, and
/// for nothing else.
pub trait OperandPage {
    /// Its address, a multiple of 4 KiB.
    fn gpa(&self) -> Gpa;
    /// Copies out of the page. `offset` and length stay inside its 4 KiB.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies into the page. `offset` and length stay inside its 4 KiB.
    fn write(&mut self, offset: usize, from: &[u8]);
}

/// Memory that the host can read and write, made shared by MapGPA before it is used here.
///
/// Every access is a copy of bytes that can change at any moment; there is no reference into it.
/// Offsets and lengths passed here stay inside [`Self::length`].
pub trait SharedBuffer {
    /// Guest-physical address without the SHARED bit, which is how the host's devices address it.
    fn gpa(&self) -> u64;
    /// Bytes.
    fn length(&self) -> usize;
    /// Copies out of the buffer, each byte read once. Two, four or eight bytes at a multiple of their number are read by one
    /// access: who writes them as one is not seen half-way.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies into the buffer; two, four or eight bytes at a multiple of their number by one access.
    fn write(&self, offset: usize, from: &[u8]);
}
