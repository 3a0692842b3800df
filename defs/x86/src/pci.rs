//! PCI: configuration space of a function, and MSI-X (PCI Local Bus 3.0, "PCI").

/// Vendor ID u16, device ID u16 (PCI 6.2.1). A vendor of all ones: no function.
pub const VENDOR_DEVICE: u8 = 0x00;
/// Command u16, status u16 (PCI 6.2.2, 6.2.3).
pub const COMMAND_STATUS: u8 = 0x04;
/// Command: the function answers to its memory BARs.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may access memory.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: the function raises no interrupt line.
pub const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;
/// Status, in the upper half of the doubleword: there is a list of capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Revision u8, class code of 24 bits above it (PCI 6.2.1).
pub const CLASS_REVISION: u8 = 0x08;
/// Header type in bits 23:16 of this doubleword (PCI 6.2.1).
pub const HEADER: u8 = 0x0C;
/// Header type, without the multi-function bit.
pub const HEADER_TYPE_MASK: u8 = 0x7F;
/// Header type: there are functions 1 to 7 beside function 0.
pub const HEADER_MULTI_FUNCTION: u8 = 0x80;
/// Devices of a bus.
pub const DEVICES: u8 = 32;
/// Functions of a device.
pub const FUNCTIONS: u8 = 8;
/// First of the six base address registers of header type 0 (PCI 6.2.5).
pub const BAR: u8 = 0x10;
/// Number of base address registers of header type 0.
pub const BARS: u8 = 6;
/// BAR: of I/O space.
pub const BAR_IO: u32 = 1 << 0;
/// BAR of memory: its type.
pub const BAR_TYPE: u32 = 0b11 << 1;
/// BAR of memory: anywhere below 4 GiB.
pub const BAR_TYPE_32: u32 = 0b00 << 1;
/// BAR of memory: anywhere in 64 bits; the next register has the upper half.
pub const BAR_TYPE_64: u32 = 0b10 << 1;
/// BAR of memory: reads have no side effects (PCI 6.2.5.1).
pub const BAR_PREFETCHABLE: u32 = 1 << 3;
/// BAR of memory: the address.
pub const BAR_ADDRESS: u32 = !0xF;
/// Subsystem vendor ID u16, subsystem ID u16 (PCI 6.2.4).
pub const SUBSYSTEM: u8 = 0x2C;
/// First capability, in bits 7:0 (PCI 6.7).
pub const CAPABILITIES: u8 = 0x34;
/// The first offset at which a capability can be (PCI 6.7).
pub const CAPABILITIES_START: u8 = 0x40;
/// Pointers to capabilities: bits that count.
pub const CAPABILITY_POINTER: u8 = 0xFC;
/// Bytes of conventional configuration space.
pub const CONFIGURATION_SIZE: u16 = 256;

/// Memory-mapped configuration space (PCI Express Base 6.0, section 7.2.2): bytes of a function.
pub const ECAM_FUNCTION: u64 = 0x1000;
/// Bytes of a bus there: 32 devices of 8 functions.
pub const ECAM_BUS: u64 = 0x10_0000;

/// Class code (PCI appendix D): a bridge to the host.
pub const CLASS_HOST_BRIDGE: u32 = 0x06_0000;
/// Class code: no device of the other classes.
pub const CLASS_OTHER: u32 = 0xFF_0000;
/// Class code: another mass storage controller.
pub const CLASS_STORAGE: u32 = 0x01_8000;
/// Class code: an Ethernet controller.
pub const CLASS_ETHERNET: u32 = 0x02_0000;
/// Class code: another communications device.
pub const CLASS_COMMUNICATION: u32 = 0x07_8000;

/// Capability: vendor-specific (PCI appendix H).
pub const CAPABILITY_VENDOR: u8 = 0x09;
/// Capability: MSI-X.
pub const CAPABILITY_MSIX: u8 = 0x11;

/// MSI-X capability (PCI 6.8.2): message control in the upper half of the first doubleword. Its number of entries less one.
pub const MSIX_TABLE_SIZE: u16 = 0x7FF;
/// Message control: all vectors are masked.
pub const MSIX_FUNCTION_MASK: u16 = 1 << 14;
/// Message control: MSI-X is on.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// Where the table is: BAR in bits 2:0, offset above them.
pub const MSIX_TABLE: u8 = 4;
/// Where the array of pending bits is, as for the table.
pub const MSIX_PENDING: u8 = 8;
/// The BAR of a table.
pub const MSIX_BAR: u32 = 7;
/// Bytes of the capability.
pub const MSIX_SIZE: u8 = 12;
/// Bytes of an entry of the table: address u64, data u32, vector control u32.
pub const MSIX_ENTRY: u32 = 16;
/// Entry: message data.
pub const MSIX_ENTRY_DATA: u32 = 8;
/// Entry: vector control.
pub const MSIX_ENTRY_CONTROL: u32 = 12;
/// Vector control: masked.
pub const MSIX_MASKED: u32 = 1;

/// CONFIG_ADDRESS (PCI 3.2.2.3.2): CONFIG_DATA is configuration space.
pub const CONFIG_ENABLE: u32 = 1 << 31;

/// The LPC bridge of the I/O controller hub 9 (device 31 function 0), device and vendor ID.
pub const ICH9_LPC: u32 = 0x2918_8086;

/// That bridge's registers (Intel I/O Controller Hub 9 datasheet, section 13.1).
pub mod lpc {
    /// Base of the power management block's ports. 0: it has none.
    pub const PMBASE: u8 = 0x40;
    /// PMBASE: an I/O address, always set.
    pub const PMBASE_IO: u32 = 1 << 0;
    /// PMBASE: the address.
    pub const PMBASE_ADDRESS: u32 = 0xFF80;
    /// ACPI control.
    pub const ACPI_CNTL: u8 = 0x44;
    /// ACPI control: the block answers at PMBASE.
    pub const ACPI_EN: u32 = 1 << 7;
    /// From PMBASE to PM1_CNT.
    pub const PM1_CNT: u16 = 4;
}
