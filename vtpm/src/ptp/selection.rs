//! TPM_INTERFACE_ID_x: which interface there is, the one that the other registers belong to.
//!
//! It is at one offset in all of them, and the same for all localities. A TPM has the interface that it was made with;
//! the register's selector cannot change it.

use bitfield_struct::bitfield;

/// TPM_INTERFACE_ID_x, 0x030.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct InterfaceId {
    /// 0: FIFO of PTP, 1: CRB, 0xf: FIFO of TIS 1.3.
    #[bits(4)]
    pub interface_type: u8,
    #[bits(4)]
    pub interface_version: u8,
    /// All five localities.
    pub cap_locality: bool,
    #[bits(2)]
    __: u8,
    #[bits(2)]
    pub cap_data_xfer_size: u8,
    pub cap_fifo: bool,
    pub cap_crb: bool,
    #[bits(2)]
    __: u8,
    /// Write: 0: FIFO, 1: CRB, where both can be had.
    #[bits(2)]
    pub interface_selector: u8,
    /// Write: the selector stays as it is until the next reset.
    pub intf_sel_lock: bool,
    #[bits(12)]
    __: u16,
}

/// The FIFO and nothing else, five localities.
pub(super) const FIFO_ID: InterfaceId = InterfaceId::new()
    .with_cap_locality(true)
    .with_cap_fifo(true);

/// The CRB and nothing else, five localities. EDK2 takes version 1 or 2.
pub(super) const CRB_ID: InterfaceId = InterfaceId::new()
    .with_interface_type(1)
    .with_interface_version(1)
    .with_cap_locality(true)
    .with_cap_data_xfer_size(3)
    .with_cap_crb(true)
    .with_interface_selector(1);

/// Whether the selector can still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Open,
    Locked,
}

/// The register's state.
#[derive(Debug)]
pub(super) struct Selection {
    id: InterfaceId,
    lock: Lock,
}

impl Selection {
    /// As after a platform reset, of the interface that `id` is.
    pub(super) const fn new(id: InterfaceId) -> Self {
        Self {
            id,
            lock: Lock::Open,
        }
    }

    /// The platform was reset.
    pub(super) const fn reset(&mut self) {
        self.lock = Lock::Open;
    }

    pub(super) fn read(&self) -> InterfaceId {
        self.id.with_intf_sel_lock(self.lock == Lock::Locked)
    }

    /// The only interface stays selected, whatever is written.
    pub(super) fn write(&mut self, id: InterfaceId) {
        if id.intf_sel_lock() {
            self.lock = Lock::Locked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_interfaces() {
        assert_eq!(FIFO_ID.into_bits(), 0x2100);
        assert_eq!(CRB_ID.into_bits(), 0x0002_5911);
    }

    #[test]
    fn a_lock_stays() {
        let mut selection = Selection::new(FIFO_ID);
        selection.write(InterfaceId::new().with_interface_selector(1));
        assert_eq!(selection.read(), FIFO_ID);
        selection.write(InterfaceId::new().with_intf_sel_lock(true));
        selection.write(InterfaceId::new());
        assert_eq!(selection.read().into_bits(), 0x0008_2100);
        selection.reset();
        assert_eq!(selection.read(), FIFO_ID);
    }
}
