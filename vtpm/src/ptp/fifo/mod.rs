//! The FIFO interface: its registers, and a command's way through them.

pub mod bits;

/// The interface by InterfaceType and InterfaceVersion of [`bits::INTERFACE_ID`]: what the journal's
/// `start` calls it.
pub const NAME: &str = "PTP FIFO";

// PTP 1.05, "TPM_INTERFACE_ID_x": FIFO interface as defined in PTP, version 0.
const _: () = assert!(
    bits::INTERFACE_ID.interface_type() == 0 && bits::INTERFACE_ID.interface_version() == 0
);

pub(super) mod transfer;
