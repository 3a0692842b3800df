//! Registers of one structure.

use super::error::{PciError, Structure};
use super::host::HostPci;
use crate::launch::gpa_range::GpaRange;
use tdx_defs::ghci::MmioWidth;

/// The addresses of a structure, all of them inside a BAR that L1 placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) structure: Structure,
    pub(super) range: GpaRange,
}

impl Region {
    /// Address of a register, if the structure has it.
    pub(super) fn register(&self, offset: u32, width: MmioWidth) -> Result<u64, PciError> {
        self.range
            .start()
            .checked_add(offset.into())
            .and_then(|start| GpaRange::with_length(start, width.bytes()))
            .filter(|register| self.range.contains(register))
            .map(|register| register.start())
            .ok_or(PciError::Outside(self.structure))
    }

    pub(super) fn read<H: HostPci>(
        &self,
        host: &H,
        offset: u32,
        width: MmioWidth,
    ) -> Result<u64, PciError> {
        let gpa = self.register(offset, width)?;
        Ok(host.register_read(gpa, width)? & width.mask())
    }

    pub(super) fn read_u16<H: HostPci>(&self, host: &H, offset: u32) -> Result<u16, PciError> {
        Ok(self.read(host, offset, MmioWidth::Word)? as u16)
    }

    pub(super) fn read_u8<H: HostPci>(&self, host: &H, offset: u32) -> Result<u8, PciError> {
        Ok(self.read(host, offset, MmioWidth::Byte)? as u8)
    }

    pub(super) fn write<H: HostPci>(
        &self,
        host: &H,
        offset: u32,
        width: MmioWidth,
        value: u64,
    ) -> Result<(), PciError> {
        let gpa = self.register(offset, width)?;
        Ok(host.register_write(gpa, width, value)?)
    }

    /// Writes a register of 64 bits as two doublewords, as every device takes it (VIRTIO 4.1.3.1).
    pub(super) fn write_u64<H: HostPci>(
        &self,
        host: &H,
        offset: u32,
        value: u64,
    ) -> Result<(), PciError> {
        self.write(host, offset, MmioWidth::Dword, value & 0xFFFF_FFFF)?;
        self.write(host, offset + 4, MmioWidth::Dword, value >> 32)
    }
}
