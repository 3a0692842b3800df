//! MSI-X (PCI Local Bus 3.0, section 6.8.2).

use super::error::PciError;
use super::host::{Function, HostPci};
use super::region::Region;
use tdx_defs::ghci::MmioWidth;
use x86_defs::pci;

/// What the device sends as an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Address: which processor.
    pub address: u64,
    /// Data: the vector, and how it is delivered.
    pub data: u32,
}

/// The table of a function's interrupt messages.
#[derive(Debug)]
pub(super) struct Msix {
    /// Offset of the capability.
    pub(super) capability: u8,
    pub(super) entries: u16,
    pub(super) table: Region,
}

impl Msix {
    /// Writes the first entries of the table and turns MSI-X on; the entries behind them stay masked.
    pub(super) fn enable<H: HostPci>(
        &self,
        host: &H,
        function: Function,
        messages: &[Message],
    ) -> Result<(), PciError> {
        // Nothing is sent while the table is written.
        self.control(host, function, pci::MSIX_ENABLE | pci::MSIX_FUNCTION_MASK)?;
        for (entry, message) in (0..).zip(messages) {
            if entry >= u32::from(self.entries) {
                return Err(PciError::Vector(self.entries));
            }
            let at = entry * pci::MSIX_ENTRY;
            self.table.write_u64(host, at, message.address)?;
            let data = u64::from(message.data);
            self.table
                .write(host, at + pci::MSIX_ENTRY_DATA, MmioWidth::Dword, data)?;
            self.table
                .write(host, at + pci::MSIX_ENTRY_CONTROL, MmioWidth::Dword, 0)?;
        }
        self.control(host, function, pci::MSIX_ENABLE)
    }

    fn control<H: HostPci>(
        &self,
        host: &H,
        function: Function,
        value: u16,
    ) -> Result<(), PciError> {
        // The other half of the doubleword is read-only.
        host.config_write(function, self.capability, u32::from(value) << 16)
            .map_err(PciError::from)
    }
}
