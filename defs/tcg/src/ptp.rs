//! The TPM's registers in memory (PTP 1.05, section "Address Map").

use core::ops::Range;

/// First address of the registers: those of locality 0.
pub const BASE: u64 = 0xFED4_0000;
/// Bytes from one locality's registers to the next's.
pub const LOCALITY_SIZE: u64 = 0x1000;
/// Localities 0 to 4.
pub const LOCALITIES: u8 = 5;
/// Guest-physical addresses of all registers.
pub const WINDOW: Range<u64> = BASE..BASE + LOCALITY_SIZE * LOCALITIES as u64;

/// Registers of the FIFO interface by their offsets in a locality's page (PTP 1.05, section "FIFO Interface").
pub mod fifo {
    /// TPM_ACCESS_x, one byte.
    pub const ACCESS: u32 = 0x000;
    /// TPM_INT_ENABLE_x.
    pub const INT_ENABLE: u32 = 0x008;
    /// Number of the interrupt, one byte.
    pub const INT_VECTOR: u32 = 0x00c;
    /// Interrupts that have occurred.
    pub const INT_STATUS: u32 = 0x010;
    /// TPM_INTF_CAPABILITY_x.
    pub const INTF_CAPABILITY: u32 = 0x014;
    /// TPM_STS_x.
    pub const STS: u32 = 0x018;
    /// Locality 4: the end of a dynamic launch.
    pub const HASH_END: u32 = 0x020;
    /// Commands in, responses out. Locality 4 during a dynamic launch: what is launched.
    pub const DATA_FIFO: u32 = 0x024;
    /// Locality 4: the start of a dynamic launch.
    pub const HASH_START: u32 = 0x028;
    /// TPM_INTERFACE_ID_x.
    pub const INTERFACE_ID: u32 = 0x030;
    /// The FIFO again, with room for bursts.
    pub const XDATA_FIFO: u32 = 0x080;
    /// The first offset after it.
    pub const XDATA_FIFO_END: u32 = 0x0c0;
    /// Vendor and device.
    pub const DID_VID: u32 = 0xf00;
    /// Revision, one byte.
    pub const RID: u32 = 0xf04;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_profiles() {
        assert_eq!(WINDOW, 0xFED4_0000..0xFED4_5000);
    }
}
