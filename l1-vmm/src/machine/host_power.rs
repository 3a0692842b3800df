//! The host's power management, which firmware sets up on other machines.
//!
//! The power management block of a q35 machine (ICH9) has no ports after a reset: firmware puts it where its ACPI tables
//! then say that it is. td-shim is no such firmware, so that L1 does it before it ends the machine; else QEMU would not
//! hear of it, and the TD would stand still for ever. On a host with another bridge there is nothing to do that L1 knows.
//!
//! Source: Intel I/O Controller Hub 9 datasheet, section 13.1 (LPC interface, device 31 function 0).

use tdcall::tdvmcall::VmcallError;
use x86_defs::pci::{ICH9_LPC, lpc};

use crate::virtio::pci::{Function, HostPci};

/// Where QEMU's own firmware puts the block, too.
pub const PM_BASE: u16 = 0x600;
/// PM1_CNT there.
pub const PM1_CNT: u16 = PM_BASE + lpc::PM1_CNT;

/// The LPC bridge.
const BRIDGE: Function = Function {
    bus: 0,
    device_function: 31 << 3,
};

/// Puts the power management block at [`PM_BASE`] where the host has it nowhere, or elsewhere.
///
/// # Errors
/// The host does not let L1 reach its bus.
pub fn enable(bus: &impl HostPci) -> Result<(), VmcallError> {
    if bus.config_read(BRIDGE, x86_defs::pci::VENDOR_DEVICE)? != ICH9_LPC {
        return Ok(());
    }
    bus.config_write(BRIDGE, lpc::PMBASE, u32::from(PM_BASE) | lpc::PMBASE_IO)?;
    let control = bus.config_read(BRIDGE, lpc::ACPI_CNTL)?;
    bus.config_write(BRIDGE, lpc::ACPI_CNTL, control | lpc::ACPI_EN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use tdx_defs::ghci::MmioWidth;

    /// A bus with these doublewords, ones elsewhere.
    #[derive(Default)]
    struct Bus {
        doublewords: BTreeMap<(u8, u8), u32>,
        written: RefCell<Vec<(u8, u8, u32)>>,
    }

    impl HostPci for Bus {
        fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
            let key = (function.device_function, offset);
            Ok(self.doublewords.get(&key).copied().unwrap_or(u32::MAX))
        }

        fn config_write(
            &self,
            function: Function,
            offset: u8,
            value: u32,
        ) -> Result<(), VmcallError> {
            let mut written = self.written.borrow_mut();
            written.push((function.device_function, offset, value));
            Ok(())
        }

        fn register_read(&self, _: u64, _: MmioWidth) -> Result<u64, VmcallError> {
            Err(VmcallError::InvalidOperand)
        }

        fn register_write(&self, _: u64, _: MmioWidth, _: u64) -> Result<(), VmcallError> {
            Err(VmcallError::InvalidOperand)
        }
    }

    /// As QEMU 7.2's q35 needs it, tried with a program in the place of its firmware.
    #[test]
    fn q35_gets_its_power_management_block() {
        let bus = Bus {
            doublewords: [((0xF8, 0), 0x2918_8086), ((0xF8, 0x44), 0x0500)].into(),
            ..Bus::default()
        };
        enable(&bus).unwrap();
        let written = bus.written.into_inner();
        assert_eq!(written, [(0xF8, 0x40, 0x601), (0xF8, 0x44, 0x580)]);
    }

    #[test]
    fn another_host_is_left_alone() {
        for bridge in [0x7000_8086, u32::MAX] {
            let bus = Bus {
                doublewords: [((0xF8, 0), bridge)].into(),
                ..Bus::default()
            };
            enable(&bus).unwrap();
            assert_eq!(bus.written.into_inner(), []);
        }
    }
}
