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

/// Registers of the command response buffer (CRB) interface by their offsets in a locality's page (PTP 1.05, section
/// "CRB Interface").
pub mod crb {
    /// TPM_LOC_STATE_x.
    pub const LOC_STATE: u32 = 0x000;
    /// TPM_LOC_CTRL_x.
    pub const LOC_CTRL: u32 = 0x008;
    /// TPM_LOC_STS_x.
    pub const LOC_STS: u32 = 0x00c;
    /// TPM_CRB_INTF_ID_x, the lower half: as TPM_INTERFACE_ID_x of the FIFO interface.
    pub const INTF_ID: u32 = 0x030;
    /// TPM_CRB_INTF_ID_x, the upper half: vendor and device.
    pub const INTF_ID_VENDOR: u32 = 0x034;
    /// TPM_CRB_CTRL_REQ_x. The control area begins here, where the ACPI table TPM2 points to.
    pub const CTRL_REQ: u32 = 0x040;
    /// TPM_CRB_CTRL_STS_x.
    pub const CTRL_STS: u32 = 0x044;
    /// TPM_CRB_CTRL_CANCEL_x.
    pub const CTRL_CANCEL: u32 = 0x048;
    /// TPM_CRB_CTRL_START_x.
    pub const CTRL_START: u32 = 0x04c;
    /// TPM_CRB_INT_ENABLE_x.
    pub const INT_ENABLE: u32 = 0x050;
    /// TPM_CRB_INT_STS_x.
    pub const INT_STS: u32 = 0x054;
    /// TPM_CRB_CTRL_CMD_SIZE_x, bytes.
    pub const CTRL_CMD_SIZE: u32 = 0x058;
    /// TPM_CRB_CTRL_CMD_LADDR_x: the lower half of the command's address.
    pub const CTRL_CMD_LADDR: u32 = 0x05c;
    /// TPM_CRB_CTRL_CMD_HADDR_x: the upper half.
    pub const CTRL_CMD_HADDR: u32 = 0x060;
    /// TPM_CRB_CTRL_RSP_SIZE_x, bytes.
    pub const CTRL_RSP_SIZE: u32 = 0x064;
    /// TPM_CRB_CTRL_RSP_ADDR_x: the response's address, the lower half first.
    pub const CTRL_RSP_LADDR: u32 = 0x068;
    /// The upper half.
    pub const CTRL_RSP_HADDR: u32 = 0x06c;
    /// TPM_CRB_DATA_BUFFER_x, to the end of the page.
    pub const DATA_BUFFER: u32 = 0x080;
    /// Bytes of it.
    pub const DATA_BUFFER_SIZE: u32 = super::LOCALITY_SIZE as u32 - DATA_BUFFER;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_profiles() {
        assert_eq!(WINDOW, 0xFED4_0000..0xFED4_5000);
    }
}
