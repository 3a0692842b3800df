//! The registers of the FIFO interface: offsets and bits, no behaviour.
//!
//! PTP 1.05, section "FIFO Interface"; TIS 1.3 for what it took over from there.

use bitfield_struct::bitfield;

/// TPM_ACCESS_x, 0x000: who owns the TPM. A read has no side effect.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Access {
    /// Reads inverted: set while no dynamic launch has happened.
    #[bits(access = RW)]
    pub tpm_establishment: bool,
    /// Write: asks for the TPM. Reads as set until it is granted.
    pub request_use: bool,
    /// Another locality asks for the TPM.
    pub pending_request: bool,
    /// Write: takes the TPM from a lower locality. Never reads as set.
    pub seize: bool,
    /// The TPM was taken by a higher locality. Write: clears.
    pub been_seized: bool,
    /// This locality owns the TPM. Write: gives it up, or withdraws the request for it.
    pub active_locality: bool,
    __: bool,
    /// The other bits are valid.
    pub tpm_reg_valid_sts: bool,
}

/// TPM_INT_ENABLE_x, 0x008.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IntEnable {
    pub data_avail: bool,
    pub sts_valid: bool,
    pub locality_change: bool,
    #[bits(2)]
    pub type_polarity: u8,
    #[bits(2)]
    __: u8,
    pub command_ready: bool,
    #[bits(23)]
    __: u32,
    pub global: bool,
}

impl IntEnable {
    /// After a reset: nothing enabled, active low.
    pub const RESET: Self = Self::new().with_type_polarity(1);
    /// What can be stored.
    pub const WRITABLE: u32 = Self::new()
        .with_data_avail(true)
        .with_sts_valid(true)
        .with_locality_change(true)
        .with_type_polarity(3)
        .with_command_ready(true)
        .with_global(true)
        .into_bits();
}

/// TPM_INTF_CAPABILITY_x, 0x014.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IntfCapability {
    pub data_avail_int: bool,
    pub sts_valid_int: bool,
    pub locality_change_int: bool,
    pub interrupt_level_high: bool,
    pub interrupt_level_low: bool,
    pub interrupt_edge_rising: bool,
    pub interrupt_edge_falling: bool,
    pub command_ready_int: bool,
    pub burst_count_static: bool,
    /// 0: only 4 bytes, 1: 8, 2: 32, 3: 64.
    #[bits(2)]
    pub data_transfer_size: u8,
    #[bits(17)]
    __: u32,
    /// 0: TIS 1.21 and before, 2: TIS 1.3, 3: PTP.
    #[bits(3)]
    pub interface_version: u8,
    __: bool,
}

/// What this interface says of itself. Every one of these interrupts is raised; whether the line is connected is for ACPI
/// to say.
pub const INTF_CAPABILITY: IntfCapability = IntfCapability::new()
    .with_data_avail_int(true)
    .with_sts_valid_int(true)
    .with_locality_change_int(true)
    .with_interrupt_level_low(true)
    .with_command_ready_int(true)
    .with_data_transfer_size(3)
    .with_interface_version(3);

/// TPM_STS_x, 0x018.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Status {
    __: bool,
    /// Write: the response is to be read again from its start. Reads as 0.
    pub response_retry: bool,
    pub self_test_done: bool,
    /// More of the command is to be written.
    pub expect: bool,
    /// More of the response is to be read.
    pub data_avail: bool,
    /// Write: executes the command. Reads as 0.
    pub tpm_go: bool,
    /// A command can be written. Write: makes it so, whatever was before.
    pub command_ready: bool,
    /// Expect and dataAvail are valid.
    pub sts_valid: bool,
    /// How many bytes the FIFO takes or gives without a wait.
    #[bits(16)]
    pub burst_count: u16,
    /// Write: the running command is to give up. Reads as 0.
    pub command_cancel: bool,
    /// Write, localities 3 and 4: no dynamic launch has happened. Reads as 0.
    pub reset_establishment_bit: bool,
    /// 0: TPM 1.2, 1: TPM 2.0.
    #[bits(2)]
    pub tpm_family: u8,
    #[bits(4)]
    __: u8,
}

/// Vendor 0x1014 (low half), device 1. Drivers have quirks for other vendors, none for this one.
pub const DID_VID: u32 = 0x0001_1014;

/// Revision.
pub const RID: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_interface() {
        assert_eq!(INTF_CAPABILITY.into_bits(), 0x3000_0697);
        assert_eq!(IntEnable::RESET.into_bits(), 8);
        assert_eq!(IntEnable::WRITABLE, 0x8000_009f);
        assert_eq!(Access::new().with_seize(true).into_bits(), 0x08);
        assert_eq!(Access::new().with_tpm_reg_valid_sts(true).into_bits(), 0x80);
        assert_eq!(Status::new().with_command_cancel(true).into_bits(), 1 << 24);
        assert_eq!(Status::new().with_tpm_family(1).into_bits(), 1 << 26);
        assert_eq!(Status::new().with_sts_valid(true).into_bits(), 0x80);
    }
}
