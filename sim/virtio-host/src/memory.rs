//! The memory that devices reach.

/// Memory by guest physical address, without the SHARED bit. Of a TD, the host reaches what is shared and nothing else.
pub trait Memory {
    /// Reads `into.len()` bytes; they may be of several pages.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotShared>;
    /// Writes.
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotShared>;
}

/// The host has no access to this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShared(
    /// The first address that it has no access to.
    pub u64,
);

pub(crate) fn read_u16(memory: &dyn Memory, gpa: u64) -> Result<u16, NotShared> {
    let mut bytes = [0; 2];
    memory.read(gpa, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

pub(crate) fn write_u16(memory: &dyn Memory, gpa: u64, value: u16) -> Result<(), NotShared> {
    memory.write(gpa, &value.to_le_bytes())
}
